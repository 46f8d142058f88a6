"""The reactor of the PBX, run for a moment by hand; it is nobody's reactor."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from functools import partial
from typing import Any

from twisted.internet.interfaces import IReactorFDSet, IReadWriteDescriptor
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from pbx.reactor import DirectReactor, install_reactor


@implementer(IReadWriteDescriptor)
class Descriptor:
    """One end of a pipe of datagrams that notes what it is asked to do."""

    def __init__(self, direct: bool) -> None:
        self.direct = direct
        self.own, self.peer = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.own.setblocking(False)
        self.done: list[str] = []
        self.lost: list[BaseException] = []
        self.fault: BaseException | None = None

    def fileno(self) -> int:
        self.done.append("fileno")
        return self.own.fileno()

    def logPrefix(self) -> str:
        self.done.append("logPrefix")
        return "descriptor"

    def doRead(self) -> None:
        self.done.append("read " + self.own.recv(100).decode())
        if self.fault is not None:
            raise self.fault

    def doWrite(self) -> None:
        self.done.append("write")

    def connectionLost(self, reason: Any) -> None:
        self.lost.append(reason.value)

    def close(self) -> None:
        self.own.close()
        self.peer.close()


#: A socket that sends to itself as long as there is something to do: the reactor is never idle.
_BUSY = """
import socket, sys, threading, time
from pbx.reactor import install_reactor
assert install_reactor()
from twisted.internet import reactor

class Busy:
    direct = True
    todo = 0
    def __init__(self):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.socket.bind(("127.0.0.1", 0))
        self.fileno = self.socket.fileno
    def logPrefix(self):
        return "busy"
    def connectionLost(self, reason):
        print("lost")
    def send(self):
        self.socket.sendto(b"x", self.socket.getsockname())
    def doRead(self):
        self.socket.recv(100)
        if self.todo > 0:
            self.todo -= 1
            self.send()
        elif self.todo == 0:
            self.todo = -1
            reactor.callLater(0.05, say, "set by a reader")
            reactor.callLater(3_000_000, say, "never")
            reactor.callLater(0.1, leave)

def say(*words):
    print(*words)
    sys.stdout.flush()

def leave():
    busy.send()
    threading.Timer(0.1, reactor.callFromThread, (last,)).start()

def last():
    say("from a thread")
    reactor.callLater(0.05, reactor.stop)

busy = Busy()
reactor.addReader(busy)
reactor.callLater(0.0, setattr, busy, "todo", 10**9)
reactor.callLater(0.0, busy.send)
reactor.callLater(0.1, say, "while it is busy")
reactor.callLater(0.2, setattr, busy, "todo", 0)
reactor.run()
say(len(reactor.getDelayedCalls()), "left")
"""


class DirectTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = DirectReactor()
        self.addCleanup(self.reactor._poller.close)
        # What wakes the reactor from other threads.
        for waker in tuple(self.reactor._internalReaders):
            self.reactor.removeReader(waker)
            waker.connectionLost(None)

    def descriptor(self, direct: bool = True) -> Descriptor:
        made = Descriptor(direct)
        self.addCleanup(made.close)
        self.reactor.addReader(made)
        made.done.clear()
        return made

    def turn(self, *sent: Descriptor) -> None:
        for one in sent:
            one.peer.send(b"x")
        self.reactor.doIteration(0)

    def test_promises(self) -> None:
        verifyObject(IReactorFDSet, self.reactor)

    def test_read(self) -> None:
        """Nothing is asked but to read; others go the long way."""
        direct, other = self.descriptor(), self.descriptor(False)
        self.turn(direct, other)
        self.assertEqual(direct.done, ["read x"])
        self.assertEqual(other.done, ["logPrefix", "fileno", "read x"])
        self.turn()
        self.assertEqual(direct.done, ["read x"])

    def test_write(self) -> None:
        """What waits for the kernel's buffer is Twisted's business."""
        direct = self.descriptor()
        self.reactor.addWriter(direct)
        self.turn(direct)
        self.assertEqual(
            [word for word in direct.done if " " in word or word == "write"], ["read x", "write"]
        )

    def test_removed(self) -> None:
        """It is read no more; others are."""
        first, second = self.descriptor(), self.descriptor()
        self.reactor.removeReader(first)
        self.turn(first, second)
        self.assertEqual([word for word in first.done if word[:4] == "read"], [])
        self.assertEqual(second.done, ["read x"])
        idle = self.descriptor()
        self.reactor.removeReader(second)
        self.turn(second)
        self.assertEqual([word for word in second.done if word[:4] == "read"], ["read x"])
        self.assertEqual(self.reactor.getReaders(), [idle])

    def test_removed_by_another(self) -> None:
        """Of two that can be read in this turn the first removes the other."""
        both = self.descriptor(), self.descriptor()
        for own, other in (both, both[::-1]):
            self.patch(own, "doRead", partial(self.reactor.removeReader, other))
        self.turn(*both)
        self.assertEqual(len(self.reactor.getReaders()), 1)

    def test_failure(self) -> None:
        """Is logged, and the descriptor is given up; the others are read all the same."""
        bad, good = self.descriptor(), self.descriptor()
        bad.fault = ValueError("bad")
        self.turn(bad, good)
        self.assertEqual((bad.lost, good.done), ([bad.fault], ["read x"]))
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.assertEqual(self.reactor.getReaders(), [good])

    def test_run(self) -> None:
        """Timed calls, threads and the end have their turn, whatever there is to read."""
        done = subprocess.run(
            [sys.executable, "-c", _BUSY],
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            check=False,
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        said = ["while it is busy", "set by a reader", "from a thread", "1 left", "lost"]
        self.assertEqual(sorted(done.stdout.splitlines()), sorted(said))

    def test_there_is_one(self) -> None:
        """Whoever runs this test has it, or gets it now."""
        from twisted.internet import reactor

        self.assertNotIsInstance(reactor, DirectReactor)
        self.assertFalse(install_reactor())
