"""Every transport over real loopback sockets."""

from __future__ import annotations

import select
import socket
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, cast

from autobahn.twisted.websocket import (
    WebSocketClientFactory,
    WebSocketClientProtocol,
    connectWS,
)
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.internet.ssl import CertificateOptions
from twisted.internet.task import deferLater
from twisted.names import dns
from twisted.names.authority import FileAuthority
from twisted.names.client import Resolver
from twisted.names.server import DNSServerFactory
from twisted.trial.unittest import TestCase

from pbx.sip.address import Address
from pbx.sip.errors import TransportFailed
from pbx.sip.uri import URI
from pbx.timing import TimerWheel
from pbx.transport.certificates import make_certificate
from pbx.transport.connection import Connections
from pbx.transport.delivery import Delivery
from pbx.transport.flows import Flows
from pbx.transport.listeners import IReactor, Listeners, ListenFailed
from pbx.transport.locate import Locator
from pbx.transport.settings import DNSSettings, TransportSettings, WebSocketSettings
from pbx.transport.tls import TLSContexts, TLSSettings
from tests.transport.parts import OPTIONS, Recorder, Tap

reactor = cast(IReactor, global_reactor)
socket.setdefaulttimeout(5)


async def until(condition: Callable[[], object], seconds: float = 5.0) -> None:
    """Let the reactor run until something is so."""
    for _ in range(int(seconds / 0.01)):
        if condition():
            return
        await deferLater(reactor, 0.01, lambda: None)
    raise AssertionError("did not happen in time")


class Stack:
    """One whole transport side with its recorder."""

    def __init__(
        self,
        specs: list[str],
        folder: Path,
        *,
        settings: TransportSettings | None = None,
        tls: TLSSettings | None = None,
        websocket: WebSocketSettings | None = None,
        advertise: str = "",
        hosts: dict[str, list[str]] | None = None,
    ) -> None:
        settings = settings or TransportSettings()
        self.wheel = TimerWheel(reactor)
        self.user = Recorder()
        self.connections = Connections(settings, self.wheel, Delivery(), reactor.seconds)
        self.locator = Locator(
            DNSSettings(), cast("Any", None), reactor, hosts or {"localhost": ["127.0.0.1"]}
        )
        self.tls: TLSContexts | None = None

        def contexts() -> TLSContexts:
            if self.tls is None:
                self.tls = TLSContexts(tls or TLSSettings(), folder, ["localhost", "127.0.0.1"])
            return self.tls

        self.flows = Flows(self.connections, self.locator, reactor, contexts)
        self.listeners = Listeners(
            specs,
            advertise,
            self.flows,
            settings,
            websocket or WebSocketSettings(),
            contexts,
            reactor,
        )
        self.listeners.deliver_to(self.user)

    @property
    def bound(self) -> Address:
        return self.flows.listeners()[0]

    async def stop(self) -> None:
        await self.listeners.stop()
        self.wheel.stop()


class TransportTestCase(TestCase):
    timeout = 30

    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp(dir=self.mktemp_parent()))

    def mktemp_parent(self) -> str:
        parent = Path(self.mktemp())
        parent.mkdir(parents=True)
        return str(parent)

    async def stack(self, *specs: str, **more: Any) -> Stack:
        stack = Stack(list(specs), self.folder, **more)
        await stack.listeners.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(stack.stop()))
        return stack

    def wait(self, work: Coroutine[Deferred[Any], Any, None]) -> Deferred[None]:
        return Deferred.fromCoroutine(work)


class UDPTests(TransportTestCase):
    async def echo(self, spec: str, family: socket.AddressFamily) -> None:
        stack = await self.stack(spec)
        tap = Tap()
        stack.connections.delivery.tap(tap)
        client = socket.socket(family, socket.SOCK_DGRAM)
        self.addCleanup(client.close)
        client.bind((stack.bound.host, 0))
        client.sendto(OPTIONS, (stack.bound.host, stack.bound.port))
        await until(lambda: stack.user.messages)
        message, flow = stack.user.messages[0]
        self.assertEqual(flow.peer, Address("UDP", stack.bound.host, client.getsockname()[1]))
        self.assertEqual(flow.sent_by, (stack.bound.host, stack.bound.port))
        self.assertEqual(message.via.params.get("received"), stack.bound.host)
        self.assertEqual(tap.seen, [(False, flow.peer, OPTIONS)])
        flow.send(b"hello")
        self.assertEqual(client.recv(100), b"hello")
        self.assertEqual(tap.seen[1:], [(True, flow.peer, b"hello")])

    async def test_ipv4(self) -> None:
        """18.2.1: received and rport are stamped; the answer goes back to the source."""
        await self.echo("udp:127.0.0.1:0", socket.AF_INET)

    async def test_ipv6(self) -> None:
        await self.echo("udp:[::1]:0", socket.AF_INET6)

    async def test_wildcard_shows_the_address_the_peer_sees(self) -> None:
        stack = await self.stack("udp:0.0.0.0:0")
        flow = stack.flows.find(Address("UDP", "127.0.0.1", 5999))
        assert flow is not None
        self.assertEqual(flow.sent_by, ("127.0.0.1", stack.bound.port))
        self.assertTrue(stack.flows.is_own(URI.parse(f"sip:127.0.0.1:{stack.bound.port}")))
        self.assertFalse(stack.flows.is_own(URI.parse(f"sip:127.0.0.31:{stack.bound.port}")))

    async def test_too_large_for_a_datagram(self) -> None:
        """EMSGSIZE is a transport failure and nothing worse."""
        stack = await self.stack("udp:127.0.0.1:0")
        flow = stack.flows.find(Address("UDP", "127.0.0.1", 5999))
        assert flow is not None
        with self.assertRaises(TransportFailed):
            flow.send(b"x" * 70000)

    async def test_stun_binding(self) -> None:
        """RFC 5626 section 4.4.2."""
        stack = await self.stack("udp:127.0.0.1:0")
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(client.close)
        client.bind(("127.0.0.1", 0))
        asked = b"\0\x01\0\0\x21\x12\xa4\x42" + b"0123456789ab"
        client.sendto(asked, (stack.bound.host, stack.bound.port))
        await until(lambda: stack.flows.delivery.keep_alives)
        answer = client.recv(200)
        self.assertEqual(answer[:2], b"\x01\x01")
        self.assertEqual(answer[8:20], b"0123456789ab")
        port = int.from_bytes(answer[26:28], "big") ^ 0x2112
        self.assertEqual(port, client.getsockname()[1])
        host = bytes(a ^ b for a, b in zip(answer[28:32], b"\x21\x12\xa4\x42", strict=True))
        self.assertEqual(host, b"\x7f\0\0\x01")

    async def test_port_in_use(self) -> None:
        """One clear line, and nothing stays bound."""
        first = await self.stack("udp:127.0.0.1:0")
        second = Stack(["tcp:127.0.0.1:0", first.bound.socket], self.folder)
        with self.assertRaises(ListenFailed) as caught:
            await second.listeners.start()
        self.assertEqual(str(caught.exception), f"{first.bound.socket}: Address already in use")
        self.assertEqual(second.flows.listeners(), [])


class TCPTests(TransportTestCase):
    async def test_connection_is_reused_in_both_directions(self) -> None:
        """18.2.2 and RFC 5923: one connection carries requests both ways."""
        one = await self.stack("tcp:127.0.0.1:0")
        other = await self.stack("tcp:127.0.0.1:0")
        flow = await one.flows.connect(other.bound)
        self.assertIs(one.flows.find(other.bound), flow)
        self.assertIs(await one.flows.connect(other.bound), flow)
        self.assertEqual(flow.sent_by, (one.bound.host, one.bound.port))
        flow.send(OPTIONS)
        await until(lambda: other.user.messages)
        back = other.user.messages[0][1]
        self.assertIs(other.flows.find(back.peer), back)
        self.assertIs(other.flows.by_token(back.token), back)
        back.send(OPTIONS)
        await until(lambda: one.user.messages)
        self.assertIs(one.user.messages[0][1], flow)
        flow.close()
        await until(lambda: other.user.closed)
        self.assertTrue(back.closed)
        self.assertIsNone(other.flows.find(back.peer))
        self.assertIsNone(other.flows.by_token(back.token))
        with self.assertRaises(TransportFailed):
            back.send(OPTIONS)

    async def test_concurrent_connects_join(self) -> None:
        one = await self.stack("tcp:127.0.0.1:0")
        other = await self.stack("tcp:127.0.0.1:0")
        waits = [one.flows.connect(other.bound) for _ in range(5)]
        found = {id(await wait) for wait in waits}
        self.assertEqual(len(found), 1)
        await until(lambda: len(other.connections))
        self.assertEqual(len(other.connections), 1)

    async def test_nobody_listens(self) -> None:
        one = await self.stack("tcp:127.0.0.1:0")
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            port = unused.getsockname()[1]
        datagrams = Address("UDP", "127.0.0.1", port)
        self.assertTrue(one.flows.prefers_stream(datagrams, 2000))
        with self.assertRaises(TransportFailed):
            await one.flows.connect(Address("TCP", "127.0.0.1", port))
        self.assertEqual(len(one.connections), 0)
        # 18.1.1 was tried; the next large request need not wait for it again.
        self.assertFalse(one.flows.prefers_stream(datagrams, 2000))

    async def test_ipv6(self) -> None:
        one = await self.stack("tcp:[::1]:0")
        flow = await one.flows.connect(one.bound)
        flow.send(OPTIONS)
        await until(lambda: one.user.messages)
        self.assertEqual(one.user.messages[0][1].peer.host, "::1")

    async def test_slow_reader_is_cut_off(self) -> None:
        """What may wait for one peer is bounded; its connection is aborted."""
        stack = await self.stack("tcp:127.0.0.1:0", settings=TransportSettings(max_queued=200_000))
        client = socket.create_connection((stack.bound.host, stack.bound.port))
        self.addCleanup(client.close)
        client.sendall(OPTIONS)
        await until(lambda: stack.user.messages)
        flow = stack.user.messages[0][1]
        sent = 0

        async def flood() -> None:
            nonlocal sent
            for _ in range(100_000):
                flow.send(b"x" * 10_000)
                sent += 10_000
                if sent % 1_000_000 == 0:
                    await deferLater(reactor, 0, lambda: None)

        with self.assertRaises(TransportFailed):
            await flood()
        self.assertTrue(flow.closed)
        await until(lambda: stack.user.closed)
        self.assertEqual(len(stack.connections), 0)
        self.assertEqual(stack.flows.delivery.aborted, 1)

    async def test_a_thousand_connections_are_held_open(self) -> None:
        stack = await self.stack("tcp:127.0.0.1:0")
        clients: list[socket.socket] = []
        for _ in range(1000):
            client = socket.create_connection((stack.bound.host, stack.bound.port))
            self.addCleanup(client.close)
            clients.append(client)
            client.sendall(OPTIONS)
            if len(clients) % 50 == 0:
                await deferLater(reactor, 0, lambda: None)
        await until(lambda: len(stack.user.messages) == 1000, 15)
        for _, flow in stack.user.messages:
            flow.send(b"SIP/2.0 200 OK\r\n\r\n")
        await deferLater(reactor, 0.1, lambda: None)
        for client in clients:
            self.assertEqual(client.recv(100), b"SIP/2.0 200 OK\r\n\r\n")
        listed = stack.flows.list_connections()["Connections"]
        self.assertEqual(len(cast("list[object]", listed)), 1000)

    async def test_more_than_the_limit_are_refused(self) -> None:
        stack = await self.stack(
            "tcp:127.0.0.1:0", settings=TransportSettings(max_connections_per_source=2)
        )
        clients = []
        for _ in range(3):
            client = socket.create_connection((stack.bound.host, stack.bound.port))
            self.addCleanup(client.close)
            clients.append(client)
        await until(lambda: stack.flows.delivery.refused == 1)
        self.assertEqual(len(stack.connections), 2)
        self.assertEqual(clients[2].recv(1), b"")


class TLSTests(TransportTestCase):
    def settings(self, *names: str, folder: str = "server") -> TLSSettings:
        """A self-signed certificate is its own authority."""
        certificate = self.folder / f"{folder}.pem"
        key = self.folder / f"{folder}.key"
        make_certificate(certificate, key, names)
        return TLSSettings(certificate=certificate, private_key=key, ca=certificate)

    async def test_messages_both_ways(self) -> None:
        settings = self.settings("127.0.0.1")
        server = await self.stack("tls:127.0.0.1:0", tls=settings)
        client = await self.stack("tls:127.0.0.1:0", tls=settings)
        flow = await client.flows.connect(server.bound)
        flow.send(OPTIONS)
        await until(lambda: server.user.messages)
        back = server.user.messages[0][1]
        self.assertEqual(back.local, server.bound)
        back.send(OPTIONS)
        await until(lambda: client.user.messages)
        self.assertEqual(client.user.messages[0][1].peer, server.bound)

    async def test_name_found_by_dns_must_be_in_the_certificate(self) -> None:
        """RFC 5922 section 7.2."""
        settings = self.settings("pbx.test")
        server = await self.stack("tls:127.0.0.1:0", tls=settings)
        hosts = {"pbx.test": ["127.0.0.1"], "evil.test": ["127.0.0.1"]}
        good = await self.stack("tls:127.0.0.1:0", tls=settings, hosts=hosts)
        port = server.bound.port
        found = good.flows.locate(URI.parse(f"sips:pbx.test:{port}"))
        assert found
        flow = await good.flows.connect(found[0])
        self.assertFalse(flow.closed)
        bad = await self.stack("tls:127.0.0.1:0", tls=settings, hosts=hosts)
        found = bad.flows.locate(URI.parse(f"sips:evil.test:{port}"))
        assert found
        with self.assertRaises(TransportFailed) as caught:
            await bad.flows.connect(found[0])
        self.assertEqual(caught.exception.reason, "Certificate Is Not For evil.test")
        await until(lambda: len(bad.connections) == 0)

    async def test_unknown_authority_is_refused(self) -> None:
        server = await self.stack("tls:127.0.0.1:0", tls=self.settings("127.0.0.1"))
        other = self.settings("127.0.0.1", folder="other")
        client = await self.stack("tls:127.0.0.1:0", tls=other)
        with self.assertRaises(TransportFailed):
            await client.flows.connect(server.bound)
        await until(lambda: len(client.connections) == 0)

    async def test_plain_text_client_is_not_delivered(self) -> None:
        server = await self.stack("tls:127.0.0.1:0", tls=self.settings("127.0.0.1"))
        client = socket.create_connection((server.bound.host, server.bound.port))
        self.addCleanup(client.close)
        await until(lambda: len(server.connections) == 1)
        client.sendall(OPTIONS)
        await until(lambda: len(server.connections) == 0)
        self.assertEqual(server.user.messages, [])

    async def test_phone_needs_a_certificate_when_asked(self) -> None:
        """verify_client."""
        settings = self.settings("127.0.0.1")
        strict = TLSSettings(
            certificate=settings.certificate,
            private_key=settings.private_key,
            ca=settings.ca,
            verify_client=True,
        )
        server = await self.stack("tls:127.0.0.1:0", tls=strict)
        stranger = self.settings("127.0.0.1", folder="stranger")
        client = await self.stack(
            "tls:127.0.0.1:0",
            tls=TLSSettings(
                certificate=stranger.certificate,
                private_key=stranger.private_key,
                ca=settings.ca,
            ),
        )
        try:
            # TLS 1.3: the client learns of the refusal after its own handshake is done.
            flow = await client.flows.connect(server.bound)
        except TransportFailed:
            pass
        else:
            await until(lambda: flow.closed)
        self.assertEqual(server.user.messages, [])

    async def test_reload_takes_a_new_certificate_and_keeps_connections(self) -> None:
        settings = self.settings("127.0.0.1")
        server = await self.stack("tls:127.0.0.1:0", tls=settings)
        first = await self.stack("tls:127.0.0.1:0", tls=settings)
        old = await first.flows.connect(server.bound)
        make_certificate(settings.certificate, settings.private_key, ["127.0.0.1", "new.test"])
        assert server.tls is not None
        server.tls.reload()
        second = await self.stack("tls:127.0.0.1:0", tls=settings)
        new = await second.flows.connect(server.bound)
        old.send(OPTIONS)
        new.send(OPTIONS)
        await until(lambda: len(server.user.messages) == 2)

    async def test_silent_client_loses_the_handshake(self) -> None:
        """No half-open connection stays."""
        server = await self.stack(
            "tls:127.0.0.1:0",
            tls=self.settings("127.0.0.1"),
            settings=TransportSettings(message_time=0.2),
        )
        client = socket.create_connection((server.bound.host, server.bound.port))
        self.addCleanup(client.close)
        await until(lambda: len(server.connections) == 1)
        await until(lambda: len(server.connections) == 0)
        self.assertEqual(server.user.closed, [])


class BrowserProtocol(WebSocketClientProtocol):
    def onOpen(self) -> None:
        self.factory.opened.callback(self)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:  # noqa: N803
        self.factory.received.append((payload, isBinary))

    def onClose(self, wasClean: bool, code: int, reason: str) -> None:  # noqa: N803
        if not self.factory.opened.called:
            self.factory.opened.errback(ConnectionError(reason))
        self.factory.closed = True


class Browser(WebSocketClientFactory):
    """What a browser does, as far as we see it."""

    protocol = BrowserProtocol
    noisy = False

    def __init__(self, address: Address, **more: Any) -> None:
        scheme = address.transport.lower()
        super().__init__(f"{scheme}://{address.host}:{address.port}/", reactor=reactor, **more)
        self.received: list[tuple[bytes, bool]] = []
        self.closed = False
        self.opened: Deferred[Any] = Deferred()

    def send(self, data: bytes, binary: bool = False) -> None:
        self.page.sendMessage(data, isBinary=binary)

    def leave(self) -> None:
        if not self.closed:
            self.page.transport.abortConnection()

    async def open(self) -> None:
        context = CertificateOptions(verify=False) if self.isSecure else None
        connectWS(self, context)
        self.page = await self.opened


class WebSocketTests(TransportTestCase):
    async def browser(self, stack: Stack, **more: Any) -> Browser:
        browser = Browser(stack.bound, **{"protocols": ["sip"], **more})
        await browser.open()
        self.addCleanup(browser.leave)
        return browser

    async def both_ways(self, transport: str) -> None:
        stack = await self.stack(f"{transport}:127.0.0.1:0")
        tap = Tap()
        stack.connections.delivery.tap(tap)
        browser = await self.browser(stack)
        browser.send(OPTIONS)
        await until(lambda: stack.user.messages)
        message, flow = stack.user.messages[0]
        self.assertEqual(message.via.params.get("received"), "127.0.0.1")
        self.assertEqual(flow.peer.transport, transport.upper())
        self.assertIs(stack.flows.find(flow.peer), flow)
        # transport=ws in a URI means either kind.
        self.assertIs(stack.flows.find(flow.peer._replace(transport="WS")), flow)
        flow.send(OPTIONS)
        flow.send(b"\xff")
        await until(lambda: len(browser.received) == 2)
        self.assertEqual(browser.received, [(OPTIONS, False), (b"\xff", True)])
        browser.send(OPTIONS, binary=True)
        browser.send(b"\r\n\r\n")
        await until(lambda: len(browser.received) == 3)
        self.assertEqual(browser.received[2], (b"\r\n", False))
        self.assertEqual(len(stack.user.messages), 2)
        seen = [(False, OPTIONS), (True, OPTIONS), (False, OPTIONS)]
        self.assertEqual([(sent, data) for sent, _, data in tap.seen], seen)
        browser.page.sendClose()
        await until(lambda: stack.user.closed == [flow])
        with self.assertRaises(TransportFailed):
            await stack.flows.connect(flow.peer)

    async def test_ws(self) -> None:
        """RFC 7118 section 5: one message per frame, text or binary; keep-alive; never called."""
        await self.both_ways("ws")

    async def test_wss(self) -> None:
        await self.both_ways("wss")

    async def test_subprotocol_is_mandatory(self) -> None:
        stack = await self.stack("ws:127.0.0.1:0")
        client = socket.create_connection((stack.bound.host, stack.bound.port))
        self.addCleanup(client.close)
        client.sendall(
            b"GET / HTTP/1.1\r\nHost: pbx\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        await until(lambda: select.select([client], [], [], 0)[0])
        answer = client.recv(1000)
        await until(lambda: len(stack.connections) == 0)
        self.assertEqual(
            answer.split(b"\r\n")[:2],
            [b"HTTP/1.1 400 Bad Request", b"Sec-WebSocket-Version: 13"],
        )

    async def test_foreign_origin_is_refused(self) -> None:
        stack = await self.stack(
            "ws:127.0.0.1:0",
            websocket=WebSocketSettings(allowed_origins=("https://pbx.test",)),
        )
        await self.browser(stack, origin="https://pbx.test")
        with self.assertRaises(ConnectionError):
            await self.browser(stack, origin="https://evil.test")

    async def test_browser_that_answers_no_ping_is_cut_off(self) -> None:
        stack = await self.stack("ws:127.0.0.1:0", websocket=WebSocketSettings(ping=0.05, pong=0.2))
        lively = await self.browser(stack)
        silent = await self.browser(stack)
        silent.page.onPing = lambda payload: None
        await until(lambda: silent.closed)
        self.assertFalse(lively.closed)

    async def test_client_address_from_a_trusted_proxy_only(self) -> None:
        headers = {"X-Forwarded-For": "203.0.113.9"}
        trusting = await self.stack(
            "ws:127.0.0.1:0", websocket=WebSocketSettings(trusted_proxies=("127.0.0.1",))
        )
        browser = await self.browser(trusting, headers=headers)
        browser.send(OPTIONS)
        await until(lambda: trusting.user.messages)
        self.assertEqual(trusting.user.messages[0][1].peer.host, "203.0.113.9")
        careful = await self.stack("ws:127.0.0.1:0")
        browser = await self.browser(careful, headers=headers)
        browser.send(OPTIONS)
        await until(lambda: careful.user.messages)
        self.assertEqual(careful.user.messages[0][1].peer.host, "127.0.0.1")

    async def test_idle_browser_is_closed_unless_kept(self) -> None:
        """O9: a registration keeps its connection."""
        stack = await self.stack("ws:127.0.0.1:0", settings=TransportSettings(idle=0.3))
        kept = await self.browser(stack)
        kept.send(OPTIONS)
        await until(lambda: stack.user.messages)
        stack.user.messages[0][1].keep(60)
        idle = await self.browser(stack)
        await until(lambda: idle.closed)
        self.assertFalse(kept.closed)


class Zone(FileAuthority):
    """The records of ``pbx.test``."""

    def loadFile(self, filename: str) -> None:
        soa: Any = (b"pbx.test", dns.Record_SOA(b"ns.pbx.test", b"root.pbx.test"))
        records: dict[bytes, list[Any]] = {
            b"pbx.test": [
                soa[1],
                dns.Record_NAPTR(20, 1, b"s", b"SIP+D2U", b"", b"_sip._udp.pbx.test", ttl=60),
                dns.Record_NAPTR(10, 1, b"s", b"SIP+D2T", b"", b"_sip._tcp.pbx.test", ttl=60),
            ],
            b"_sip._udp.pbx.test": [dns.Record_SRV(1, 0, 5080, b"one.pbx.test", ttl=60)],
            b"_sip._tcp.pbx.test": [
                dns.Record_SRV(20, 0, 5082, b"two.pbx.test", ttl=60),
                dns.Record_SRV(10, 0, 5081, b"one.pbx.test", ttl=60),
            ],
            b"one.pbx.test": [dns.Record_A("192.0.2.1", ttl=60)],
            b"two.pbx.test": [dns.Record_A("192.0.2.2", ttl=60)],
        }
        vars(self).update(soa=soa, records=records)


class DNSTests(TransportTestCase):
    async def test_naptr_srv_and_address_of_a_real_server(self) -> None:
        """RFC 3263 section 4: order of NAPTR, priority of SRV, then addresses."""
        factory = DNSServerFactory(authorities=[Zone(b"")])
        port = reactor.listenUDP(0, dns.DNSDatagramProtocol(factory), "127.0.0.1")  # type: ignore[attr-defined]
        self.addCleanup(port.stopListening)
        resolver = Resolver(servers=[("127.0.0.1", port.getHost().port)], reactor=reactor)
        locator = Locator(DNSSettings(), resolver, reactor, {})
        uri = URI.parse("sip:1001@pbx.test")
        self.assertIsNone(locator.locate(uri))
        expected = [
            Address("TCP", "192.0.2.1", 5081),
            Address("TCP", "192.0.2.2", 5082),
            Address("UDP", "192.0.2.1", 5080),
        ]
        self.assertEqual(list(await locator.resolve(uri)), expected)
        asked = locator.queries
        self.assertEqual(list(locator.locate(uri) or ()), expected)
        self.assertEqual(locator.queries, asked)
        with self.assertRaises(TransportFailed):
            await locator.resolve(URI.parse("sip:1001@nowhere.pbx.test"))
