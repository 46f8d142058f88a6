"""curl as an XCAP client of a running PBX, with digest over real sockets."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.integration.harness import PBX, PBXTestCase, program
from tests.integration.phone import Phone
from tests.integration.watching import next_notify

ELEMENT = "application/xcap-el+xml"
LISTS = "application/resource-lists+xml"
RULES = "application/auth-policy+xml"
FRIENDS = (
    '<?xml version="1.0" encoding="UTF-8"?>\n'
    '<resource-lists xmlns="urn:ietf:params:xml:ns:resource-lists"><list name="friends">'
    '<entry uri="sip:2002@pbx.test"/></list></resource-lists>'
)
RULESET = (
    '<cr:ruleset xmlns="urn:ietf:params:xml:ns:pres-rules"'
    ' xmlns:cr="urn:ietf:params:xml:ns:common-policy">{}</cr:ruleset>'
)
RULE = (
    '<cr:rule id="{0}"><cr:conditions><cr:identity><cr:one id="sip:{0}@pbx.test"/></cr:identity>'
    "</cr:conditions><cr:actions><sub-handling>{1}</sub-handling></cr:actions></cr:rule>"
)


class Curl:
    """One user's client."""

    def __init__(self, pbx: PBX, user: str, folder: Path, password: str = "secret") -> None:
        url = str(pbx.mi("status")["web"])
        self._root = f"{url}xcap-root/"
        self._user = f"{user}:{password}"
        self._folder = folder
        self.headers: dict[str, str] = {}
        self.body = b""

    def ask(self, method: str, path: str, body: bytes | str = b"", *more: str) -> int:
        """The status; ``headers`` and ``body`` are those of the answer."""
        data, head, out = (self._folder / name for name in ("data", "head", "out"))
        data.write_bytes(body.encode() if isinstance(body, str) else body)
        out.write_bytes(b"")
        arguments = [program("curl"), "-s", "-S", "-g", "--path-as-is", "--digest", "-m", "20"]
        arguments += ["-u", self._user, "-X", method, "-D", str(head), "-o", str(out), *more]
        if method == "PUT":
            arguments += ["--data-binary", f"@{data}"]
        subprocess.run([*arguments, self._root + path], check=True, timeout=30)
        # The last answer: the first one was the challenge.
        status, *lines = head.read_text().strip().split("\n\n")[-1].split("\n")
        pairs = [line.partition(":") for line in lines]
        self.headers = {name.lower(): value.strip() for name, _, value in pairs}
        self.body = out.read_bytes()
        return int(status.split()[1])

    def put(self, path: str, body: bytes | str, kind: str, *more: str) -> int:
        return self.ask("PUT", path, body, "-H", f"Content-Type: {kind}", *more)

    def get(self, path: str, *more: str) -> int:
        return self.ask("GET", path, b"", *more)


class XCAPTests(PBXTestCase):
    def test_contact_list(self) -> None:
        """Documents, elements, conditions; all there after kill -9."""
        pbx = self.pbx(users=["2001", "2002"])
        alice = Curl(pbx, "2001", self.folder)
        index = "resource-lists/users/sip:2001@pbx.test/index"
        self.assertEqual(alice.get("xcap-caps/global/index"), 200)
        self.assertIn(b"<auid>resource-lists</auid>", alice.body)
        self.assertEqual(alice.get(index), 404)
        self.assertEqual(alice.put(index, FRIENDS, LISTS), 201)
        tag = alice.headers["etag"]
        self.assertEqual((alice.get(index), alice.body.decode()), (200, FRIENDS))
        new = "/~~/resource-lists/list%5b@name=%22friends%22%5d/entry%5b@uri=%22sip:2003@pbx.test%22%5d"
        entry = '<entry uri="sip:2003@pbx.test"/>'
        self.assertEqual(alice.put(index + new, entry, ELEMENT, "-H", 'If-Match: "old"'), 412)
        self.assertEqual(alice.put(index + new, entry, ELEMENT, "-H", f"If-Match: {tag}"), 201)
        later = alice.headers["etag"]
        self.assertEqual(alice.get(index, "-H", f"If-None-Match: {later}"), 304)
        self.assertEqual(alice.get(index + new), 200)
        self.assertIn(b"sip:2003@pbx.test", alice.body)
        pbx.kill()
        pbx.start()
        alice = Curl(pbx, "2001", self.folder)
        self.assertEqual(alice.get(index), 200)
        self.assertEqual(alice.headers["etag"], later)
        self.assertIn(entry.encode(), alice.body)
        self.assertEqual(alice.ask("HEAD", index, b"", "-I"), 200)
        self.assertEqual(alice.ask("DELETE", index + new), 200)
        self.assertEqual(alice.ask("DELETE", index), 200)
        self.assertEqual(alice.get(index), 404)

    def test_strangers(self) -> None:
        pbx = self.pbx(users=["2001", "2002"])
        index = "resource-lists/users/sip:2001@pbx.test/index"
        self.assertEqual(Curl(pbx, "2001", self.folder).put(index, FRIENDS, LISTS), 201)
        self.assertEqual(Curl(pbx, "2002", self.folder).get(index), 403)
        self.assertEqual(Curl(pbx, "2001", self.folder, "wrong").get(index), 401)
        self.assertEqual(Curl(pbx, "2009", self.folder).get(index), 401)

    def test_bad_input(self) -> None:
        """Each a clear 4xx; what was there stays, and the PBX goes on."""
        pbx = self.pbx(users=["2001"])
        alice = Curl(pbx, "2001", self.folder)
        index = "resource-lists/users/sip:2001@pbx.test/index"
        self.assertEqual(alice.put(index, FRIENDS, LISTS), 201)
        many = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 10))
        bomb = f'<!DOCTYPE x [<!ENTITY a0 "boom">{many}]><x>&a9;</x>'
        for body, kind, status in (
            ("<resource-lists", LISTS, 409),
            (bomb, LISTS, 409),
            ('<!DOCTYPE x SYSTEM "http://127.0.0.1:1/x.dtd"><x/>', LISTS, 409),
            (FRIENDS.replace("ns:resource-lists", "ns:other"), LISTS, 409),
            (b"\xff\xfe\x00", LISTS, 409),
            ("<a>" * 20000, LISTS, 409),
            (FRIENDS, "text/plain", 415),
            (b" " * 100_000, LISTS, 413),
            (b" " * (1 << 20), LISTS, 413),
        ):
            self.assertEqual(alice.put(index, body, kind), status, (body[:60], kind))
        # Beyond what the HTTP site takes in at all.
        self.assertEqual(alice.put(index, b" " * ((1 << 20) + 1), LISTS), 413)
        self.assertEqual(alice.put(index, FRIENDS, LISTS, "-H", 'If-Match: "wrong"'), 412)
        self.assertEqual(alice.get(f"{index}/~~/a%5b"), 400)
        self.assertEqual(alice.ask("POST", index), 405)
        self.assertEqual((alice.get(index), alice.body.decode()), (200, FRIENDS))


class WatcherTests(PBXTestCase):
    """An XCAP client edits while watchers listen."""

    INDEX = "pres-rules/users/sip:2002@pbx.test/index"
    PIDF = (
        '<presence xmlns="urn:ietf:params:xml:ns:pidf" entity="sip:2002@pbx.test">'
        '<tuple id="a"><status><basic>open</basic></status></tuple></presence>'
    )

    def subscribe(self, phone: Phone, uri: str, status: int, *headers: tuple[str, str]) -> None:
        asked = phone.make("SUBSCRIBE", uri, headers=[("Event", "presence"), *headers])
        phone.authenticated(asked)
        phone.response(status)

    def told(self, phone: Phone) -> tuple[str, bytes]:
        """State and document of the next NOTIFY."""
        notify = next_notify(phone, 15)
        return (notify.get("subscription-state") or "").partition(";expires")[0], notify.body

    def test_rules(self) -> None:
        """A new rule, another handling, the rule taken away: told at once, over UDP and WebSocket."""
        pbx = self.pbx({"presence": {"force_active": False}}, users=["2001", "2002", "2003"])
        bob = Curl(pbx, "2002", self.folder)
        desk = self.phone(pbx, "2002")
        asked = desk.make("PUBLISH", desk.aor, headers=[("Event", "presence")])
        asked.set_body(self.PIDF.encode(), "application/pidf+xml")
        desk.authenticated(asked)
        desk.response(200)
        alice, carol = self.phone(pbx, "2001"), self.phone(pbx, "2003", "ws")
        for phone in (alice, carol):
            self.subscribe(phone, "sip:2002@pbx.test", 202)
            self.assertEqual(self.told(phone), ("pending", b""))
        document = RULESET.format(
            RULE.format("2001", "allow") + RULE.format("2003", "polite-block")
        )
        self.assertEqual(bob.put(self.INDEX, document, RULES), 201)
        self.assertEqual(self.told(alice), ("active", self.PIDF.encode()))
        state, body = self.told(carol)
        self.assertEqual(state, "active")
        self.assertIn(b"closed", body)
        prefix = "?xmlns(cr=urn:ietf:params:xml:ns:common-policy)"
        rule = f"{self.INDEX}/~~/cr:ruleset/cr:rule%5b@id=%22{{}}%22%5d"
        handling = rule.format("2003") + f"/cr:actions/sub-handling{prefix}"
        self.assertEqual(bob.put(handling, "<sub-handling>allow</sub-handling>", ELEMENT), 200)
        self.assertEqual(self.told(carol), ("active", self.PIDF.encode()))
        self.assertEqual(bob.ask("DELETE", rule.format("2003") + prefix), 200)
        self.assertEqual(self.told(carol), ("pending", b""))
        handling = rule.format("2001") + f"/cr:actions/sub-handling{prefix}"
        self.assertEqual(bob.put(handling, "<sub-handling>block</sub-handling>", ELEMENT), 200)
        self.assertEqual(self.told(alice), ("terminated;reason=rejected", b""))
        self.assertEqual(bob.put(handling, "<sub-handling>maybe</sub-handling>", ELEMENT), 409)
        self.subscribe(alice, "sip:2002@pbx.test", 403)
        self.assertTrue(carol.silent(1.5), carol.history())

    def test_list(self) -> None:
        """A watcher of a list sees who is added to it."""
        pbx = self.pbx(users=["2001", "2002"])
        alice, client = self.phone(pbx, "2001", "tcp"), Curl(pbx, "2001", self.folder)
        index = "rls-services/users/sip:2001@pbx.test/index"
        document = (
            '<rls-services xmlns="urn:ietf:params:xml:ns:rls-services"'
            ' xmlns:rl="urn:ietf:params:xml:ns:resource-lists"><service uri="sip:team@pbx.test">'
            '<list><rl:entry uri="sip:2002@pbx.test"/></list></service></rls-services>'
        )
        self.assertEqual(client.put(index, document, "application/rls-services+xml"), 201)
        self.subscribe(alice, "sip:team@pbx.test", 421)
        self.subscribe(alice, "sip:team@pbx.test", 200, ("Supported", "eventlist"))
        _, body = self.told(alice)
        self.assertIn(b'<resource uri="sip:2002@pbx.test">', body)
        where = (
            f"{index}/~~/rls-services/service/list/rl:entry%5b@uri=%22sip:2001@pbx.test%22%5d"
            "?xmlns(rl=urn:ietf:params:xml:ns:resource-lists)"
        )
        self.assertEqual(client.put(where, '<rl:entry uri="sip:2001@pbx.test"/>', ELEMENT), 201)
        _, body = self.told(alice)
        self.assertIn(b'fullState="true"', body)
        self.assertIn(b'<resource uri="sip:2001@pbx.test">', body)
