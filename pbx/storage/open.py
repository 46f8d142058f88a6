"""URL scheme to backend: the only table of backends."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from twisted.internet.interfaces import IReactorTime

from pbx.storage.cache import MemoryCache
from pbx.storage.memory import memory_database
from pbx.storage.sqlite import SQLiteDatabase

if TYPE_CHECKING:
    from pbx.interfaces import ICache, IDatabase

DATABASES = "memory:, sqlite:PATH, postgresql://USER@HOST/NAME"


def open_database(url: str, clock: IReactorTime) -> IDatabase:
    """The database of a URL; call its ``start`` next. Raises ValueError for a bad URL."""
    scheme, _, rest = url.partition(":")
    match scheme:
        case "memory":
            return memory_database(clock)
        case "sqlite":
            if not rest:
                raise ValueError("sqlite: needs the path of a file, as in sqlite:var/pbx.db")
            return SQLiteDatabase(rest.removeprefix("//"), clock)
        case _:
            raise ValueError(f"{_safe(url)!r}: not a database; known: {DATABASES}")


def open_cache(url: str, clock: IReactorTime) -> ICache:
    """The cache of a URL. Raises ValueError for a bad URL."""
    if url.partition(":")[0] == "memory":
        return MemoryCache(clock)
    raise ValueError(f"{_safe(url)!r}: not a cache; known: memory:, redis://HOST:PORT/NUMBER")


def _safe(url: str) -> str:
    """The URL without its password."""
    try:
        parts = urlsplit(url)
        password = parts.password
    except ValueError:
        return url.partition(":")[0] + ":..."
    return url.replace(f":{password}@", "@") if password else url
