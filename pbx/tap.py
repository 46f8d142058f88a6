"""``twistd pbx``: options, exit status, start and stop. The only import of the global reactor."""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import cast

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import CannotListenError, ReactorNotRunning
from twisted.internet.interfaces import IReactorCore, IReactorFromThreads, IReactorTime
from twisted.logger import Logger
from twisted.python import usage
from twisted.python.failure import Failure

from pbx import appliance, heap
from pbx.config import ConfigError, base_folder, read, reference
from pbx.huge_pages import ask_for_huge_pages
from pbx.logs import LOG
from pbx.management.core import CoreCommands
from pbx.reactor import install_reactor
from pbx.tables import SETTINGS, known_plugins

#: Exit status of bad configuration or of a start that failed, and of wrong usage.
BAD_CONFIGURATION, USAGE = 1, 2
#: Allocations between collections, and collections of one generation between those of the next.
#: Messages make no cycles, closed connections and media sessions do. To look at an object in vain
#: takes up to 1 us whenever that is done, and everything else waits meanwhile: often beats long.
GC_THRESHOLDS = (5_000, 4, 1_000)
#: Seconds after which the heap may have grown.
GROWTH = 60.0
#: What we write is for our user and group: it holds passwords.
UMASK = 0o007


class Reactor(IReactorCore, IReactorFromThreads, IReactorTime):
    """What is needed of the reactor to stop and to hear a signal."""


class Options(usage.Options):
    """The command line behind ``twistd pbx``."""

    synopsis = "[options]"
    optParameters = [
        ["config", "c", "etc/pbx.toml", "The configuration file."],
    ]
    optFlags = [
        ["check", None, "Check configuration and policy, then exit; nothing is bound or written."],
        ["reference", None, "Print every setting with type, default and meaning, then exit."],
    ]

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """As always, but wrong usage exits with status 2."""
        try:
            super().parseOptions(options)  # type: ignore[no-untyped-call]
        except usage.UsageError as error:
            print(f"twistd pbx: {error}; see twistd pbx --help", file=sys.stderr)
            raise SystemExit(USAGE) from None

    def parseArgs(self, *rest: str) -> None:
        """No arguments."""
        if rest:
            raise usage.UsageError(f"unexpected argument {rest[0]!r}")

    def postOptions(self) -> None:
        """Do what needs no start, and keep instances in one folder apart."""
        if self["reference"]:
            print(settings_reference())
            raise SystemExit(0)
        if self["check"]:
            build(Path(self["config"]))
            print(f"{self['config']}: good")
            raise SystemExit(0)
        parent = self.parent
        if parent is None:
            return
        install_reactor()
        if not parent.get("logger"):
            parent["logger"] = LOG.use(parent)
        # In the foreground a process file serves nobody and stops a second PBX in this folder.
        if parent.get("nodaemon") and parent.get("pidfile") == "twistd.pid":
            parent["pidfile"] = ""


def all_settings() -> dict[str, type]:
    """The settings dataclass of every table, those of plugins included."""
    found = {name: load().settings for name, load in sorted(known_plugins().items())}
    return {**SETTINGS, **{name: kind for name, kind in found.items() if kind is not None}}


def settings_reference() -> str:
    """Every table of pbx.toml as text."""
    return "\n\n".join(reference(kind, name) for name, kind in all_settings().items())


def build(path: Path) -> appliance.Appliance:
    """The PBX, built but not started. Exits with one line per fault."""
    from twisted.internet import reactor

    try:
        return appliance.build(read(path), base_folder(path), cast(IReactorTime, reactor))
    except ConfigError as error:
        for fault in error.faults:
            text = fault if fault.startswith(str(path)) else f"{path}: {fault}"
            print(text, file=sys.stderr)
        raise SystemExit(BAD_CONFIGURATION) from None


def makeService(options: Options) -> Service:
    """For twistd. Exits with status 1 when the configuration is bad."""
    from twisted.internet import reactor

    heap.keep_dense()
    built = build(Path(options["config"]))
    core = next(part for part in built.parts if isinstance(part, CoreCommands))
    return Main(built.service, core.reload, cast(Reactor, reactor))


class Main(Service):
    """Starts the PBX; a start that fails is one line and exit status 1. SIGHUP reloads."""

    log = Logger()

    def __init__(
        self, service: Service, reload: Callable[[], Awaitable[object]], reactor: Reactor
    ) -> None:
        self._service = service
        self._reload = reload
        self._reactor = reactor

    def privilegedStartService(self) -> None:
        """Before privileges are dropped."""
        super().privilegedStartService()  # type: ignore[no-untyped-call]
        self._service.privilegedStartService()  # type: ignore[no-untyped-call]

    def startService(self) -> None:
        """Everything that starts, and then nothing of it is looked at by the collector again."""
        super().startService()  # type: ignore[no-untyped-call]
        os.umask(UMASK)
        # After the reactor has installed its own.
        self._reactor.callLater(0, self._hear_signals)
        maybeDeferred(self._service.startService).addCallbacks(self._started, self._failed)

    def stopService(self) -> Deferred[object]:
        """Fires when queues are flushed."""
        super().stopService()  # type: ignore[no-untyped-call]
        return maybeDeferred(self._service.stopService)

    def reload(self) -> None:
        """Policy and tables again; a fault is logged, and what was goes on."""
        reloading = Deferred.fromCoroutine(_awaited(self._reload()))
        reloading.addCallbacks(
            lambda _: self.log.info("reloaded"),
            lambda failure: self.log.error("{why}", why=failure.getErrorMessage()),
        )

    def _hear_signals(self) -> None:
        # A clean stop ends with 0; twistd would end with the number of the signal.
        for number, act in (
            (signal.SIGHUP, self.reload),
            (signal.SIGTERM, self._stop),
            (signal.SIGINT, self._stop),
        ):
            signal.signal(number, lambda *_, act=act: self._reactor.callFromThread(act))

    def _stop(self) -> None:
        # A second signal while queues are being flushed.
        with contextlib.suppress(ReactorNotRunning):
            self._reactor.stop()

    def _started(self, _: object) -> None:
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        heap.give_back()
        self._grown()

    def _grown(self) -> None:
        ask_for_huge_pages()
        self._reactor.callLater(GROWTH, self._grown)

    def _failed(self, failure: Failure) -> None:
        lines = fault_lines(failure)
        if not lines:
            self.log.failure("the start failed", failure=failure)
            lines = [f"the start failed: {failure.getErrorMessage()}"]
        for line in lines:
            self.log.critical("{line}", line=line)
            print(f"pbx: {line}", file=sys.__stderr__, flush=True)
        exit_with(BAD_CONFIGURATION)
        self._reactor.callWhenRunning(self._reactor.stop)


async def _awaited(work: Awaitable[object]) -> object:
    return await work


def fault_lines(failure: Failure) -> Sequence[str]:
    """What to tell an operator about a start that failed; nothing when it is our own mistake."""
    error = failure.value
    if isinstance(error, ConfigError):
        return error.faults
    if isinstance(error, CannotListenError):
        where = f"{error.interface or '*'}:{error.port}"
        return [f"cannot listen on {where}: {error.socketError.strerror or error.socketError}"]
    if isinstance(error, OSError):
        where = f": {error.filename}" if error.filename else ""
        return [f"{error.strerror or error}{where}"]
    return []


def exit_with(status: int) -> None:
    """Let the process end with this status: twistd itself always ends with 0."""
    atexit.register(_exit, status)


def _exit(status: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
