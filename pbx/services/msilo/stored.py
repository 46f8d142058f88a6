"""Stored messages: what may become one, and its row of the ``silo`` table."""

from __future__ import annotations

from dataclasses import dataclass

from pbx.interfaces import IDatabase
from pbx.rows import left_out, needed, whole
from pbx.services.msilo.settings import MessageSiloSettings
from pbx.sip.errors import SIPError
from pbx.sip.message import Request
from pbx.sip.uri import URI

#: Bodies that mean something only at the moment they are sent (RFC 3994).
MOMENTARY = frozenset(("application/im-iscomposing+xml",))

_COLUMNS = "src_addr, dst_addr, username, domain, inc_time, exp_time, snd_time, ctype, body"
_WIDTHS = (("src_addr", 1024), ("dst_addr", 1024), ("username", 64), ("domain", 64), ("ctype", 255))


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredMessage:
    """One row. ``snd_time`` is 0, the time of a reminder, or minus the end of another node's claim.

    ``exp_time`` 0 never expires.
    """

    src_addr: str
    dst_addr: str
    username: str
    domain: str
    inc_time: int
    exp_time: int
    snd_time: int = 0
    ctype: str | None = None
    body: bytes = b""

    @property
    def owner(self) -> URI:
        """Whom it is for."""
        return URI("sip", self.username, self.domain)

    @property
    def aor(self) -> str:
        """The owner as the tables know it."""
        return f"{self.username}@{self.domain}"

    def expired(self, now: float) -> bool:
        """Whether it is too late to deliver it."""
        return 0 < self.exp_time <= now


def stored_message(
    request: Request, owner: URI, send_at: float, now: float, settings: MessageSiloSettings
) -> StoredMessage:
    """What is to be kept of a MESSAGE. Raises SIPError with the answer when it is not."""
    if not owner.user:
        raise SIPError(status=484)
    content_type = request.get("content-type")
    _check(request, content_type, settings)
    keep = settings.expire_time
    expires = request.expires
    if expires is not None:
        keep = min(keep, expires)
    if keep <= 0:
        raise SIPError(status=480)
    start = int(max(now, send_at))
    message = StoredMessage(
        src_addr=request.from_.uri_text,
        dst_addr=request.to.uri_text,
        username=owner.user,
        domain=owner.host,
        inc_time=int(now),
        exp_time=start + keep,
        snd_time=int(send_at) if send_at > now else 0,
        ctype=content_type,
        body=request.body,
    )
    if any(len(getattr(message, name) or "") > width for name, width in _WIDTHS):
        raise SIPError("Message Cannot Be Stored", status=480)
    return message


def _check(request: Request, content_type: str | None, settings: MessageSiloSettings) -> None:
    required = request.get_list("require")
    if required:
        raise SIPError(status=420, headers=[("Unsupported", ", ".join(required))])
    if not request.body and content_type is None:
        raise SIPError("Missing Body", status=400)
    if len(request.body) > settings.max_size:
        raise SIPError(status=413)
    # The table has no room for the coding, without which the body is noise.
    if any(coding.lower() != "identity" for coding in request.get_list("content-encoding")):
        raise SIPError(status=415, headers=[("Accept-Encoding", "identity")])
    if _media_type(content_type) in MOMENTARY:
        raise SIPError(status=480)


def _media_type(content_type: str | None) -> str:
    return (content_type or "").partition(";")[0].strip(" \t").lower()


def is_plain_text(message: StoredMessage) -> bool:
    """Whether a person reads the body as it is."""
    return _media_type(message.ctype) == "text/plain"


class SiloTable:
    """The statements on ``silo``. All of them raise DatabaseError."""

    def __init__(self, database: IDatabase) -> None:
        self._database = database

    async def insert(self, message: StoredMessage) -> int:
        """The id of the new row, which is durable when this returns."""
        rows = await self._database.query(
            f"INSERT INTO silo ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",
            (
                message.src_addr,
                message.dst_addr,
                message.username,
                message.domain,
                message.inc_time,
                message.exp_time,
                message.snd_time,
                message.ctype,
                message.body,
            ),
        )
        return int(rows[0][0])

    async def read(self, id: int) -> StoredMessage | None:
        """One row; None when it is gone."""
        rows = await self._database.query(f"SELECT {_COLUMNS} FROM silo WHERE id = ?", (id,))
        if not rows:
            return None
        source, to, user, domain, received, expires, due, content_type, body = rows[0]
        return StoredMessage(
            src_addr=str(source).strip(),
            dst_addr=str(to).strip(),
            username=str(user),
            domain=str(domain),
            inc_time=whole("inc_time", received),
            exp_time=whole("exp_time", expires),
            snd_time=whole("snd_time", due),
            ctype=" ".join(str(content_type).split()) if content_type else None,
            body=body.encode() if isinstance(body, str) else bytes(body or b""),
        )

    async def delete(self, id: int, inc_time: int) -> None:
        """Remove a row; the time tells it from a later one with the same id."""
        await self._database.execute(
            "DELETE FROM silo WHERE id = ? AND inc_time = ?", (id, inc_time)
        )

    async def claim(self, id: int, snd_time: int, until: float) -> bool:
        """Whether the row is ours to send until then: nobody else changed it since we read it."""
        touched = await self._database.execute(
            "UPDATE silo SET snd_time = ? WHERE id = ? AND snd_time = ?",
            (-int(until), id, snd_time),
        )
        return touched == 1

    async def release(self, id: int) -> None:
        """Undo `claim`."""
        await self._database.execute(
            "UPDATE silo SET snd_time = 0 WHERE id = ? AND snd_time < 0", (id,)
        )

    async def waiting(self, after: int) -> list[tuple[int, str, str, int]]:
        """Id, user, domain and ``snd_time`` of the rows with a higher id."""
        rows = await self._database.query(
            "SELECT id, username, domain, snd_time FROM silo WHERE id > ? ORDER BY id", (after,)
        )
        found: list[tuple[int, str, str, int]] = []
        for id, user, domain, due in rows:
            try:
                owner = needed("username", user), needed("domain", domain)
                found.append((int(id), *owner, whole("snd_time", due)))
            except ValueError as error:
                left_out("silo", id, error)
        return found

    async def expire(self, now: float) -> None:
        """Remove the rows whose time is over."""
        await self._database.execute(
            "DELETE FROM silo WHERE exp_time > 0 AND exp_time <= ?", (int(now),)
        )
