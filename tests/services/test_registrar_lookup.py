from __future__ import annotations

from pbx.sip.address import Address
from pbx.sip.uri import URI
from tests.fakes import LOCAL, FakeFlow
from tests.services.registrar_case import (
    AOR,
    BROWSER,
    PHONE,
    RegistrarTestCase,
    browser_flow,
    tcp_flow,
)

OTHER = "sip:1001@192.0.2.51:5060"
URN = "urn:uuid:00000000-0000-1000-8000-000a95a0e128"
INSTANCE = f'+sip.instance="<{URN}>"'


class TargetTests(RegistrarTestCase):
    """Spec 10 section 6."""

    def test_nobody(self) -> None:
        self.assertEqual(self.lookup(), [])
        self.assertFalse(self.registrar.is_registered(URI.parse("sip:1001@pbx.test")))

    def test_phone_behind_nat(self) -> None:
        """The source address is the next hop, the socket that heard it sends."""
        self.register("<sip:1001@10.0.0.5:5060>", nat=True)
        [target] = self.lookup()
        self.assertEqual(str(target.uri), "sip:1001@10.0.0.5:5060")
        self.assertEqual(str(target.next_hop), "sip:192.0.2.50:5060")
        self.assertEqual(target.socket, LOCAL)
        self.assertTrue(target.behind_nat)
        self.assertIsNone(target.flow)
        self.assertEqual(target.q, 1.0)

    def test_phone_in_the_open(self) -> None:
        self.register()
        [target] = self.lookup()
        self.assertIsNone(target.next_hop)
        self.assertFalse(target.behind_nat)

    def test_highest_q_first_then_first_registered(self) -> None:
        for number, q in (("1", 0.5), ("2", 0.9), ("3", 0.5), ("4", 1)):
            self.register(f"<sip:{number}@192.0.2.50>;q={q}", call_id=number)
        self.register("<sip:1@192.0.2.50>;q=0.5", call_id="1")
        self.assertEqual(
            self.contacts(), [f"sip:{number}@192.0.2.50" for number in ("4", "2", "1", "3")]
        )

    def test_newest_first(self) -> None:
        self.use(desc_time_order=True)
        for number, q in (("1", 0.5), ("2", 0.9), ("3", 0.5)):
            self.register(f"<sip:{number}@192.0.2.50>;q={q}", call_id=number)
        self.assertEqual(
            self.contacts(), [f"sip:{number}@192.0.2.50" for number in ("3", "2", "1")]
        )

    def test_methods_of_allow(self) -> None:
        """A contact without Allow accepts everything."""
        self.register(headers="Allow: INVITE, ACK, BYE\nAllow: CANCEL")
        self.assertEqual(self.contacts(method="MESSAGE"), [])
        self.assertTrue(self.registrar.is_registered(URI.parse("sip:1001@pbx.test")))
        self.assertEqual(self.contacts(method="CANCEL"), [PHONE])
        self.assertEqual(self.contacts(method=""), [PHONE])
        self.register(f"<{OTHER}>", call_id="2")
        self.assertEqual(self.contacts(method="MESSAGE"), [OTHER])
        self.assertEqual(self.contacts(method="FROBNICATE"), [OTHER])
        self.assertEqual(self.rows("methods"), [(15,), (None,)])

    def test_targets_follow_every_change(self) -> None:
        self.register(f"<{PHONE}>;q=0.3")
        self.assertEqual(self.lookup()[0].q, 0.3)
        self.register(f"<{PHONE}>;q=0.4", nat=True)
        self.assertEqual(self.lookup()[0].q, 0.4)
        self.assertTrue(self.lookup()[0].behind_nat)

    def test_targets_are_kept_between_changes(self) -> None:
        self.register()
        self.assertIs(self.lookup()[0], self.lookup()[0])

    def test_socket_that_is_not_ours(self) -> None:
        """Spec 20 section 4: the contact stays, without socket."""
        self.register(flow=FakeFlow(local=Address("UDP", "203.0.113.9", 5060)), nat=True)
        self.assertIsNone(self.lookup()[0].socket)

    def test_contact_nobody_can_send_to(self) -> None:
        self.register("<mailto:1001@pbx.test>")
        self.assertEqual(self.contacts(), [])


class GRUUTests(RegistrarTestCase):
    """RFC 5627."""

    def gruus(self, contact: str = PHONE, call_id: str = "call-1") -> tuple[str, str]:
        reply = self.register(f"<{contact}>;{INSTANCE}", "Supported: gruu", call_id=call_id)
        text = self.listed(reply).rpartition("pub-gruu=")[2].split('"')
        return text[1], text[3]

    def test_public(self) -> None:
        public, _ = self.gruus()
        self.assertEqual(public, f"sip:1001@pbx.test;gr={URN}")
        self.register(f"<{OTHER}>", call_id="2")
        self.assertEqual(self.contacts(public), [PHONE])
        capitals = f"sip:1001@PBX.test;gr={URN.upper()}"
        self.assertEqual(self.contacts(capitals), [PHONE])
        self.assertTrue(self.registrar.is_registered(URI.parse(public)))

    def test_public_of_another_instance(self) -> None:
        self.gruus()
        other = URI.parse("sip:1001@pbx.test;gr=urn:uuid:other")
        self.assertEqual(self.contacts(str(other)), [])
        self.assertFalse(self.registrar.is_registered(other))

    def test_temporary(self) -> None:
        _, temporary = self.gruus()
        self.assertTrue(temporary.startswith("sip:tgruu."))
        self.assertTrue(temporary.endswith("@pbx.test;gr"))
        self.assertEqual(self.contacts(temporary), [PHONE])
        _, another = self.gruus()
        self.assertNotEqual(another[:30], temporary[:30])
        self.assertEqual(self.contacts(temporary), [PHONE])

    def test_temporary_dies_with_the_call_id(self) -> None:
        """5.2: a phone that started again has new ones."""
        _, temporary = self.gruus()
        self.gruus(call_id="another")
        self.assertEqual(self.contacts(temporary), [])

    def test_temporary_dies_with_the_binding(self) -> None:
        _, temporary = self.gruus()
        self.register(f"<{PHONE}>;expires=0")
        self.assertEqual(self.contacts(temporary), [])

    def test_forged(self) -> None:
        _, temporary = self.gruus()
        for at in (12, 20, 40):
            forged = temporary[:at] + ("a" if temporary[at] != "a" else "b") + temporary[at + 1 :]
            self.assertEqual(self.contacts(forged), [], at)
        for user in ("tgruu.", "tgruu.x", "tgruu." + "1" * 39, "tgruu." + "%FF" * 39):
            self.assertEqual(self.contacts(f"sip:{user}@pbx.test;gr"), [])

    def test_survives_a_restart(self) -> None:
        public, temporary = self.gruus()
        self.restart()
        self.assertEqual(self.contacts(public), [PHONE])
        self.assertEqual(self.contacts(temporary), [PHONE])

    def test_only_for_phones_that_support_it(self) -> None:
        reply = self.register(f"<{PHONE}>;{INSTANCE}")
        self.assertNotIn("gruu=", self.listed(reply))
        self.use(gruu=False, db_mode=0)
        reply = self.register(f"<{PHONE}>;{INSTANCE}", "Supported: gruu")
        self.assertNotIn("gruu=", self.listed(reply))

    def test_newest_of_plain_contacts(self) -> None:
        """Without reg-id the contact registered last is meant."""
        public, _ = self.gruus()
        self.clock.advance(1)
        self.gruus(OTHER, "2")
        self.assertEqual(self.contacts(public), [OTHER])

    def test_method(self) -> None:
        public, _ = self.gruus()
        self.register(f"<{PHONE}>;{INSTANCE}", "Allow: INVITE")
        self.assertEqual(self.contacts(public, "MESSAGE"), [])
        self.assertEqual(self.contacts(public, "INVITE"), [PHONE])

    def test_instance_is_escaped(self) -> None:
        reply = self.register(f'<{PHONE}>;+sip.instance="<a;b\\"c>"', "Supported: gruu")
        public = self.listed(reply).split('pub-gruu="')[1].split('"')[0]
        self.assertEqual(public, "sip:1001@pbx.test;gr=a%3Bb%22c")
        self.assertIn('+sip.instance="<a;b\\"c>"', self.listed(reply))
        self.assertEqual(self.contacts(public), [PHONE])


class PingableTests(RegistrarTestCase):
    def test_behind_nat_only(self) -> None:
        self.register()
        self.register("<sip:1001@10.0.0.5>", nat=True, call_id="2")
        self.browser(browser_flow())
        self.register("<sip:1002@192.0.2.60;transport=tcp>", flow=tcp_flow(), user="1002")
        found = [(aor, str(target.uri)) for aor, target in self.registrar.pingable()]
        self.assertEqual(found, [(AOR, "sip:1001@10.0.0.5"), (AOR, BROWSER)])

    def test_table_may_change_meanwhile(self) -> None:
        for user in ("1", "2", "3"):
            self.register(user=user, nat=True, call_id=user)
        found = []
        for aor, _ in self.registrar.pingable():
            found.append(aor)
            self.registrar.remove("2@pbx.test")
        self.assertEqual(found, ["1@pbx.test", "3@pbx.test"])
