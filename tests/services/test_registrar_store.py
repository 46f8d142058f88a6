from __future__ import annotations

import random
from datetime import datetime

from twisted.trial.unittest import SynchronousTestCase

from pbx.services.registrar.location import Binding
from pbx.services.registrar.store import Rows, reg_id_of, with_reg_id
from pbx.sip.uri import URI
from tests.services.registrar_case import (
    AOR,
    BROWSER,
    NOW,
    PHONE,
    RegistrarTestCase,
    browser_flow,
    tcp_flow,
)


class RowTests(RegistrarTestCase):
    """Spec 20 section 4 and 15-observed 6."""

    def test_row(self) -> None:
        self.register("<sip:1001@10.0.0.5>", "User-Agent: Phone/1", nat=True)
        [row] = self.rows()
        contact_id, *rest = row
        self.assertTrue(0 < contact_id < 2**63)
        self.assertEqual(
            rest,
            [
                "1001",
                "pbx.test",
                "sip:1001@10.0.0.5",
                "sip:192.0.2.50:5060",
                None,
                NOW + 3600,
                -1.0,
                "call-1",
                1,
                datetime.fromtimestamp(NOW).strftime("%Y-%m-%d %H:%M:%S"),
                0,
                "NAT",
                "Phone/1",
                "udp:192.0.2.1:5060",
                None,
                None,
                None,
                None,
                None,
            ],
        )

    def test_nothing_known(self) -> None:
        self.register()
        self.assertEqual(self.rows("received, cflags, user_agent"), [(None, None, "n/a")])

    def test_browser(self) -> None:
        """15-observed 16."""
        self.browser(browser_flow())
        self.assertEqual(
            self.rows("received, socket, sip_instance, kv_store"),
            [
                (
                    "sip:192.0.2.99:40000;transport=ws",
                    "ws:192.0.2.1:5062",
                    "<urn:uuid:b>",
                    '{"reg-id": 1}',
                )
            ],
        )

    def test_id_stays_and_grows_with_time(self) -> None:
        for user in ("3", "1", "2"):
            self.register(user=user, call_id=user)
        order = self.rows("username, contact_id")
        self.assertEqual([user for user, _ in order], ["3", "1", "2"])
        self.register(user="1", call_id="1")
        self.assertEqual(self.rows("username, contact_id"), order)

    def test_written_within_the_interval(self) -> None:
        self.register()
        count = "SELECT count(*) FROM location"
        self.assertEqual(self.done(self.database.query(count)), [(0,)])
        self.clock.advance(1)
        self.assertEqual(self.done(self.database.query(count)), [(1,)])

    def test_written_before_the_answer(self) -> None:
        self.use(db_mode=1)
        self.register()
        self.assertEqual(len(self.done(self.database.query("SELECT 1 FROM location"))), 1)

    def test_never_written(self) -> None:
        self.use(db_mode=0)
        self.register()
        self.assertEqual(self.rows(), [])
        self.assertEqual(self.contacts(), [PHONE])

    def test_stop_writes_the_rest(self) -> None:
        self.register()
        self.done(self.registrar.stop())
        self.assertEqual(len(self.done(self.database.query("SELECT 1 FROM location"))), 1)
        self.assertEqual(len(self.timers), 0)


class RestartTests(RegistrarTestCase):
    def test_udp_phone_is_reached_as_before(self) -> None:
        self.register("<sip:1001@10.0.0.5>;q=0.7;expires=600", "Allow: INVITE", nat=True)
        before = self.lookup()
        self.clock.advance(100)
        self.restart()
        self.assertEqual(
            [repr(target) for target in self.lookup()], [repr(target) for target in before]
        )
        self.assertEqual(self.contacts(method="MESSAGE"), [])
        self.clock.advance(501)
        self.assertEqual(self.contacts(), [])
        self.assertEqual(self.rows(), [])

    def test_refresh_goes_on(self) -> None:
        self.register(cseq=5)
        before = self.rows("contact_id")
        self.restart()
        self.assertEqual(self.register(cseq=4).status, 400)
        self.assertEqual(self.listed(self.register(cseq=6)), f"<{PHONE}>;expires=3600")
        self.assertEqual(self.rows("contact_id"), before)

    def test_path_and_order_survive(self) -> None:
        path = "Path: <sip:edge.test;lr>, <sip:10.0.0.1;lr>"
        self.register("<sip:b@192.0.2.50>", path)
        self.register("<sip:a@192.0.2.50>", call_id="2")
        before = [repr(target) for target in self.lookup()]
        self.restart()
        self.assertEqual([repr(target) for target in self.lookup()], before)

    def test_browser_has_a_moment_to_come_back(self) -> None:
        """Its connection is gone: nothing is sent there, and it may register again in place."""
        self.browser(browser_flow(1))
        before = self.rows("contact_id")
        self.restart()
        self.assertEqual(self.contacts(), [])
        self.assertFalse(self.registrar.is_registered(URI.parse("sip:1001@pbx.test")))
        self.browser(browser_flow(2), call_id="b-2")
        self.assertEqual(self.contacts(), [BROWSER])
        self.assertEqual(self.rows("contact_id"), before)
        self.clock.advance(60)
        self.assertEqual(self.contacts(), [BROWSER])

    def test_browser_that_does_not_come_back(self) -> None:
        self.browser(browser_flow())
        self.restart()
        self.clock.advance(31)
        self.assertEqual(self.registrar.bindings(), [])
        self.assertEqual(self.rows(), [])

    def test_tcp_phone_that_listens_stays(self) -> None:
        contact = "sip:1001@192.0.2.60:5070;transport=tcp"
        self.register(f"<{contact}>", flow=tcp_flow(), nat=True)
        self.restart()
        self.clock.advance(60)
        [target] = self.lookup()
        self.assertEqual((str(target.uri), target.next_hop), (contact, None))

    def test_stale_rows_are_deleted(self) -> None:
        self.register(f"<{PHONE}>;expires=60")
        self.done(self.write_behind.flush())
        self.registrar.location.stop()
        self.clock.advance(61)
        self.use()
        self.assertEqual(self.registrar.bindings(), [])
        self.assertEqual(self.rows(), [])

    def test_rows_of_the_old_system(self) -> None:
        """A database taken over from OpenSIPS."""
        insert = (
            "INSERT INTO location (contact_id, username, domain, contact, expires, socket, kv_store)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)"
        )
        for row in (
            (1, "1001", "PBX.test", PHONE, 0, "udp:203.0.113.9:5060", "not JSON"),
            (2, "1002", None, PHONE, NOW + 100, "", "[1]"),
            (3, "", "", "", NOW + 100, "garbage", None),
        ):
            self.done(self.database.execute(insert, row))
        self.use()
        self.assertEqual(self.contacts(), [PHONE])
        self.assertEqual(self.contacts("sip:1002@pbx.test"), [PHONE])
        self.clock.advance(100_000)
        self.assertEqual(self.contacts(), [PHONE])
        self.assertEqual(self.contacts("sip:1002@pbx.test"), [])
        self.assertEqual(self.registrar.bindings(AOR)[0]["Expires"], "permanent")
        self.register(f"<{PHONE}>;expires=60")
        self.assertEqual(self.rows("kv_store")[0], ("not JSON",))
        self.clock.advance(61)
        self.assertEqual(self.contacts(), [])


class PropertyTests(RegistrarTestCase):
    def test_table_and_database_agree(self) -> None:
        """Whatever is registered, memory and table hold the same after a flush."""
        chance = random.Random(5)
        self.use(max_contacts=3)
        flows = [browser_flow(port) for port in range(4)] + [tcp_flow(port=port) for port in (8, 9)]
        for step in range(1500):
            match chance.randrange(12):
                case 0:
                    at = chance.randrange(len(flows))
                    self.close(flows[at])
                    new = browser_flow(at) if at < 4 else tcp_flow(port=at)
                    flows[at] = new
                case 1:
                    self.clock.advance(chance.choice((1, 30, 70)))
                case 2:
                    self.register("*", "Expires: 0", call_id=f"{step}", user=self.user(chance))
                case _:
                    self.register_somehow(chance, [None, *flows])
            if step % 50 == 0:
                self.compare()
        self.assertGreater(len(self.registrar.bindings()), 3)
        self.compare()
        self.restart(max_contacts=3)
        self.clock.advance(10_000)
        self.assertEqual(self.rows(), [])
        self.assertEqual(self.registrar.location.records, {})
        self.assertEqual(len(self.timers), 0)

    @staticmethod
    def user(chance: random.Random) -> str:
        return str(1000 + chance.randrange(6))

    def register_somehow(self, chance: random.Random, flows: list[object]) -> None:
        contact = f"<sip:u{chance.randrange(5)}@192.0.2.60:{5060 + chance.randrange(2)}>"
        contact += f";expires={chance.choice((0, 60, 90, 600, 3600))}"
        if chance.random() < 0.4:
            contact += f';+sip.instance="<i{chance.randrange(2)}>"'
            if chance.random() < 0.6:
                contact += f";reg-id={chance.randrange(1, 3)}"
        flow = chance.choice(flows)
        self.register(
            contact,
            chance.choice(("", "Supported: outbound, gruu", "Allow: INVITE", "Path: <sip:e;lr>")),
            flow=flow,  # type: ignore[arg-type]
            nat=chance.random() < 0.5,
            user=self.user(chance),
            call_id=f"c{chance.randrange(4)}",
        )

    def compare(self) -> None:
        location = self.registrar.location
        rows = Rows(True, True, "pbx.test")
        expected = sorted(rows.row_of(binding) for binding in location.all())
        self.assertEqual(sorted(self.rows()), expected)
        self.assertEqual(location.contacts, len(expected))
        for aor, record in location.records.items():
            self.assertLessEqual(len(record.bindings), 3)
            self.assertTrue(all(binding.aor == aor for binding in record.bindings))
            for binding in record.bindings:
                self.assertGreater(binding.expires, self.clock.seconds())
                self.assertFalse(binding.flow is not None and binding.flow.closed)


class KeyValueTests(SynchronousTestCase):
    def test_reg_id_beside_what_others_wrote(self) -> None:
        self.assertEqual(with_reg_id("", 2), '{"reg-id": 2}')
        self.assertEqual(with_reg_id('{"a": 1}', 2), '{"a": 1, "reg-id": 2}')
        self.assertEqual(with_reg_id('{"a": 1, "reg-id": 2}', 0), '{"a": 1}')
        self.assertEqual(with_reg_id('{"reg-id": 2}', 0), "")
        self.assertEqual(with_reg_id("other", 2), "other")

    def test_reading_anything(self) -> None:
        for text in ("", "x", "[]", '{"reg-id": "1"}', '{"reg-id": -1}', "[" * 100_000):
            self.assertEqual(reg_id_of(text), 0)
        self.assertEqual(reg_id_of('{"reg-id": 7}'), 7)

    def test_no_domain(self) -> None:
        binding = Binding("a@b", "sip:x", 1)
        self.assertEqual(Rows(False, True, "").row_of(binding)[1:3], ("a@b", None))
