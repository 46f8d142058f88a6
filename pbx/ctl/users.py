"""Subscribers: rows of the ``subscriber`` table, written so that OpenSIPS could read them too."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pbx.interfaces import IDatabase

#: No characters that look alike.
ALPHABET = "abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"
PASSWORD_LENGTH = 16
#: Attribute of ``usr_preferences``, as ``[auth] name_attribute`` has it by default.
NAME = "display_name"


class UserError(Exception):
    """What an operator asked for cannot be done; the text says why."""


@dataclass(frozen=True, slots=True)
class User:
    """A subscriber as it is listed."""

    username: str
    domain: str

    @property
    def aor(self) -> str:
        """``user@domain``."""
        return f"{self.username}@{self.domain}"


def parse_user(text: str, default_domain: str) -> User:
    """``1001`` or ``1001@pbx.example``, with or without ``sip:``. Raises UserError."""
    name, _, domain = text.removeprefix("sip:").partition("@")
    user = User(name, (domain or default_domain).lower())
    for value, what in ((user.username, "user name"), (user.domain, "domain")):
        bad = not value or any(char in ':@<>"' or char.isspace() for char in value)
        if bad or len(value) > 64 or not value.isprintable():
            raise UserError(f'{value!r} is no {what}: 1 to 64 characters without space and :@<>"')
    return user


def generated_password() -> str:
    """Random, about 92 bits, easy to read out."""
    return "".join(secrets.choice(ALPHABET) for _ in range(PASSWORD_LENGTH))


def hashes(user: User, password: str) -> tuple[str, str, str]:
    """``ha1``, ``ha1_sha256`` and ``ha1_sha512t256`` (RFC 7616 section 3.4.2)."""
    text = f"{user.username}:{user.domain}:{password}".encode()
    return (
        hashlib.md5(text, usedforsecurity=False).hexdigest(),
        hashlib.sha256(text).hexdigest(),
        hashlib.new("sha512_256", text).hexdigest(),
    )


async def add(database: IDatabase, user: User, password: str, name: str = "") -> None:
    """A new subscriber. Raises UserError when there is one of that name, DatabaseError."""
    check_password(password)
    if await exists(database, user):
        raise UserError(f"{user.aor} exists already; a new password: pbxctl user password")
    await database.execute(
        "INSERT INTO subscriber (username, domain, password, ha1, ha1_sha256, ha1_sha512t256)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        (user.username, user.domain, password, *hashes(user, password)),
    )
    if name:
        await set_name(database, user, name)


async def set_name(database: IDatabase, user: User, name: str) -> None:
    """What the user is called, "" for nothing but the number. Raises UserError, DatabaseError."""
    name = " ".join(name.split())
    if len(name) > 128 or not name.isprintable():
        raise UserError("a name has up to 128 printable characters")
    if not await exists(database, user):
        raise UserError(f"there is no user {user.aor}")
    key = (user.username, user.domain, NAME)
    where = "username = ? AND domain = ? AND attribute = ?"
    await database.execute(f"DELETE FROM usr_preferences WHERE {where}", key)
    if name:
        await database.execute(
            "INSERT INTO usr_preferences (username, domain, attribute, type, value)"
            " VALUES (?, ?, ?, 2, ?)",
            (*key, name),
        )


async def change_password(database: IDatabase, user: User, password: str) -> None:
    """The old password is refused from then on. Raises UserError, DatabaseError."""
    check_password(password)
    changed = await database.execute(
        "UPDATE subscriber SET password = ?, ha1 = ?, ha1_sha256 = ?, ha1_sha512t256 = ?"
        " WHERE username = ? AND domain = ?",
        (password, *hashes(user, password), user.username, user.domain),
    )
    if not changed:
        raise UserError(f"there is no user {user.aor}")


async def remove(database: IDatabase, user: User) -> None:
    """The subscriber and what the database knows of its phones. Raises UserError."""
    key = (user.username, user.domain)
    sql = "DELETE FROM subscriber WHERE username = ? AND domain = ?"
    if not await database.execute(sql, key):
        raise UserError(f"there is no user {user.aor}")
    for table in ("location", "usr_preferences"):
        await database.execute(f"DELETE FROM {table} WHERE username = ? AND domain = ?", key)


async def listed(database: IDatabase) -> Sequence[User]:
    """All of them, by domain and name."""
    rows = await database.query("SELECT username, domain FROM subscriber ORDER BY domain, username")
    return [User(*row) for row in rows]


async def listed_with_names(database: IDatabase) -> tuple[Sequence[User], Mapping[User, str]]:
    """All of them, and what people call those who have a name."""
    rows = await database.query(
        "SELECT username, domain, value FROM usr_preferences WHERE attribute = ?", (NAME,)
    )
    names = {User(str(user), str(domain)): str(name) for user, domain, name in rows}
    return await listed(database), names


def shown(user: User, name: str) -> Mapping[str, str]:
    """For programs."""
    found = {"username": user.username, "domain": user.domain}
    return {**found, "name": name} if name else found


async def exists(database: IDatabase, user: User) -> bool:
    """Whether there is such a subscriber."""
    sql = "SELECT COUNT(*) FROM subscriber WHERE username = ? AND domain = ?"
    rows = await database.query(sql, (user.username, user.domain))
    return bool(rows[0][0])


def check_password(password: str) -> None:
    """Raises UserError for one that cannot be stored or typed into a phone."""
    if not 1 <= len(password) <= 128 or not password.isprintable():
        raise UserError("a password has 1 to 128 printable characters")
