"""Two and three PBX nodes on one PostgreSQL and Redis."""

from __future__ import annotations

import signal
import socket
import time
from functools import partial

from tests.integration.cluster_case import ClusterCase, Node
from tests.integration.harness import until
from tests.integration.phone import Datagrams, Dialog, Phone, exchange


def answers_to(phone: Phone, node: Node) -> None:
    """What a UDP phone sends goes to this node from now on."""
    assert isinstance(phone.way, Datagrams)
    phone.way.peer = (node.host, node.ports["udp"])


class ClusterCallTests(ClusterCase):
    """A phone registered at node a is called through node b."""

    def call(self, caller: Phone, callee: Phone) -> tuple[Dialog, Dialog]:
        """A call that stands: both sides of it."""
        invite = caller.invite(callee.user)
        called = callee.answer(callee.request("INVITE"))
        calling = caller.called(invite, caller.response(200))
        callee.request("ACK")
        return calling, called

    def check_calls(self, kind: str) -> None:
        a, b = self.two("alice", "bob")
        bob = self.registered_at(a, "bob", kind)
        alice = self.registered_at(b, "alice")
        calling, called = self.call(alice, bob)
        exchange(alice, calling, bob, "INVITE")
        exchange(bob, called, alice, "INVITE")
        exchange(bob, called, alice, "UPDATE")
        exchange(alice, calling, bob, "BYE")
        calling, called = self.call(bob, alice)
        exchange(bob, calling, alice, "INVITE")
        exchange(alice, called, bob, "BYE")
        calling, called = self.call(alice, bob)
        exchange(bob, called, alice, "BYE")
        for node in (a, b):
            self.assertEqual(node.statistic("dialog:active_dialogs"), 0)
        # b's two calls passed a, and a's one passed b; each is written once.
        query = "SELECT method, count(*) FROM acc GROUP BY method ORDER BY method"
        until(lambda: a.sql(query) == [("BYE", "3"), ("INVITE", "3")], "acc rows", 10)
        self.assertEqual(a.sql("SELECT count(*) FROM pbx_cdr"), [("3",)])
        self.assertEqual(
            (a.statistic("cluster:delivered"), b.statistic("cluster:delivered")), (2, 1)
        )

    def test_udp_phone(self) -> None:
        """Through its node, whose hole in the NAT is the only one."""
        self.check_calls("udp")

    def test_tcp_phone(self) -> None:
        """Its node uses the connection (RFC 5626)."""
        self.check_calls("tcp")

    def test_browser(self) -> None:
        """Nothing but the connection of its node leads to a browser."""
        self.check_calls("ws")

    def test_cancel_and_refusal(self) -> None:
        """CANCEL and final responses pass both nodes."""
        a, b = self.two("alice", "bob")
        bob = self.registered_at(a, "bob", "tcp")
        alice = self.registered_at(b, "alice")
        invite = alice.invite("bob")
        at_bob = bob.request("INVITE")
        bob.ring(at_bob)
        alice.response(180)
        alice.cancel(invite)
        self.assertEqual(alice.response(200).cseq.method, "CANCEL")
        bob.respond(bob.request("CANCEL"), 200)
        bob.respond(at_bob, 487)
        bob.request("ACK")
        alice.acknowledge(invite, alice.response(487))
        alice.invite("bob")
        bob.respond(bob.request("INVITE"), 486)
        alice.response(486)

    def test_message(self) -> None:
        a, b = self.two("alice", "bob")
        bob = self.registered_at(a, "bob", "ws")
        alice = self.registered_at(b, "alice")
        alice.authenticated(alice.make("MESSAGE", "sip:bob@pbx.test", body="hello"))
        bob.respond(bob.request("MESSAGE"), 200)
        alice.response(200)


class ClusterRegistrationTests(ClusterCase):
    """What each node knows of the others' phones."""

    def test_phone_moves(self) -> None:
        """The node of the last REGISTER owns the binding, and the row says so."""
        a, b = self.two("bob")
        bob = self.registered_at(a, "bob")
        row = "SELECT pbx_node, count(*) OVER () FROM location"
        until(lambda: a.sql(row) == [("a", "1")], "the row", 5)
        self.assertEqual(self.contacts(b, "bob")[0]["Node"], "a")
        self.assertNotIn("Node", self.contacts(a, "bob")[0])
        answers_to(bob, b)
        bob.register()
        until(lambda: self.contacts(a, "bob")[0].get("Node") == "b", "a knows", 5)
        until(lambda: a.sql(row) == [("b", "1")], "the row", 5)
        time.sleep(1)
        self.assertEqual(a.sql(row), [("b", "1")])
        bob.register(expires=0)
        until(lambda: not self.contacts(a, "bob"), "a knows", 5)
        until(lambda: a.sql(row) == [], "the row", 5)

    def test_password_change_reaches_all(self) -> None:
        """Within 5 s on every node."""
        a, b = self.two("bob")
        self.postgres.sql("UPDATE subscriber SET password = 'other'", self.database)

        def locked_out(node: Node) -> bool:
            phone = self.phone_at(node, "bob")
            contact = [("Contact", f"<{phone.contact}>")]
            made = phone.make("REGISTER", "sip:pbx.test", to=phone.aor, headers=contact)
            phone.authenticated(made)
            status = getattr(phone.receive(), "status", 0)
            return bool(status == 401)

        for node in (a, b):
            until(partial(locked_out, node), "the old password is refused", 5)

    def test_new_node_knows_everything(self) -> None:
        """From the table; and what was removed while it was away is gone."""
        a, b = self.two("alice", "bob")
        self.registered_at(a, "bob", "tcp")
        alice = self.registered_at(b, "alice")
        until(lambda: a.sql("SELECT count(*) FROM location") == [("2",)], "the rows", 5)
        c = self.node("c")
        self.acquainted(a, b, c)
        self.assertEqual(self.contacts(c, "bob")[0]["Node"], "a")
        self.assertEqual(self.contacts(c, "alice")[0]["Node"], "b")
        alice.register(expires=0)
        until(lambda: not self.contacts(c, "alice"), "c knows", 5)


class ClusterDeathTests(ClusterCase):
    """kill -9 of a node."""

    def test_udp_phone_of_a_dead_node(self) -> None:
        """Is reachable through the survivors within 5 s; a browser is not, at once."""
        a, b = self.two("alice", "bob", "carol")
        bob = self.registered_at(a, "bob")
        self.registered_at(a, "carol", "ws")
        alice = self.registered_at(b, "alice")
        a.kill()
        killed = time.monotonic()
        until(lambda: "a" not in self.living(b), "b notices", 5)
        answers_to(bob, b)
        invite = alice.invite("bob")
        bob.respond(bob.request("INVITE"), 486)
        alice.acknowledge(invite, alice.response(486))
        self.assertLess(time.monotonic() - killed, 5.0)
        asked = time.monotonic()
        alice.invite("carol")
        alice.response(480)
        self.assertLess(time.monotonic() - asked, 2.0)
        health = b.mi("status")["health"]
        self.assertEqual(health["status"], "degraded")
        self.assertIn("node a does not answer", str(health))
        a.start()
        until(lambda: "a" in self.living(b), "a is back", 10)
        until(lambda: b.mi("status")["health"]["status"] == "ok", "healthy", 10)

    def test_other_nodes_keep_their_calls(self) -> None:
        """A call of b's phones goes on; a stopped node is not missed for even a second."""
        a, b = self.two("alice", "bob")
        alice, bob = self.registered_at(b, "alice"), self.registered_at(b, "bob")
        invite = alice.invite("bob")
        called = bob.answer(bob.request("INVITE"))
        calling = alice.called(invite, alice.response(200))
        bob.request("ACK")
        a.kill()
        exchange(alice, calling, bob, "INVITE")
        until(lambda: "a" not in self.living(b), "b notices", 5)
        exchange(bob, called, alice, "INVITE")
        exchange(bob, called, alice, "BYE")
        self.assertEqual(b.statistic("dialog:active_dialogs"), 0)

    def test_stopped_node_says_so(self) -> None:
        """No waiting for a heartbeat, and nothing is degraded."""
        a, b = self.two()
        a.stop()
        until(lambda: not self.living(b), "b knows", 2)
        self.assertEqual(b.mi("status")["health"]["status"], "ok")

    def test_calls_of_a_dead_node_go_on(self) -> None:
        """Its address moves to the survivor, which routes by Record-Route and took over the call:
        the BYE ends it, with a cdr.
        """
        a, b = self.two("alice", "bob")
        alice, bob = self.registered_at(a, "alice"), self.registered_at(a, "bob")
        invite = alice.invite("bob")
        called = bob.answer(bob.request("INVITE"))
        calling = alice.called(invite, alice.response(200))
        bob.request("ACK")
        until(lambda: b.sql("SELECT count(*) FROM dialog WHERE state = 4") == [("1",)], "row", 5)
        place, port = a.host, a.ports["udp"]
        a.kill()
        until(lambda: b.statistic("dialog:active_dialogs") == 1, "b takes the call over", 8)
        # As with a virtual address: somebody else answers there now, here a third node.
        c = self.node("c", host=place, listen=[f"udp:{place}:{port}"])
        self.acquainted(b, c)
        exchange(alice, calling, bob, "INVITE")
        exchange(bob, called, alice, "BYE")
        until(lambda: b.statistic("dialog:active_dialogs") == 0, "b hears of the BYE", 5)
        until(lambda: b.sql("SELECT ended_by FROM pbx_cdr") == [("callee",)], "the cdr", 5)
        until(lambda: b.sql("SELECT count(*) FROM dialog") == [("0",)], "no row is left", 5)
        query = "SELECT method, count(*) FROM acc GROUP BY method ORDER BY method"
        until(lambda: b.sql(query) == [("BYE", "1"), ("INVITE", "1")], "acc", 5)

    def test_paused_node_comes_back(self) -> None:
        """It was only slow: its phones are its own again."""
        a, b = self.two("alice", "bob")
        bob = self.registered_at(a, "bob", "tcp")
        alice = self.registered_at(b, "alice")
        assert a.process is not None
        a.process.popen.send_signal(signal.SIGSTOP)
        try:
            until(lambda: "a" not in self.living(b), "b notices", 8)
        finally:
            a.process.popen.send_signal(signal.SIGCONT)
        until(lambda: "a" in self.living(b) and "b" in self.living(a), "they meet", 8)
        alice.invite("bob")
        bob.respond(bob.request("INVITE"), 486)
        alice.response(486)


class ClusterSecurityTests(ClusterCase):
    """The way between nodes is for nodes."""

    def test_stolen_route(self) -> None:
        """A Route that a node made is worth nothing to anybody else, nor is a made-up one."""
        a, b = self.two("alice", "bob")
        bob = self.registered_at(a, "bob", "tcp")
        alice = self.registered_at(b, "alice")
        alice.invite("bob")
        via_b = bob.request("INVITE")
        bob.respond(via_b, 486)
        alice.response(486)
        bob.request("ACK")
        stranger = self.phone_at(a, "mallory")
        (contact,) = self.contacts(a, "bob")
        number = f"{int(contact['ContactID']):x}"
        for user in (
            f"pbx-node.{number}.Ym9iQHBieC50ZXN0.{'0' * 24}",
            "pbx-node.",
            "pbx-node.x.y.z",
        ):
            route = [("Route", f"<sip:{user}@{a.host}:{a.ports['udp']};lr>")]
            made = stranger.make("INVITE", contact["Contact"], headers=route)
            stranger.send(made)
            refused = stranger.response(403)
            self.assertEqual(refused.reason, "Not A Node")
            stranger.acknowledge(made, refused)
        self.assertTrue(bob.silent())
        self.assertEqual(a.statistic("cluster:refused"), 3)

    def test_right_address_wrong_signature(self) -> None:
        """Also from the address of a node: it takes the secret of all nodes."""
        a, b = self.two("bob")
        self.registered_at(a, "bob", "tcp")
        place, port = b.host, b.ports["udp"]
        b.process.popen.send_signal(signal.SIGSTOP)  # type: ignore[union-attr]
        raw = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self.addCleanup(raw.close)
        self.addCleanup(lambda: b.process.popen.send_signal(signal.SIGCONT))  # type: ignore[union-attr]
        try:
            raw.bind((place, port))
        except OSError:
            # The listener does not share its port, as it should be: TCP is told apart by address.
            raw.close()
            raw = socket.create_connection((a.host, a.ports["tcp"]), source_address=(place, 0))
            self.addCleanup(raw.close)
        else:
            raw.connect((a.host, a.ports["udp"]))
        user = f"pbx-node.1.Ym9iQHBieC50ZXN0.{'0' * 24}"
        raw.sendall(
            (
                f"OPTIONS sip:bob@pbx.test SIP/2.0\r\nVia: SIP/2.0/TCP {place}:{port};branch=z9hG4bK1\r\n"
                f"Route: <sip:{user}@{a.host}:{a.ports['tcp']};transport=tcp;lr>\r\n"
                "From: <sip:x@pbx.test>;tag=1\r\nTo: <sip:bob@pbx.test>\r\nCall-ID: 1\r\n"
                "CSeq: 1 OPTIONS\r\nMax-Forwards: 9\r\nContent-Length: 0\r\n\r\n"
            ).encode()
        )
        raw.settimeout(5)
        self.assertIn(b"403 Not A Node", raw.recv(4096))


class WithoutRedisTests(ClusterCase):
    """News travel by NOTIFY of PostgreSQL when there is no Redis."""

    redis = False

    def test_call_and_death(self) -> None:
        a, b = self.two("alice", "bob")
        bob = self.registered_at(a, "bob")
        alice = self.registered_at(b, "alice")
        invite = alice.invite("bob")
        bob.respond(bob.request("INVITE"), 486)
        alice.acknowledge(invite, alice.response(486))
        bob.request("ACK")
        a.kill()
        killed = time.monotonic()
        until(lambda: "a" not in self.living(b), "b notices", 5)
        answers_to(bob, b)
        alice.invite("bob")
        bob.respond(bob.request("INVITE"), 486)
        self.assertLess(time.monotonic() - killed, 5.0)
