"""SIP requests that an operator or a program sends: the ``t_*`` commands (module tm)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from twisted.internet.defer import CancelledError, Deferred
from zope.interface import implementer

from pbx.commands import CommandFailed
from pbx.interfaces import (
    ICommands,
    IDialogs,
    IFlow,
    IFlows,
    IServerTransaction,
    ITransactions,
    IUserAgent,
)
from pbx.sip.errors import SIPError, TransportFailed
from pbx.sip.message import Request, Response, response_to
from pbx.sip.params import is_token
from pbx.sip.uri import URI

#: Requests of that kind that may wait for their answers at a time.
MAX_WAITING = 500
#: Header fields that the transaction writes itself.
_OURS = ("via", "content-length")

Recipes = Sequence[Sequence[str]]
Header = tuple[str, str]


@implementer(ICommands)
class RequestCommands:
    """Send, cancel, answer."""

    def __init__(
        self,
        transactions: ITransactions,
        agent: IUserAgent,
        flows: IFlows,
        dialogs: IDialogs,
    ) -> None:
        self._transactions = transactions
        self._agent = agent
        self._flows = flows
        self._dialogs = dialogs
        self._waiting: dict[tuple[str, str], Deferred[Response]] = {}

    def commands(self) -> Sequence[tuple[str, Recipes, Callable[..., object]]]:
        """ICommands."""
        uac = ("method", "ruri", "headers")
        reply = ("code", "reason", "trans_id", "to_tag")
        return (
            ("t_uac_dlg", _optional(uac, ("next_hop", "socket", "body")), self.t_uac_dlg),
            ("t_uac_cancel", (("callid", "cseq"),), self.t_uac_cancel),
            ("t_hash", ((),), self.t_hash),
            ("t_reply", _optional(reply, ("new_headers", "body")), self.t_reply),
        )

    async def t_uac_dlg(
        self,
        method: object,
        ruri: object,
        headers: object,
        next_hop: object = ".",
        socket: object = ".",
        body: object = "",
    ) -> object:
        """Send a request and give its final response; "." stands for no next hop or socket."""
        request = _request(str(method), str(ruri), str(headers), str(body))
        try:
            uri = URI.parse(str(ruri if next_hop in (".", "") else next_hop))
        except SIPError:
            raise CommandFailed(400, "Invalid next_hop") from None
        flow = None if socket in (".", "") else await self._from_socket(str(socket), uri)
        hop = None if next_hop in (".", "") else uri
        if len(self._waiting) >= MAX_WAITING:
            raise CommandFailed(500, "Too many requests wait for an answer")
        asked = Deferred.fromCoroutine(_answer(self._agent, request, hop, flow))
        # Sending has filled in what the headers did not name.
        key = request.call_id, str(request.cseq.number)
        self._waiting[key] = asked
        try:
            response = await asked
        except CancelledError:
            return {"Status": "487 Request Terminated", "Message": ""}
        except SIPError:
            raise CommandFailed(500, "MI/UAC failed") from None
        finally:
            self._waiting.pop(key, None)
        text = bytes(response).decode("utf-8", "surrogateescape")
        status = f"{response.status} {response.reason}"
        return {"Status": status, "Message": "" if response.local else text}

    async def _from_socket(self, socket: str, uri: URI) -> IFlow:
        local = next((one for one in self._flows.listeners() if one.socket == socket.lower()), None)
        if local is None:
            raise CommandFailed(404, "Local socket not found")
        try:
            addresses = self._flows.locate(uri)
            if addresses is None:
                addresses = await self._flows.resolve(uri)
            for address in addresses:
                wanted = address._replace(transport=local.transport)
                return self._flows.find(wanted, local) or await self._flows.connect(wanted, local)
        except TransportFailed:
            pass
        raise CommandFailed(500, "MI/UAC failed")

    def t_uac_cancel(self, callid: object, cseq: object) -> object:
        """CANCEL a request of ``t_uac_dlg`` that waits for its final response."""
        waiting = self._waiting.get((str(callid), str(cseq)))
        if waiting is None:
            raise CommandFailed(404, "Transaction not found")
        waiting.cancel()
        return "OK"

    def t_hash(self) -> object:
        """How many transactions there are now, and were in all."""
        counts: Mapping[str, int] = self._transactions.counts()
        total = counts.get("UAS_transactions", 0) + counts.get("UAC_transactions", 0)
        return [{"index": 0, "Current": counts["inuse_transactions"], "Total": total}]

    def t_reply(
        self,
        code: object,
        reason: object,
        trans_id: object,
        to_tag: object,
        new_headers: object = "",
        body: object = "",
    ) -> object:
        """Answer a request that waits for its final response; ``trans_id`` is the branch of its
        topmost Via, or its Call-ID.
        """
        text = str(code)
        if not (text.isascii() and text.isdigit() and 101 <= int(text) <= 699):
            raise CommandFailed(400, "Bad code: 101 to 699")
        waiting = self._transactions.waiting(str(trans_id))
        if waiting is None:
            raise CommandFailed(404, "Transaction not found")
        answer = response_to(
            waiting.request,
            int(text),
            str(reason),
            _headers(str(new_headers)),
            str(body).encode("utf-8", "surrogateescape"),
            str(to_tag),
        )
        if int(text) >= 300:
            # First: an answered call has nothing left that could be cancelled.
            self._give_up(waiting)
        waiting.respond(answer)
        return "OK"

    def _give_up(self, answered: IServerTransaction) -> None:
        """The branches of a call that is refused by hand ring no longer."""
        request = answered.request
        for call in self._dialogs.all() if request.method == "INVITE" else ():
            if not call.answered and call.call_id == request.call_id:
                self._dialogs.end(call.did)


async def _answer(
    agent: IUserAgent, request: Request, hop: URI | None, flow: IFlow | None
) -> Response:
    return await agent.send(request, hop, flow)


def _optional(needed: Sequence[str], more: Sequence[str]) -> Recipes:
    """Recipes with each selection of the optional parameters, none that is ambiguous by position
    before the longer ones.
    """
    recipes: list[tuple[str, ...]] = [tuple(needed)]
    for name in more:
        recipes += [(*recipe, name) for recipe in recipes]
    return recipes


def _request(method: str, ruri: str, headers: str, body: str) -> Request:
    method = method.upper()
    if not is_token(method):
        raise CommandFailed(400, "Bad method")
    if method in ("ACK", "CANCEL"):
        raise CommandFailed(400, "ACK and CANCEL are sent by themselves; see t_uac_cancel")
    try:
        uri = URI.parse(ruri)
    except SIPError:
        raise CommandFailed(400, "Invalid ruri") from None
    made = Request.make(method, uri, _headers(headers), body.encode("utf-8", "surrogateescape"))
    try:
        if not (made.from_.uri and made.to.uri):
            raise CommandFailed(400, "Bad headers")
        if made.has("cseq") and made.cseq.method != method:
            raise CommandFailed(400, "Bad headers: CSeq names another method")
        if made.has("call-id"):
            assert made.call_id
    except SIPError as error:
        raise CommandFailed(400, f"Bad headers: {error.reason}") from None
    return made


def _headers(text: str) -> Sequence[Header]:
    """Lines that end in CRLF or LF, also written as \\\\r\\\\n on a command line."""
    found: list[Header] = []
    for line in text.replace("\\r\\n", "\n").replace("\\n", "\n").replace("\r\n", "\n").split("\n"):
        if not line.strip():
            continue
        name, colon, value = line.partition(":")
        name = name.strip(" \t")
        if not colon or not is_token(name) or "\r" in value or "\0" in value:
            raise CommandFailed(400, "Bad headers")
        if name.lower() in _OURS:
            continue
        found.append((name, value.strip(" \t")))
    return found
