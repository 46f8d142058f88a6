"""kill -9 and a start on the same ports and database: calls, bindings and nonces go on."""

from __future__ import annotations

import time

from tests.integration.harness import PBX, PBXTestCase, until
from tests.integration.phone import exchange
from tests.integration.test_calls_freeswitch import FreeSWITCHTestCase

INTERVAL = 0.2


def restart(pbx: PBX) -> None:
    """kill -9 as soon as the last change must be written."""
    time.sleep(3 * INTERVAL)
    pbx.tables["sip"]["listen"] = [f"{kind}:127.0.0.1:{port}" for kind, port in pbx.ports.items()]
    pbx.write_config()
    pbx.kill()
    pbx.start()


class RestartTests(PBXTestCase):
    def test_binding_survives(self) -> None:
        pbx = self.pbx(users=("alice", "bob"))
        alice = self.registered(pbx, "alice")
        bob = self.registered(pbx, "bob")
        restart(pbx)
        alice.invite("bob")
        bob.respond(bob.request("INVITE"), 486)
        alice.response(486)

    def test_direct_call_survives(self) -> None:
        """re-INVITE and BYE pass both ways, and the cdr row is one whole."""
        pbx = self.pbx(users=("alice", "bob"))
        alice = self.registered(pbx, "alice")
        bob = self.registered(pbx, "bob")
        invite = alice.invite("bob")
        called = bob.answer(bob.request("INVITE"))
        calling = alice.called(invite, alice.response(200))
        bob.request("ACK")
        restart(pbx)
        self.assertEqual(pbx.statistic("dialog:active_dialogs"), 1)
        exchange(alice, calling, bob, "INVITE")
        exchange(bob, called, alice, "INVITE")
        exchange(bob, called, alice, "BYE")
        self.assertEqual(pbx.statistic("dialog:active_dialogs"), 0)
        until(lambda: pbx.sql("SELECT 1 FROM cdr"), "the cdr", 5)
        query = "SELECT caller, callee, disposition, ended_by FROM cdr"
        self.assertEqual(pbx.sql(query), [("alice", "bob", "answered", "callee")])

    def test_nonce_survives(self) -> None:
        """Credentials for a nonce of the last run are accepted, with the next nonce count."""
        pbx = self.pbx(users=("alice",))
        alice = self.phone(pbx, "alice")
        headers = [("Contact", f"<{alice.contact}>"), ("Expires", "600")]
        request = alice.make("REGISTER", "sip:pbx.test", to=alice.aor, headers=headers)
        alice.send(request)
        challenge = alice.response(401).get("www-authenticate") or ""

        def again(count: int) -> None:
            copy = request.copy()
            copy.set("via", alice.via())
            copy.set("cseq", f"{1 + count} REGISTER")
            copy.append("authorization", alice.credentials(challenge, request, count))
            alice.send(copy)

        again(1)
        alice.response(200)
        restart(pbx)
        again(2)
        alice.response(200)


class RestartWithNodesTests(FreeSWITCHTestCase):
    def test_calls_through_nodes_survive(self) -> None:
        """The balancer counts them again, and forgets them with their BYE."""
        alice = self.registered(self.server, "alice")
        bob = self.registered(self.server, "bob")
        calls = [self.connect(alice, bob) for _ in range(3)]
        before = self.loads()
        self.assertEqual(sorted(before), [1, 2])
        restart(self.server)
        until(lambda: len(self.server.load()) == 4, "the nodes are known", 6)
        self.assertEqual(self.loads(), before)
        alice.send(alice.within(calls[0][0], "UPDATE"))
        alice.response(200)
        for first, _ in calls[:2]:
            self.hang_up(alice, first, bob)
        self.hang_up(bob, calls[2][1], alice)
        until(lambda: self.loads() == [0, 0], f"no load: {self.loads()}", 5)
        query = "SELECT legs, disposition, ended_by FROM cdr ORDER BY started"
        until(lambda: len(self.server.sql(query)) == 3, "three rows", 5)
        rows = self.server.sql(query)
        self.assertEqual(rows, [(2, "answered", by) for by in ("caller", "caller", "callee")])
