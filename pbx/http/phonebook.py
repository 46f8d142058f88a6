"""``/api/directory`` and ``/api/history``: whom one may call, and whom one did."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.web.server import Request

from pbx.http.answers import argument, limit_of
from pbx.http.login import Gate, sip_uri
from pbx.interfaces import IDatabase, IDomains, ISubscribers
from pbx.sip.uri import URI

#: Times are compared as numbers: rows with the same start are told apart by their id.
_HISTORY = (
    "SELECT m.did, c.caller, c.caller_name, c.callee, c.started, c.answered, c.duration,"
    " c.disposition, {mine}"
    " FROM pbx_cdr m JOIN cdr c"
    " ON c.correlation = m.correlation AND c.call_id = m.call_id AND c.started = m.started"
    " WHERE m.main = 1 AND {who}{before} ORDER BY m.started DESC, m.did DESC LIMIT ?"
)
_BEFORE = (
    " AND (m.started, m.did) <"
    " (SELECT b.started, b.did FROM pbx_cdr b WHERE b.did = ? UNION ALL SELECT 0, '' LIMIT 1)"
)


class Phonebook:
    """Answers from memory for the directory, from the view ``cdr`` for the history."""

    def __init__(
        self,
        gate: Gate,
        subscribers: ISubscribers,
        database: IDatabase,
        domains: IDomains,
        registered: Callable[[URI], bool],
    ) -> None:
        self._registered = registered
        self._gate = gate
        self._subscribers = subscribers
        self._database = database
        self._domains = domains

    async def directory(self, request: Request) -> object:
        """Colleagues by name or number."""
        me = self._gate.who(request)
        limit = limit_of(request, 50, 200)
        found = self._subscribers.search(me.domain, argument(request, "q", 64).strip(), limit + 1)
        return [self._person(user, name, me.domain) for user, name in found if user != me.user][
            :limit
        ]

    def _person(self, user: str, name: str, domain: str) -> Mapping[str, object]:
        uri = sip_uri(user, domain)
        online = self._registered(URI.parse(uri))
        return {"user": user, "name": name, "uri": uri, "online": online}

    async def history(self, request: Request) -> object:
        """One's own calls, the newest first."""
        me = self._gate.who(request)
        limit = limit_of(request, 50, 200)
        before = argument(request, "before", 64)
        found: list[Sequence[Any]] = []
        # A query per direction: each of them walks an index to its end.
        for side, mine in (("caller", 1), ("callee", 0)):
            who, values = self._who(side, me.user, me.domain)
            sql = _HISTORY.format(mine=mine, who=who, before=_BEFORE if before else "")
            more = (before,) if before else ()
            found += await self._database.query(sql, (*values, *more, limit))
        # Who called himself has one call, that he made.
        rows = {row[0]: row for row in sorted(found, key=lambda row: int(row[8]))}
        newest = sorted(rows.values(), key=lambda row: (row[4], row[0]), reverse=True)
        return [self._call(row, me.domain) for row in newest[:limit]]

    def _who(self, side: str, user: str, domain: str) -> tuple[str, Sequence[str]]:
        """Which rows are of this user: a number may be somebody else's in another domain."""
        if domain == self._domains.names()[0]:
            # Phones may write any address of ours instead of the domain.
            others = "SELECT domain FROM domain WHERE domain <> ?"
            return f"m.{side} = ? AND m.{side}_domain NOT IN ({others})", (user, domain)
        return f"m.{side} = ? AND m.{side}_domain = ?", (user, domain)

    def _call(self, row: Sequence[Any], domain: str) -> Mapping[str, object]:
        did, caller, caller_name, callee, started, answered, duration, disposition, mine = row
        outgoing = bool(mine)
        peer = str(callee if outgoing else caller)
        known = self._subscribers.name(peer, domain)
        return {
            "id": did,
            "direction": "out" if outgoing else "in",
            "peer": peer,
            "peer_name": known or ("" if outgoing else str(caller_name or "")),
            "start": _iso(float(started)),
            "answered": bool(answered),
            "duration": round(float(duration or 0), 1),
            "disposition": disposition,
        }


def _iso(seconds: float) -> str:
    when = datetime.datetime.fromtimestamp(round(seconds), datetime.UTC)
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")
