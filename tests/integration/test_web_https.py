"""The web phone from another machine: https with the certificate that the PBX made itself."""

from __future__ import annotations

from tests.integration.browser import WebCase, WebPhone, web_url
from tests.integration.harness import PBX


class SecurePageTests(WebCase):
    def start(self) -> PBX:
        """With https alone, as others than this machine see it."""
        return self.pbx({"http": {"listen": ["tls:127.0.0.1:0"]}}, users=("alice", "bob"))

    def test_log_in_register_and_write(self) -> None:
        """Once the browser's question about the certificate is answered: page, cookie and SIP."""
        pbx = self.start()
        page = self.signed_in(pbx, "alice", ignore_https_errors=True)
        self.assertTrue(page.url.startswith("https://"))
        self.assertTrue(page.page.evaluate("isSecureContext"))
        cookies = page.context.cookies()
        self.assertTrue(cookies)
        for cookie in cookies:
            self.assertTrue(cookie["name"].startswith("__Host-"), cookie["name"])
            self.assertTrue(cookie["secure"] and cookie["httpOnly"])
        self.assertEqual(page.page.evaluate("document.cookie"), "")
        (binding,) = pbx.mi("ul_show_contact", "location", "alice@pbx.test")["Contacts"]
        self.assertTrue(binding["Socket"].startswith("wss:"), binding)
        desk = self.registered(pbx, "bob")
        page.dial("bob")
        desk.respond(desk.request("INVITE"), 486)
        desk.request("ACK")
        page.says("busy")
        page.page.reload()
        page.is_ready()
        self.assertEqual(pbx.statistic("net:wss_connections"), 1)

    def test_link_by_https(self) -> None:
        """Logs in once; the token leaves the address bar."""
        pbx = self.start()
        (link,) = pbx.mi("web_link", "bob")["links"]
        page = WebPhone(web_url(pbx), ignore_https_errors=True)
        self.phones.append(page)
        page.visit("#" + link.partition("#")[2])
        page.is_ready()
        self.assertNotIn("login", page.page.url)
        self.assertEqual(len(pbx.mi("ul_show_contact", "location", "bob@pbx.test")["Contacts"]), 1)
        page.page.reload()
        page.is_ready()

    def test_certificate_is_asked_about(self) -> None:
        """A browser that nobody answered for shows no page."""
        pbx = self.start()
        with self.assertRaises(Exception) as caught:
            self.opened(pbx)
        self.assertIn("CERT", str(caught.exception))
