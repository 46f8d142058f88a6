"""One extension, as the web pages see it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscriber:
    """A row of ``subscriber``: ``name`` is what people call it, the user part at worst.

    ``ha1`` is for MD5 and ``realm``, the only digest that browsers can do; "" when the row has
    neither a password nor such a hash.
    """

    user: str
    domain: str
    name: str
    realm: str
    ha1: str
