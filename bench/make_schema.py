"""Create the PBX's tables in a database: ``python -m bench.make_schema URL``."""

from __future__ import annotations

import sys

from twisted.internet import defer, task
from twisted.internet.interfaces import IReactorTime

from pbx.storage.open import open_database


def main(reactor: IReactorTime, url: str) -> defer.Deferred[None]:
    async def make() -> None:
        database = open_database(url, reactor)
        await database.start()
        await database.close()

    return defer.Deferred.fromCoroutine(make())


if __name__ == "__main__":
    task.react(main, sys.argv[1:])
