"""The dispatcher against specification 40, section 1."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from pbx.commands import CommandFailed
from pbx.interfaces import ICommands
from pbx.management.commands import Commands


@implementer(ICommands)
class Part:
    """Commands with every shape of recipe."""

    def __init__(self) -> None:
        self.waiting: Deferred[object] = Deferred()
        self.notified: list[object] = []

    def commands(self) -> Sequence[tuple[str, Sequence[Sequence[str]], Callable[..., object]]]:
        return (
            ("ul_dump", ((), ("brief",)), lambda brief="": {"brief": brief}),
            ("lb_status", (("destination_id",), ("destination_id", "new_status")), self.status),
            ("dlg_list", ((), ("callid",), ("index", "counter")), lambda **found: found),
            ("two_ways", (("a", "b"), ("a", "c")), lambda **found: found),
            ("nothing", ((),), lambda: None),
            ("get_things", (("statistics",),), lambda statistics: statistics),
            ("raise_event", (("event",), ("event", "params")), lambda event, params=None: params),
            ("refuse", ((),), self.refuse),
            ("breaks", ((),), lambda: 1 / 0),
            ("unspeakable", ((),), lambda: object()),
            ("slow", ((),), lambda: self.waiting),
            ("later", ((),), self.later),
            ("note", (("text",),), lambda text: self.notified.append(text)),
        )

    def status(self, destination_id: object, new_status: object = None) -> object:
        """Enable or disable."""
        return [destination_id, new_status]

    def refuse(self) -> object:
        raise CommandFailed(404, "AOR not found")

    async def later(self) -> object:
        return {"done": await self.waiting}


class CommandsTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.part = Part()
        self.dispatcher = Commands()
        self.dispatcher.add(self.part)

    def answer(self, text: bytes) -> Any:
        answer = self.successResultOf(self.dispatcher.handle(text))
        return None if answer is None else json.loads(answer)

    def call(self, method: object, params: object = None, **members: object) -> Any:
        request = {"jsonrpc": "2.0", "id": 1, "method": method, **members}
        if params is not None:
            request["params"] = params
        return self.answer(json.dumps(request).encode())

    def result(self, method: str, params: object = None) -> Any:
        return self.call(method, params)["result"]

    def error(self, method: object, params: object = None, **members: object) -> Any:
        return self.call(method, params, **members)["error"]


class RequestTests(CommandsTestCase):
    def test_id_is_echoed(self) -> None:
        """Text, number and null come back as they were."""
        for id_ in ("a", 7, None):
            self.assertEqual(
                self.call("nothing", id=id_), {"jsonrpc": "2.0", "result": "OK", "id": id_}
            )

    def test_parse_error(self) -> None:
        """-32700 with id null for anything that is no JSON."""
        for text in (b"", b"{", b"\xff\xfe", b"[" * 100_000, b"NaN", b'{"id":Infinity}'):
            answer = self.answer(text)
            self.assertEqual((answer["error"]["code"], answer["id"]), (-32700, None))

    def test_invalid_request(self) -> None:
        """-32600: no object, wrong version, method no text, params no container, odd id."""
        for text in (
            b"1",
            b"[]",
            b'"x"',
            b'{"id":1,"method":"nothing"}',
            b'{"jsonrpc":"1.0","id":1,"method":"nothing"}',
            b'{"jsonrpc":"2.0","id":1,"method":5}',
            b'{"jsonrpc":"2.0","id":1}',
            b'{"jsonrpc":"2.0","id":1,"method":"nothing","params":"x"}',
            b'{"jsonrpc":"2.0","id":1,"method":"nothing","params":0}',
            b'{"jsonrpc":"2.0","id":{},"method":"nothing"}',
        ):
            self.assertEqual(self.answer(text)["error"]["code"], -32600, text)

    def test_unknown_method(self) -> None:
        """-32601."""
        self.assertEqual(self.error("none_such"), {"code": -32601, "message": "Method not found"})

    def test_notification(self) -> None:
        """Without id: done, and no answer, not even to an error."""
        text = b'{"jsonrpc":"2.0","method":"note","params":["x"]}'
        self.assertIsNone(self.answer(text))
        self.assertEqual(self.part.notified, ["x"])
        self.assertIsNone(self.answer(b'{"jsonrpc":"2.0","method":"none_such"}'))
        self.assertIsNone(self.answer(b'{"jsonrpc":"2.0","method":"refuse"}'))

    def test_batch(self) -> None:
        """Answers in order, none for notifications; no answer at all when all are."""
        one = b'{"jsonrpc":"2.0","id":1,"method":"nothing"}'
        note = b'{"jsonrpc":"2.0","method":"nothing"}'
        answers = self.answer(b"[" + one + b"," + note + b",1]")
        self.assertEqual([answer["id"] for answer in answers], [1, None])
        self.assertIsNone(self.answer(b"[" + note + b"]"))

    def test_large_batch(self) -> None:
        """Refused as a whole, with nothing done."""
        note = b'{"jsonrpc":"2.0","method":"note","params":["x"]}'
        answer = self.answer(b"[" + b",".join([note] * 101) + b"]")
        self.assertEqual(answer["error"]["code"], -32600)
        self.assertEqual(self.part.notified, [])

    def test_turns(self) -> None:
        """Other work goes on between the requests of a batch."""
        clock = Clock()
        commands = Commands(clock)
        answer = commands.handle(b'[{"jsonrpc":"2.0","id":1,"method":"which"},1]')
        self.assertNoResult(answer)
        clock.advance(0)
        clock.advance(0)
        self.assertEqual(len(json.loads(self.successResultOf(answer) or b"")), 2)


class ParametersTests(CommandsTestCase):
    def test_no_parameters(self) -> None:
        """Missing, {} and [] are the same."""
        shapes: tuple[object, ...] = (None, {}, [])
        for params in shapes:
            self.assertEqual(self.result("ul_dump", params), {"brief": ""})

    def test_positional(self) -> None:
        """An array goes to the recipe of that length; text numbers stay what was sent."""
        self.assertEqual(self.result("lb_status", ["1"]), ["1", None])
        self.assertEqual(self.result("lb_status", ["1", 0]), ["1", 0])

    def test_named(self) -> None:
        """An object goes to the recipe of those names, in any order."""
        self.assertEqual(
            self.result("lb_status", {"new_status": "0", "destination_id": 1}), [1, "0"]
        )

    def test_none_expected(self) -> None:
        error = self.error("nothing", ["x"])
        self.assertEqual(error["code"], -32602)
        self.assertIn("No parameters expected", error["data"])

    def test_no_recipe_fits(self) -> None:
        for params in (["1", "2", "3"], {"destination": "1"}, {"new_status": 1}, []):
            error = self.error("lb_status", params)
            self.assertEqual(error["code"], -32602)
            self.assertIn("match", error["data"])

    def test_ambiguous(self) -> None:
        """Two recipes of one length: names are needed."""
        error = self.error("two_ways", [1, 2])
        self.assertEqual(error["code"], -32602)
        self.assertIn("Ambiguous", error["data"])
        self.assertEqual(self.result("two_ways", {"a": 1, "c": 2}), {"a": 1, "c": 2})

    def test_names_only(self) -> None:
        """Commands marked N."""
        error = self.error("dlg_list", ["x"])
        self.assertEqual(error["code"], -32602)
        self.assertIn("positional", error["data"])
        self.assertEqual(self.result("dlg_list", {"callid": "x"}), {"callid": "x"})
        self.assertEqual(self.result("dlg_list", []), {})

    def test_lists(self) -> None:
        """A list parameter takes an array, and a bare text as one."""
        self.assertEqual(self.result("get_things", [["a", "b"]]), ["a", "b"])
        self.assertEqual(self.result("get_things", {"statistics": "a"}), ["a"])
        self.assertEqual(self.result("raise_event", ["E", ["a"]]), ["a"])

    def test_wrong_type(self) -> None:
        shapes: tuple[object, ...] = ([None], [True], [{}], [["x"]])
        for params in shapes:
            error = self.error("lb_status", params)
            self.assertEqual(error["code"], -32602)
            self.assertIn("wrong type of parameter destination_id", error["data"])
        self.assertEqual(self.error("get_things", [[{}]])["code"], -32602)


class ResultTests(CommandsTestCase):
    def test_command_failed(self) -> None:
        """Codes of commands are positive."""
        self.assertEqual(self.error("refuse"), {"code": 404, "message": "AOR not found"})

    def test_server_error(self) -> None:
        """A command that breaks is logged and says no more than that."""
        self.assertEqual(self.error("breaks"), {"code": -32000, "message": "Server error"})
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_result_that_is_no_json(self) -> None:
        self.assertEqual(self.error("unspeakable")["code"], -32000)
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)

    def test_waiting(self) -> None:
        """Deferreds and coroutines are waited for."""
        answers = [
            self.dispatcher.handle(b'{"jsonrpc":"2.0","id":1,"method":"%s"}' % method)
            for method in (b"slow", b"later")
        ]
        for answer in answers:
            self.assertNoResult(answer)
        self.part.waiting.callback(5)
        self.assertEqual(json.loads(self.successResultOf(answers[0]) or b"")["result"], 5)

    def test_later(self) -> None:
        """A coroutine's result."""
        answer = self.dispatcher.handle(b'{"jsonrpc":"2.0","id":1,"method":"later"}')
        self.part.waiting.callback(5)
        self.assertEqual(json.loads(self.successResultOf(answer) or b"")["result"], {"done": 5})

    def test_one_line(self) -> None:
        """Answers never hold a line feed, whatever was on the wire."""
        answer = self.successResultOf(
            self.dispatcher.handle(
                json.dumps(
                    {"jsonrpc": "2.0", "id": "a\n\udc80é", "method": "ul_dump", "params": ["\n"]}
                ).encode()
            )
        )
        self.assertNotIn(b"\n", answer or b"")


class DirectoryTests(CommandsTestCase):
    def test_which(self) -> None:
        """A flat list of names; recipes of one command; 404 for an unknown one."""
        self.assertIn("lb_status", self.result("which"))
        self.assertEqual(
            self.result("which", ["lb_status"]),
            [["destination_id"], ["destination_id", "new_status"]],
        )
        self.assertEqual(self.result("which", {"command": "nothing"}), [[]])
        self.assertEqual(
            self.error("which", ["none"]), {"code": 404, "message": "unknown MI command"}
        )

    def test_help(self) -> None:
        self.assertIn("mi_cmd", self.result("help"))
        self.assertEqual(self.result("help", ["lb_status"])["Help"], "Enable or disable.")
        self.assertEqual(self.result("help", ["nothing"])["Help"], "not available for this command")

    def test_names_with_module(self) -> None:
        """Both forms of 3.x and 4.x; `which` lists the plain ones."""
        self.assertEqual(self.result("usrloc:dump"), {"brief": ""})
        self.assertEqual(self.result("load_balancer:status", [1]), [1, None])
        self.assertEqual(self.result("dialog:list"), {})
        self.assertEqual(self.error("dialog:dump")["code"], -32601)
        self.assertEqual(self.error("usrloc:")["code"], -32601)
        self.assertFalse([name for name in self.result("which") if ":" in name])

    def test_one_owner(self) -> None:
        """A second part with the same command is a mistake of ours."""
        self.assertRaises(ValueError, self.dispatcher.add, Part())
