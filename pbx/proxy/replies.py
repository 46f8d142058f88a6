"""Responses that the PBX makes itself."""

from __future__ import annotations

import secrets

from pbx.interfaces import IServerTransaction
from pbx.sip.message import response_to
from pbx.verdicts import Reply


class Replier:
    """Answers requests: To tag, Server header, count."""

    def __init__(self, server_header: str = "") -> None:
        self._server = (("Server", server_header),) if server_header else ()
        self._tag_prefix = secrets.token_hex(4)
        self.sent = 0

    def respond(self, transaction: IServerTransaction, reply: Reply) -> None:
        """Answer a request with what was decided."""
        self.sent += 1
        headers = (*reply.headers, *self._server) if self._server else reply.headers
        if reply.stateless:
            transaction.respond_statelessly(reply.status, reply.reason, headers)
            return
        tag = reply.to_tag or f"{self._tag_prefix}{self.sent:x}"
        transaction.respond(
            response_to(transaction.request, reply.status, reply.reason, headers, reply.body, tag)
        )
