"""What each db_mode promises when the process is killed under load: docs/storage.md."""

from __future__ import annotations

import itertools
import threading
import time
from typing import Any

from pbx.sip.message import Message
from tests.integration.cluster_case import ClusterCase, Node
from tests.integration.harness import PBX, PBXTestCase, until
from tests.integration.phone import Datagrams, Phone

INTERVAL = 0.4
#: Beyond the interval: how long a flush may take on a busy machine.
SLACK = 2.0
USERS = [f"u{number:03}" for number in range(400)]


class Impatient(Phone):
    """Does not wait long for a PBX that was killed."""

    def receive(self, seconds: float = 1.0) -> Message:
        return super().receive(min(seconds, 1.0))


class Load:
    """Registers one user after the other, then calls; says when each was answered."""

    def __init__(self, pbx: PBX) -> None:
        self._pbx = pbx
        self.registered: dict[str, float] = {}
        self.answered: dict[str, float] = {}
        self.killed = 0.0

    def kill_soon(self) -> None:
        """kill -9 in the middle: the load goes on meanwhile."""
        self._timer = threading.Timer(1.0, self._kill)
        self._timer.start()

    def _kill(self) -> None:
        self.killed = time.monotonic()
        self._pbx.kill()

    def phone(self, user: str, kind: type[Phone] = Phone) -> Phone:
        return kind(user, Datagrams(self._pbx.host, self._pbx.ports["udp"]), "secret")

    def register_all(self) -> None:
        """Until it is killed."""
        for number, user in enumerate(itertools.cycle(USERS)):
            if number == 100:
                self.kill_soon()
            phone = self.phone(user, Impatient)
            try:
                phone.register()
                self.registered.setdefault(user, time.monotonic())
            except (AssertionError, OSError):
                if self.killed:
                    break
            finally:
                phone.close()
        self._timer.join()

    def call_all(self) -> None:
        """Calls between two phones, none of which is ended, until it is killed."""
        alice, bob = self.phone("alice"), self.phone("bob")
        alice.register()
        bob.register()
        for number in itertools.count():
            if number == 20:
                self.kill_soon()
            try:
                invite = alice.invite("bob")
                bob.answer(bob.request("INVITE"))
                alice.called(invite, alice.response(200))
                bob.request("ACK")
            except (AssertionError, OSError):
                break
            self.answered[invite.call_id] = time.monotonic()
        self._timer.join()
        alice.close()
        bob.close()


class Promises(PBXTestCase):
    """The promises, for any database."""

    def opened(self, **tables: dict[str, Any]) -> PBX:
        """A PBX with the users of `USERS`, alice and bob."""
        raise NotImplementedError

    def registrations(self, mode: int) -> tuple[Load, PBX]:
        """Load until the kill, then the PBX runs again."""
        pbx = self.opened(registrar={"db_mode": mode})
        load = Load(pbx)
        load.register_all()
        pbx.start()
        return load, pbx

    def known(self, pbx: PBX) -> set[str]:
        dump = pbx.mi("ul_dump", "brief")
        return {one["AOR"].partition("@")[0] for one in dump["Domains"][0]["AORs"]}

    def calls(self, mode: int) -> tuple[Load, PBX]:
        pbx = self.opened(dialog={"db_mode": mode})
        load = Load(pbx)
        load.call_all()
        pbx.start()
        return load, pbx

    def going_on(self, pbx: PBX) -> set[str]:
        listed = pbx.mi("dlg_list")["Dialogs"]
        return {one["callid"] for one in listed}

    def check_interval(self, when: dict[str, float], kept: set[str], killed: float) -> None:
        """Nothing older than the interval is lost, and there is something that was kept."""
        lost = {name: killed - at for name, at in when.items() if name not in kept}
        self.assertEqual([age for age in lost.values() if age > INTERVAL + SLACK], [])
        self.assertGreater(len(kept & when.keys()), 0)


class PostgresModeTests(Promises, ClusterCase):
    redis = False

    def opened(self, **tables: dict[str, Any]) -> Node:
        node = self.node("", tables)
        self.users("alice", "bob", *USERS)
        return node

    def configured(self, node: Node) -> None:
        node.tables["storage"]["write_interval"] = INTERVAL
        del node.tables["cluster"]
        # The same port again after the kill.
        node.tables["sip"]["listen"] = [f"udp:{node.host}:0"]

    def test_registrations_0(self) -> None:
        """Nothing is written, and nothing of before is read."""
        _, pbx = self.registrations(0)
        self.assertEqual(self.known(pbx), set())
        self.assertEqual(pbx.sql("SELECT count(*) FROM location"), [("0",)])

    def test_registrations_1(self) -> None:
        """Every REGISTER that was answered is in the table."""
        load, pbx = self.registrations(1)
        self.assertEqual(load.registered.keys() - self.known(pbx), set())

    def test_registrations_2(self) -> None:
        """At most the last interval is lost."""
        load, pbx = self.registrations(2)
        self.check_interval(load.registered, self.known(pbx), load.killed)

    def test_registrations_3(self) -> None:
        """As 1; and the table counts, whoever writes it."""
        load, pbx = self.registrations(3)
        self.assertEqual(load.registered.keys() - self.known(pbx), set())
        pbx.sql("DELETE FROM location")
        until(lambda: self.known(pbx) == set(), "all are gone", 8)
        pbx.sql(
            "INSERT INTO location (contact_id, username, domain, contact, expires, callid, cseq)"
            " VALUES (5, 'zoe', 'pbx.test', 'sip:zoe@127.0.0.1:9', 2000000000, 'x', 1)"
        )
        until(lambda: self.known(pbx) == {"zoe"}, "one is there", 5)
        pbx.sql("UPDATE location SET contact = 'sip:zoe@127.0.0.1:10' WHERE contact_id = 5")
        until(
            lambda: (
                pbx.mi("ul_show_contact", "location", "zoe@pbx.test")["Contacts"][0]["Contact"]
                == "sip:zoe@127.0.0.1:10"
            ),
            "at its new place",
            8,
        )

    def test_calls_0(self) -> None:
        _, pbx = self.calls(0)
        self.assertEqual(self.going_on(pbx), set())

    def test_calls_1(self) -> None:
        """Every call is written when it is answered: a moment is all that is lost."""
        load, pbx = self.calls(1)
        kept = self.going_on(pbx)
        lost = [load.killed - at for call, at in load.answered.items() if call not in kept]
        self.assertEqual([age for age in lost if age > SLACK], [])
        self.assertGreaterEqual(len(kept), len(load.answered) - 3)

    def test_calls_2(self) -> None:
        load, pbx = self.calls(2)
        self.check_interval(load.answered, self.going_on(pbx), load.killed)

    def test_calls_3(self) -> None:
        """Only an orderly end writes them."""
        _, pbx = self.calls(3)
        self.assertEqual(self.going_on(pbx), set())
        load = Load(pbx)
        alice, bob = load.phone("alice"), load.phone("bob")
        self.addCleanup(alice.close)
        self.addCleanup(bob.close)
        bob.register()
        invite = alice.invite("bob")
        bob.answer(bob.request("INVITE"))
        alice.called(invite, alice.response(200))
        bob.request("ACK")
        pbx.stop()
        pbx.start()
        self.assertEqual(self.going_on(pbx), {invite.call_id})


class SQLiteModeTests(Promises):
    """The embedded default."""

    def opened(self, **tables: dict[str, Any]) -> PBX:
        tables["storage"] = {"write_interval": INTERVAL}
        pbx = self.pbx(tables, ("alice", "bob"))
        rows = ", ".join(f"('{user}', 'pbx.test', 'secret')" for user in USERS)
        pbx.sql(f"INSERT INTO subscriber (username, domain, password) VALUES {rows}")
        until(lambda: pbx.mi("auth_knows", f"{USERS[-1]}@pbx.test"), "the users are known", 6)
        return pbx

    def test_registrations_2(self) -> None:
        load, pbx = self.registrations(2)
        self.check_interval(load.registered, self.known(pbx), load.killed)

    def test_registrations_1(self) -> None:
        load, pbx = self.registrations(1)
        self.assertEqual(load.registered.keys() - self.known(pbx), set())

    def test_calls_2(self) -> None:
        load, pbx = self.calls(2)
        self.check_interval(load.answered, self.going_on(pbx), load.killed)
