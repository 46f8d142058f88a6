from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from pbx.commands import CommandFailed
from tests.services.registrar_case import AOR, PHONE, RegistrarTestCase, browser_flow


class CommandTests(RegistrarTestCase):
    """Spec 40, usrloc."""

    def call(self, name: str, **parameters: object) -> Any:
        for command, recipes, function in self.registrar.commands():
            if command == name:
                self.assertIn(set(parameters), [set(recipe) for recipe in recipes])
                result = function(**parameters)
                return self.done(result) if isinstance(result, Awaitable) else result
        raise AssertionError(f"no command {name}")

    def fault(self, name: str, **parameters: object) -> tuple[int, str]:
        error = self.assertRaises(CommandFailed, self.call, name, **parameters)
        assert isinstance(error, CommandFailed)
        return error.code, error.message

    def test_contact(self) -> None:
        """The live sample of spec 40."""
        headers = "User-Agent: X/1\nAllow: INVITE, ACK, MESSAGE"
        self.register("<sip:1001@10.0.0.5:5060>;expires=300;q=0.5", headers, nat=True, cseq=2)
        [(contact_id,)] = self.rows("contact_id")
        self.assertEqual(
            self.call("ul_show_contact", table_name="location", aor=AOR),
            {
                "AOR": AOR,
                "Contacts": [
                    {
                        "Contact": "sip:1001@10.0.0.5:5060",
                        "ContactID": str(contact_id),
                        "Expires": 300,
                        "Q": "0.5",
                        "Callid": "call-1",
                        "Cseq": 2,
                        "User-agent": "X/1",
                        "Received": "sip:192.0.2.50:5060",
                        "State": "CS_NEW",
                        "Flags": 0,
                        "Cflags": "NAT",
                        "Socket": "udp:192.0.2.1:5060",
                        "Methods": 261,
                    }
                ],
            },
        )

    def test_contact_that_says_little(self) -> None:
        self.register()
        [contact] = self.call("ul_show_contact", table_name="location", aor=AOR)["Contacts"]
        self.assertEqual(contact["Q"], "")
        self.assertEqual(contact["User-agent"], "n/a")
        self.assertEqual(contact["Methods"], 4294967295)
        self.assertNotIn("Received", contact)

    def test_state(self) -> None:
        def state() -> object:
            return self.registrar.bindings(AOR)[0]["State"]

        self.register()
        self.assertEqual(state(), "CS_NEW")
        self.clock.advance(3)
        self.assertEqual(state(), "CS_SYNC")
        self.register()
        self.assertEqual(state(), "CS_DIRTY")

    def test_optional_members(self) -> None:
        self.browser(browser_flow())
        [contact] = self.registrar.bindings()
        self.assertEqual(contact["AOR"], AOR)
        self.assertEqual(contact["SIP_instance"], "<urn:uuid:b>")
        self.assertEqual(contact["KV-Store"], '{"reg-id": 1}')

    def test_dump(self) -> None:
        self.assertEqual(
            self.call("ul_dump"),
            {"Domains": [{"name": "location", "hash_size": 512, "AORs": []}]},
        )
        self.register()
        [aor] = self.call("ul_dump")["Domains"][0]["AORs"]
        self.assertEqual((aor["AOR"], aor["Contacts"][0]["Contact"]), (AOR, PHONE))
        self.assertEqual(self.call("ul_dump", brief="1")["Domains"][0]["AORs"], [{"AOR": AOR}])

    def test_faults(self) -> None:
        for name in ("ul_show_contact", "ul_rm"):
            self.assertEqual(
                self.fault(name, table_name="other", aor=AOR), (404, "Table not found")
            )
            self.assertEqual(
                self.fault(name, table_name="location", aor="1001"),
                (400, "Domain missing in AOR"),
            )
            self.assertEqual(
                self.fault(name, table_name="location", aor=AOR), (404, "AOR not found")
            )

    def add(self, **changed: str) -> Any:
        parameters = {
            "table_name": "location",
            "aor": AOR,
            "contact": PHONE,
            "expires": "600",
            "q": "0.5",
            "flags": "0",
            "cflags": "0",
            "methods": "32767",
        }
        return self.call("ul_add", **{**parameters, **changed})

    def test_add(self) -> None:
        self.assertEqual(self.add(), "OK")
        self.assertEqual(self.add(cflags="NAT"), "OK")
        [target] = self.lookup()
        self.assertEqual((str(target.uri), target.q), (PHONE, 0.5))
        self.assertEqual(len(self.rows()), 1)
        self.clock.advance(601)
        self.assertEqual(self.contacts(), [])

    def test_add_for_ever(self) -> None:
        self.add(expires="0", methods="1")
        self.assertEqual(self.rows("expires, methods"), [(0, 1)])
        self.clock.advance(10_000_000)
        self.assertEqual(self.contacts(), [PHONE])
        self.assertEqual(self.contacts(method="MESSAGE"), [])

    def test_add_nonsense(self) -> None:
        for changed in (
            {"expires": "soon"},
            {"q": "2"},
            {"methods": "x"},
            {"flags": "x"},
            {"contact": "nothing"},
            {"expires": "-1"},
        ):
            error = self.assertRaises(CommandFailed, self.add, **changed)
            self.assertEqual(str(error), "Bad parameter value")
        self.assertEqual(self.contacts(), [])

    def test_remove(self) -> None:
        self.register()
        self.register("<sip:other@192.0.2.51>", call_id="2")
        rest = {"table_name": "location", "aor": AOR}
        self.assertEqual(
            self.fault("ul_rm_contact", **rest, contact="sip:x@y"), (404, "Contact not found")
        )
        self.assertEqual(self.call("ul_rm_contact", **rest, contact=PHONE), "OK")
        self.assertEqual(self.contacts(), ["sip:other@192.0.2.51"])
        self.assertEqual(self.call("ul_rm", **rest), "OK")
        self.assertEqual(self.contacts(), [])
        self.assertEqual(self.fault("ul_rm_contact", **rest, contact=PHONE), (404, "AOR not found"))

    def test_flush(self) -> None:
        self.register()
        self.assertEqual(self.call("ul_flush"), "OK")
        self.assertEqual(len(self.done(self.database.query("SELECT 1 FROM location"))), 1)

    def test_sync_writes_what_somebody_deleted(self) -> None:
        self.register()
        self.rows()
        self.done(self.database.execute("DELETE FROM location"))
        self.assertEqual(self.rows(), [])
        self.assertEqual(self.call("ul_sync", table_name="location"), "OK")
        self.assertEqual(len(self.rows()), 1)
        self.assertEqual(
            self.fault("ul_sync", table_name="location", aor="9@pbx.test"), (404, "AOR not found")
        )
        self.use(db_mode=3)
        self.assertEqual(
            self.fault("ul_sync", table_name="location"), (200, "Contacts already synced")
        )

    def test_no_cluster(self) -> None:
        self.assertEqual(self.fault("ul_cluster_sync"), (400, "Clustering not enabled"))
