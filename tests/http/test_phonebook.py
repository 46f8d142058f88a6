"""Directory, history and ICE servers of who is logged in."""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Any

from twisted.internet.defer import Deferred, fail

from pbx.config import ConfigError
from pbx.errors import DatabaseError, Kind
from tests.http.web_case import NOW, WebTestCase


class AboutTests(WebTestCase):
    def test_without_log_in(self) -> None:
        found = self.ask("GET", "/api/site").json()
        found.pop("version")
        self.assertEqual(
            found, {"name": "pbx.test", "domain": "pbx.test", "sip": "/sip", "engine": "none"}
        )

    def test_what_needs_log_in(self) -> None:
        for path in ("me", "ice", "directory", "history"):
            answer = self.ask("GET", f"/api/{path}")
            self.assertEqual((answer.status, answer.json()["error"]), (401, "not_logged_in"), path)


class DirectoryTests(WebTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.add("1003", name="Bob  Müller")
        self.add("a b", name="Odd")
        self.add("1001", "other.test", name="Stranger")
        self.use()

    def found(self, query: str = "", user: str = "1001") -> list[str]:
        answer = self.ask("GET", f"/api/directory{query}", self.cookie(user))
        self.assertEqual(answer.status, 200, answer.body)
        return [entry["user"] for entry in answer.json()]

    def test_colleagues(self) -> None:
        """Of the domain, without oneself, names as they are, and who has a phone now."""
        self.online.add("1003")
        answer = self.ask("GET", "/api/directory", self.cookie())
        self.assertEqual(
            answer.json(),
            [
                {"user": "1002", "name": "1002", "uri": "sip:1002@pbx.test", "online": False},
                {"user": "1003", "name": "Bob Müller", "uri": "sip:1003@pbx.test", "online": True},
                {"user": "a b", "name": "Odd", "uri": "sip:a%20b@pbx.test", "online": False},
            ],
        )
        self.assertEqual(self.found(user="1002"), ["1001", "1003", "a b"])
        self.assertEqual(self.found(user="1001@other.test"), [])

    def test_search(self) -> None:
        """In number and name, whatever the case."""
        self.assertEqual(self.found("?q=M%C3%9CL"), ["1003"])
        self.assertEqual(self.found("?q=100"), ["1002", "1003"])
        self.assertEqual(self.found("?q=%25"), [])
        self.assertEqual(self.found("?limit=1"), ["1002"])

    def test_bad_arguments(self) -> None:
        for query in ("limit=0", "limit=x", "limit=-1", "limit=9999999", "q=%FF", f"q={'x' * 65}"):
            answer = self.ask("GET", f"/api/directory?{query}", self.cookie())
            self.assertEqual((answer.status, answer.json()["error"]), (400, "bad_value"), query)

    def test_new_name(self) -> None:
        """As provisioning writes it."""
        self.sql("UPDATE usr_preferences SET value = 'Robert' WHERE username = '1003'")
        self.done(self.subscribers.reload())
        self.assertEqual(self.found("?q=robert"), ["1003"])
        self.assertEqual(self.found("?q=m%C3%BCller"), [])


class HistoryTests(WebTestCase):
    def call(self, did: str, caller: str, callee: str, at: float, **more: Any) -> None:
        """A row of pbx_cdr."""
        row: dict[str, Any] = {
            "did": did,
            "correlation": did,
            "main": 1,
            "call_id": f"id-{did}",
            "caller": caller,
            "callee": callee,
            "caller_domain": "pbx.test",
            "callee_domain": "pbx.test",
            "start_time": "2026-01-01 00:00:00",
            "end_time": "2026-01-01 00:00:00",
            "started": NOW + at,
            "answered": NOW + at + 2,
            "ended": NOW + at + 12.5,
            "disposition": "answered",
            **more,
        }
        names, marks = ", ".join(row), ", ".join("?" * len(row))
        self.sql(f"INSERT INTO pbx_cdr ({names}) VALUES ({marks})", tuple(row.values()))

    def history(self, query: str = "", user: str = "1001") -> list[Any]:
        answer = self.ask("GET", f"/api/history{query}", self.cookie(user))
        self.assertEqual(answer.status, 200, answer.body)
        found: list[Any] = answer.json()
        return found

    def ids(self, query: str = "", user: str = "1001") -> list[str]:
        return [entry["id"] for entry in self.history(query, user)]

    def test_both_directions(self) -> None:
        """Newest first, with the names of colleagues, or what a stranger calls himself."""
        self.call("a", "1001", "1002", 0)
        self.call("b", "1002", "1001", 10, answered=0, disposition="missed", sip_code=480)
        self.call("c", "004912345", "1001", 20, caller_name="Mum", caller_domain="gw.test")
        self.call("d", "1002", "1003", 30)
        newest = self.history()
        self.assertEqual([entry["id"] for entry in newest], ["c", "b", "a"])
        self.assertEqual(
            newest[0],
            {
                "id": "c",
                "direction": "in",
                "peer": "004912345",
                "peer_name": "Mum",
                "start": "2026-09-21T14:13:40Z",
                "answered": True,
                "duration": 10.5,
                "disposition": "answered",
            },
        )
        shown = [(entry["direction"], entry["answered"], entry["disposition"]) for entry in newest]
        self.assertEqual(shown[1:], [("in", False, "missed"), ("out", True, "answered")])
        self.assertEqual(newest[1]["duration"], 0)
        other = self.history(user="1002")
        self.assertEqual(
            [entry["peer_name"] for entry in other], ["", "Alice Liddell", "Alice Liddell"]
        )

    def test_pages(self) -> None:
        """Each begins where the one before ended, also among calls of one second."""
        for number in range(7):
            self.call(f"c{number}", *(("1001", "1002") if number % 2 else ("1002", "1001")), 5.0)
        self.call("old", "1001", "1002", 0)
        first = self.ids("?limit=3")
        second = self.ids(f"?limit=3&before={first[-1]}")
        third = self.ids(f"?limit=3&before={second[-1]}")
        self.assertEqual(first + second + third, ["c6", "c5", "c4", "c3", "c2", "c1", "c0", "old"])
        self.assertEqual(self.ids("?before=nonsense"), [])

    def test_call_through_a_node(self) -> None:
        """Two legs are one call; the second tells who answered."""
        self.call("m", "1001", "1002", 0)
        self.call("n", "1001", "1002", 1, correlation="m", main=0, answered=NOW + 6)
        (found,) = self.history()
        self.assertEqual((found["id"], found["duration"]), ("m", 6.5))

    def test_other_domains(self) -> None:
        """1001 of another domain is somebody else; an address of ours means the domain."""
        self.add("1001", "other.test")
        self.sql("INSERT INTO domain (domain) VALUES ('other.test')")
        self.call("a", "1001", "1002", 0)
        self.call("b", "1001", "1002", 1, caller_domain="other.test", callee_domain="other.test")
        self.call("c", "1001", "1002", 2, caller_domain="192.0.2.1")
        self.use()
        self.assertEqual(self.ids(), ["c", "a"])
        self.assertEqual(self.ids(user="1001@other.test"), ["b"])

    def test_call_to_oneself(self) -> None:
        self.call("s", "1001", "1001", 0)
        self.assertEqual(
            [(found["id"], found["direction"]) for found in self.history()], [("s", "out")]
        )


class DatabaseTests(WebTestCase):
    def test_database_that_does_not_answer(self) -> None:
        """Names go on from memory, the history says so, and so do links."""
        cookie = self.cookie()

        def query(sql: str, params: object = ()) -> Deferred[Any]:
            return fail(DatabaseError(Kind.UNAVAILABLE, "gone"))

        self.patch(self.database, "query", query)
        for path, status in (("history", 503), ("directory", 200), ("me", 200)):
            answer = self.ask("GET", f"/api/{path}", cookie)
            self.assertEqual(answer.status, status, path)
        answer = self.ask("GET", "/api/history", cookie)
        self.assertEqual(answer.json()["error"], "unavailable")
        self.assertIn("retry-after", answer.headers)
        self.assertEqual(self.log_in("1002").status, 200)
        self.assertEqual(self.post("/api/login", {"token": "x"}).status, 503)


class IceTests(WebTestCase):
    def test_nothing_configured(self) -> None:
        found = self.ask("GET", "/api/ice", self.cookie()).json()
        self.assertEqual(found, {"iceServers": [], "ttl": 3600})

    def test_credentials(self) -> None:
        """time:user, HMAC-SHA1 of it with the secret of the file, base64: what coturn checks."""
        (self.folder / "secret").write_text("0123456789abcdef0123\n")
        turn = ["turn:turn.test:3478?transport=udp", "turns:turn.test:5349"]
        ice = {"stun": ["stun:turn.test"], "turn": turn, "secret_file": "secret", "ttl": 600}
        self.use(ice=ice)
        found = self.ask("GET", "/api/ice", self.cookie()).json()
        name = f"{int(NOW) + 600}:1001@pbx.test"
        right = hmac.new(b"0123456789abcdef0123", name.encode(), hashlib.sha1).digest()
        self.assertEqual(found["ttl"], 600)
        self.assertEqual(found["iceServers"][0], {"urls": ["stun:turn.test"]})
        server = found["iceServers"][1]
        self.assertEqual((server["urls"], server["username"]), (turn, name))
        self.assertEqual(base64.b64decode(server["credential"]), right)

    def test_faults(self) -> None:
        """Found when the PBX is built."""
        (self.folder / "short").write_text("x\n")
        turn = ["turn:turn.test"]
        for table in (
            {"stun": ["turn.test"]},
            {"stun": ["turn:turn.test"]},
            {"turn": turn},
            {"turn": ["turn://turn.test"], "secret_file": "short"},
            {"turn": turn, "secret_file": "none"},
            {"turn": turn, "secret_file": "short"},
            {"ttl": 5},
        ):
            with self.assertRaises(ConfigError, msg=str(table)):
                self.use(ice=table)
