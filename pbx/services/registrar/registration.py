"""What a REGISTER asks for: read and checked before anything is changed (RFC 3261 section 10.3)."""

from __future__ import annotations

import random
import sys
from functools import lru_cache
from typing import Final

from pbx.interfaces import IDomains
from pbx.services.registrar.settings import RegistrarSettings
from pbx.sip.errors import MalformedMessage, SIPError
from pbx.sip.fields import NameAddr, parse_number
from pbx.sip.message import Request
from pbx.sip.params import unquote
from pbx.sip.uri import URI

#: The bits of the ``methods`` column.
METHODS: Final = {
    "INVITE": 1,
    "CANCEL": 2,
    "ACK": 4,
    "BYE": 8,
    "INFO": 16,
    "OPTIONS": 32,
    "UPDATE": 64,
    "REGISTER": 128,
    "MESSAGE": 256,
    "SUBSCRIBE": 512,
    "NOTIFY": 1024,
    "PRACK": 2048,
    "REFER": 4096,
    "PUBLISH": 8192,
}
OTHER_METHOD: Final = 16384
#: The ``expires`` column is a 32-bit integer.
LATEST: Final = 2**31 - 1
#: Longest Call-ID, +sip.instance and User-Agent that are kept: the width of their columns.
COLUMN: Final = 255
#: Longest header value whose meaning is remembered.
_CACHED: Final = 400
_EXTENSIONS: Final = frozenset(("path", "outbound", "gruu"))
_NONE: Final[frozenset[str]] = frozenset()


class RegistrationRefused(SIPError):
    """A REGISTER that cannot be done; ``error`` is for P-Registrar-Error.

    ``listed`` says that the answer lists the bindings as they are.
    """

    def __init__(
        self,
        status: int,
        error: str,
        headers: tuple[tuple[str, str], ...] = (),
        listed: bool = False,
    ) -> None:
        super().__init__("", status, headers)
        self.error = error
        self.listed = listed


class Wanted:
    """One Contact of a REGISTER: ``expires`` is the time granted, 0 to remove it."""

    __slots__ = ("contact", "expires", "instance", "q", "reg_id")

    def __init__(self, contact: str, expires: int, q: float) -> None:
        self.contact = contact
        self.expires = expires
        self.q = q
        self.instance = ""
        self.reg_id = 0


class Registration:
    """A REGISTER as checked. ``removes_all`` is a ``*``; without contacts it only asks."""

    __slots__ = (
        "aor",
        "call_id",
        "contacts",
        "cseq",
        "methods",
        "path",
        "removes_all",
        "supported",
        "to",
        "user_agent",
    )

    def __init__(self, aor: str, to: URI, call_id: str, cseq: int) -> None:
        self.aor = aor
        self.to = to
        self.call_id = call_id
        self.cseq = cseq
        self.contacts: list[Wanted] = []
        self.removes_all = False
        self.path: tuple[str, ...] = ()
        self.supported: frozenset[str] = _NONE
        self.user_agent = ""
        self.methods: int | None = None


class Reader:
    """Reads REGISTER requests under the settings."""

    def __init__(self, settings: RegistrarSettings, domains: IDomains) -> None:
        self._settings = settings
        self._domains = domains

    def aor(self, uri: URI) -> str:
        """The address of record that a URI stands for."""
        settings = self._settings
        if settings.use_domain:
            host = uri.host
            if settings.realm_prefix:
                host = host.removeprefix(settings.realm_prefix)
            aor = f"{uri.user}@{self._domains.canonical(host)}"
        else:
            aor = uri.user
        return aor if settings.case_sensitive else aor.lower()

    def read(self, request: Request) -> Registration:
        """Raises MalformedMessage and RegistrationRefused."""
        names = request.names
        to = request.to.uri
        self._check_user(to)
        call_id = request.call_id
        if len(call_id) > COLUMN:
            raise RegistrationRefused(400, "Call-ID too long")
        read = Registration(self.aor(to), to, call_id, request.cseq.number)
        if "require" in names:
            _check_require(request)
        if "supported" in names:
            read.supported = tokens(_joined(request, "supported"))
        if "contact" in names:
            if "path" in names:
                read.path = self._path(request, read.supported)
            self._read_contacts(request, read)
            if "user-agent" in names:
                read.user_agent = sys.intern((request.get("user-agent") or "")[:COLUMN])
            if "allow" in names:
                read.methods = method_mask(_joined(request, "allow"))
        return read

    def _check_user(self, to: URI) -> None:
        settings = self._settings
        user = to.user
        if not to.is_sip or (settings.use_domain and not user):
            raise RegistrationRefused(400, "Bad address of record")
        host = to.host
        is_local = self._domains.is_local
        if not is_local(host) and not is_local(host.removeprefix(settings.realm_prefix)):
            raise RegistrationRefused(404, "Address of record not in this domain")
        if (
            len(user) > settings.max_username_len
            or len(host) > settings.max_domain_len
            or len(user) + len(host) >= settings.max_aor_len
        ):
            raise RegistrationRefused(500, "Address of record too long")

    def _path(self, request: Request, supported: frozenset[str]) -> tuple[str, ...]:
        if self._settings.path == "strict" and "path" not in supported:
            raise RegistrationRefused(420, "Path not supported", (("Unsupported", "path"),))
        path: list[str] = []
        try:
            for address in request.addresses("path"):
                if not address.uri.is_sip:
                    raise RegistrationRefused(400, "Bad Path")
                path.append(f"<{address.uri_text}>{address.params}")
        except MalformedMessage:
            raise RegistrationRefused(400, "Bad Path") from None
        return tuple(path)

    def _read_contacts(self, request: Request, read: Registration) -> None:
        try:
            contacts = request.contacts
        except MalformedMessage:
            raise RegistrationRefused(400, "Bad Contact") from None
        default = self._default_expires(request)
        for contact in contacts:
            if contact.uri_text == "*":
                if len(contacts) > 1 or contact.params or request.expires != 0:
                    raise RegistrationRefused(400, "Bad use of *")
                read.removes_all = True
                return
            read.contacts.append(self._wanted(contact, default))
        if any(wanted.reg_id for wanted in read.contacts):
            self._check_outbound(request, read)

    def _default_expires(self, request: Request) -> int:
        if "expires" not in request.names:
            return self._settings.default_expires
        try:
            expires = request.expires
        except MalformedMessage:
            raise RegistrationRefused(400, "Bad Expires") from None
        return self._settings.default_expires if expires is None else expires

    def _wanted(self, contact: NameAddr, expires: int) -> Wanted:
        """One Contact; its URI is not parsed here, because that of a refresh is known."""
        q = self._settings.default_q
        instance = reg_id = ""
        uri_text = contact.uri_text
        if not uri_text or len(uri_text) > self._settings.max_contact_len:
            raise RegistrationRefused(400, "Contact too long" if uri_text else "Bad Contact")
        params = contact.params
        if params:
            for name, value in params:
                name = name.lower()
                if name == "expires":
                    expires = _number(value, "Bad expires")
                elif name == "q":
                    q = _q_value(params.get(name) or "")
                elif name == "+sip.instance":
                    instance = params.get(name) or ""
                elif name == "reg-id":
                    reg_id = params.get(name) or "?"
        wanted = Wanted(uri_text, self._granted(expires) if expires else 0, q)
        if instance:
            if len(instance) > COLUMN or not instance.isprintable():
                raise RegistrationRefused(400, "Bad +sip.instance")
            wanted.instance = instance
            if reg_id:
                wanted.reg_id = _number(reg_id, "Bad reg-id")
                if not 0 < wanted.reg_id < 2**31:
                    raise RegistrationRefused(400, "Bad reg-id")
        return wanted

    def _granted(self, expires: int) -> int:
        settings = self._settings
        if settings.interval_too_brief and expires < min(settings.min_expires, 3600):
            least = str(settings.min_expires)
            raise RegistrationRefused(423, "Interval too brief", (("Min-Expires", least),))
        if settings.expires_max_deviation:
            expires += random.randint(
                -settings.expires_max_deviation, settings.expires_max_deviation
            )
        if settings.max_expires and expires > settings.max_expires:
            return settings.max_expires
        return max(expires, settings.min_expires)

    @staticmethod
    def _check_outbound(request: Request, read: Registration) -> None:
        """RFC 5626 section 6."""
        if sum(wanted.expires > 0 for wanted in read.contacts) > 1:
            raise RegistrationRefused(400, "reg-id with several contacts")
        vias = request.names.count("via")
        if vias == 1 and "," not in (request.get("via") or ""):
            return
        if read.path and any(
            "ob" in NameAddr.parse(hop).uri.params for hop in (read.path[0], read.path[-1])
        ):
            return
        if "outbound" in read.supported:
            raise RegistrationRefused(439, "First hop lacks outbound support")
        for wanted in read.contacts:
            wanted.reg_id = 0


def _joined(request: Request, name: str) -> str:
    """The value of a list header, nearly always on one line."""
    if request.names.count(name) > 1:
        return ", ".join(request.get_all(name))
    return request.get(name) or ""


def _check_require(request: Request) -> None:
    """RFC 3261 section 8.2.2.3."""
    unknown = [tag for tag in request.get_list("require") if tag.lower() not in _EXTENSIONS]
    if unknown:
        unsupported = (("Unsupported", ", ".join(unknown)),)
        raise RegistrationRefused(420, "Required extension not supported", unsupported)


def _number(text: str | None, error: str) -> int:
    if text and len(text) < 10 and text.isascii() and text.isdigit():
        return int(text)
    try:
        return parse_number(unquote(text or ""), "", LATEST * 2 + 1)
    except MalformedMessage:
        raise RegistrationRefused(400, error) from None


def _q_value(text: str) -> float:
    """A qvalue of RFC 3261 section 25.1: 0 to 1 with up to three digits."""
    whole, _, fraction = text.partition(".")
    good = not fraction or (fraction.isascii() and fraction.isdigit() and len(fraction) <= 3)
    if good and whole in ("0", "1"):
        q = int(whole) + (int(fraction) / 10 ** len(fraction) if fraction else 0.0)
        if q <= 1:
            return q
    raise RegistrationRefused(400, "Bad q")


def tokens(value: str) -> frozenset[str]:
    """The tokens of a list in lower case."""
    return _tokens(value) if len(value) <= _CACHED else _tokens.__wrapped__(value)


@lru_cache(256)
def _tokens(value: str) -> frozenset[str]:
    return frozenset(token.strip(" \t").lower() for token in value.split(","))


def method_mask(allow: str) -> int:
    """The ``methods`` column for an Allow header."""
    return _method_mask(allow) if len(allow) <= _CACHED else _method_mask.__wrapped__(allow)


@lru_cache(1024)
def _method_mask(allow: str) -> int:
    mask = 0
    for token in allow.split(","):
        name = token.strip(" \t")
        if name:
            mask |= METHODS.get(name, OTHER_METHOD)
    return mask


def method_bit(method: str) -> int:
    """The bit of one method."""
    return METHODS.get(method, OTHER_METHOD)
