"""The reference call flow with two FreeSWITCH stand-ins, each a process of its own."""

from __future__ import annotations

import re
import signal
import sys
import time

from tests.integration.harness import PBXTestCase, Process, free_port, until
from tests.integration.phone import Dialog, Phone

FR_TIMEOUT = 1.5


class Node:
    """One stand-in: its ports stay the same when it is started again."""

    def __init__(self, case: FreeSWITCHTestCase, name: str) -> None:
        self._case = case
        self.name = name
        self.internal = free_port()
        self.external = free_port()
        self.process: Process | None = None

    @property
    def uri(self) -> str:
        """The row of group 1."""
        return f"sip:127.0.0.1:{self.internal}"

    def start(self, run: int = 1) -> None:
        """Until it listens."""
        ports = (self.internal, self.external, self._case.server.ports["udp"])
        self.process = self._case.run_program(
            [sys.executable, "-m", "tests.integration.b2bua", "127.0.0.1", *map(str, ports)],
            f"{self.name}-{run}",
        )
        self.process.wait_for("ready")

    def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.stop(signal.SIGKILL)

    def calls(self) -> int:
        """How many INVITEs its internal profile took."""
        assert self.process is not None
        found = re.findall(r"calls=(\d+)", self.process.text())
        return int(found[-1]) if found else 0


class FreeSWITCHTestCase(PBXTestCase):
    """Two nodes in load_balancer, as rows of the reference deployment."""

    def setUp(self) -> None:
        super().setUp()
        self.server = self.pbx(
            {
                "proxy": {"fr_timeout": FR_TIMEOUT},
                "load_balancer": {
                    "probing_method": "INFO",
                    "probing_interval": 1,
                    "probing_timeout": 1,
                    "probing_reply_codes": [501, 403],
                },
            },
            ("alice", "bob"),
        )
        self.nodes = [Node(self, "fs1"), Node(self, "fs2")]
        for at, node in enumerate(self.nodes):
            node.start()
            self.server.add_node(1 + at, 1, node.internal)
            self.server.add_node(4 + at, 3, node.external)
        until(lambda: len(self.server.load()) == 4, "the nodes are known", 6)

    def state(self) -> list[tuple[bool, int]]:
        """Whether each node is enabled, and its load."""
        load = self.server.load()
        return [load[node.uri] for node in self.nodes]

    def loads(self) -> list[int]:
        """Calls on each node."""
        return [load for _, load in self.state()]

    def reach_node(self, alice: Phone) -> Dialog:
        """A call that a node answers."""
        invite = alice.invite("bob")
        return alice.called(invite, alice.response(200))

    def connect(self, alice: Phone, bob: Phone) -> tuple[Dialog, Dialog]:
        """A call through a node: alice's and bob's side of it."""
        first = self.reach_node(alice)
        second = bob.answer(bob.request("INVITE"))
        bob.request("ACK")
        return first, second

    def hang_up(self, one: Phone, dialog: Dialog, other: Phone) -> None:
        """BYE on one side ends the other side through the node."""
        one.send(one.within(dialog, "BYE"))
        one.response(200)
        other.respond(other.request("BYE"), 200)


class BalancedCallTests(FreeSWITCHTestCase):
    def test_call_reaches_the_callee_through_the_idle_node(self) -> None:
        """The node with the lowest load takes the call (spec 10, section 8)."""
        alice = self.registered(self.server, "alice")
        bob = self.registered(self.server, "bob")
        calls = [self.connect(alice, bob) for _ in range(4)]
        self.assertEqual(self.loads(), [2, 2])
        at_first = [call for call in calls if f":{self.nodes[0].internal}" in call[0].target]
        self.assertEqual(len(at_first), 2)
        for call in at_first:
            self.hang_up(alice, call[0], bob)
        until(lambda: self.loads() == [0, 2], f"load 0 and 2: {self.loads()}", 3)
        first, _ = self.connect(alice, bob)
        self.assertIn(f":{self.nodes[0].internal}", first.target)
        self.assertEqual(self.loads(), [1, 2])

    def test_one_row_per_call(self) -> None:
        """Two legs, one cdr row with the callee's answer; acc has a row for each leg."""
        alice = self.registered(self.server, "alice")
        bob = self.registered(self.server, "bob")
        first, second = self.connect(alice, bob)
        (node,) = (node for node in self.nodes if f":{node.internal}" in first.target)
        self.assertIn(f":{node.external}", second.target)
        time.sleep(1.1)
        self.hang_up(bob, second, alice)
        query = "SELECT caller, callee, disposition, ended_by, legs, duration FROM cdr"
        until(lambda: self.server.sql("SELECT 1 FROM cdr WHERE legs = 2"), "the cdr", 5)
        ((*row, duration),) = self.server.sql(query)
        self.assertEqual(row, ["alice", "bob", "answered", "callee", 2])
        self.assertTrue(1.0 < duration < 3, duration)
        self.assertEqual(self.loads(), [0, 0])

    def test_busy_callee(self) -> None:
        """The node answers leg A before it bridges (O15); the cdr row tells what the user got."""
        alice = self.registered(self.server, "alice")
        bob = self.registered(self.server, "bob")
        self.reach_node(alice)
        invite = bob.request("INVITE")
        bob.respond(invite, 486)
        bob.request("ACK")
        alice.respond(alice.request("BYE"), 200)
        until(lambda: self.server.sql("SELECT 1 FROM cdr WHERE legs = 2"), "the cdr", 5)
        rows = self.server.sql("SELECT callee, disposition, sip_code FROM cdr")
        self.assertEqual(rows, [("bob", "busy", 486)])


class FailOverTests(FreeSWITCHTestCase):
    def fields(self) -> str:
        """Alice's calls for SIPp."""
        path = self.folder / "alice.csv"
        auth = "[authentication username=alice password=secret]"
        path.write_text(f"SEQUENTIAL\nalice;127.0.0.1:0;{auth};bob\n")
        return str(path)

    def test_node_dies_during_two_hundred_calls(self) -> None:
        """No new call is lost, and the node takes calls again after a probe."""
        total = 200
        port = free_port()
        path = self.folder / "bob.csv"
        auth = "[authentication username=bob password=secret]"
        path.write_text(f"SEQUENTIAL\nbob;127.0.0.1:{port};{auth};bob\n")
        options = ("-inf", str(path), "-m", "1")
        self.succeeds(self.sipp("register", self.server, *options, port=port))
        callee = self.sipp("answer", self.server, port=port)
        until(callee.listening, "SIPp listens", 5)
        caller = self.sipp(
            "call_failing",
            self.server,
            *("-inf", self.fields(), "-m", str(total), "-r", "20", "-d", "500"),
        )
        first, second = self.nodes
        until(lambda: first.calls() > 30, "calls on the node that will die", 20)
        first.kill()
        until(lambda: not self.state()[0][0], "the dead node is out", 10)
        self.succeeds(caller)
        until(lambda: self.loads() == [0, 0], f"no load: {self.loads()}", 15)
        self.assertGreater(second.calls(), total / 2)
        query = "SELECT COUNT(*), COUNT(DISTINCT call_id) FROM cdr"
        until(lambda: self.server.sql(query)[0][0] >= total, "the cdr rows", 5)
        self.assertEqual(self.server.sql(query), [(total, total)])
        first.start(2)
        until(lambda: self.state()[0][0], "the node is back", 5)
        alice = self.phone(self.server, "alice")
        for _ in range(2):
            self.reach_node(alice)
        self.assertEqual(self.loads(), [1, 1])

    def test_no_node_left(self) -> None:
        """503 with Retry-After: first after both were tried, then at once."""
        alice = self.registered(self.server, "alice")
        bob = self.registered(self.server, "bob")
        for node in self.nodes:
            node.kill()
        for seconds in (2 * FR_TIMEOUT + 2, 1.0):
            invite = alice.invite("bob")
            refused = alice.response(503, seconds)
            self.assertEqual(refused.get("retry-after"), "30")
            alice.acknowledge(invite, refused)
        self.assertEqual(self.state(), [(False, 0), (False, 0)])
        self.assertTrue(bob.silent())
        self.assertEqual(self.server.statistic("dialog:active_dialogs"), 0)
        self.assertEqual(self.server.statistic("dialog:early_dialogs"), 0)
