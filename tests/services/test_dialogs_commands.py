"""The ``dlg_*`` and ``profile_*`` commands (spec 40)."""

from __future__ import annotations

from typing import Any

from pbx.commands import CommandFailed
from pbx.services.dialogs import DialogSettings
from tests.services.dialog_case import START, DialogCase


class CommandCase(DialogCase):
    def run_command(self, name: str, **params: Any) -> Any:
        return self.command(name)(**params)

    def refused(self, name: str, **params: Any) -> tuple[int, str]:
        error = self.assertRaises(CommandFailed, self.run_command, name, **params)
        return error.code, error.message


class ListTests(CommandCase):
    def test_every_call(self) -> None:
        call = self.talk()
        listed = self.run_command("dlg_list")
        self.assertEqual(listed["count"], 1)
        [shown] = listed["Dialogs"]
        for date in ("datestart", "dateout"):
            self.assertRegex(shown.pop(date), r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d$")
        self.assertEqual(
            shown,
            {
                "ID": call.did,
                "db_id": str(call.number),
                "state": 4,
                "user_flags": "",
                "timestart": int(START),
                "timeout": int(START) + 21600,
                "callid": "c1",
                "from_uri": "sip:1001@pbx.test",
                "to_uri": "sip:1002@pbx.test",
                "caller_tag": "a",
                "caller_contact": "sip:1001@192.0.2.50:5060",
                "callee_cseq": "0",
                "caller_route_set": "",
                "caller_bind_addr": "udp:192.0.2.1:5060",
                "caller_sdp": "",
                "caller_sent_sdp": "",
                "CALLEES": [
                    {
                        "callee_tag": "b",
                        "callee_contact": "sip:1002@192.0.2.60:5060",
                        "caller_cseq": "2",
                        "callee_route_set": "",
                        "callee_bind_addr": "udp:192.0.2.1:5060",
                        "callee_sdp": "",
                        "callee_sent_sdp": "",
                    }
                ],
            },
        )

    def test_one_call(self) -> None:
        self.begin()
        call = self.begin()
        for params in ({"callid": "c2"}, {"callid": "c2", "from_tag": "a"}):
            self.assertEqual(self.run_command("dlg_list", **params)["Dialog"]["ID"], call.did)
        gone = (404, "No such dialog")
        self.assertEqual(self.refused("dlg_list", callid="c3"), gone)
        self.assertEqual(self.refused("dlg_list", callid="c2", from_tag="x"), gone)

    def test_a_part(self) -> None:
        """Numbers may come as text."""
        calls = [self.begin().did for _ in range(5)]
        listed = self.run_command("dlg_list", index="1", counter="2")
        self.assertEqual(listed["count"], 5)
        self.assertEqual([shown["ID"] for shown in listed["Dialogs"]], calls[1:3])
        self.assertEqual(self.refused("dlg_list", index="x", counter=1)[0], 400)

    def test_an_unanswered_call_has_no_start(self) -> None:
        self.begin()
        [shown] = self.run_command("dlg_list")["Dialogs"]
        self.assertEqual((shown["timestart"], shown["CALLEES"]), (0, []))
        self.assertNotIn("datestart", shown)

    def test_with_context(self) -> None:
        call = self.talk()
        call.profiles["lb1:pstn"] = "7"
        pushed = self.run_command(
            "dlg_push_var", dlg_val_name="note", dlg_val_value="x", DID=[call.did]
        )
        self.assertEqual(pushed, "OK")
        [shown] = self.run_command("dlg_list_ctx")["Dialogs"]
        self.assertEqual(
            shown["context"], {"values": [{"note": "x"}], "profiles": [{"lb1:pstn": "7"}]}
        )


class EndTests(CommandCase):
    def test_by_cookie_or_call_id(self) -> None:
        for name in ("did", "call_id"):
            call = self.talk()
            done = self.run_command(
                "dlg_end_dlg", dialog_id=getattr(call, name), extra_hdrs="X-Why: test"
            )
            self.assertEqual(done, "OK")
            self.assertEqual(call.state, 5)
            byes = self.agent.requests()
            self.assertEqual([bye.get("x-why") for bye in byes], ["test", "test"])

    def test_no_such_call(self) -> None:
        gone = (404, "Requested Dialog not found")
        self.assertEqual(self.refused("dlg_end_dlg", dialog_id="x"), gone)
        call = self.talk()
        self.dialogs.end(call.did)
        self.assertEqual(self.refused("dlg_end_dlg", dialog_id=call.did), gone)

    def test_what_cannot_be_ended(self) -> None:
        """Nobody knows how to cancel it any more."""
        call = self.begin()
        failed = (500, "Operation failed")
        self.assertEqual(self.refused("dlg_end_dlg", dialog_id=call.did), failed)

    def test_headers_cannot_smuggle_lines(self) -> None:
        call = self.talk()
        for text in ("no colon", "X-A: 1\nevil", "a b: c"):
            code, _ = self.refused("dlg_end_dlg", dialog_id=call.did, extra_hdrs=text)
            self.assertEqual(code, 400, text)
        self.assertEqual(call.state, 4)


class ProfileTests(CommandCase):
    def setUp(self) -> None:
        super().setUp()
        self.kill(DialogSettings(profiles_with_value="trunk; tenant/b", profiles_no_value="all"))
        self.first, self.second, self.third = self.talk(), self.talk(), self.begin()
        for call, value in ((self.first, "7"), (self.second, "8"), (self.third, "8")):
            call.profiles["lb1:pstn"] = value

    def test_size(self) -> None:
        """Every call that has not ended counts."""
        expected = {"name": "lb1:pstn", "value": "8", "count": 2}
        size = self.run_command("profile_get_size", profile="lb1:pstn", value="8")
        self.assertEqual(size, {"Profile": {**expected, "shared": "no", "replicated": "no"}})
        self.within(self.second, "BYE", cseq=3)
        size = self.run_command("profile_get_size", profile="lb1:pstn")
        self.assertEqual((size["Profile"]["count"], size["Profile"]["value"]), (2, None))

    def test_values(self) -> None:
        values = self.run_command("profile_get_values", profile="lb1:pstn")
        self.assertEqual(values, [{"value": "7", "count": 1}, {"value": "8", "count": 2}])

    def test_calls(self) -> None:
        listed = self.run_command("profile_list_dlgs", profile="lb1:pstn", value="7")
        self.assertEqual([shown["ID"] for shown in listed["Dialogs"]], [self.first.did])

    def test_names(self) -> None:
        profiles = self.run_command("list_all_profiles")["Profiles"]
        self.assertEqual(
            {profile["name"]: profile["has value"] for profile in profiles},
            {"all": False, "lb1:pstn": True, "tenant": True, "trunk": True},
        )

    def test_set_and_unset(self) -> None:
        did = self.first.did
        done = self.run_command("dlg_set_profile", dlg_id=did, profile="trunk", value="north")
        self.assertEqual(done, "OK")
        self.run_command("dlg_set_profile", dlg_id=did, profile="all")
        values = self.run_command("profile_get_values", profile="all")
        self.assertEqual(values, [{"value": None, "count": 1}])
        self.run_command("dlg_unset_profile", dlg_id=did, profile="trunk")
        self.assertNotIn("trunk", self.first.profiles)
        gone = (404, "Profile not found")
        self.assertEqual(self.refused("dlg_unset_profile", dlg_id=did, profile="trunk"), gone)
        self.assertEqual(self.refused("dlg_set_profile", dlg_id=did, profile="nope"), gone)
        self.assertEqual(self.refused("profile_get_size", profile="nope"), gone)
        self.assertEqual(self.refused("dlg_set_profile", dlg_id="1.1", profile="all")[0], 404)

    def test_end_all(self) -> None:
        self.run_command("profile_end_dlgs", profile="lb1:pstn", value="7")
        self.assertEqual((self.first.state, self.second.state), (5, 4))


class DatabaseTests(CommandCase):
    def test_sync_writes_now(self) -> None:
        self.talk()
        self.assertEqual(self.wait(self.run_command("dlg_db_sync")), "OK")
        self.assertEqual(len(self.wait(self.database.query("SELECT * FROM dialog"))), 1)

    def test_restore_reads_what_is_not_known(self) -> None:
        call = self.talk()
        self.advance(1.5)
        self.wait(self.database.execute("UPDATE dialog SET dlg_id = 5, vars = NULL"))
        self.assertEqual(self.wait(self.run_command("dlg_restore_db")), "OK")
        self.assertEqual({one.did for one in self.dialogs.all()}, {call.did, "0.5"})

    def test_every_command_takes_what_its_recipes_name(self) -> None:
        for name, recipes, function in self.dialogs.commands():
            names = set(function.__code__.co_varnames[1 : function.__code__.co_argcount])
            for recipe in recipes:
                self.assertLessEqual(set(recipe), names, name)
