"""Writing a batch so that one bad row does not lose the others."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from pbx.errors import DatabaseError
from pbx.storage.condition import Condition
from pbx.storage.dialect import clean_row

Row = Sequence[object]
Attempt = Callable[["Batch"], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Batch:
    """Row changes of one table that are done in one transaction."""

    rows: Sequence[Row]
    deletes: Sequence[Row] = ()

    def __len__(self) -> int:
        return len(self.rows) + len(self.deletes)

    def halves(self) -> tuple[Batch, Batch]:
        """Two parts, deletes first."""
        middle = len(self) // 2
        if middle <= len(self.deletes):
            return Batch((), self.deletes[:middle]), Batch(self.rows, self.deletes[middle:])
        middle -= len(self.deletes)
        return Batch(self.rows[:middle], self.deletes), Batch(self.rows[middle:])


async def write_surviving(
    table: str,
    batch: Batch,
    attempt: Attempt,
    condition: Condition,
    widths: Sequence[int | None] | None = None,
) -> None:
    """Write the batch. When it is refused: clean its texts, then halve it until the rows at fault
    are found; these are dropped and logged. Other errors pass to the caller.

    Every attempt is a transaction, so nothing is written twice.
    """
    if not batch:
        return
    try:
        await attempt(batch)
        condition.rows_written += len(batch)
        return
    except DatabaseError as error:
        if not error.refused:
            raise
    cleaned = Batch(
        [clean_row(row, widths) for row in batch.rows], [clean_row(row) for row in batch.deletes]
    )
    await _halving(table, cleaned, attempt, condition)


async def _halving(table: str, batch: Batch, attempt: Attempt, condition: Condition) -> None:
    try:
        await attempt(batch)
        condition.rows_written += len(batch)
        return
    except DatabaseError as error:
        if not error.refused:
            raise
        if len(batch) == 1:
            condition.row_dropped(table, (*batch.rows, *batch.deletes)[0], error)
            return
    for half in batch.halves():
        if half:
            await _halving(table, half, attempt, condition)
