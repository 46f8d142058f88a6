"""Values of the old file as ours. Each raises ValueError for what makes no sense."""

from __future__ import annotations

from collections.abc import Callable

from pbx.ctl.importer.draft import Value

Convert = Callable[[str], Value]
_TRUE = ("1", "yes", "true", "on", "enable", "enabled")
_FALSE = ("0", "no", "false", "off", "none", "disable", "disabled", "")


def integer(text: str) -> int:
    """Decimal, 0x and leading 0 for octal, as the old parser reads them."""
    text = text.strip()
    if text.lower().startswith(("0x", "-0x")):
        return int(text, 16)
    if len(text) > 1 and text.startswith("0") and text.isdigit():
        return int(text, 8)
    return int(text)


def number(text: str) -> int | float:
    """Whole or not."""
    try:
        return integer(text)
    except ValueError:
        return float(text)


def positive(text: str) -> int | float:
    """Above zero."""
    found = number(text)
    if found <= 0:
        raise ValueError("expected a number above 0")
    return found


def count(text: str) -> int:
    """Not negative."""
    found = integer(text)
    if found < 0:
        raise ValueError("expected no negative number")
    return found


def milliseconds(text: str) -> float:
    """As seconds."""
    return positive(text) / 1000


def truth(text: str) -> bool:
    """Yes or no, a number too."""
    word = text.strip().lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    return integer(word) != 0


def untruth(text: str) -> bool:
    """The opposite."""
    return not truth(text)


def words(text: str) -> str:
    """As it is."""
    return text


def token(text: str) -> str:
    """One word, as a SIP method."""
    if not text.isalnum():
        raise ValueError("expected one word")
    return text.upper()


def sip_uri(text: str) -> str:
    """Of a sender."""
    if not text.lower().startswith(("sip:", "sips:")):
        raise ValueError("expected a SIP URI")
    return text


def codes(text: str) -> list[int]:
    """``501, 403``."""
    found = [int(part) for part in text.replace(";", ",").split(",") if part.strip()]
    if not all(100 <= code <= 699 for code in found):
        raise ValueError("expected status codes")
    return found


def one_of(*allowed: int) -> Convert:
    """A number of these."""

    def convert(text: str) -> int:
        found = integer(text)
        if found not in allowed:
            raise ValueError(f"expected one of {', '.join(map(str, allowed))}")
        return found

    return convert


def thousandths(text: str) -> float:
    """A q value times 1000."""
    found = integer(text)
    if not -1 <= found <= 1000:
        raise ValueError("expected 0 to 1000")
    return -1.0 if found <= 0 else found / 1000


def header_value(text: str) -> str:
    """``Server: name``."""
    name, colon, value = text.partition(":")
    return value.strip() if colon and name.strip().lower() == "server" else text.strip()


def preset(text: str) -> int:
    """Of ``working_mode_preset`` the old db_mode."""
    known = {
        "single-instance-no-db": 0,
        "single-instance-sql-write-through": 1,
        "single-instance-sql-write-back": 2,
        "sql-only": 3,
    }
    if text not in known:
        raise ValueError("a mode of a cluster")
    return known[text]
