"""When calls are written to the ``dialog`` table, and reading them back."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from functools import partial
from typing import ClassVar

from twisted.logger import Logger

from pbx.interfaces import IDatabase, IWriteBehind
from pbx.rows import left_out
from pbx.services.dialogs.call import CONFIRMED, ENDED, NO_ACK, Call
from pbx.services.dialogs.rows import (
    BYE_ON_TIMEOUT,
    DIALOG_COLUMNS,
    INITIAL,
    fits,
    from_row,
    to_row,
)
from pbx.services.dialogs.settings import DialogSettings
from pbx.sip.dialog import cookie_number

NEVER, AT_ONCE, DELAYED, AT_SHUTDOWN = 0, 1, 2, 3


class CallStore:
    """Answered calls in the database, as ``db_mode`` says; unanswered ones are never written."""

    log: ClassVar = Logger(__name__)

    def __init__(
        self,
        settings: DialogSettings,
        database: IDatabase | None,
        write_behind: IWriteBehind | None,
        node: str = "",
    ) -> None:
        self._node = node
        usable = database is not None and write_behind is not None
        self._mode = settings.db_mode if usable else NEVER
        self._database = database
        self._rows = write_behind
        self._flags = INITIAL | (BYE_ON_TIMEOUT if settings.bye_on_timeout else 0)

    async def load(self) -> list[Call]:
        """The calls that were going on when the last run of any node ended; rows of others are
        removed.
        """
        if self._mode == NEVER or self._database is None:
            return []
        if self._rows is not None:
            # Rows of calls that have just ended must not come back.
            await self._rows.flush()
        columns = ", ".join(DIALOG_COLUMNS)
        calls: list[Call] = []
        for row in await self._database.query(f"SELECT {columns} FROM dialog"):
            try:
                call = from_row(row)
            except ValueError as error:
                left_out("dialog", row[0], error)
                continue
            if call.state in (NO_ACK, CONFIRMED):
                calls.append(call)
            elif self._rows is not None:
                self._rows.delete((call.number,))
        return calls

    def save(self, call: Call) -> None:
        """The call has changed; its row is made when it is written."""
        if self._mode != DELAYED and self._mode != AT_ONCE:
            return
        self._put(call)
        if self._mode == AT_ONCE:
            self._flush()

    def remove(self, call: Call) -> None:
        """The call has ended."""
        if call.saved and self._rows is not None:
            call.saved = False
            self._rows.delete((call.number,))
            if self._mode == AT_ONCE:
                self._flush()

    async def flush(self, calls: Iterable[Call]) -> None:
        """Write everything now."""
        if self._mode == NEVER or self._rows is None:
            return
        for call in calls:
            self._put(call)
        await self._rows.flush()

    def _put(self, call: Call) -> None:
        callee = call.callee_side()
        if self._rows is None or callee is None or not NO_ACK <= call.state < ENDED:
            return
        if not fits(call, callee):
            self.log.debug("a call is too long for its row", call_id=call.call_id)
            return
        if not call.number:
            number = cookie_number(call.did)
            call.number = secrets.randbits(63) if number is None else number
        call.saved = True
        self._rows.put((call.number,), partial(to_row, call, self._flags, self._node))

    def _flush(self) -> None:
        if self._rows is not None:
            self._rows.flush()
