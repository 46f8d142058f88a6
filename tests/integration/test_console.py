"""The operator's console in a real browser, with real phones and calls behind it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from playwright.sync_api import Page

from tests.integration.browser import chromium
from tests.integration.harness import PBX, PBXTestCase, free_port, until
from tests.integration.phone import Dialog, Phone
from tests.integration.web import port_of

#: Where pictures go when somebody wants to look at them.
PICTURES = os.environ.get("SCREENSHOTS", "")
USERS = ("alice", "bob", "carol", "dave", "erin", "frank")


class ConsoleTests(PBXTestCase):
    def setUp(self) -> None:
        super().setUp()
        plugins = {"enabled": ["nat_ping", "drouting", "dispatcher"]}
        self.server: PBX = self.pbx({"plugins": plugins}, users=USERS)
        self.faults: list[str] = []

    def page(self, path: str = "/console", **options: Any) -> Page:
        """A page that reports what goes wrong in it."""
        context = chromium().new_context(viewport={"width": 1280, "height": 900}, **options)
        self.addCleanup(context.close)
        page = context.new_page()
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("console", lambda message: self._said(message.type, message.text))
        page.goto(f"http://127.0.0.1:{port_of(self.server)}{path}")
        return page

    def _said(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.faults.append(text)

    def picture(self, page: Page, name: str) -> None:
        if PICTURES:
            Path(PICTURES).mkdir(parents=True, exist_ok=True)
            page.screenshot(path=f"{PICTURES}/{name}.png", full_page=True)

    def rows(self, page: Page, section: str) -> Sequence[str]:
        """The rows of a table as text."""
        found = page.locator(f"#{section} tbody tr").all_inner_texts()
        return [" ".join(row.split()) for row in found]

    def called(self, caller: Phone, callee: Phone) -> Dialog:
        """A call that goes on."""
        invite = caller.invite(callee.user)
        callee.answer(callee.request("INVITE"))
        dialog = caller.called(invite, caller.response(200))
        callee.request("ACK")
        return dialog

    def test_what_an_operator_sees(self) -> None:
        """Phones, calls, nodes and gateways as they are, and as they change; nothing in a phone's
        words becomes part of the page.
        """
        pbx = self.server
        # A group that the policy does not route to.
        for number in (1, 2):
            pbx.add_node(number, 9, free_port())
        pbx.sql(
            "INSERT INTO dr_gateways (gwid, address, description) VALUES"
            " ('provider', '127.0.0.1:5999', 'test')"
        )
        pbx.sql("INSERT INTO dispatcher (setid, destination) VALUES (7, 'sip:127.0.0.1:5998')")
        evil = '<img src=x onerror="document.title=1">'
        ways = ("udp", "tcp", "ws", "udp", "ws")
        phones = []
        for user, way in zip(USERS, ways, strict=False):
            phone = self.phone(pbx, user, way)
            agent = evil if user == "carol" else f"Testphone {user}"
            phone.register(headers=[("User-Agent", agent)])
            phones.append(phone)
        alice, bob, carol, dave, erin = phones
        for command in ("lb_reload", "dr_reload", "ds_reload"):
            pbx.mi(command)
        pbx.mi("lb_status", "2", "0")
        page = self.page()
        page.wait_for_selector("#registrations tbody tr")
        until(lambda: len(self.rows(page, "registrations")) == 5, "all phones are shown")
        text = page.inner_text("#registrations")
        self.assertIn(evil, text)
        self.assertIn("browser", text)
        self.assertEqual(page.locator("#registrations img").count(), 0)
        self.assertEqual(page.inner_text("#calls"), "Nobody is talking.")
        self.assertIn("down", page.inner_text("#nodes"))
        self.assertIn("provider", page.inner_text("#routes"))
        self.assertIn("set 7", page.inner_text("#routes"))
        dialog = self.called(alice, bob)
        ringing = dave.invite("erin")
        waiting = erin.request("INVITE")
        erin.ring(waiting)
        dave.response(180)
        until(lambda: len(self.rows(page, "calls")) == 2, "both calls are shown")
        shown = "\n".join(self.rows(page, "calls"))
        self.assertRegex(shown, r"dave erin ringing udp 127.0.0.1 .*\d:\d\d")
        self.assertRegex(shown, r"alice bob (answered|talking) udp 127.0.0.1 → tcp 127.0.0.1")
        page.wait_for_timeout(4500)
        self.picture(page, "console")
        page.fill("#query", "ALICE")
        until(lambda: len(self.rows(page, "registrations")) == 1, "only alice is shown")
        self.assertEqual(len(self.rows(page, "calls")), 1)
        page.fill("#query", "")
        alice.send(alice.within(dialog, "BYE"))
        bob.respond(bob.request("BYE"), 200)
        alice.response(200)
        dave.cancel(ringing)
        erin.respond(erin.request("CANCEL"), 200)
        erin.respond(waiting, 487)
        carol.close()
        until(lambda: len(self.rows(page, "registrations")) == 4, "the closed page is gone")
        until(lambda: page.inner_text("#calls") == "Nobody is talking.", "the calls are over")
        dark = self.page(color_scheme="dark")
        dark.wait_for_selector("#registrations tbody tr")
        self.picture(dark, "console-dark")
        small = self.page()
        small.set_viewport_size({"width": 360, "height": 740})
        small.wait_for_selector("#registrations tbody tr")
        wide = small.evaluate("document.documentElement.scrollWidth")
        self.assertLessEqual(wide, 360)
        self.picture(small, "console-small")
        self.assertEqual(self.faults, [])
        pbx.kill()
        until(lambda: page.inner_text("#health") == "no answer", "the page says so")
        self.picture(page, "console-away")
        pbx.tables["http"]["listen"] = [f"tcp:127.0.0.1:{page.url.split(':')[2].split('/')[0]}"]
        pbx.write_config()
        pbx.start()
        until(lambda: page.inner_text("#health") != "no answer", "it finds the PBX again")
