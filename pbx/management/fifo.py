"""What the management interface on a FIFO is made of: framing, and answers to reply FIFOs.

Nothing here waits for who writes or reads at the other end.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator
from errno import EAGAIN, EINVAL, ENXIO
from pathlib import Path
from typing import Final

from twisted.internet.interfaces import (
    IDelayedCall,
    IReactorFDSet,
    IReactorTime,
    IWriteDescriptor,
)
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

Identity = tuple[int, int]

#: Bytes of one command; what does not end by then is cut off there.
LIMIT: Final = 1 << 20
#: Seconds in which a client must open its reply FIFO, and then read the answer.
REPLY_OPEN: Final = 5.0
REPLY_READ: Final = 10.0
REPLY_RETRY: Final = 0.02
#: Bytes to read or write at a time.
CHUNK: Final = 1 << 16
FLAGS: Final = os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC

BLANK: Final = b" \t\r\n"
IN_JSON: Final = re.compile(rb'["{}\[\]]')
IN_STRING: Final = re.compile(rb'["\\]')


class FDReactor(IReactorTime, IReactorFDSet):
    """What FIFOs need of the reactor."""


def identity(found: os.stat_result) -> Identity:
    """What stays the same while a file is the same file."""
    return found.st_dev, found.st_ino


def open_fifo(path: str | Path, flags: int) -> int:
    """A descriptor that never blocks.

    Raises OSError, also for links and for what is no FIFO: that is not even opened, for opening a
    device may do something.
    """
    before = os.lstat(path)
    if not stat.S_ISFIFO(before.st_mode) or before.st_nlink != 1:
        raise OSError(EINVAL, "no FIFO of one name")
    descriptor = os.open(path, flags | FLAGS)
    if identity(os.fstat(descriptor)) != identity(before):
        os.close(descriptor)
        raise OSError(EINVAL, "replaced just now")
    return descriptor


class CommandStream:
    """Splits what is read into commands: pairs of the reply name and the text of a request."""

    def __init__(self) -> None:
        self._waiting = b""
        self._forget()

    def feed(self, chunk: bytes) -> Iterator[tuple[str, bytes]]:
        """The commands that are complete now."""
        self._waiting += chunk
        while True:
            if not self._body and not self._head():
                break
            end = self._end()
            if end < 0:
                break
            yield self._name, self._waiting[self._body : end]
            self._waiting = self._waiting[end:]
            self._forget()
        if len(self._waiting) > LIMIT and (command := self.end()):
            yield command

    def end(self) -> tuple[str, bytes] | None:
        """Nothing more comes: a command of which the end is missing."""
        waiting, body, name = self._waiting, self._body, self._name
        self._waiting = b""
        self._forget()
        return (name, waiting[body:]) if body else None

    @property
    def incomplete(self) -> bool:
        """Whether a command waits for its end."""
        return bool(self._waiting)

    def _forget(self) -> None:
        self._name = ""
        self._body = self._at = self._depth = 0
        self._in_string = False

    def _head(self) -> bool:
        """Whether ``:name:`` is here; what cannot become one is skipped."""
        while True:
            self._waiting = self._waiting.lstrip(BLANK)
            if not self._waiting:
                return False
            line, newline, rest = self._waiting.partition(b"\n")
            name, colon, _ = line[1:].partition(b":")
            if line.startswith(b":") and colon:
                self._name = name.decode("utf-8", "surrogateescape")
                self._body = self._at = len(name) + 2
                return True
            if not newline:
                if not line.startswith(b":") or len(line) > 300:
                    self._waiting = b""
                return False
            self._waiting = rest

    def _end(self) -> int:
        """Where the JSON ends, -1 when its end is missing."""
        text, at = self._waiting, self._at
        if not self._depth:
            while text[at : at + 1] and text[at : at + 1] in BLANK:
                at += 1
            if at == len(text):
                return -1
            if text[at : at + 1] not in (b"{", b"["):
                # No request, but somebody waits for the answer that says so.
                newline = text.find(b"\n", at)
                return len(text) if newline < 0 else newline
        while found := (IN_STRING if self._in_string else IN_JSON).search(text, at):
            at, mark = found.end(), found.group()
            if mark == b"\\":
                if at == len(text):
                    self._at = at - 1
                    return -1
                at += 1
            elif mark == b'"':
                self._in_string = not self._in_string
            else:
                self._depth += 1 if mark in b"{[" else -1
                if self._depth <= 0:
                    return at
        self._at = len(text)
        return -1


@implementer(IWriteDescriptor)
class Answer:
    """One line for the reader of a reply FIFO, who may not be there yet."""

    log = Logger()

    def __init__(
        self, path: Path, text: bytes, reactor: FDReactor, done: Callable[[Answer], object]
    ) -> None:
        self._path = path
        self._text = memoryview(text)
        self._reactor = reactor
        self._done = done
        self._descriptor = -1
        self._deadline = reactor.seconds() + REPLY_OPEN
        self._timer: IDelayedCall | None = None

    def start(self) -> None:
        """Write, now or when there is a reader."""
        self._timer = None
        try:
            self._descriptor = open_fifo(self._path, os.O_WRONLY)
        except OSError as error:
            if error.errno == ENXIO and self._reactor.seconds() < self._deadline:
                self._timer = self._reactor.callLater(REPLY_RETRY, self.start)
                return
            self._give_up(error.strerror or str(error))
            return
        self._timer = self._reactor.callLater(REPLY_READ, self._give_up, "nobody reads")
        if self._write():
            self._reactor.addWriter(self)

    def stop(self) -> None:
        """Close, whatever is written by now."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        if self._descriptor >= 0:
            self._reactor.removeWriter(self)
            os.close(self._descriptor)
            self._descriptor = -1
        self._done(self)

    def fileno(self) -> int:
        """IWriteDescriptor."""
        return self._descriptor

    def logPrefix(self) -> str:
        """IWriteDescriptor."""
        return "mi_fifo"

    def doWrite(self) -> None:
        """There is room."""
        self._write()

    def connectionLost(self, reason: Failure) -> None:
        """The reader went away."""
        self.stop()

    def _write(self) -> bool:
        """Whether something is left for later."""
        while self._text:
            try:
                written = os.write(self._descriptor, self._text[:CHUNK])
            except OSError as error:
                if error.errno == EAGAIN:
                    return True
                break
            self._text = self._text[written:]
        self.stop()
        return False

    def _give_up(self, why: str) -> None:
        self.log.warn("no answer to {path}: {why}", path=str(self._path), why=why)
        self.stop()


def good_name(name: str) -> bool:
    """Whether a reply name is empty or names a file of the folder and nothing else."""
    return len(name) < 256 and not any(letter in "./\\" or letter < " " for letter in name)
