"""The management interface on a FIFO: ``:reply:{"jsonrpc": ...}``, the answer on another FIFO.

The first transport of opensips-cli and of shell scripts. The reactor never waits for who writes
or reads at the other end.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from errno import EAGAIN, EINVAL, ENXIO
from pathlib import Path
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IDelayedCall,
    IReactorTime,
    IReadDescriptor,
)
from twisted.logger import Logger
from twisted.plugin import IPlugin
from twisted.python.failure import Failure
from zope.interface import Interface, implementer

from pbx.config import ConfigError, settings
from pbx.interfaces import IFolder, IHealth, IManagement, IPBXPlugin, IRegistry, IStartable
from pbx.management.fifo import (
    CHUNK,
    FLAGS,
    Answer,
    CommandStream,
    FDReactor,
    Identity,
    good_name,
    identity,
    open_fifo,
)
from pbx.timing import Periodic

Handle = Callable[[bytes], Awaitable[bytes | None]]

#: Seconds that the rest of a command may take to come.
PATIENCE: Final = 5.0
#: Seconds between two looks whether the FIFO is still there.
LOOK: Final = 1.0
#: Answers that may wait for their readers; further commands are dropped.
MAX_REPLIES: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class MIFifoSettings:
    """The ``[mi_fifo]`` table."""

    fifo_name: Path = Path("var/pbx_fifo")
    """Where commands are written to."""
    fifo_mode: str = "0660"
    """Permissions of the FIFO, octal: who may manage the PBX."""
    reply_dir: Path = Path("/tmp")
    """The folder of the FIFOs that clients make for answers."""

    def __post_init__(self) -> None:
        if not re.fullmatch("[0-7]{3,4}", self.fifo_mode):
            raise ValueError(f'fifo_mode: expected an octal like "0660", not {self.fifo_mode!r}')


class IManagementFifo(Interface):
    """The FIFO."""


@implementer(IManagementFifo, IReadDescriptor, IStartable, IHealth)
class ManagementFifo:
    """Reads commands; makes the FIFO anew when it is gone, leaves alone what others put there."""

    log = Logger()

    def __init__(
        self,
        path: Path,
        mode: int,
        reply_dir: Path,
        handle: Handle,
        reactor: FDReactor,
    ) -> None:
        self._path = path
        self._mode = mode
        self._reply_dir = reply_dir
        self._handle = handle
        self._reactor = reactor
        self._descriptor = -1
        self._identity: Identity | None = None
        self._stream = CommandStream()
        self._answers: set[Answer] = set()
        self._look = Periodic(reactor, LOOK, self._still_there)
        self._rest: IDelayedCall | None = None
        self._trouble = ""

    # IStartable, IHealth

    async def start(self) -> None:
        """Make the FIFO. Raises ConfigError for what stands in the way, another PBX included."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._remove_stale()
            self._make()
        except OSError as error:
            why = error.strerror or str(error)
            raise ConfigError(f"[mi_fifo] fifo_name: {self._path}: {why}") from None
        self._look.start()
        self.log.info("management interface at {path}", path=str(self._path))

    async def stop(self) -> None:
        """Read no more, give up answers that nobody reads, remove the FIFO."""
        self._look.stop()
        self._close()
        self._cancel_rest()
        for answer in tuple(self._answers):
            answer.stop()
        try:
            if identity(os.lstat(self._path)) == self._identity:
                os.unlink(self._path)
        except OSError:
            return

    def health(self) -> tuple[str, str]:
        """Degraded while something else is in its place."""
        return ("degraded", self._trouble) if self._trouble else ("ok", "")

    # IReadDescriptor

    def fileno(self) -> int:
        """IReadDescriptor."""
        return self._descriptor

    def logPrefix(self) -> str:
        """IReadDescriptor."""
        return "mi_fifo"

    def doRead(self) -> None:
        """Somebody wrote, or the last writer closed."""
        try:
            chunk = os.read(self._descriptor, CHUNK)
        except OSError as error:
            if error.errno != EAGAIN:
                self._writers_left()
            return
        if not chunk:
            self._writers_left()
            return
        for name, text in self._stream.feed(chunk):
            self._run(name, text)
        self._cancel_rest()
        if self._stream.incomplete:
            self._rest = self._reactor.callLater(PATIENCE, self._end_of_input)

    def connectionLost(self, reason: Failure) -> None:
        """The last writer closed without writing."""
        if self._descriptor >= 0:
            self._writers_left()

    # The file

    def _remove_stale(self) -> None:
        try:
            found = os.lstat(self._path)
        except FileNotFoundError:
            return
        if not stat.S_ISFIFO(found.st_mode):
            raise OSError(EINVAL, "exists and is no FIFO")
        try:
            os.close(os.open(self._path, os.O_WRONLY | FLAGS))
        except OSError as error:
            if error.errno != ENXIO:
                raise
        else:
            raise OSError(EINVAL, "another process reads it")
        os.unlink(self._path)

    def _make(self) -> None:
        os.mkfifo(self._path, 0o600)
        self._open()
        os.fchmod(self._descriptor, self._mode)

    def _open(self) -> None:
        """Read from the path, from now on."""
        fresh = open_fifo(self._path, os.O_RDONLY)
        self._close()
        self._descriptor = fresh
        self._identity = identity(os.fstat(fresh))
        self._reactor.addReader(self)

    def _close(self) -> None:
        if self._descriptor >= 0:
            self._reactor.removeReader(self)
            os.close(self._descriptor)
            self._descriptor = -1

    def _still_there(self) -> None:
        trouble = ""
        try:
            if identity(os.lstat(self._path)) != self._identity:
                trouble = "something else is in its place"
            elif self._descriptor < 0:
                self._open()
        except FileNotFoundError:
            trouble = self._again()
        except OSError as error:
            trouble = error.strerror or str(error)
        if trouble and not self._trouble:
            self.log.error("the FIFO {path} is lost: {why}", path=str(self._path), why=trouble)
        self._trouble = trouble and f"mi_fifo: {self._path}: {trouble}"

    def _again(self) -> str:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._make()
        except OSError as error:
            return error.strerror or str(error)
        self.log.warn("the FIFO {path} was gone and is made again", path=str(self._path))
        return ""

    def _writers_left(self) -> None:
        """A descriptor reports the end of file for ever, so it is opened anew.

        The new one is open before the old one closes: nothing that is written now is lost.
        """
        self._end_of_input()
        try:
            if identity(os.lstat(self._path)) == self._identity:
                self._open()
                return
        except OSError:
            pass
        self._close()
        self._still_there()

    # Commands

    def _end_of_input(self) -> None:
        self._cancel_rest()
        if (command := self._stream.end()) is not None:
            self._run(*command)

    def _cancel_rest(self) -> None:
        if self._rest is not None and self._rest.active():
            self._rest.cancel()
        self._rest = None

    def _run(self, name: str, text: bytes) -> None:
        if not good_name(name):
            self.log.warn("a command with the bad reply name {name!r} was dropped", name=name)
        elif len(self._answers) >= MAX_REPLIES:
            self.log.warn("a command was dropped: too many answers wait to be read")
        else:
            Deferred.fromCoroutine(self._answer(name, text))

    async def _answer(self, name: str, text: bytes) -> None:
        found = await self._handle(text)
        if not name:
            return
        # The answer to a notification is the end of file: somebody may be waiting.
        line = b"" if found is None else found + b"\n"
        answer = Answer(self._reply_dir / name, line, self._reactor, self._answers.discard)
        self._answers.add(answer)
        answer.start()


@implementer(IPlugin, IPBXPlugin)
class MIFifoPlugin:
    """Announces the FIFO."""

    name = "mi_fifo"
    settings = MIFifoSettings

    def provide(self, registry: IRegistry, clock: IReactorTime, table: Mapping[str, Any]) -> None:
        """Build what reads the FIFO."""
        found = settings(MIFifoSettings, table, self.name)
        folder = IFolder(registry)
        reactor: Any = clock
        fifo = ManagementFifo(
            folder.located(found.fifo_name),
            int(found.fifo_mode, 8),
            folder.located(found.reply_dir),
            IManagement(registry).handle,
            reactor,
        )
        registry.provide(IManagementFifo, fifo)


mi_fifo = MIFifoPlugin()
