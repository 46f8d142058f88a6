"""etc/routing.py: one test per rule and oddity of the routing specification."""

from __future__ import annotations

from twisted.internet.task import Clock

from pbx.events import Events
from pbx.services.dialogs import Dialogs, DialogSettings
from pbx.sip.uri import URI
from pbx.timing import TimerWheel
from pbx.verdicts import Relay, Reply, Target
from tests.fakes import request
from tests.policy import CHALLENGE, GATEWAY, NODE, PolicyTestCase

CONTACT = Target(URI.parse("sip:1002@192.0.2.60:5060"), next_hop=URI.parse("sip:192.0.2.60"))


class WithinDialogTests(PolicyTestCase):
    def test_along_our_route(self) -> None:
        """R4.2: a request along the recorded route goes where its Request-URI says."""
        arrival = self.arrival(own_route="sip:192.0.2.1;lr;did=a.1")
        verdict = self.route(
            "INFO sip:1002@192.0.2.60", to="<sip:1002@pbx.test>;tag=b", arrival=arrival
        )
        self.assertEqual(verdict, Relay([Target(URI.parse("sip:1002@192.0.2.60"))]))

    def test_bye_is_accounted(self) -> None:
        """R4.4."""
        arrival = self.arrival(own_route="sip:192.0.2.1;lr")
        verdict = self.route(
            "BYE sip:1002@192.0.2.60", to="<sip:1002@pbx.test>;tag=b", arrival=arrival
        )
        assert isinstance(verdict, Relay)
        self.assertTrue(verdict.account)

    def test_without_our_route(self) -> None:
        """R4.2: 404 "Not here"."""
        verdict = self.route("BYE sip:1002@192.0.2.60", to="<sip:1002@pbx.test>;tag=b")
        self.assertEqual(verdict, Reply(404, "Not here"))

    def test_subscription_of_ours(self) -> None:
        """R4.2: a SUBSCRIBE without Route whose Request-URI is ours belongs to presence."""
        verdict = self.route("SUBSCRIBE sip:presence@pbx.test", to="<sip:1002@pbx.test>;tag=b")
        self.assertEqual(verdict, Reply(200, "subscribed"))

    def test_subscription_of_ours_by_an_outbound_proxy(self) -> None:
        """Many phones put the PBX into Route there too; what a phone sent by REFER is not ours."""
        arrival = self.arrival(own_route="sip:192.0.2.1;lr")
        uri, to = "sip:presence@pbx.test", "<sip:1002@pbx.test>;tag=b"
        verdict = self.route(f"SUBSCRIBE {uri}", "Event: dialog", to=to, arrival=arrival)
        self.assertEqual(verdict, Reply(200, "subscribed"))
        verdict = self.route(f"SUBSCRIBE {uri}", "Event: refer", to=to, arrival=arrival)
        self.assertEqual(verdict, Relay([Target(URI.parse(uri))]))

    def test_nobody_is_challenged_within_a_dialog(self) -> None:
        """R7 comes after R4."""
        arrival = self.arrival(own_route="sip:192.0.2.1;lr")
        self.route("BYE sip:x@192.0.2.60", to="<sip:1002@pbx.test>;tag=b", arrival=arrival)
        self.assertEqual(self.auth.asked, 0)


class AuthenticationTests(PolicyTestCase):
    def test_local_sender_is_challenged(self) -> None:
        """R7: whoever claims to be one of us proves it."""
        for line in ("INVITE sip:1002@pbx.test", "MESSAGE sip:1002@pbx.test"):
            self.assertEqual(self.route(line), CHALLENGE)

    def test_local_sender_to_foreign_domain_is_challenged(self) -> None:
        """R7."""
        self.assertEqual(self.route("INVITE sip:bob@elsewhere.test"), CHALLENGE)

    def test_foreign_sender(self) -> None:
        """R7, with the product's allow-list: strangers stay out, even towards local users."""
        for uri in ("sip:bob@elsewhere.test", "sip:1002@pbx.test"):
            verdict = self.route(f"INVITE {uri}", from_="<sip:eve@evil.test>;tag=e")
            self.assertEqual(verdict, Reply(403, "Relay Forbidden"))
        self.assertEqual(self.auth.asked, 0)

    def test_foreign_sender_when_open(self) -> None:
        """R7 as the reference had it: local users may be reached by everybody, others not."""
        setattr(self.module, "OPEN_INBOUND", True)  # noqa: B010
        self.registrar.contacts["1002@pbx.test"] = [CONTACT]
        verdict = self.route("INVITE sip:1002@pbx.test", from_="<sip:eve@evil.test>;tag=e")
        self.assertEqual(verdict, Relay([CONTACT], account=True))
        verdict = self.route("INVITE sip:b@elsewhere.test", from_="<sip:eve@evil.test>;tag=e")
        self.assertEqual(verdict, Reply(403, "Relay Forbidden"))

    def test_gateways_need_no_password(self) -> None:
        """R7: is_from_gw."""
        self.registrar.contacts["1002@pbx.test"] = [CONTACT]
        verdict = self.route(
            "INVITE sip:1002@pbx.test",
            from_="<sip:+4930@trunk.test>;tag=g",
            arrival=self.arrival(GATEWAY),
        )
        self.assertEqual(verdict, Relay([CONTACT], account=True))

    def test_node_with_local_from(self) -> None:
        """O25: a FreeSWITCH node is trusted whatever domain it puts into From."""
        self.registrar.contacts["1002@pbx.test"] = [CONTACT]
        verdict = self.route("INVITE sip:1002@pbx.test", arrival=self.arrival(NODE))
        self.assertEqual(verdict, Relay([CONTACT], account=True, timeout=35.0))


class InitialRouteTests(PolicyTestCase):
    def test_preloaded_route(self) -> None:
        """R8."""
        self.authenticated()
        verdict = self.route("INVITE sip:1002@pbx.test", arrival=self.arrival(preloaded=True))
        self.assertEqual(verdict, Reply(403, "Preload Route denied"))

    def test_preloaded_route_of_a_stranger(self) -> None:
        """R7 comes first: nothing is learned without a password."""
        verdict = self.route("INVITE sip:1002@pbx.test", arrival=self.arrival(preloaded=True))
        self.assertEqual(verdict, CHALLENGE)


class ForeignDomainTests(PolicyTestCase):
    def test_local_user_calls_out(self) -> None:
        """R12, without the P-hint header (O14, O28)."""
        self.authenticated()
        verdict = self.route("INVITE sip:bob@elsewhere.test")
        self.assertEqual(
            verdict, Relay([Target(URI.parse("sip:bob@elsewhere.test"))], account=True)
        )

    def test_register_elsewhere(self) -> None:
        """O16: REGISTER for a foreign registrar is not relayed."""
        verdict = self.route("REGISTER sip:elsewhere.test", to="<sip:1001@elsewhere.test>")
        self.assertEqual(verdict, Reply(403, "Relay Forbidden"))


class RegisterTests(PolicyTestCase):
    def test_challenge_first(self) -> None:
        """R14.1; a REGISTER from a node's address is no exception."""
        self.assertEqual(self.route("REGISTER sip:pbx.test", to="<sip:1001@pbx.test>"), CHALLENGE)
        verdict = self.route(
            "REGISTER sip:pbx.test", to="<sip:1001@pbx.test>", arrival=self.arrival(NODE)
        )
        self.assertEqual(verdict, CHALLENGE)

    def test_save(self) -> None:
        """R14.5."""
        self.authenticated()
        verdict = self.route("REGISTER sip:pbx.test", to="<sip:1001@pbx.test>")
        self.assertEqual(verdict, Reply(200, "saved"))


class PresenceTests(PolicyTestCase):
    def test_publish_and_subscribe(self) -> None:
        """R13, after authentication."""
        self.assertEqual(self.route("PUBLISH sip:1001@pbx.test", "Event: presence"), CHALLENGE)
        self.authenticated()
        verdict = self.route("PUBLISH sip:1001@pbx.test", "Event: presence")
        self.assertEqual(verdict, Reply(200, "published"))
        verdict = self.route("SUBSCRIBE sip:1002@pbx.test", "Event: presence")
        self.assertEqual(verdict, Reply(200, "subscribed"))


class AddressTests(PolicyTestCase):
    def test_no_user_in_request_uri(self) -> None:
        """R15: 484; but OPTIONS only asks whether we are alive (O26)."""
        self.authenticated()
        self.assertEqual(self.route("MESSAGE sip:pbx.test"), Reply(484))
        verdict = self.route("OPTIONS sip:pbx.test")
        assert isinstance(verdict, Reply)
        self.assertEqual(verdict.status, 200)
        self.assertIn("Allow", dict(verdict.headers))

    def test_options_needs_no_password(self) -> None:
        """O26."""
        verdict = self.route("OPTIONS sip:pbx.test", from_="<sip:prober@localhost>;tag=p")
        assert isinstance(verdict, Reply)
        self.assertEqual((verdict.status, self.auth.asked), (200, 0))

    def test_alias(self) -> None:
        """R16, applied before the target is chosen (O13)."""
        self.authenticated()
        self.aliases.known["reception@pbx.test"] = "sip:1002@pbx.test"
        self.registrar.contacts["1002@pbx.test"] = [CONTACT]
        verdict = self.route("INVITE sip:reception@pbx.test")
        self.assertEqual(verdict, Relay([CONTACT], account=True))

    def test_alias_towards_freeswitch(self) -> None:
        """O13: the node gets the number that the alias stands for."""
        self.authenticated()
        self.aliases.known["reception@pbx.test"] = "sip:1002@pbx.test"
        self.balancer.nodes = ["sip:192.0.2.112:5060"]
        verdict = self.route("INVITE sip:reception@pbx.test")
        assert isinstance(verdict, Relay)
        self.assertEqual(str(verdict.targets[0].uri), "sip:1002@pbx.test")

    def test_dial_plan(self) -> None:
        """R17."""
        self.authenticated()
        self.dialplan.numbers["0"] = "1002"
        self.registrar.contacts["1002@pbx.test"] = [CONTACT]
        self.assertEqual(self.route("INVITE sip:0@pbx.test"), Relay([CONTACT], account=True))


class PSTNTests(PolicyTestCase):
    gateway = Target(URI.parse("sip:4930123@192.0.2.200"))

    def test_to_the_gateway(self) -> None:
        """R18, and no FreeSWITCH node in between (O13)."""
        self.authenticated()
        self.balancer.nodes = ["sip:192.0.2.112:5060"]
        self.gateways.targets = [self.gateway]
        verdict = self.route("INVITE sip:+4930123@pbx.test")
        self.assertEqual(verdict, Relay([self.gateway], account=True))

    def test_no_route(self) -> None:
        """R18."""
        self.authenticated()
        verdict = self.route("INVITE sip:+4930123@pbx.test")
        self.assertEqual(verdict, Reply(500, "No PSTN Route found"))

    def test_next_gateway(self) -> None:
        """After 408 and 5xx, whoever said it; never after the callee's own answer."""
        self.authenticated()
        other = Target(URI.parse("sip:4930123@192.0.2.201"), q=0.9)
        self.gateways.targets = [self.gateway, other]
        asked = request("INVITE sip:+4930123@pbx.test")
        verdict = self.ask(asked)
        assert isinstance(verdict, Relay)
        self.assertEqual((verdict.targets, verdict.account), ([self.gateway], True))
        for status in (408, 500, 503):
            again = self.after(verdict, asked, status, local=status == 408)
            self.assertEqual(again, Relay([other], account=True))
        for status in (486, 404, 603):
            self.assertIsNone(self.after(verdict, asked, status, local=False))

    def test_only_with_a_password(self) -> None:
        """Toll fraud ends at R7."""
        self.gateways.targets = [self.gateway]
        self.assertEqual(self.route("INVITE sip:+4930123@pbx.test"), CHALLENGE)
        verdict = self.route("INVITE sip:+4930123@pbx.test", from_="<sip:e@evil.test>;tag=e")
        self.assertEqual(verdict, Reply(403, "Relay Forbidden"))


class FreeSwitchTests(PolicyTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.authenticated()
        self.balancer.nodes = ["sip:192.0.2.112:5060", "sip:192.0.2.114:5060"]

    def test_calls_go_to_a_node(self) -> None:
        """R11.3: the Request-URI stays, only the next hop is the node."""
        verdict = self.route("INVITE sip:1002@pbx.test")
        assert isinstance(verdict, Relay)
        (target,) = verdict.targets
        self.assertEqual(str(target.uri), "sip:1002@pbx.test")
        self.assertEqual(str(target.next_hop), "sip:192.0.2.112:5060")
        self.assertEqual(target.headers, (("X-PBX-Call", "a.1"),))
        self.assertTrue(verdict.account)

    def test_pick_up_of_a_call_that_a_node_made(self) -> None:
        """Replaces (RFC 3891): to that node, where it made the call; else to any."""
        service = Dialogs(
            DialogSettings(db_mode=0),
            None,
            None,
            None,
            None,
            Events(),
            Clock(),
            TimerWheel(Clock()),
        )
        made = request("INVITE sip:1002@pbx.test", from_="<sip:1001@x>;tag=fs", call_id="c2")
        service.begin(made, self.arrival(NODE), False)
        self.policy.dialogs = service  # type: ignore[attr-defined]
        for replaces, expected in (
            ("c2;to-tag=fs;from-tag=bob;early-only", "sip:192.0.2.112:5080"),
            ("c9;to-tag=fs;from-tag=bob", "sip:192.0.2.112:5060"),
            ("c2;to-tag=fs", "sip:192.0.2.114:5060"),
        ):
            verdict = self.route("INVITE sip:1001@pbx.test", f"Replaces: {replaces}")
            assert isinstance(verdict, Relay)
            self.assertEqual(str(verdict.targets[0].next_hop), expected, replaces)

    def test_calls_from_a_node_go_to_the_phone(self) -> None:
        """R11.2, O29: the phone may ring a little longer than the node waits."""
        self.registrar.contacts["1002@pbx.test"] = [CONTACT]
        verdict = self.route(
            "INVITE sip:1002@pbx.test",
            from_="<sip:1001@192.0.2.112>;tag=f",
            arrival=self.arrival(NODE),
        )
        self.assertEqual(verdict, Relay([CONTACT], account=True, timeout=35.0))

    def test_calls_from_a_node_to_nobody(self) -> None:
        """R11.2: 404 for an unknown user, 480 for one who is away; FreeSWITCH takes voicemail."""
        for user, status in (("1002", 480), ("4711", 404)):
            verdict = self.route(
                f"INVITE sip:{user}@pbx.test",
                from_="<sip:1001@192.0.2.112>;tag=f",
                arrival=self.arrival(NODE),
            )
            self.assertEqual(verdict, Reply(status))

    def test_silent_node(self) -> None:
        """O4, O5: the next node, and the silent one gets no calls until it answers a probe."""
        asked = request("INVITE sip:1002@pbx.test")
        second = self.after(self.ask(asked), asked, 408, local=True)
        assert isinstance(second, Relay)
        self.assertEqual(str(second.targets[0].next_hop), "sip:192.0.2.114:5060")
        self.assertEqual(self.balancer.disabled, ["sip:192.0.2.112:5060"])

    def test_overloaded_node(self) -> None:
        """O4: a 5xx of a node moves the call on, but the node lives."""
        asked = request("INVITE sip:1002@pbx.test")
        second = self.after(self.ask(asked), asked, 503, local=False)
        self.assertIsInstance(second, Relay)
        self.assertEqual(self.balancer.disabled, [])

    def test_no_node_left(self) -> None:
        """O4, R11.3: 503 with Retry-After instead of 500."""
        asked = request("INVITE sip:1002@pbx.test")
        second = self.after(self.ask(asked), asked, 408, local=True)
        assert second is not None
        third = self.after(second, asked, 408, local=True)
        assert isinstance(third, Reply)
        self.assertEqual((third.status, dict(third.headers)["Retry-After"]), (503, "30"))
        self.assertEqual(len(self.balancer.disabled), 2)

    def test_what_the_callee_said(self) -> None:
        """O4: busy is an answer, not a failure of the node."""
        asked = request("INVITE sip:1002@pbx.test")
        for status in (404, 480, 486, 487, 603):
            self.balancer.nodes = ["sip:192.0.2.112:5060", "sip:192.0.2.114:5060"]
            self.assertIsNone(self.after(self.ask(asked), asked, status, local=False))

    def test_only_calls_go_to_nodes(self) -> None:
        """R10: MESSAGE goes to the phone."""
        self.registrar.contacts["1002@pbx.test"] = [CONTACT]
        verdict = self.route("MESSAGE sip:1002@pbx.test")
        assert isinstance(verdict, Relay)
        self.assertEqual(verdict.targets, [CONTACT])


class EmbeddedTests(PolicyTestCase):
    """Without FreeSWITCH nodes (section 50 §6)."""

    def setUp(self) -> None:
        super().setUp()
        self.authenticated()

    def test_all_contacts(self) -> None:
        """R20: extension to extension, accounted."""
        second = Target(URI.parse("sip:1002@192.0.2.61"))
        self.registrar.contacts["1002@pbx.test"] = [CONTACT, second]
        verdict = self.route("INVITE sip:1002@pbx.test")
        self.assertEqual(verdict, Relay([CONTACT, second], account=True))

    def test_other_methods_find_the_phone(self) -> None:
        """O3: OPTIONS, INFO, REFER and NOTIFY to an extension do not come back to us."""
        self.registrar.contacts["1002@pbx.test"] = [CONTACT]
        for method in ("OPTIONS", "INFO", "REFER", "NOTIFY"):
            self.assertEqual(self.route(f"{method} sip:1002@pbx.test"), Relay([CONTACT]))

    def test_only_calls_are_accounted(self) -> None:
        """O34: what is no INVITE fills no tables."""
        self.registrar.contacts["1002@pbx.test"] = [CONTACT]
        for method in ("OPTIONS", "MESSAGE", "INFO"):
            verdict = self.route(f"{method} sip:1002@pbx.test")
            assert isinstance(verdict, Relay)
            self.assertFalse(verdict.account)

    def test_nobody_there(self) -> None:
        """404 for an unknown user, 480 for one who is away, who has missed a call then."""
        self.assertEqual(self.route("INVITE sip:1002@pbx.test"), Reply(480, account=True))
        self.assertEqual(self.route("INVITE sip:4711@pbx.test"), Reply(404))

    def test_method_not_accepted(self) -> None:
        """Section 6: only contacts that do not allow the method."""
        self.registrar.contacts["1002@pbx.test"] = [CONTACT]
        self.registrar.methods = {"INVITE"}
        self.assertEqual(self.route("MESSAGE sip:1002@pbx.test"), Reply(405))

    def test_message_to_one_who_is_away(self) -> None:
        """O1, O2: stored; to nobody: 404."""
        self.assertEqual(self.route("MESSAGE sip:1002@pbx.test"), Reply(202))
        self.assertEqual(self.route("MESSAGE sip:4711@pbx.test"), Reply(404))
        self.assertEqual(self.silo.owners, ["1002@pbx.test"])

    def test_message_to_an_alias(self) -> None:
        """It waits for whom the alias stands for."""
        self.aliases.known["reception@pbx.test"] = "sip:1002@pbx.test"
        self.assertEqual(self.route("MESSAGE sip:reception@pbx.test"), Reply(202))
        self.assertEqual(self.silo.owners, ["1002@pbx.test"])

    def test_message_that_no_phone_took(self) -> None:
        """Stored when the phones could not be reached, in time for the sender to hear of it."""
        self.registrar.contacts["1002@pbx.test"] = [CONTACT]
        asked = request("MESSAGE sip:1002@pbx.test")
        verdict = self.ask(asked)
        assert isinstance(verdict, Relay)
        assert verdict.timeout is not None
        self.assertLess(verdict.timeout, 32)
        for status in (408, 430, 480, 503):
            self.assertEqual(self.after(verdict, asked, status, local=True), Reply(202))
        self.assertEqual(self.silo.owners, ["1002@pbx.test"] * 4)

    def test_message_that_a_phone_refused(self) -> None:
        """The sender hears what the phone said."""
        self.registrar.contacts["1002@pbx.test"] = [CONTACT]
        asked = request("MESSAGE sip:1002@pbx.test")
        for status in (405, 415, 486, 500, 603):
            self.assertIsNone(self.after(self.ask(asked), asked, status, local=False))
        self.assertEqual(self.silo.owners, [])


class WithoutPluginsTests(PolicyTestCase):
    """Dial plan, gateways, presence and silo are switched off."""

    optional = False

    def setUp(self) -> None:
        super().setUp()
        self.authenticated()

    def test_events(self) -> None:
        """Nobody here has event state; a phone may."""
        self.assertEqual(self.route("PUBLISH sip:1001@pbx.test"), Reply(489))
        self.registrar.contacts["1002@pbx.test"] = [CONTACT]
        self.assertEqual(self.route("SUBSCRIBE sip:1002@pbx.test"), Relay([CONTACT]))

    def test_message_to_one_who_is_away(self) -> None:
        """O1."""
        self.assertEqual(self.route("MESSAGE sip:1002@pbx.test"), Reply(480))

    def test_message_to_phones(self) -> None:
        """Without a silo it is relayed like any other request."""
        self.registrar.contacts["1002@pbx.test"] = [CONTACT]
        self.assertEqual(self.route("MESSAGE sip:1002@pbx.test"), Relay([CONTACT]))

    def test_number_of_the_pstn(self) -> None:
        """Without gateways it is a user like any other."""
        self.assertEqual(self.route("INVITE sip:+4930123@pbx.test"), Reply(404))
