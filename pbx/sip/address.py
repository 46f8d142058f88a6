"""Where packets go and come from: transport, IP address, port (RFC 3263 section 4)."""

from __future__ import annotations

from typing import NamedTuple

from pbx.sip.uri import join_host_port


class Address(NamedTuple):
    """``transport`` is UDP, TCP, TLS, WS or WSS as written in Via; ``host`` an IP literal without
    brackets in its shortest form.
    """

    transport: str
    host: str
    port: int

    @property
    def uri(self) -> str:
        """As the ``received`` column and NAT repair write it: ``sip:ip:port[;transport=tcp]``."""
        text = f"sip:{join_host_port(self.host, self.port)}"
        return text if self.transport == "UDP" else f"{text};transport={self.transport.lower()}"

    @property
    def socket(self) -> str:
        """As the ``socket`` columns write it: ``udp:ip:port``."""
        return f"{self.transport.lower()}:{join_host_port(self.host, self.port)}"

    @property
    def reliable(self) -> bool:
        """Whether the transport retransmits by itself (17.1.1.1)."""
        return self.transport != "UDP"

    def __str__(self) -> str:
        return self.socket
