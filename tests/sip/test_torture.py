"""Every message of RFC 4475 and RFC 5118 gets the outcome these RFCs ask for."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from pbx.sip.errors import MalformedMessage, SIPError
from pbx.sip.message import Message, Request, Response, response_to
from pbx.sip.parser import parse
from pbx.sip.stream import StreamParser
from pbx.sip.validate import validate

FOLDER = Path(__file__).parent.parent / "torture"

VALID = 0
DROPPED = -1

#: File -> status of the answer, VALID (to be routed) or DROPPED (a response to nobody).
OUTCOMES = {
    # RFC 4475 section 3.1.1
    "wsinv": VALID,
    "intmeth": VALID,
    "esc01": VALID,
    "escnull": VALID,
    "esc02": VALID,
    "lwsdisp": VALID,
    "longreq": VALID,
    "dblreq": VALID,
    "semiuri": VALID,
    "transports": VALID,
    "mpart01": VALID,
    "unreason": VALID,
    "noreason": VALID,
    # Section 3.1.2
    "badinv01": 400,
    "clerr": 400,
    "ncl": 400,
    "scalar02": 400,
    "scalarlg": DROPPED,
    "quotbal": 400,
    "ltgtruri": 400,
    "lwsruri": 400,
    "lwsstart": 400,
    "trws": 400,
    "escruri": 400,
    # A proxy has no use for Date.
    "baddate": VALID,
    "regbadct": 400,
    # The RFC lets us ignore the spaces, and a proxy passes them on.
    "badaspec": VALID,
    "baddn": 400,
    "badvers": 505,
    "mismatch01": 400,
    # 501 of a UAS; a proxy has no opinion on methods, so the mismatch is what counts.
    "mismatch02": 400,
    "bigcode": DROPPED,
    # Sections 3.2 to 3.4: well formed
    "badbranch": VALID,
    "insuf": 400,
    "unkscm": 416,
    "novelsc": 416,
    "unksm2": VALID,
    "bext01": 420,
    # 415, 406 and the challenge are the answers of the UAS or registrar.
    "invut": VALID,
    "regaut01": VALID,
    "sdp01": VALID,
    "multi01": 400,
    "mcl01": 400,
    # The second Via makes it not ours; the transaction layer drops it (18.1.2).
    "bcast": VALID,
    "zeromf": 483,
    "cparam01": VALID,
    "cparam02": VALID,
    "regescrt": VALID,
    "inv2543": VALID,
    # RFC 5118 section 4
    "ipv6-good": VALID,
    "ipv6-bad": 400,
    "port-ambiguous": VALID,
    "port-unambiguous": VALID,
    "via-received-param-with-delim": VALID,
    "via-received-param-no-delim": VALID,
    "ipv6-in-sdp": VALID,
    "mult-ip-in-header": VALID,
    "mult-ip-in-sdp": VALID,
    "ipv4-mapped-ipv6": VALID,
    "ipv6-bug-abnf-3-colons": VALID,
    "ipv6-correct-abnf-2-colons": VALID,
}


def load(name: str) -> bytes:
    return (FOLDER / f"{name}.dat").read_bytes()


def outcome(data: bytes) -> int:
    """What becomes of a datagram."""
    try:
        message = parse(data)
    except MalformedMessage as error:
        if error.request is None:
            return DROPPED
        # It can be answered whatever is wrong with it.
        bytes(response_to(error.request, error.status, error.reason, error.headers, to_tag="t"))
        return error.status
    if isinstance(message, Request):
        try:
            validate(message)
        except SIPError as error:
            return error.status
    return VALID


class OutcomeTests(SynchronousTestCase):
    def test_every_file_has_its_outcome(self) -> None:
        self.assertEqual({path.stem for path in FOLDER.glob("*.dat")}, set(OUTCOMES))

    def test_outcomes(self) -> None:
        found = {name: outcome(load(name)) for name in OUTCOMES}
        self.assertEqual(found, OUTCOMES)

    def test_valid_ones_leave_as_they_came(self) -> None:
        for name, expected in OUTCOMES.items():
            if expected == VALID and name != "dblreq":
                self.assertEqual(bytes(parse(load(name))), load(name), name)

    def test_streams_find_the_same_messages(self) -> None:
        """All of them in one stream, except those that break the framing."""
        names = [n for n in OUTCOMES if n not in ("clerr", "ncl", "mcl01", "inv2543", "dblreq")]
        parser = StreamParser()
        found = parser.feed(b"".join(map(load, names)))
        self.assertEqual(len(found), len(names))
        self.assertFalse(parser.failed)
        for name, one in zip(names, found, strict=True):
            if isinstance(one, Message):
                self.assertEqual(bytes(one), load(name), name)
            else:
                self.assertIsInstance(one, MalformedMessage)
                self.assertNotEqual(OUTCOMES[name], VALID, name)


class ContentTests(SynchronousTestCase):
    """What is inside the valid ones."""

    def request(self, name: str) -> Request:
        message = parse(load(name))
        assert isinstance(message, Request)
        return message

    def test_wsinv(self) -> None:
        """Section 3.1.1.1."""
        made = self.request("wsinv")
        self.assertEqual(made.to.uri_text, "sip:vivekg@chair-dnrc.example.com")
        self.assertEqual(made.to.tag, "1918181833n")
        self.assertEqual(made.from_.display, 'J Rosenberg \\"')
        self.assertEqual(made.from_.tag, "98asjd8")
        self.assertEqual((made.cseq.number, made.cseq.method), (9, "INVITE"))
        self.assertEqual(made.max_forwards, 68)
        self.assertEqual((made.via.transport, made.via.host), ("UDP", "192.0.2.2"))
        self.assertEqual(made.via.branch, "390skdjuw")
        self.assertEqual(len(made.get_list("via")), 3)
        self.assertEqual(made.get("subject"), "")
        self.assertEqual(
            made.get("newfangledheader"), "newfangled value continued newfangled value"
        )
        (route,) = made.routes
        self.assertEqual(route.uri.host, "services.example.com")
        self.assertEqual(route.uri.params.get("unknownwith"), "value")
        (contact,) = made.contacts
        self.assertEqual(contact.display, 'Quoted string ""')
        self.assertEqual(contact.params.get("newparam"), "newvalue")
        self.assertEqual(contact.params.get("secondparam"), "")
        self.assertEqual(contact.params.get("q"), "0.33")
        self.assertEqual(made.uri.params.get("unknownparam"), "")
        self.assertEqual(len(made.body), 150)

    def test_vias_of_wsinv(self) -> None:
        vias = []
        made = self.request("wsinv").copy()
        while made.has("via"):
            vias.append((made.via.transport, made.via.host, made.via.branch))
            made.remove_first_value("via")
        self.assertEqual(
            vias,
            [
                ("UDP", "192.0.2.2", "390skdjuw"),
                ("TCP", "spindle.example.com", "z9hG4bK9ikj8"),
                ("UDP", "192.168.255.111", "z9hG4bK30239"),
            ],
        )

    def test_intmeth(self) -> None:
        """Section 3.1.1.2."""
        made = self.request("intmeth")
        self.assertEqual(made.method, "!interesting-Method0123456789_*+`.%indeed'~")
        self.assertEqual(made.uri.user, "1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*")
        self.assertEqual(made.uri.password, "&it+has=1,weird!*pas$wo~d_too.(doesn't-it)")
        self.assertEqual(made.to.display, "BEL:\x07 NUL:\x00 DEL:\x7f")
        self.assertEqual(made.from_.display, "token1~` token2'+_ token3*%!.-")
        self.assertEqual(made.from_.params.get("fromparam''~+*_!.-%"), "работающий")
        self.assertEqual(made.from_.tag, "_token~1'+`*%!-.")
        self.assertEqual(made.get("extensionheader-!.%*+_`'~"), "\ufeff大停電")
        self.assertEqual(made.via.branch, "z9hG4bK-.!%66*_+`'~")

    def test_esc01(self) -> None:
        """Section 3.1.1.3: escapes are resolved in the user and kept in the text."""
        made = self.request("esc01")
        self.assertEqual(made.uri.user, "sips:user@example.com")
        self.assertEqual(made.uri.host, "example.net")
        self.assertEqual(made.to.uri.user, "user")
        self.assertEqual(made.from_.uri.user, "I have spaces")
        contact = made.contacts[0].uri
        self.assertEqual(contact.user, "caller")
        self.assertEqual(str(contact.params), ";%6C%72;n%61me=v%61lue%25%34%31")

    def test_escnull(self) -> None:
        """Section 3.1.1.4."""
        made = self.request("escnull")
        self.assertEqual(made.to.uri.user, "null-\0-null")
        self.assertEqual([contact.uri.user for contact in made.contacts], ["\0", "\0\0"])
        self.assertNotEqual(made.contacts[0].uri, made.contacts[1].uri)

    def test_esc02(self) -> None:
        """Section 3.1.1.5: no escapes in methods, header names and display names."""
        made = self.request("esc02")
        self.assertEqual(made.method, "RE%47IST%45R")
        self.assertEqual(made.to.display, "%Z%45")
        self.assertEqual(made.via.branch, "z9hG4bK209%fzsnel234")
        self.assertEqual(len(made.contacts), 2)

    def test_longreq(self) -> None:
        """Section 3.1.1.7."""
        made = self.request("longreq")
        self.assertEqual(len(made.get_list("via")), 34)
        self.assertEqual(made.to.uri.port, 6000)
        self.assertEqual(made.from_.tag, "12" + "982" * 50 + "424")

    def test_dblreq(self) -> None:
        """Section 3.1.1.8: two in a datagram are one, two in a stream are two."""
        self.assertEqual(self.request("dblreq").body, b"")
        found = StreamParser().feed(load("dblreq"))
        methods = [one.method for one in found if isinstance(one, Request)]
        self.assertEqual(methods, ["REGISTER", "INVITE"])

    def test_semiuri(self) -> None:
        """Section 3.1.1.9: the semicolon belongs to the user."""
        uri = self.request("semiuri").uri
        self.assertEqual((uri.user, uri.host), ("user;par=u@example.net", "example.com"))
        self.assertEqual(len(uri.params), 0)

    def test_mpart01(self) -> None:
        """Section 3.1.1.11: NULs in a body are nobody's business."""
        self.assertIn(b"\0", self.request("mpart01").body)

    def test_reasons(self) -> None:
        """Sections 3.1.1.12 and 3.1.1.13."""
        message = parse(load("unreason"))
        assert isinstance(message, Response)
        self.assertEqual(message.reason, "= 2**3 * 5**2 но сто девяносто девять - простое")
        message = parse(load("noreason"))
        assert isinstance(message, Response)
        self.assertEqual((message.status, message.reason), (100, ""))

    def test_bext01(self) -> None:
        """Section 3.3.5: 420 names what we do not support; the rest may pass."""
        error = self.assertRaises(SIPError, validate, self.request("bext01"))
        self.assertEqual(
            error.headers, (("Unsupported", "noProxiesSupportThis, norDoAnyProxiesSupportThis"),)
        )
        known = {"noproxiessupportthis", "nordoanyproxiessupportthis"}
        validate(self.request("bext01"), known)

    def test_cparam(self) -> None:
        """Sections 3.3.13 and 3.3.14: outside or inside the brackets."""
        (one,) = self.request("cparam01").contacts
        self.assertIn("unknownparam", one.params)
        self.assertNotIn("unknownparam", one.uri.params)
        (two,) = self.request("cparam02").contacts
        self.assertNotIn("unknownparam", two.params)
        self.assertIn("unknownparam", two.uri.params)

    def test_regescrt(self) -> None:
        """Section 3.3.15: headers of a Contact URI are kept."""
        self.assertEqual(
            self.request("regescrt").contacts[0].uri.headers, "Route=%3Csip:sip.example.com%3E"
        )

    def test_inv2543(self) -> None:
        """Section 3.4.1: no branch, no tag, no Max-Forwards, no Content-Length."""
        made = self.request("inv2543")
        self.assertEqual((made.via.branch, made.from_.tag, made.max_forwards), ("", None, None))
        self.assertEqual(made.to.params.get("user"), "phone")
        self.assertTrue(made.body.endswith(b"RTP/AVP 0\r\n"))

    def test_ports_of_ipv6(self) -> None:
        """RFC 5118 sections 4.3 and 4.4."""
        uri = self.request("port-ambiguous").uri
        self.assertEqual((uri.host, uri.port), ("2001:db8::10:5070", None))
        uri = self.request("port-unambiguous").uri
        self.assertEqual((uri.host, uri.port), ("2001:db8::10", 5070))

    def test_ipv6_in_headers(self) -> None:
        """RFC 5118 sections 4.5, 4.7 and 4.9."""
        received = self.request("via-received-param-with-delim").via.params.get("received")
        self.assertEqual(received, "[2001:db8::9:255]")
        received = self.request("via-received-param-no-delim").via.params.get("received")
        self.assertEqual(received, "2001:db8::9:255")
        via = self.request("mult-ip-in-header").via
        self.assertEqual((via.host, via.port), ("2001:db8::9:1", 6050))
        made = self.request("ipv4-mapped-ipv6")
        self.assertEqual((made.via.host, made.via.port), ("::ffff:192.0.2.10", 19823))
        self.assertEqual(made.contacts[0].uri.host, "::ffff:192.0.2.2")

    def test_the_third_colon(self) -> None:
        """RFC 5118 section 4.10."""
        three = self.request("ipv6-bug-abnf-3-colons").uri
        two = self.request("ipv6-correct-abnf-2-colons").uri
        self.assertEqual(three.host, "2001:db8::c000:201")
        self.assertEqual(three, two)
