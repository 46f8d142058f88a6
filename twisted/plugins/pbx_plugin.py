"""Tells twistd that ``pbx`` exists."""

from twisted.application.service import ServiceMaker

pbx = ServiceMaker("pbx", "pbx.tap", "A SIP PBX: registrar, proxy, presence, messages.", "pbx")
