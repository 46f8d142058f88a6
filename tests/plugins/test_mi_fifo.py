"""The management interface on a FIFO (specification 40, section 1.2)."""

from __future__ import annotations

import contextlib
import json
import os
import select
import stat
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IReactorFDSet, IReadDescriptor, IWriteDescriptor
from twisted.internet.task import Clock
from twisted.plugin import getPlugins
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

import plugins
from pbx.config import ConfigError
from pbx.interfaces import IFolder, IManagement, IPBXPlugin
from pbx.management.commands import Commands
from pbx.registry import Registry
from plugins.mi_fifo import IManagementFifo, ManagementFifo, MIFifoPlugin

WHICH = b'{"jsonrpc":"2.0","id":1,"method":"echo","params":["a"]}'


@implementer(IReactorFDSet)
class Poller(Clock):
    """A reactor that looks at its descriptors once when told to, as epoll would report them."""

    def __init__(self) -> None:
        super().__init__()
        self.readers: dict[int, IReadDescriptor] = {}
        self.writers: dict[int, IWriteDescriptor] = {}

    def addReader(self, reader: IReadDescriptor) -> None:
        self.readers[reader.fileno()] = reader

    def addWriter(self, writer: IWriteDescriptor) -> None:
        self.writers[writer.fileno()] = writer

    def removeReader(self, reader: IReadDescriptor) -> None:
        self.readers.pop(reader.fileno(), None)

    def removeWriter(self, writer: IWriteDescriptor) -> None:
        self.writers.pop(writer.fileno(), None)

    def removeAll(self) -> list[IReadDescriptor | IWriteDescriptor]:
        return []

    def getReaders(self) -> list[IReadDescriptor]:
        return list(self.readers.values())

    def getWriters(self) -> list[IWriteDescriptor]:
        return list(self.writers.values())

    def poll(self) -> int:
        """How many descriptors had something to report."""
        poll = select.poll()
        for descriptor in self.readers:
            poll.register(descriptor, select.POLLIN)
        for descriptor in self.writers:
            poll.register(descriptor, select.POLLOUT)
        found = poll.poll(0)
        for descriptor, event in found:
            one: Any = self.readers.get(descriptor) or self.writers.get(descriptor)
            if event & select.POLLIN:
                one.doRead()
            elif event & (select.POLLHUP | select.POLLERR):
                self.removeReader(one)
                self.removeWriter(one)
                one.connectionLost(Failure(ConnectionDone()))
            else:
                one.doWrite()
        return len(found)

    def settle(self) -> None:
        """Until nothing has anything to report."""
        for _ in range(100):
            if not self.poll():
                return
        raise AssertionError("a descriptor reports for ever")


@implementer(IFolder)
class FakeFolder:
    """Paths start in a temporary folder."""

    def __init__(self, base: Path) -> None:
        self.base = base

    def located(self, path: Path) -> Path:
        return self.base / path


class MIFifoTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.path = self.folder / "var" / "pbx_fifo"
        self.reactor = Poller()
        self.slow: Deferred[object] = Deferred()
        self.called: list[object] = []
        self.commands = Commands()
        self.commands.add_command("echo", (("text",),), self.echo)
        self.commands.add_command("slow", ((),), lambda: self.slow)
        self.commands.add_command("big", ((),), lambda: "x" * 300_000)
        self.readers: list[int] = []
        self.addCleanup(self.close_readers)
        self.fifo = self.make({"reply_dir": "."})

    def close_readers(self) -> None:
        for reader in self.readers:
            os.close(reader)

    def echo(self, text: object) -> object:
        self.called.append(text)
        return text

    def make(self, table: dict[str, Any]) -> ManagementFifo:
        registry = Registry()
        with registry.building():
            registry.provide(IFolder, FakeFolder(self.folder))
            registry.provide(IManagement, self.commands)
            MIFifoPlugin().provide(registry, self.reactor, table)
            fifo = IManagementFifo(registry)
        assert isinstance(fifo, ManagementFifo)
        self.addCleanup(lambda: Deferred.fromCoroutine(fifo.stop()))
        return fifo

    def start(self, fifo: ManagementFifo | None = None) -> None:
        self.successResultOf(Deferred.fromCoroutine((fifo or self.fifo).start()))

    def refused(self, fifo: ManagementFifo | None = None) -> str:
        start = Deferred.fromCoroutine((fifo or self.fifo).start())
        return str(self.failureResultOf(start, ConfigError).value)

    def stop(self) -> None:
        self.successResultOf(Deferred.fromCoroutine(self.fifo.stop()))

    def writer(self) -> int:
        return os.open(self.path, os.O_WRONLY | os.O_NONBLOCK)

    def write(self, data: bytes) -> None:
        """As clients do: open, write, close."""
        writer = self.writer()
        os.write(writer, data)
        os.close(writer)
        self.reactor.settle()

    def reply_fifo(self, name: str, read: bool = True) -> None:
        os.mkfifo(self.folder / name)
        if read:
            self.open_reply(name)

    def open_reply(self, name: str) -> int:
        reader = os.open(self.folder / name, os.O_RDONLY | os.O_NONBLOCK)
        self.readers.append(reader)
        return reader

    def answer(self, reader: int = -1) -> bytes:
        found = b""
        with contextlib.suppress(BlockingIOError):
            while chunk := os.read(reader if reader >= 0 else self.readers[-1], 1 << 20):
                found += chunk
        return found

    def ask(self, name: str, request: bytes = WHICH) -> Any:
        self.reply_fifo(name)
        self.write(b":" + name.encode() + b":" + request)
        return json.loads(self.answer())


class CommandTests(MIFifoTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.start()

    def test_a_command_and_its_answer(self) -> None:
        """One line of JSON."""
        self.reply_fifo("r")
        self.write(b":r:" + WHICH)
        self.assertEqual(self.answer(), b'{"jsonrpc":"2.0","result":"a","id":1}\n')

    def test_no_answer_wanted(self) -> None:
        """An empty reply name: done, nothing said."""
        self.write(b"::" + WHICH)
        self.assertEqual(self.called, ["a"])

    def test_two_clients(self) -> None:
        """Each gets its own answer, in whatever order."""
        self.reply_fifo("slow")
        self.reply_fifo("quick")
        first, second = self.readers
        self.write(b':slow:{"jsonrpc":"2.0","id":1,"method":"slow"}:quick:' + WHICH)
        self.assertEqual(json.loads(self.answer(second))["result"], "a")
        self.assertEqual(self.answer(first), b"")
        self.slow.callback("late")
        self.assertEqual(json.loads(self.answer(first))["result"], "late")

    def test_open_and_close(self) -> None:
        """The client does that to see whether somebody is there."""
        for _ in range(3):
            os.close(self.writer())
            self.reactor.settle()
        self.assertEqual(self.ask("r")["result"], "a")

    def test_two_writers_at_a_time(self) -> None:
        """The end of one is not the end of the other."""
        first, second = self.writer(), self.writer()
        os.write(first, b"::" + WHICH[:20])
        self.reactor.settle()
        os.close(second)
        self.reactor.settle()
        os.write(first, WHICH[20:])
        os.close(first)
        self.reactor.settle()
        self.assertEqual(self.called, ["a"])

    def test_unfinished_command(self) -> None:
        """The client hears of it, the next one is served."""
        self.assertEqual(self.ask("r", b'{"jsonrpc":')["error"]["code"], -32700)
        self.assertEqual(self.ask("s")["result"], "a")

    def test_unfinished_command_of_a_writer_that_stays(self) -> None:
        """After some seconds it does not stand in the way of others."""
        self.reply_fifo("r")
        writer = self.writer()
        os.write(writer, b":r:{")
        self.reactor.settle()
        self.reactor.advance(4.9)
        self.assertEqual(self.answer(), b"")
        self.reactor.advance(0.2)
        self.assertEqual(json.loads(self.answer())["error"]["code"], -32700)
        self.assertEqual(self.ask("s")["result"], "a")
        os.close(writer)

    def test_errors(self) -> None:
        """Of JSON-RPC, as elsewhere."""
        none = b'{"jsonrpc":"2.0","id":1,"method":"none"}'
        self.assertEqual(self.ask("a", none)["error"]["code"], -32601)
        self.assertEqual(self.ask("b", b"nonsense")["error"]["code"], -32700)
        self.assertEqual(self.ask("c", b'{"a":' * 99 + b"1" + b"}" * 99)["error"]["code"], -32600)


class ReplyTests(MIFifoTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.start()

    def test_reader_that_comes_later(self) -> None:
        """The client opens its FIFO after it wrote the command."""
        self.reply_fifo("r", read=False)
        self.write(b":r:" + WHICH)
        self.reactor.advance(1)
        self.open_reply("r")
        self.reactor.advance(0.02)
        self.assertEqual(json.loads(self.answer())["result"], "a")

    def test_reader_that_does_not_come(self) -> None:
        """Is waited for some seconds."""
        self.reply_fifo("r", read=False)
        self.write(b":r:" + WHICH)
        self.reactor.pump([0.02] * 300)
        self.open_reply("r")
        self.reactor.pump([0.02] * 300)
        self.assertEqual(self.answer(), b"")
        self.assertEqual(self.ask("s")["result"], "a")

    def test_big_answer(self) -> None:
        """Is written as it is read; nobody waits."""
        self.reply_fifo("r")
        self.write(b':r:{"jsonrpc":"2.0","id":1,"method":"big"}')
        self.assertEqual(self.ask("s")["result"], "a")
        found = b""
        for _ in range(20):
            found += self.answer(self.readers[0])
            self.reactor.poll()
        self.assertEqual(len(json.loads(found)["result"]), 300_000)

    def test_reader_that_does_not_read(self) -> None:
        """Is given up, and so is one that goes away in the middle."""
        for name in ("r", "s"):
            self.reply_fifo(name)
            self.write(b":" + name.encode() + b':{"jsonrpc":"2.0","id":1,"method":"big"}')
        self.assertEqual(len(self.reactor.writers), 2)
        os.close(self.readers.pop())
        self.reactor.settle()
        self.assertEqual(len(self.reactor.writers), 1)
        self.reactor.advance(10)
        self.assertEqual(self.reactor.writers, {})

    def test_notification(self) -> None:
        """End of file without an answer, so that a reader does not wait for ever."""
        self.reply_fifo("r", read=False)
        self.write(b':r:{"jsonrpc":"2.0","method":"echo","params":["n"]}')
        reader = self.open_reply("r")
        self.reactor.advance(0.02)
        self.assertEqual((self.called, os.read(reader, 10)), (["n"], b""))

    def test_missing_reply_fifo(self) -> None:
        """Nothing is made, nothing is waited for."""
        self.write(b":r:" + WHICH)
        self.assertEqual(self.called, ["a"])
        self.assertFalse((self.folder / "r").exists())

    def test_no_fifo(self) -> None:
        """Files and links stay as they are."""
        target = self.folder / "target"
        target.write_text("precious")
        os.symlink(target, self.folder / "link")
        os.link(target, self.folder / "hard")
        (self.folder / "folder").mkdir()
        for name in ("target", "link", "hard", "folder"):
            self.write(b":" + name.encode() + b":" + WHICH)
        self.assertEqual(target.read_text(), "precious")

    def test_links_to_a_fifo(self) -> None:
        """Symbolic ones and second names are refused."""
        os.mkfifo(self.folder / "one")
        os.link(self.folder / "one", self.folder / "two")
        os.mkfifo(self.folder / "real")
        os.symlink(self.folder / "real", self.folder / "link")
        for name in ("one", "two", "link"):
            reader = self.open_reply(name)
            self.write(b":" + name.encode() + b":" + WHICH)
            self.assertEqual(self.answer(reader), b"", name)

    def test_names_that_leave_the_folder(self) -> None:
        """The command is not even done."""
        os.mkfifo(self.folder / "var" / "r")
        for name in (b"var/r", b"../r", b"a.b", b"a\\b"):
            self.write(b":" + name + b":" + WHICH)
        self.assertEqual(self.called, [])

    def test_many_readers_that_do_not_come(self) -> None:
        """Commands are dropped rather than answers piled up."""
        self.reply_fifo("r", read=False)
        for _ in range(150):
            self.write(b":r:" + WHICH)
        self.assertEqual(len(self.called), 100)
        self.reactor.pump([0.02] * 300)
        self.assertEqual(self.ask("s")["result"], "a")


class FileTests(MIFifoTestCase):
    def test_mode(self) -> None:
        """0660, or what was set, whatever the umask."""
        self.start()
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o660)
        other = self.make({"fifo_name": "other", "fifo_mode": "0622"})
        self.start(other)
        self.assertEqual(stat.S_IMODE((self.folder / "other").stat().st_mode), 0o622)

    def test_removed_at_the_end(self) -> None:
        self.start()
        self.stop()
        self.assertFalse(self.path.exists())
        self.assertEqual((self.reactor.readers, self.reactor.getDelayedCalls()), ({}, []))

    def test_stale_fifo(self) -> None:
        """What a killed PBX left behind is replaced."""
        self.path.parent.mkdir()
        os.mkfifo(self.path, 0o600)
        self.start()
        self.assertEqual(self.ask("r")["result"], "a")

    def test_fifo_of_another_pbx(self) -> None:
        """Is not taken away from it."""
        self.start()
        self.assertIn("another process reads it", self.refused(self.make({})))
        self.assertEqual(self.ask("r")["result"], "a")

    def test_something_else_in_its_place(self) -> None:
        """Files and links stay, and the PBX does not start."""
        self.path.parent.mkdir()
        real = self.folder / "real"
        os.mkfifo(real)
        self.path.symlink_to(real)
        self.assertIn("[mi_fifo] fifo_name: ", self.refused())
        self.path.unlink()
        self.path.write_text("precious")
        self.assertIn("exists and is no FIFO", self.refused())
        self.assertEqual(self.path.read_text(), "precious")

    def test_made_again(self) -> None:
        """When it disappears, also with its folder."""
        self.start()
        self.path.unlink()
        self.reactor.advance(1)
        self.assertEqual(self.ask("r")["result"], "a")
        self.path.unlink()
        self.path.parent.rmdir()
        self.reactor.advance(1)
        self.assertEqual(self.ask("s")["result"], "a")
        self.assertEqual(self.fifo.health(), ("ok", ""))

    def test_made_again_while_a_writer_has_it(self) -> None:
        """Its last writer leaves after the file is gone."""
        self.start()
        writer = self.writer()
        self.path.unlink()
        os.close(writer)
        self.reactor.settle()
        self.assertEqual(self.ask("r")["result"], "a")

    def test_replaced_by_a_link(self) -> None:
        """Is neither read nor removed; health tells until it is gone."""
        self.start()
        real = self.folder / "real"
        os.mkfifo(real)
        self.path.unlink()
        self.path.symlink_to(real)
        self.reactor.advance(1)
        word, why = self.fifo.health()
        self.assertEqual((word, "something else" in why), ("degraded", True))
        with self.assertRaises(OSError):
            os.open(real, os.O_WRONLY | os.O_NONBLOCK)
        self.path.unlink()
        self.reactor.advance(1)
        self.assertEqual(self.fifo.health(), ("ok", ""))
        self.assertEqual(self.ask("r")["result"], "a")
        self.path.unlink()
        self.path.symlink_to(real)
        self.stop()
        self.assertTrue(self.path.is_symlink())


class SettingsTests(MIFifoTestCase):
    def test_plugin_is_found(self) -> None:
        self.assertIn("mi_fifo", {plugin.name for plugin in getPlugins(IPBXPlugin, plugins)})

    def test_faults(self) -> None:
        for mode in ("666", "0660", "777"):
            self.make({"fifo_mode": mode})
        for mode in ("0888", "rw", "", "07777"):
            with self.assertRaises(ConfigError) as caught:
                self.make({"fifo_mode": mode})
            self.assertIn("[mi_fifo] fifo_mode: expected an octal", str(caught.exception))
