"""Gateways that die during calls, and reloads while calls go on: SIPp against a running PBX."""

from __future__ import annotations

import re
import signal
import sys
import threading
import time
from typing import Any

from tests.integration.harness import PBXTestCase, Process, Sipp, free_port, until

FR_TIMEOUT = 1.0
NUMBER = "+4930123456"


class Gateway:
    """A process that answers calls and probes; it keeps its port when it is started again."""

    def __init__(self, case: PBXTestCase, name: str) -> None:
        self._case = case
        self.name = name
        self.port = free_port()
        self.process: Process | None = None

    @property
    def address(self) -> str:
        """For ``dr_gateways``."""
        return f"127.0.0.1:{self.port}"

    def start(self, run: int = 1) -> None:
        """Until it listens."""
        arguments = ["127.0.0.1", str(self.port), str(free_port()), "1", "--no-bridge"]
        self.process = self._case.run_program(
            [sys.executable, "-m", "tests.integration.b2bua", *arguments], f"{self.name}-{run}"
        )
        self.process.wait_for("ready")

    def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.stop(signal.SIGKILL)

    def calls(self) -> int:
        """How many INVITEs it took."""
        assert self.process is not None
        found = re.findall(r"calls=(\d+)", self.process.text())
        return int(found[-1]) if found else 0


class GatewayTestCase(PBXTestCase):
    """Three gateways in one rule, in this order."""

    def setUp(self) -> None:
        super().setUp()
        self.server = self.pbx(
            {
                "plugins": {"enabled": ["dialplan", "drouting", "dispatcher"]},
                "proxy": {"fr_timeout": FR_TIMEOUT},
                "drouting": {"probing_interval": 1, "probing_timeout": 1},
            },
            ("alice",),
        )
        self.gateways = [Gateway(self, f"g{number}") for number in (1, 2, 3)]
        for gateway in self.gateways:
            gateway.start()
            self.server.sql(
                "INSERT INTO dr_gateways (gwid, type, address, strip, pri_prefix, probe_mode)"
                " VALUES (?, 1, ?, 2, '00', 1)",
                gateway.name,
                gateway.address,
            )
        self.server.sql(
            "INSERT INTO dr_rules (groupid, prefix, gwlist) VALUES ('0', '49', 'g1,g2,g3')"
        )
        self.server.mi("dr_reload")

    def states(self) -> dict[str, str]:
        """Of all gateways."""
        return {one["ID"]: one["State"] for one in self.server.mi("dr_gw_status")["Gateways"]}

    def load(self, scenario: str, calls: int, rate: int, milliseconds: int) -> Sipp:
        """So many calls of alice to the number."""
        path = self.folder / "alice.csv"
        auth = "[authentication username=alice password=secret]"
        path.write_text(f"SEQUENTIAL\nalice;127.0.0.1:0;{auth};{NUMBER}\n")
        return self.sipp(
            scenario,
            self.server,
            *("-inf", str(path), "-m", str(calls), "-r", str(rate), "-d", str(milliseconds)),
            fills={"body": ""},
        )


class FailOverTests(GatewayTestCase):
    def test_two_gateways_die_during_calls(self) -> None:
        """No new call fails: the next gateway takes it; a dead one is tried again after a probe."""
        total = 160
        first, second, third = self.gateways
        caller = self.load("call_failing", total, 10, 300)
        until(lambda: first.calls() > 20, "calls on the first gateway", 30)
        self.assertEqual(second.calls() + third.calls(), 0)
        first.kill()
        until(lambda: self.states()["g1"] == "Probing", "the first is out", 10)
        until(lambda: second.calls() > 20, "calls on the second gateway", 30)
        second.kill()
        until(lambda: self.states()["g2"] == "Probing", "the second is out", 10)
        self.succeeds(caller, 90)
        self.assertGreater(third.calls(), 20)
        self.assertEqual(self.states()["g3"], "Active")
        until(lambda: self.server.statistic("dialog:active_dialogs") == 0, "no call is left", 40)
        first.start(2)
        until(lambda: self.states()["g1"] == "Active", "the first is back", 10)
        self.succeeds(self.load("call", 1, 1, 100))
        until(lambda: first.calls() == 1, "it takes calls again", 10)

    def test_number_as_the_gateway_wants_it(self) -> None:
        """strip 2 and 00 before it: 4930... becomes 0030..."""
        self.succeeds(self.load("call", 1, 1, 100))
        text = "\n".join(
            message["text"] for message in self.server.mi("trace_messages")["messages"]
        )
        self.assertIn(f"INVITE sip:0030123456@{self.gateways[0].address} SIP/2.0", text)

    def test_all_are_dead(self) -> None:
        """A clear refusal, at once when all are known to be dead."""
        alice = self.registered(self.server, "alice")
        for gateway in self.gateways:
            gateway.kill()
        invite = alice.invite(NUMBER)
        refused = alice.receive(3 * FR_TIMEOUT + 5)
        while refused.start_line.split()[1] == "100":
            refused = alice.receive(3 * FR_TIMEOUT + 5)
        self.assertIn(refused.start_line.split()[1], ("408", "500", "503"))
        self.assertEqual(set(self.states().values()), {"Probing"})
        alice.acknowledge(invite, refused)  # type: ignore[arg-type]
        invite = alice.invite(NUMBER)
        self.assertEqual(alice.response(500, 2.0).reason, "No PSTN Route found")


class ReloadTests(GatewayTestCase):
    def change(self, until_: threading.Event, done: list[int], faults: list[object]) -> None:
        """Reload everything and change rows, again and again."""
        commands: tuple[tuple[str, ...], ...] = (
            ("reload",),
            ("dr_reload",),
            ("dp_reload",),
            ("ds_reload",),
            ("lb_reload",),
            ("domain_reload",),
            ("auth_reload",),
        )
        number = 0
        while not until_.is_set():
            try:
                for command in commands:
                    if self.server.mi(*command) != "OK":
                        faults.append(command)
                number += 1
                self.server.sql("UPDATE dr_rules SET attrs = ?", str(number))
                self.server.sql(
                    "INSERT INTO dialplan (dpid, pr, match_op, match_exp, match_flags, repl_exp,"
                    " disabled) VALUES (0, ?, 0, ?, 0, 'x', 0)",
                    number,
                    f"never-{number}",
                )
                self.server.sql(
                    "INSERT INTO dr_rules (groupid, prefix, gwlist) VALUES ('0', ?, 'g3')",
                    f"1{number}",
                )
            except (OSError, ValueError) as error:
                faults.append(error)
            done[0] = number
            time.sleep(0.1)

    def test_no_call_fails(self) -> None:
        """Policy and tables change all the time under 20 calls a second; every call succeeds."""
        total = 240
        ended, done, faults = threading.Event(), [0], list[Any]()
        changer = threading.Thread(target=self.change, args=(ended, done, faults), daemon=True)
        changer.start()
        try:
            self.succeeds(self.load("call", total, 20, 500), 90)
        finally:
            ended.set()
            changer.join(20)
        self.assertEqual(faults, [])
        self.assertGreater(done[0], 10)
        until(lambda: self.gateways[0].calls() == total, "every call arrived once", 10)
        found = self.server.mi("dr_number_routing", NUMBER.removeprefix("+"))
        self.assertEqual(found["Matched Prefix"], "49")
        self.assertEqual(self.server.mi("dr_number_routing", "11")["GW List"], [{"GW": "g3"}])
