"""Contact lists as users keep them with us (RFC 4826)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Contact:
    """One entry: its URI as written, and the name to show."""

    uri: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class ContactList:
    """Everybody who is watched with one subscription to ``uri``.

    ``owner`` is ``user@domain`` of whose list it is; no ``packages`` means any event package.
    """

    uri: str
    owner: str
    packages: frozenset[str]
    contacts: tuple[Contact, ...]
