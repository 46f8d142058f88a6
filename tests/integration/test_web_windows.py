"""Two windows of one browser, opened by two links of the first start: they talk to each other."""

from __future__ import annotations

from tests.integration.browser import WebCase, WebPhone, web_url


class Window(WebPhone):
    """A further window of somebody else's browser: one store of cookies for both."""

    def __init__(self, other: WebPhone) -> None:
        self.url = other.url
        self.hertz = other.hertz
        self.context = other.context
        self.complaints = other.complaints
        self.page = self.open()


class WindowTests(WebCase):
    def test_two_extensions_in_one_browser(self) -> None:
        """Each window stays who it is, over a reload too; signing out ends only one of them."""
        pbx = self.pbx(users=("alice", "bob"))
        tokens = [
            "#" + pbx.mi("web_link", user)["links"][0].split("#")[1] for user in ("alice", "bob")
        ]
        one = WebPhone(web_url(pbx), 440)
        self.phones.append(one)
        one.visit(tokens[0])
        one.is_ready()
        other = Window(one)
        other.visit(tokens[1])
        other.is_ready()
        one.page.reload()
        one.is_ready()
        one.dial("bob")
        other.answer()
        one.is_talking()
        one.packets_flow()
        other.packets_flow()
        one.hang_up()
        one.is_idle()
        for user in ("alice", "bob"):
            found = pbx.mi("ul_show_contact", "location", f"{user}@pbx.test")["Contacts"]
            self.assertEqual(len(found), 1, user)
        one.tab("Settings")
        one.button("Sign out").click()
        one.page.get_by_label("Extension").wait_for()
        other.page.reload()
        other.is_ready()
        self.assertEqual(pbx.mi("ul_dump")["Domains"][0]["AORs"][0]["AOR"], "bob@pbx.test")
