"""URL scheme to backend: the only table of backends. What a backend needs is loaded with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.interfaces import IReactorTime

from pbx.storage.cache import MemoryCache
from pbx.storage.urls import server_url

if TYPE_CHECKING:
    from pbx.interfaces import ICache, IDatabase
    from pbx.storage.postgres_bus import PostgresBus
    from pbx.storage.redis_bus import RedisBus

DATABASES = "memory:, sqlite:PATH, postgresql://USER@HOST/NAME"


def open_database(url: str, clock: IReactorTime) -> IDatabase:
    """The database of a URL; call its ``start`` next. Raises ValueError for a bad URL."""
    scheme, _, rest = url.partition(":")
    match scheme:
        case "memory":
            from pbx.storage.memory import memory_database

            return memory_database(clock)
        case "sqlite":
            if not rest:
                raise ValueError("sqlite: needs the path of a file, as in sqlite:var/pbx.db")
            from pbx.storage.sqlite import SQLiteDatabase

            return SQLiteDatabase(rest.removeprefix("//"), clock)
        case "postgres" | "postgresql":
            from pbx.storage.postgres import PostgresDatabase

            return PostgresDatabase(server_url(url, 5432), clock)
        case _:
            raise ValueError(f"{_safe(url)!r}: not a database; known: {DATABASES}")


def open_cache(url: str, clock: IReactorTime) -> ICache:
    """The cache of a URL. Raises ValueError for a bad URL."""
    match url.partition(":")[0]:
        case "memory":
            return MemoryCache(clock)
        case "redis" | "rediss":
            from pbx.storage.redis import RedisCache

            return RedisCache(server_url(url, 6379), clock)
        case _:
            raise ValueError(
                f"{_safe(url)!r}: not a cache; known: memory:, redis://HOST:PORT/NUMBER"
            )


def open_bus(
    cache: str, database: str, pool: IDatabase, clock: IReactorTime
) -> RedisBus | PostgresBus:
    """What the nodes of a cluster talk over: Redis if there is one, else PostgreSQL. Raises
    ValueError when there is neither, and for bad URLs.
    """
    if cache.partition(":")[0] in ("redis", "rediss"):
        from pbx.storage.redis_bus import RedisBus

        return RedisBus(server_url(cache, 6379), clock)
    if database.partition(":")[0] in ("postgres", "postgresql"):
        from pbx.storage.postgres_bus import PostgresBus

        return PostgresBus(server_url(database, 5432), pool, clock)
    raise ValueError("a cluster needs PostgreSQL, and better also Redis: nodes meet nowhere else")


def _safe(url: str) -> str:
    """The URL without its password."""
    scheme, separator, rest = url.partition("://")
    account, at, place = rest.rpartition("@")
    return f"{scheme}{separator}{account.partition(':')[0]}{at}{place}"
