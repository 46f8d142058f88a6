from __future__ import annotations

from zope.interface.verify import verifyObject

from pbx.events import Registered, Unregistered
from pbx.interfaces import ICommands, IRegistrar, IStartable, IStatistics
from pbx.services.registrar.registrar import host_of
from pbx.sip.address import Address
from pbx.verdicts import Reply
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
INSTANCE = '+sip.instance="<urn:uuid:00000000-0000-1000-8000-000A95A0E128>"'


class AnswerTests(RegistrarTestCase):
    """RFC 3261 section 10.3 step 8 and spec 30 section 6."""

    def test_provides_what_it_promises(self) -> None:
        for interface in (IRegistrar, IStartable, ICommands, IStatistics):
            verifyObject(interface, self.registrar)

    def test_lists_what_was_granted(self) -> None:
        self.assertEqual(
            self.register(),
            Reply(
                200,
                "",
                (
                    ("Contact", f"<{PHONE}>;expires=3600"),
                    ("Supported", "path, outbound, gruu"),
                ),
            ),
        )

    def test_received_of_a_phone_behind_nat(self) -> None:
        """15-observed 3."""
        reply = self.register("<sip:1001@10.0.0.5:5060>;expires=300;q=0.5", nat=True)
        self.assertEqual(
            self.listed(reply),
            '<sip:1001@10.0.0.5:5060>;expires=300;q=0.5;received="sip:192.0.2.50:5060"',
        )

    def test_lists_all_bindings_with_the_time_left(self) -> None:
        self.register(f"<{PHONE}>;expires=100")
        self.clock.advance(30.5)
        reply = self.register(f"<{OTHER}>;expires=200", call_id="2")
        self.assertEqual(self.listed(reply), f"<{PHONE}>;expires=69, <{OTHER}>;expires=200")

    def test_fetch(self) -> None:
        """No Contact only asks (10.2.3)."""
        self.register()
        self.assertEqual(self.listed(self.register("")), f"<{PHONE}>;expires=3600")
        self.assertEqual(self.listed(self.register("", user="1002")), "")

    def test_counts(self) -> None:
        self.register()
        self.register("*")
        found = self.registrar.statistics()
        self.assertEqual(found["registrar:accepted_registrations"], 1)
        self.assertEqual(found["registrar:rejected_registrations"], 1)
        self.assertEqual(found["usrloc:registered_users"], 1)
        self.assertEqual(found["usrloc:location-contacts"], 1)


class ExpiryTests(RegistrarTestCase):
    """10.3 step 7 and spec 30 section 6."""

    def test_parameter_before_header_before_default(self) -> None:
        reply = self.register(f"<{PHONE}>;expires=100", "Expires: 200")
        self.assertIn("expires=100", self.listed(reply))
        self.assertIn("expires=200", self.listed(self.register(headers="Expires: 200")))
        self.assertIn("expires=3600", self.listed(self.register()))

    def test_too_short_is_raised(self) -> None:
        """15-observed 3: 200 with expires=60, no 423."""
        self.assertIn("expires=60", self.listed(self.register(f"<{PHONE}>;expires=5")))

    def test_too_short_is_refused_when_asked_to(self) -> None:
        self.use(interval_too_brief=True)
        reply = self.register(f"<{PHONE}>;expires=5")
        self.assertEqual(self.error(reply), (423, "Interval too brief"))
        self.assertEqual(dict(reply.headers)["Min-Expires"], "60")
        self.assertEqual(self.register(f"<{PHONE}>;expires=0").status, 200)

    def test_too_long_is_lowered(self) -> None:
        self.assertIn("expires=999999", self.listed(self.register(f"<{PHONE}>;expires=999999")))
        self.use(max_expires=7200)
        self.assertIn("expires=7200", self.listed(self.register(f"<{PHONE}>;expires=999999")))

    def test_never_later_than_the_column_holds(self) -> None:
        self.register(f"<{PHONE}>;expires=4294967295")
        self.assertEqual(self.rows("expires"), [(2**31 - 1,)])

    def test_deviation_stays_within_its_bound(self) -> None:
        self.use(expires_max_deviation=10)
        granted = set()
        for _ in range(50):
            text = self.listed(self.register(f"<{PHONE}>;expires=600"))
            granted.add(int(text.partition("expires=")[2]))
        self.assertTrue(granted <= set(range(590, 611)))
        self.assertGreater(len(granted), 1)

    def test_expired_contact_is_gone(self) -> None:
        self.register(f"<{PHONE}>;expires=60")
        self.clock.advance(59.9)
        self.assertEqual(self.contacts(), [PHONE])
        self.clock.advance(0.2)
        self.assertEqual(self.contacts(), [])
        self.assertEqual(self.happened[-1], Unregistered(AOR, PHONE, "expired"))
        self.assertEqual(self.rows(), [])
        self.assertEqual(self.registrar.statistics()["usrloc:location-expires"], 1)
        self.assertEqual(len(self.timers), 0)

    def test_refresh_lengthens_and_shortens(self) -> None:
        self.register(f"<{PHONE}>;expires=100")
        self.clock.advance(90)
        self.register(f"<{PHONE}>;expires=300")
        self.clock.advance(290)
        self.assertEqual(self.contacts(), [PHONE])
        self.register(f"<{PHONE}>;expires=3000")
        self.register(f"<{PHONE}>;expires=60")
        self.clock.advance(60.1)
        self.assertEqual(self.contacts(), [])
        self.assertEqual(len(self.timers), 0)

    def test_removed_contact_leaves_no_timer(self) -> None:
        self.register()
        self.register(f"<{PHONE}>;expires=0")
        self.assertEqual(len(self.timers), 0)

    def test_bad_values(self) -> None:
        for contact, headers, error in (
            (f"<{PHONE}>;expires=soon", "", "Bad expires"),
            (f"<{PHONE}>;expires=-1", "", "Bad expires"),
            (f"<{PHONE}>", "Expires: ٣", "Bad Expires"),
            (f"<{PHONE}>;q=1.1", "", "Bad q"),
            (f"<{PHONE}>;q=high", "", "Bad q"),
            (f"<{PHONE}>;q=0.1234", "", "Bad q"),
        ):
            self.assertEqual(self.error(self.register(contact, headers)), (400, error))
        self.assertEqual(self.contacts(), [])


class RemovalTests(RegistrarTestCase):
    """10.2.2 and 10.3 step 6."""

    def test_one_contact(self) -> None:
        self.register()
        self.register(f"<{OTHER}>")
        self.assertEqual(
            self.listed(self.register(f"<{PHONE}>;expires=0")), f"<{OTHER}>;expires=3600"
        )
        self.assertEqual(self.happened[-1], Unregistered(AOR, PHONE, "removed"))

    def test_all(self) -> None:
        self.register()
        self.register(f"<{OTHER}>", call_id="2")
        self.assertEqual(self.listed(self.register("*", "Expires: 0", call_id="3")), "")
        self.assertEqual(self.contacts(), [])
        self.assertEqual(self.rows(), [])

    def test_misuse_of_star(self) -> None:
        self.register()
        for contact, headers in (
            ("*", ""),
            ("*", "Expires: 60"),
            (f"*, <{OTHER}>", "Expires: 0"),
            (f"<{OTHER}>, *", "Expires: 0"),
            ("*;expires=0", "Expires: 0"),
        ):
            self.assertEqual(
                self.error(self.register(contact, headers)), (400, "Bad use of *"), contact
            )
        self.assertEqual(self.contacts(), [PHONE])

    def test_star_older_than_a_binding(self) -> None:
        self.register(cseq=5)
        reply = self.register("*", "Expires: 0", cseq=4)
        self.assertEqual(self.error(reply), (400, "Invalid CSeq number"))
        self.assertEqual(self.contacts(), [PHONE])

    def test_unknown_contact(self) -> None:
        self.assertEqual(self.register(f"<{PHONE}>;expires=0").status, 200)
        self.assertEqual(self.rows(), [])


class OrderTests(RegistrarTestCase):
    """10.3 step 7: CSeq within one Call-ID."""

    def test_repeated_request_changes_nothing(self) -> None:
        """15-observed and spec 30 section 5: answered the same within cseq_delay."""
        self.register(f"<{PHONE}>;expires=600", cseq=5)
        self.clock.advance(20)
        reply = self.register(f"<{PHONE}>;expires=700", cseq=5)
        self.assertEqual(self.listed(reply), f"<{PHONE}>;expires=580")

    def test_repeated_too_late(self) -> None:
        self.register(cseq=5)
        self.clock.advance(21)
        self.assertEqual(self.error(self.register(cseq=5)), (400, "Invalid CSeq number"))

    def test_older_request(self) -> None:
        self.register(cseq=5)
        self.assertEqual(self.error(self.register(cseq=4)), (400, "Invalid CSeq number"))
        self.assertEqual(self.register(cseq=4, call_id="another").status, 200)

    def test_all_or_nothing(self) -> None:
        """One contact that fails undoes the others (10.3 step 7)."""
        self.register(cseq=5)
        reply = self.register(f"<{OTHER}>, <{PHONE}>", cseq=4)
        self.assertEqual(reply.status, 400)
        self.assertEqual(self.contacts(), [PHONE])
        reply = self.register(f"<{PHONE}>;expires=0, <sip:no host>", cseq=6)
        self.assertEqual(self.error(reply), (400, "Bad Contact"))
        self.assertEqual(self.contacts(), [PHONE])

    def test_several_contacts(self) -> None:
        reply = self.register(f"<{PHONE}>;q=0.5, <{OTHER}>;expires=60\nContact: <mailto:a@b.c>")
        self.assertEqual(
            self.listed(reply),
            f"<{PHONE}>;expires=3600;q=0.5, <{OTHER}>;expires=60, <mailto:a@b.c>;expires=3600",
        )
        self.assertEqual(self.contacts(), [OTHER, PHONE])

    def test_same_contact_twice(self) -> None:
        reply = self.register(f"<{PHONE}>;expires=100, <{PHONE}>;expires=200")
        self.assertEqual(self.listed(reply), f"<{PHONE}>;expires=200")
        self.register(f"<{PHONE}>;expires=0, <{PHONE}>;expires=0")
        self.assertEqual(self.contacts(), [])

    def test_contacts_compare_byte_by_byte(self) -> None:
        """Spec 10 section 7."""
        self.register("<sip:1001@HOST.test>")
        self.register("<sip:1001@host.test>")
        self.assertEqual(self.contacts(), ["sip:1001@HOST.test", "sip:1001@host.test"])

    def test_matching_by_call_id(self) -> None:
        self.use(matching_mode=1)
        self.register(call_id="1")
        self.register(call_id="2")
        self.assertEqual(self.contacts(), [PHONE, PHONE])
        self.register(call_id="2")
        self.assertEqual(self.contacts(), [PHONE, PHONE])


class LimitTests(RegistrarTestCase):
    def test_new_contact_displaces_the_least_recently_refreshed(self) -> None:
        """Oddity O11."""
        self.use(max_contacts=2)
        for at, call_id in ((PHONE, "1"), (OTHER, "2"), (PHONE, "1")):
            self.register(f"<{at}>", call_id=call_id)
            self.clock.advance(1)
        self.register("<sip:1001@192.0.2.52>", call_id="3")
        self.assertEqual(self.contacts(), [PHONE, "sip:1001@192.0.2.52"])
        self.assertIn(Unregistered(AOR, OTHER, "replaced"), self.happened)
        self.assertEqual(len(self.rows()), 2)

    def test_refused_as_the_old_system_did(self) -> None:
        """Spec 10 section 7, 15-observed 4."""
        self.use(max_contacts=1, force_registration=False)
        self.register()
        reply = self.register(f"<{OTHER}>", call_id="2")
        self.assertEqual(self.error(reply), (503, "Too many registered contacts"))
        self.assertEqual(self.listed(reply), f"<{PHONE}>;expires=3600")
        self.assertEqual(self.browser(browser_flow()).status, 200)
        self.assertEqual(self.contacts(), [BROWSER])

    def test_change_of_contact_within_the_limit(self) -> None:
        self.use(max_contacts=1, force_registration=False)
        self.register()
        self.assertEqual(self.register(f"<{PHONE}>;expires=0, <{OTHER}>").status, 200)
        self.assertEqual(self.contacts(), [OTHER])

    def test_more_than_the_limit_at_once(self) -> None:
        self.use(max_contacts=1)
        self.assertEqual(self.register(f"<{PHONE}>, <{OTHER}>").status, 503)
        self.assertEqual(self.contacts(), [])

    def test_lengths(self) -> None:
        long = "9" * 300
        self.assertEqual(
            self.error(self.register(f"<sip:{long}@192.0.2.50>")), (400, "Contact too long")
        )
        self.assertEqual(self.error(self.register(call_id=long)), (400, "Call-ID too long"))
        self.assertEqual(
            self.error(self.register(user="9" * 65)), (500, "Address of record too long")
        )

    def test_retry_after(self) -> None:
        self.use(retry_after=30)
        reply = self.register(user="9" * 65)
        self.assertEqual(dict(reply.headers)["Retry-After"], "30")

    def test_foreign_address_of_record(self) -> None:
        """10.3 step 5."""
        reply = self.register(host="elsewhere.test")
        self.assertEqual(self.error(reply), (404, "Address of record not in this domain"))
        self.assertEqual(self.register(host="other.test").status, 200)
        self.registrar.remove("1001@other.test")
        self.assertEqual(self.registrar.bindings(), [])

    def test_unknown_extension_is_required(self) -> None:
        """8.2.2.3."""
        reply = self.register(headers="Require: path, teleport")
        self.assertEqual(reply.status, 420)
        self.assertEqual(dict(reply.headers)["Unsupported"], "teleport")
        self.assertEqual(self.register(headers="Require: path, outbound").status, 200)

    def test_connection_closed_meanwhile(self) -> None:
        flow = browser_flow()
        flow.close()
        self.assertEqual(self.browser(flow).status, 503)
        self.assertEqual(self.registrar.bindings(), [])


class PathTests(RegistrarTestCase):
    """RFC 3327 section 5.3."""

    PATH = "Path: <sip:edge.test;lr>, <sip:10.0.0.1;lr>"

    def test_repeated_to_who_supports_it(self) -> None:
        reply = self.register(headers=f"{self.PATH}\nSupported: path")
        self.assertEqual(dict(reply.headers)["Path"], "<sip:edge.test;lr>, <sip:10.0.0.1;lr>")
        self.assertNotIn("Path", dict(self.register(headers=self.PATH).headers))

    def test_becomes_the_route(self) -> None:
        self.register(headers=self.PATH, nat=True)
        [target] = self.lookup()
        self.assertEqual(target.path, ("<sip:edge.test;lr>", "<sip:10.0.0.1;lr>"))
        self.assertIsNone(target.next_hop)
        self.assertFalse(target.behind_nat)
        self.assertEqual(self.rows("path"), [("<sip:edge.test;lr>, <sip:10.0.0.1;lr>",)])

    def test_strict(self) -> None:
        self.use(path="strict")
        reply = self.register(headers=self.PATH)
        self.assertEqual(reply.status, 420)
        self.assertEqual(dict(reply.headers)["Unsupported"], "path")
        self.assertEqual(self.register(headers=f"{self.PATH}\nSupported: path").status, 200)

    def test_off(self) -> None:
        self.use(path="off")
        reply = self.register(headers=f"{self.PATH}\nSupported: path")
        self.assertNotIn("Path", dict(reply.headers))
        self.assertEqual(len(self.lookup()[0].path), 2)

    def test_bad(self) -> None:
        for path in ("<tel:1>", "<sip:>", "<sip:a"):
            reply = self.register(headers=f"Path: {path}")
            self.assertEqual(self.error(reply), (400, "Bad Path"), path)


class OutboundTests(RegistrarTestCase):
    """RFC 5626 section 6."""

    def test_answer(self) -> None:
        flow = browser_flow()
        headers = dict(self.browser(flow).headers)
        self.assertEqual(headers["Require"], "outbound")
        self.assertEqual(headers["Flow-Timer"], "120")
        self.assertIn('+sip.instance="<urn:uuid:b>";reg-id=1', headers["Contact"])
        self.assertEqual(flow.kept, 3610)

    def test_not_without_support_by_the_phone(self) -> None:
        reply = self.register(f"<{PHONE}>;{INSTANCE};reg-id=1")
        self.assertNotIn("Require", dict(reply.headers))

    def test_not_without_instance(self) -> None:
        reply = self.register(f"<{PHONE}>;reg-id=1", "Supported: outbound")
        self.assertNotIn("Require", dict(reply.headers))
        self.assertEqual(self.lookup()[0].instance, "")

    def test_new_flow_replaces_the_old_one_in_place(self) -> None:
        """A page was loaded again: other Contact, other connection, same instance and reg-id."""
        old, new = browser_flow(1), browser_flow(2)
        self.browser(old)
        [(contact_id,)] = self.rows("contact_id")
        self.browser(new, "sip:new@c3d4.invalid;transport=ws", "b-2")
        self.close(old)
        [target] = self.lookup()
        self.assertEqual(str(target.uri), "sip:new@c3d4.invalid;transport=ws")
        self.assertIs(target.flow, new)
        self.assertEqual(self.rows("contact_id"), [(contact_id,)])
        self.close(new)
        self.assertEqual(self.contacts(), [])

    def test_flows_of_one_instance_are_alternatives(self) -> None:
        for reg_id in (1, 2):
            self.register(f"<{PHONE}>;{INSTANCE};reg-id={reg_id}", call_id=str(reg_id))
        targets = self.lookup()
        self.assertEqual(len(targets), 2)
        self.assertEqual({target.instance for target in targets}, {targets[0].instance})
        self.assertIn("000A95A0E128", targets[0].instance)

    def test_first_hop_without_outbound(self) -> None:
        """439 when a proxy in between cannot keep the flow; without Supported, no reg-id."""
        via = "SIP/2.0/UDP edge.test;branch=z9hG4bK-2, SIP/2.0/UDP 192.0.2.50;branch=z9hG4bK-1"
        contact = f"<{PHONE}>;{INSTANCE};reg-id=1"
        supported = "Supported: outbound, path"
        self.assertEqual(self.register(contact, supported, via=via).status, 439)
        plain = f"{supported}\nPath: <sip:edge.test;lr>"
        self.assertEqual(self.register(contact, plain, via=via).status, 439)
        self.assertNotIn("reg-id", self.listed(self.register(contact, via=via)))
        good = f"{supported}\nPath: <sip:edge.test;lr;ob>"
        reply = self.register(contact, good, via=via)
        self.assertEqual(dict(reply.headers)["Require"], "outbound")

    def test_several_contacts(self) -> None:
        reply = self.register(f"<{PHONE}>;{INSTANCE};reg-id=1, <{OTHER}>")
        self.assertEqual(self.error(reply), (400, "reg-id with several contacts"))

    def test_bad_reg_id(self) -> None:
        for reg_id in ("0", "x", str(2**31)):
            reply = self.register(f"<{PHONE}>;{INSTANCE};reg-id={reg_id}")
            self.assertEqual(self.error(reply), (400, "Bad reg-id"))

    def test_udp_flow_goes_back_to_its_source(self) -> None:
        self.register(f"<{PHONE}>;{INSTANCE};reg-id=1", "Supported: outbound")
        self.assertEqual(str(self.lookup()[0].next_hop), "sip:192.0.2.50:5060")


class ConnectionTests(RegistrarTestCase):
    """Oddity O9: bindings live and die with their connection."""

    def test_browser_goes_with_its_connection(self) -> None:
        flow = browser_flow()
        self.register(f"<{BROWSER}>", flow=flow, nat=True)
        [target] = self.lookup()
        self.assertIs(target.flow, flow)
        self.assertTrue(target.flow_required)
        self.assertEqual(str(target.next_hop), "sip:192.0.2.99:40000;transport=ws")
        self.close(flow)
        self.assertEqual(self.contacts(), [])
        self.assertEqual(self.happened[-1], Unregistered(AOR, BROWSER, "flow"))
        self.assertEqual(self.rows(), [])

    def test_phone_that_listens_is_called_back(self) -> None:
        flow = tcp_flow()
        contact = "sip:1001@192.0.2.60:5070;transport=tcp"
        self.register(f"<{contact}>;expires=600", flow=flow, nat=True)
        self.assertEqual(flow.kept, 610)
        self.assertIs(self.lookup()[0].flow, flow)
        self.close(flow)
        [target] = self.lookup()
        self.assertIsNone(target.flow)
        self.assertIsNone(target.next_hop)
        self.assertFalse(target.flow_required)

    def test_phone_that_forgot_its_transport(self) -> None:
        flow = tcp_flow()
        self.register("<sip:1001@192.0.2.60:5070>", flow=flow, nat=True)
        self.close(flow)
        self.assertEqual(str(self.lookup()[0].next_hop), "sip:1001@192.0.2.60:5070;transport=tcp")

    def test_phone_behind_nat_is_gone(self) -> None:
        flow = tcp_flow()
        self.register("<sip:1001@10.0.0.5:5070;transport=tcp>", flow=flow, nat=True)
        self.close(flow)
        self.assertEqual(self.contacts(), [])

    def test_other_connections_do_not_matter(self) -> None:
        self.browser(browser_flow(1))
        self.close(browser_flow(1))
        self.assertEqual(self.contacts(), [BROWSER])

    def test_phone_that_moves_to_udp(self) -> None:
        flow = tcp_flow()
        self.register(flow=flow)
        self.register()
        self.close(flow)
        self.assertIsNone(self.lookup()[0].flow)


class EventTests(RegistrarTestCase):
    def test_registered(self) -> None:
        self.register()
        self.register(f"<{PHONE}>;expires=60")
        self.assertEqual(
            self.happened,
            [
                Registered(AOR, PHONE, 3600, None, True),
                Registered(AOR, PHONE, 60, None, False),
            ],
        )

    def test_removed_by_the_operator(self) -> None:
        self.register()
        self.register(f"<{OTHER}>")
        self.assertEqual(self.registrar.remove(AOR, OTHER), 1)
        self.assertEqual(self.registrar.remove(AOR), 1)
        self.assertEqual(self.registrar.remove(AOR), 0)
        self.assertEqual(self.happened[-1], Unregistered(AOR, PHONE, "admin"))


class HostTests(RegistrarTestCase):
    """Where phones are, for the guard."""

    def test_hosts(self) -> None:
        """What they came from, or what they said; not behind another proxy."""
        self.register("<sip:1001@192.0.2.61:5060;transport=udp>")
        self.register("<sip:1001@10.0.0.5>", nat=True)
        self.browser(browser_flow())
        self.register("<sip:1001@192.0.2.77>", "Path: <sip:proxy.test;lr>\nSupported: path")
        self.assertEqual(self.registrar.hosts(), {"192.0.2.61", "192.0.2.50", "192.0.2.99"})

    def test_host_of(self) -> None:
        for uri, host in (
            ("sip:192.0.2.1", "192.0.2.1"),
            ("sip:1001@192.0.2.1:5060;transport=tcp", "192.0.2.1"),
            ("sips:1001@[2001:db8::1]:5061", "2001:db8::1"),
            ("sip:[2001:db8::1];transport=ws", "2001:db8::1"),
        ):
            self.assertEqual(host_of(uri), host)


class CountTests(RegistrarTestCase):
    """Bindings by transport, for the metrics."""

    def counted(self) -> dict[str, int]:
        return {name: count for name, count in self.registrar.location.transports.items() if count}

    def test_by_transport(self) -> None:
        """A binding counts where it came by last, until it is gone; also after a restart."""
        self.register()
        self.browser(browser_flow())
        self.assertEqual(self.counted(), {"udp": 1, "ws": 1})
        self.register(flow=tcp_flow())
        self.register(flow=tcp_flow())
        self.assertEqual(self.counted(), {"tcp": 1, "ws": 1})
        self.restart()
        self.assertEqual(self.counted(), {"tcp": 1, "ws": 1})
        self.register("*", "Expires: 0")
        self.assertEqual(self.counted(), {})


class CacheTests(RegistrarTestCase):
    """Oddity O12."""

    def cached(self, key: str = "pbx.test:1001") -> str | None:
        return self.done(self.cache.get(key))

    def test_first_contact_while_registered(self) -> None:
        self.use(contact_cache=True)
        self.register(f"<{PHONE}>;expires=100")
        self.assertEqual(self.cached(), PHONE)
        self.clock.advance(99)
        self.assertEqual(self.cached(), PHONE)
        self.clock.advance(2)
        self.assertIsNone(self.cached())

    def test_deleted_on_unregister(self) -> None:
        self.use(contact_cache=True)
        self.register()
        self.register(f"<{PHONE}>;expires=0")
        self.assertIsNone(self.cached())

    def test_only_on_success(self) -> None:
        self.use(contact_cache=True)
        self.register(f"<{PHONE}>;q=7")
        self.assertIsNone(self.cached())

    def test_off_by_default(self) -> None:
        self.register()
        self.assertIsNone(self.cached())


class UserTests(RegistrarTestCase):
    def test_case_of_the_user(self) -> None:
        self.register(user="Alice")
        self.assertEqual(self.contacts("sip:alice@PBX.test"), [])
        self.assertEqual(self.contacts("sip:Alice@PBX.test"), [PHONE])
        self.use(case_sensitive=False, db_mode=0)
        self.register(user="Alice")
        self.assertEqual(self.contacts("sip:aLICE@pbx.test"), [PHONE])

    def test_registered_at_our_address(self) -> None:
        """A phone that knows no domain is a user of the default one."""
        self.register(host="192.0.2.1")
        self.assertEqual(self.contacts("sip:1001@pbx.test"), [PHONE])
        self.assertEqual(self.contacts("sip:1001@192.0.2.1"), [PHONE])
        self.assertEqual(self.rows("username, domain"), [("1001", "pbx.test")])

    def test_escapes(self) -> None:
        self.register(user="%61lice")
        self.assertEqual(self.contacts("sip:alice@pbx.test"), [PHONE])

    def test_domains_are_apart_unless_told_otherwise(self) -> None:
        self.register()
        self.assertEqual(self.contacts("sip:1001@other.test"), [])
        self.use(use_domain=False, db_mode=0)
        self.register()
        self.assertEqual(self.contacts("sip:1001@other.test"), [PHONE])

    def test_source_of_the_request(self) -> None:
        peer = Address("UDP", "2001:db8::5", 5071)
        self.register(flow=FakeFlow(peer, LOCAL), nat=True)
        self.assertEqual(str(self.lookup()[0].next_hop), "sip:[2001:db8::5]:5071")
