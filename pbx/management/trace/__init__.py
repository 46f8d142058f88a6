"""Recent SIP messages in memory: whose call they belong to, and how it ended."""

from pbx.management.trace.commands import Tracer
from pbx.management.trace.recorder import Recorder
from pbx.management.trace.settings import TraceSettings
from pbx.management.trace.streams import TraceStreams

__all__ = ["Recorder", "TraceSettings", "TraceStreams", "Tracer"]
