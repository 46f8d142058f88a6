"""Responses to REGISTER (RFC 3261 section 10.3, step 8)."""

from __future__ import annotations

from typing import Final

from twisted.internet.interfaces import IReactorTime

from pbx.services.registrar.gruu import TemporaryGRUUs, public_gruu
from pbx.services.registrar.location import Binding, Location, Record
from pbx.services.registrar.registration import Registration, RegistrationRefused
from pbx.services.registrar.settings import RegistrarSettings
from pbx.sip.params import quote
from pbx.sip.uri import escape_user, join_host_port
from pbx.verdicts import Reply

#: What a binding that never expires is shown with.
FOR_EVER: Final = 2**32 - 1


class Answers:
    """Writes them. ``gruus`` is set before the first."""

    gruus: TemporaryGRUUs

    def __init__(
        self, settings: RegistrarSettings, location: Location, clock: IReactorTime
    ) -> None:
        self._settings = settings
        self._location = location
        self._clock = clock
        self._supported = "path, outbound, gruu" if settings.gruu else "path, outbound"

    def ok(self, registration: Registration, outbound: bool, reliable: bool) -> Reply:
        """200 with all bindings. ``outbound``: a flow was registered as RFC 5626 has it."""
        headers: list[tuple[str, str]] = []
        supported = registration.supported
        record = self._location.records.get(registration.aor)
        if record is not None:
            gruu = self._settings.gruu and "gruu" in supported
            headers.append(("Contact", self.contacts(record, registration if gruu else None)))
        headers.append(("Supported", self._supported))
        if outbound and "outbound" in supported:
            headers.append(("Require", "outbound"))
            if reliable and self._settings.flow_timer:
                headers.append(("Flow-Timer", str(self._settings.flow_timer)))
        path = registration.path
        if path and self._settings.path != "off" and "path" in supported:
            headers.append(("Path", ", ".join(path)))
        return Reply(200, "", tuple(headers))

    def refused(self, error: RegistrationRefused, aor: str) -> Reply:
        """The answer to a REGISTER that changed nothing."""
        headers = [("P-Registrar-Error", error.error), *error.headers]
        record = self._location.records.get(aor) if error.listed else None
        if record is not None:
            headers.insert(0, ("Contact", self.contacts(record, None)))
        if error.status >= 500 and self._settings.retry_after:
            headers.append(("Retry-After", str(self._settings.retry_after)))
        return Reply(error.status, "", tuple(headers))

    def contacts(self, record: Record, gruu_for: Registration | None) -> str:
        """The value of Contact that lists the bindings of a record."""
        now = self._clock.seconds()
        bindings = record.bindings
        if len(bindings) == 1:
            return self._contact(bindings[0], now, gruu_for)
        return ", ".join([self._contact(binding, now, gruu_for) for binding in bindings])

    def _contact(self, binding: Binding, now: float, gruu_for: Registration | None) -> str:
        left = max(int(binding.expires - now), 0) if binding.expires else FOR_EVER
        text = f"<{binding.contact}>;expires={left}"
        if binding.q >= 0:
            text = f"{text};q={binding.q:.3g}"
        if binding.received:
            text = f'{text};{self._settings.received_param}="{binding.received}"'
        instance = binding.instance
        if instance:
            if gruu_for is not None:
                text += self._gruus(binding, gruu_for)
            text = f"{text};+sip.instance={quote(instance)}"
            if binding.reg_id:
                text = f"{text};reg-id={binding.reg_id}"
        return text

    def _gruus(self, binding: Binding, registration: Registration) -> str:
        """RFC 5627 section 5.2."""
        host = join_host_port(registration.to.host, None)
        public = public_gruu(f"{escape_user(registration.to.user)}@{host}", binding.instance)
        self._location.index(binding)
        temporary = f"sip:{self.gruus.mint(binding.contact_id, binding.call_id)}@{host};gr"
        return f';pub-gruu="{public}";temp-gruu="{temporary}"'
