"""A SIP PBX in one process: registrar, proxy, presence, messages, management."""

__version__ = "0.1.0"
