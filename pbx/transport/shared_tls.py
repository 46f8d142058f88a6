"""The certificate of all TLS listeners: made when the first of them asks, watched, renewed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from pbx.interfaces import IHealth, IReloadable, IStartable, IStatistics
from pbx.timing import Periodic
from pbx.transport.certificates import CertificateFailed, make_certificate
from pbx.transport.tls import TLSContexts, TLSSettings

#: Days left from which on a certificate is a worry, and from which on we renew our own.
WORRY, RENEW = 14, 30
_DAY = 86400.0


@implementer(IStartable, IReloadable, IStatistics, IHealth)
class SharedTLS:
    """One `TLSContexts` for SIP and HTTP; ``names`` are the hosts our own certificate shows."""

    log = Logger()

    def __init__(
        self,
        settings: TLSSettings,
        folder: Path,
        names: Callable[[], Sequence[str]],
        clock: IReactorTime,
    ) -> None:
        self._settings = settings
        self._folder = folder
        self._names = names
        self._clock = clock
        self._contexts: TLSContexts | None = None
        self._daily = Periodic(clock, _DAY, self._renew)

    def contexts(self) -> TLSContexts:
        """Raises CertificateFailed."""
        if self._contexts is None:
            self._contexts = TLSContexts(self._settings, self._folder, self._names())
            self._renew()
        return self._contexts

    async def start(self) -> None:
        """Look after the certificate from now on."""
        self._daily.start()

    async def stop(self) -> None:
        """No longer."""
        self._daily.stop()

    async def reload(self) -> None:
        """Read the files again for new connections; open ones go on. Raises CertificateFailed."""
        if self._contexts is not None:
            self._contexts.reload()
            self._renew()

    def _renew(self) -> None:
        contexts = self._contexts
        if contexts is None or not contexts.is_own or self.days_left() >= RENEW:
            return
        try:
            make_certificate(contexts.certificate_file, contexts.key_file, self._names())
            contexts.reload()
        except CertificateFailed as error:
            self.log.error("our certificate was not renewed: {error}", error=str(error))
        else:
            self.log.info("our certificate was renewed: browsers ask about it once more")

    def days_left(self) -> int:
        """Whole days that the certificate is good for, negative afterwards."""
        assert self._contexts is not None
        return int((self._contexts.not_after.timestamp() - self._clock.seconds()) // _DAY)

    def statistics(self) -> Mapping[str, int]:
        """Group ``tls``; nothing while there is no certificate."""
        return {} if self._contexts is None else {"tls:certificate_days_left": self.days_left()}

    def health(self) -> tuple[str, str]:
        """Degraded two weeks before phones and browsers begin to refuse us."""
        if self._contexts is None or (left := self.days_left()) >= WORRY:
            return "ok", ""
        file = self._contexts.certificate_file
        if left < 0:
            return "degraded", f"the certificate {file} has expired"
        return "degraded", f"the certificate {file} expires in {left} days"
