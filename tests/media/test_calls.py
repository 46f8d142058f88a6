"""Which calls are bridged, and what the proxy sends in place of their descriptions."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from pbx.events import CallRestored, Events, KeyPressed, MediaEnded
from pbx.interfaces import IMedia, IMediaUser
from pbx.legs import LegKind, MediaSession, Side
from pbx.media.calls import CallMedia
from pbx.media.decision import RelayPhones
from pbx.metrics import Histogram
from pbx.proxy.core import ProxyCore
from pbx.proxy.forward import Forwarder
from pbx.proxy.relay import Relayer
from pbx.proxy.replies import Replier
from pbx.proxy.settings import ProxySettings
from pbx.proxy.user_agent import UserAgent
from pbx.services.dialogs import Call, Dialogs, DialogSettings
from pbx.sip.address import Address
from pbx.sip.message import Message, Request, Response, response_to
from pbx.sip.uri import URI
from pbx.sip.via import mark_received
from pbx.timing import TimerWheel
from pbx.transaction.layer import TransactionLayer
from pbx.transaction.timers import Timers
from pbx.verdicts import Arrival, Relay, Reply, Target
from tests.fakes import FakeFlow, FakeFlows
from tests.fakes import request as made
from tests.media.fake_engine import FakeEngine
from tests.proxy.system import ScriptedPolicy

BROWSER = Address("WS", "192.0.2.70", 50000)
OTHER = Address("WSS", "192.0.2.71", 50001)
PHONE = Address("UDP", "192.0.2.60", 5060)
DESK = Address("UDP", "192.0.2.61", 5060)
OWN = (
    Address("UDP", "192.0.2.1", 5060),
    Address("TCP", "192.0.2.1", 5060),
    Address("WS", "192.0.2.1", 5062),
    Address("WSS", "192.0.2.1", 5063),
)
SDP = "v=0\r\no=- 1 1 IN IP4 {host}\r\ns=-\r\nc=IN IP4 {host}\r\nt=0 0\r\n"


def browser_sdp(more: str = "") -> bytes:
    """As the engine would understand it, were it real."""
    text = SDP.format(host="127.0.0.1") + "m=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\n"
    return (text + more).encode()


def phone_sdp(host: str = PHONE.host, more: str = "") -> bytes:
    """The same of a phone."""
    return (SDP.format(host=host) + "m=audio 4000 RTP/AVP 0\r\n" + more).encode()


class MediaTestCase(SynchronousTestCase):
    """The proxy with dialogs and a fake engine; every call goes to ``targets``."""

    relay_phones: RelayPhones = "auto"

    def setUp(self) -> None:
        self.engine: FakeEngine | None = FakeEngine()
        self.build()

    def build(self) -> None:
        self.clock = Clock()
        self.clock.rightNow = 1000.0
        self.wheel = TimerWheel(self.clock)
        self.events = Events()
        self.flows = FakeFlows(*OWN)
        self.layer = TransactionLayer(Timers(), self.clock, self.wheel)
        agent = UserAgent(self.layer, self.flows)
        self.dialogs = Dialogs(
            DialogSettings(), None, None, agent, self.flows, self.events, self.clock, self.wheel
        )
        self.media = CallMedia(
            self.engine,
            self.relay_phones,
            self.dialogs,
            self.events,
            self.wheel,
            self.clock.seconds,
        )
        relayer = Relayer(
            transactions=self.layer,
            flows=self.flows,
            forwarder=Forwarder(lambda realm: False),
            dialogs=self.dialogs,
            events=self.events,
            timers=self.wheel,
            settings=ProxySettings(),
            replier=Replier(),
            media=self.media,
        )
        self.targets: list[Target] = []
        self.policy = ScriptedPolicy()
        self.policy.decide = self.decide
        self.layer.deliver_to(ProxyCore(relayer, self.policy))
        self.heard: list[Any] = []
        for kind in (MediaEnded, KeyPressed):
            self.events.subscribe(kind, self.heard.append)

    def decide(self, request: Request, arrival: Arrival) -> Relay:
        return Relay([Target(request.uri)] if request.in_dialog else self.targets)

    # Traffic

    def flow(self, peer: Address) -> FakeFlow:
        return self.flows.flow(peer)

    def send(self, message: Message, peer: Address) -> None:
        if isinstance(message, Request):
            mark_received(message, peer)
        self.layer.message_received(message, self.flow(peer))

    def at(self, peer: Address) -> list[Message]:
        return list(self.flow(peer).messages())

    def requests(self, peer: Address, method: str) -> list[Request]:
        return [one for one in self.at(peer) if isinstance(one, Request) and one.method == method]

    def request(self, peer: Address, method: str) -> Request:
        (found,) = self.requests(peer, method)
        return found

    def responses(self, peer: Address) -> list[Response]:
        return [one for one in self.at(peer) if isinstance(one, Response) and one.status > 100]

    def response(self, peer: Address) -> Response:
        (found,) = self.responses(peer)
        return found

    # Calls

    def target(self, peer: Address, **named: Any) -> Target:
        flow = self.flow(peer) if peer.reliable else None
        host = "x.invalid" if peer.reliable else peer.host
        named.setdefault("uri", URI.parse(f"sip:callee@{host}:{peer.port}"))
        return Target(flow=flow, **named)

    def invite(self, body: bytes, caller: Address, *callees: Address, number: int = 1) -> Request:
        """A call begins."""
        if callees:
            self.targets = [self.target(callee) for callee in callees]
        headers = f"Contact: <sip:caller@{caller.host}:{caller.port}>"
        if body:
            headers += "\nContent-Type: application/sdp"
        via = f"SIP/2.0/{caller.transport} {caller.host}:{caller.port};branch=z9hG4bKi{number}"
        sent = made(
            "INVITE sip:callee@pbx.test", headers, body=body, via=via, call_id=f"call-{number}"
        )
        self.send(sent, caller)
        return sent

    def answer(
        self, asked: Request, peer: Address, status: int = 200, body: bytes = b"", **more: str
    ) -> Response:
        """A callee answers."""
        headers = [("Contact", f"<sip:callee@{peer.host}:{peer.port}>")]
        if body:
            headers.append(("Content-Type", "application/sdp"))
        headers += list(more.items())
        answer = response_to(asked, status, "", headers, body, f"tag-{peer.port}")
        self.send(answer, peer)
        return answer

    def within(
        self, of: Response, method: str, peer: Address, body: bytes = b"", cseq: int = 2
    ) -> Request:
        """A request of the caller within the call that this response began."""
        number = 1 if method == "ACK" else cseq
        routes = "\n".join(f"Route: {one}" for one in reversed(of.get_list("record-route")))
        headers = f"{routes}\nContact: <sip:caller@{peer.host}:{peer.port}>"
        if body:
            headers += "\nContent-Type: application/sdp"
        via = f"SIP/2.0/{peer.transport} {peer.host}:{peer.port};branch=z9hG4bKw{of.call_id}{method}{cseq}"
        target = of.contacts[0].uri_text
        sent = made(
            f"{method} {target}",
            headers,
            body=body,
            via=via,
            call_id=of.call_id,
            from_=str(of.from_),
            to=str(of.to),
            cseq=number,
        )
        self.send(sent, peer)
        return sent

    def back(
        self, invite: Request, answer: Response, method: str, peer: Address, body: bytes = b""
    ) -> Request:
        """A request of the callee within the call."""
        routes = "\n".join(f"Route: {one}" for one in invite.get_list("record-route"))
        headers = f"{routes}\nContact: <sip:callee@{peer.host}:{peer.port}>"
        if body:
            headers += "\nContent-Type: application/sdp"
        via = f"SIP/2.0/{peer.transport} {peer.host}:{peer.port};branch=z9hG4bKb{method}"
        sent = made(
            f"{method} {invite.contacts[0].uri_text}",
            headers,
            body=body,
            via=via,
            call_id=invite.call_id,
            from_=str(answer.to),
            to=str(answer.from_),
            cseq=7,
        )
        self.send(sent, peer)
        return sent

    def established(self) -> tuple[Request, Response]:
        """A browser calls a phone: the INVITE at the phone, the 200 at the browser."""
        self.invite(browser_sdp(), BROWSER, PHONE)
        arrived = self.request(PHONE, "INVITE")
        self.answer(arrived, PHONE, body=phone_sdp())
        answered = self.response(BROWSER)
        self.within(answered, "ACK", BROWSER)
        self.at(PHONE)
        return arrived, answered

    def pump(self, seconds: float) -> None:
        for _ in range(int(seconds / 0.05) + 1):
            self.clock.advance(0.05)

    @property
    def asked(self) -> list[str]:
        """What the engine was asked so far."""
        assert self.engine is not None
        return [what for what, _, _, _ in self.engine.asked]

    def assertFree(self) -> None:
        """No session is left anywhere."""
        assert self.engine is not None
        self.assertEqual(self.engine.sessions, {})
        self.assertEqual(self.media._calls, {})


class DecisionTests(MediaTestCase):
    def body_at(self, peer: Address, body: bytes, caller: Address, **named: Any) -> bytes:
        self.targets = [self.target(peer, **named)]
        self.invite(body, caller)
        return self.request(peer, "INVITE").body

    def test_interfaces(self) -> None:
        """What the proxy and the engine talk to."""
        verifyObject(IMedia, self.media)
        verifyObject(IMediaUser, self.media)

    def test_browsers_speak_to_each_other(self) -> None:
        """End to end, video and all."""
        body = browser_sdp("m=video 9 UDP/TLS/RTP/SAVPF 96\r\n")
        self.assertEqual(self.body_at(OTHER, body, BROWSER), body)
        self.assertEqual(self.asked, [])

    def test_phones_speak_to_each_other(self) -> None:
        """In one network, whatever they say."""
        for body in (phone_sdp(DESK.host), b"v=0\r\nnonsense", b"x"):
            self.build()
            self.assertEqual(self.body_at(PHONE, body, DESK), body)
            self.assertEqual(self.asked, [])

    def test_a_browser_and_a_phone(self) -> None:
        """Both ways, by the flow of who is called."""
        self.assertEqual(self.body_at(PHONE, browser_sdp(), BROWSER), b"offered 1 for rtp")
        self.build()
        self.assertEqual(self.body_at(BROWSER, phone_sdp(), PHONE), b"offered 2 for webrtc")

    def test_time(self) -> None:
        """What the engine does is timed, in a histogram by command."""
        self.body_at(PHONE, browser_sdp(), BROWSER)
        [metric] = self.media.metrics()
        found = dict(metric.samples)
        offers, answers = found[("offer",)], found[("answer",)]
        assert isinstance(offers, Histogram)
        assert isinstance(answers, Histogram)
        self.assertEqual((sum(offers.counts), sum(answers.counts)), (1, 0))

    def test_by_the_description(self) -> None:
        """A browser behind another proxy speaks SAVPF all the same."""
        self.assertEqual(self.body_at(PHONE, browser_sdp(), DESK), b"offered 1 for rtp")

    def test_phones_behind_a_nat(self) -> None:
        """Relayed when only one side is behind it, or each behind its own."""
        outside = Address("UDP", "198.51.100.9", 61000)
        inside = phone_sdp("192.168.1.20")
        self.assertEqual(self.body_at(PHONE, inside, outside), b"offered 1 for rtp")
        assert self.engine is not None
        _, _, source, target = self.engine.asked[0]
        self.assertEqual((source.behind_nat, source.side), (True, Side.CALLER))
        self.assertEqual((target.behind_nat, target.peer), (False, PHONE))

    def test_two_phones_behind_one_nat(self) -> None:
        """They meet there."""
        caller = Address("UDP", "198.51.100.9", 61000)
        callee = Address("UDP", "198.51.100.9", 62000)
        body = phone_sdp("192.168.1.20")
        there = {"uri": URI.parse("sip:b@192.168.1.21"), "behind_nat": True}
        there["next_hop"] = URI.parse("sip:198.51.100.9:62000")
        self.assertEqual(self.body_at(callee, body, caller, **there), body)
        self.build()
        self.assertEqual(self.body_at(callee, phone_sdp(), PHONE, **there), b"offered 1 for rtp")

    def test_inside_and_outside(self) -> None:
        """A private network and the world need the relay; two private networks do not."""
        office = Address("UDP", "10.0.0.5", 5060)
        self.assertEqual(self.body_at(PHONE, phone_sdp("10.0.0.5"), office), b"offered 1 for rtp")
        self.build()
        body = phone_sdp("10.0.0.5")
        self.assertEqual(self.body_at(Address("UDP", "172.16.0.9", 5060), body, office), body)

    def test_no_engine(self) -> None:
        """488 with a Warning (RFC 3261 section 20.43); phones call each other as ever."""
        self.engine = None
        self.build()
        self.invite(browser_sdp(), BROWSER, PHONE)
        refused = self.response(BROWSER)
        self.assertEqual(refused.status, 488)
        self.assertEqual(
            refused.get("warning"), '302 pbx "Browsers And Phones Need A Media Engine"'
        )
        self.assertEqual(self.at(PHONE), [])
        self.invite(phone_sdp("10.0.0.5"), Address("UDP", "10.0.0.5", 5060), PHONE, number=2)
        self.assertEqual(self.request(PHONE, "INVITE").body, phone_sdp("10.0.0.5"))

    def test_descriptions_inside_other_things(self) -> None:
        """Nobody would look inside: refused towards the other kind, untouched otherwise."""
        self.targets = [self.target(PHONE)]
        body = b"--x\r\nContent-Type: application/sdp\r\n\r\nv=0\r\n--x--"
        for number, caller in enumerate((BROWSER, DESK)):
            via = f"SIP/2.0/{caller.transport} {caller.host};branch=z9hG4bKm{number}"
            headers = "Content-Type: multipart/mixed;boundary=x\nContact: <sip:x@192.0.2.9>"
            self.send(
                made("INVITE sip:b@pbx.test", headers, body=body, via=via, call_id=f"m{number}"),
                caller,
            )
        self.assertEqual(self.response(BROWSER).status, 488)
        self.assertEqual(self.request(PHONE, "INVITE").body, body)

    def test_a_large_offer_goes_by_udp_when_it_has_become_small(self) -> None:
        """What counts is what is sent (18.1.1)."""
        self.invite(browser_sdp("a=x:" + "y" * 1500 + "\r\n"), BROWSER, PHONE)
        self.assertEqual(self.request(PHONE, "INVITE").body, b"offered 1 for rtp")

    def test_other_methods(self) -> None:
        """A MESSAGE is not a call, whatever it carries."""
        self.targets = [self.target(PHONE)]
        via = "SIP/2.0/WS x.invalid;branch=z9hG4bKmsg"
        headers = "Content-Type: application/sdp"
        self.send(made("MESSAGE sip:b@pbx.test", headers, body=browser_sdp(), via=via), BROWSER)
        self.assertEqual(self.request(PHONE, "MESSAGE").body, browser_sdp())


class AlwaysTests(MediaTestCase):
    relay_phones: RelayPhones = "always"

    def test_always(self) -> None:
        """Every call between phones."""
        self.invite(phone_sdp(DESK.host), DESK, PHONE)
        self.assertEqual(self.request(PHONE, "INVITE").body, b"offered 1 for rtp")


class NeverTests(MediaTestCase):
    relay_phones: RelayPhones = "never"

    def test_never(self) -> None:
        """Not even behind a NAT; browsers still are bridged."""
        outside = Address("UDP", "198.51.100.9", 61000)
        self.invite(phone_sdp("192.168.1.20"), outside, PHONE)
        self.assertEqual(self.request(PHONE, "INVITE").body, phone_sdp("192.168.1.20"))
        self.invite(browser_sdp(), BROWSER, PHONE, number=2)
        self.assertEqual(self.request(PHONE, "INVITE").body, b"offered 1 for rtp")


class CallTests(MediaTestCase):
    def test_a_call(self) -> None:
        """Both descriptions are replaced, with the right length; BYE frees the session and tells
        how it was heard.
        """
        arrived, answered = self.established()
        self.assertEqual(arrived.get("content-length"), "17")
        self.assertEqual(answered.body, b"answered 2 for webrtc")
        self.assertEqual(answered.get("content-length"), "21")
        (call,) = self.dialogs.all()
        self.pump(0.1)
        self.assertEqual(call.profiles["media"], "fake 1 webrtc rtp")
        self.within(answered, "BYE", BROWSER)
        self.assertFree()
        self.pump(0.1)
        (ended,) = self.heard
        self.assertEqual((ended.call, ended.statistics.packets), (call.did, 200))

    def test_early_media(self) -> None:
        """The answer in a 183 and again in the 200 is one answer."""
        self.invite(browser_sdp(), BROWSER, PHONE)
        arrived = self.request(PHONE, "INVITE")
        self.answer(arrived, PHONE, 183, phone_sdp())
        self.answer(arrived, PHONE, 200, phone_sdp())
        early, final = self.responses(BROWSER)
        self.assertEqual(early.body, b"answered 2 for webrtc")
        self.assertEqual(final.body, early.body)

    def test_repeated(self) -> None:
        """A 200 that comes again says the same, and the engine is not asked again."""
        self.invite(browser_sdp(), BROWSER, PHONE)
        arrived = self.request(PHONE, "INVITE")
        for _ in range(3):
            self.answer(arrived, PHONE, 200, phone_sdp())
        bodies = {one.body for one in self.responses(BROWSER)}
        self.assertEqual(bodies, {b"answered 2 for webrtc"})
        self.assertEqual(self.asked, ["offer", "answer"])

    def test_refused_offer(self) -> None:
        """488 with the reason, and nothing is sent to the phone."""
        self.invite(browser_sdp("a=refused\r\n"), BROWSER, PHONE)
        refused = self.response(BROWSER)
        self.assertEqual(refused.status, 488)
        self.assertEqual(refused.get("warning"), '305 pbx "No Common Codec"')
        self.assertEqual(self.at(PHONE), [])
        self.assertFree()

    def test_unfit_answer(self) -> None:
        """The callee's 200 is acknowledged and its call ended; the caller gets 488."""
        self.invite(browser_sdp(), BROWSER, PHONE)
        arrived = self.request(PHONE, "INVITE")
        self.answer(arrived, PHONE, 200, phone_sdp(more="a=refused\r\n"))
        refused = self.response(BROWSER)
        self.assertEqual(refused.status, 488)
        self.assertEqual(refused.get("warning"), '305 pbx "No Common Codec"')
        ack, bye = self.at(PHONE)
        assert isinstance(ack, Request)
        assert isinstance(bye, Request)
        self.assertEqual((ack.method, bye.method), ("ACK", "BYE"))
        self.assertEqual(ack.uri_text, "sip:callee@192.0.2.60:5060")
        self.assertEqual((ack.cseq.number, bye.cseq.number), (1, 2))
        self.assertEqual((ack.to.tag, ack.get_list("route")), ("tag-5060", []))
        self.assertIn("cause=488", bye.get("reason") or "")
        self.assertFree()
        self.assertEqual(self.dialogs.all(), [])

    def test_unfit_early_answer(self) -> None:
        """A 183 that cannot be bridged ends the branch: better no call than a silent one."""
        self.invite(browser_sdp(), BROWSER, PHONE)
        arrived = self.request(PHONE, "INVITE")
        self.answer(arrived, PHONE, 183, phone_sdp(more="a=refused\r\n"))
        self.assertEqual(self.response(BROWSER).status, 488)
        self.assertEqual(self.request(PHONE, "CANCEL").call_id, "call-1")
        self.answer(arrived, PHONE, 487)
        self.assertFree()

    def test_refused_call(self) -> None:
        """Busy: everything is freed."""
        self.invite(browser_sdp(), BROWSER, PHONE)
        self.answer(self.request(PHONE, "INVITE"), PHONE, 486)
        self.assertEqual(self.response(BROWSER).status, 486)
        self.assertFree()

    def test_late_offer(self) -> None:
        """A phone calls without offer: the browser's 200 has it, the ACK the answer, also when
        both come again.
        """
        self.invite(b"", PHONE, BROWSER)
        arrived = self.request(BROWSER, "INVITE")
        self.assertEqual(arrived.body, b"")
        self.answer(arrived, BROWSER, 200, browser_sdp())
        self.answer(arrived, BROWSER, 200, browser_sdp())
        first, again = self.responses(PHONE)
        self.assertEqual(first.body, b"offered 1 for rtp")
        self.assertEqual(again.body, first.body)
        for _ in range(2):
            self.within(first, "ACK", PHONE, phone_sdp())
        bodies = [one.body for one in self.requests(BROWSER, "ACK")]
        self.assertEqual(bodies, [b"answered 2 for webrtc"] * 2)
        assert self.engine is not None
        (_, _, source, target), (_, _, answerer, _) = self.engine.asked
        self.assertEqual(
            (source.side, source.kind, target.side), (Side.CALLEE, LegKind.WEBRTC, Side.CALLER)
        )
        self.assertEqual((answerer.side, answerer.kind), (Side.CALLER, LegKind.RTP))

    def test_unfit_answer_in_ack(self) -> None:
        """The call is ended on both sides."""
        self.invite(b"", PHONE, BROWSER)
        self.answer(self.request(BROWSER, "INVITE"), BROWSER, 200, browser_sdp())
        answered = self.response(PHONE)
        self.within(answered, "ACK", PHONE, phone_sdp(more="a=refused\r\n"))
        ack, bye = self.at(BROWSER)
        assert isinstance(ack, Request)
        assert isinstance(bye, Request)
        self.assertEqual((ack.method, bye.method), ("ACK", "BYE"))
        self.request(PHONE, "BYE")
        self.assertFree()

    def test_reliable_answer(self) -> None:
        """RFC 3262: the offer in a reliable 183, the answer in PRACK."""
        self.invite(b"", PHONE, BROWSER)
        arrived = self.request(BROWSER, "INVITE")
        self.answer(arrived, BROWSER, 183, browser_sdp(), Require="100rel", RSeq="1")
        early = self.response(PHONE)
        self.assertEqual(early.body, b"offered 1 for rtp")
        self.within(early, "PRACK", PHONE, phone_sdp())
        self.assertEqual(self.request(BROWSER, "PRACK").body, b"answered 2 for webrtc")

    def test_answered_without_description(self) -> None:
        """It was all said in a reliable 183: the 200 is empty, and the call is bridged all the
        same.
        """
        self.invite(browser_sdp(), BROWSER, PHONE)
        arrived = self.request(PHONE, "INVITE")
        self.answer(arrived, PHONE, 183, phone_sdp(), Require="100rel", RSeq="1")
        early = self.response(BROWSER)
        self.within(early, "PRACK", BROWSER)
        self.answer(self.request(PHONE, "PRACK"), PHONE)
        self.answer(arrived, PHONE)
        self.pump(0.1)
        (call,) = self.dialogs.all()
        self.assertEqual(call.profiles["media"], "fake 1 webrtc rtp")
        self.within(early, "BYE", BROWSER, cseq=3)
        self.pump(0.1)
        self.assertEqual([one.call for one in self.heard], [call.did])
        self.assertFree()

    def test_changes(self) -> None:
        """re-INVITE and UPDATE of both sides: hold, codec, ICE restart."""
        arrived, answered = self.established()
        self.within(answered, "INVITE", BROWSER, browser_sdp("a=sendonly\r\n"))
        again = self.request(PHONE, "INVITE")
        self.assertEqual(again.body, b"offered 3 for rtp")
        self.answer(again, PHONE, 200, phone_sdp(more="a=recvonly\r\n"))
        self.assertEqual(self.response(BROWSER).body, b"answered 4 for webrtc")
        self.within(answered, "ACK", BROWSER)
        self.at(PHONE)
        self.back(arrived, answered, "UPDATE", PHONE, phone_sdp(more="a=inactive\r\n"))
        update = self.request(BROWSER, "UPDATE")
        self.assertEqual(update.body, b"offered 5 for webrtc")
        self.answer(update, BROWSER, 200, browser_sdp("a=inactive\r\n"))
        self.assertEqual(self.response(PHONE).body, b"answered 6 for rtp")

    def test_change_without_offer(self) -> None:
        """A re-INVITE of the phone without description: the browser offers, the ACK answers."""
        arrived, answered = self.established()
        self.back(arrived, answered, "INVITE", PHONE)
        again = self.request(BROWSER, "INVITE")
        self.answer(again, BROWSER, 200, browser_sdp("a=new\r\n"))
        offered = self.response(PHONE)
        self.assertEqual(offered.body, b"offered 3 for rtp")
        self.back(arrived, answered, "ACK", PHONE, phone_sdp())
        self.assertEqual(self.request(BROWSER, "ACK").body, b"answered 4 for webrtc")

    def test_the_same_again(self) -> None:
        """A refresh repeats both descriptions, and gets the same as before."""
        _, answered = self.established()
        self.within(answered, "INVITE", BROWSER, browser_sdp())
        again = self.request(PHONE, "INVITE")
        self.assertEqual(again.body, b"offered 1 for rtp")
        self.answer(again, PHONE, 200, phone_sdp())
        self.assertEqual(self.response(BROWSER).body, b"answered 2 for webrtc")

    def test_refused_change(self) -> None:
        """488 to who asks; the call goes on as it was."""
        _, answered = self.established()
        self.within(answered, "INVITE", BROWSER, browser_sdp("a=refused\r\n"))
        self.assertEqual(self.response(BROWSER).status, 488)
        self.assertEqual(self.at(PHONE), [])
        self.assertEqual(len(self.dialogs.all()), 1)

    def test_unfit_answer_to_a_change(self) -> None:
        """Now the two sides no longer agree: 488, and the call is over."""
        _, answered = self.established()
        self.within(answered, "INVITE", BROWSER, browser_sdp("a=x\r\n"))
        self.answer(self.request(PHONE, "INVITE"), PHONE, 200, phone_sdp(more="a=refused\r\n"))
        self.assertEqual(
            [one.method for one in self.at(PHONE) if isinstance(one, Request)], ["ACK", "BYE"]
        )
        found = [
            one.method if isinstance(one, Request) else one.start_line.split(" ")[1]
            for one in self.at(BROWSER)
        ]
        self.assertEqual(sorted(found), ["100", "488", "BYE"])
        self.assertFree()

    def test_media_timeout(self) -> None:
        """A dead call gets BYE on both sides; one that rings does not."""
        assert self.engine is not None
        self.invite(browser_sdp(), BROWSER, PHONE)
        arrived = self.request(PHONE, "INVITE")
        self.answer(arrived, PHONE, 183, phone_sdp())
        (session,) = self.engine.sessions
        self.media.media_timeout(session, Side.CALLEE)
        self.assertEqual(self.at(PHONE), [])
        self.answer(arrived, PHONE, 200, phone_sdp())
        self.at(BROWSER)
        self.media.media_timeout(session, Side.CALLEE)
        self.assertIn("Media Timeout", self.request(PHONE, "BYE").get("reason") or "")
        self.request(BROWSER, "BYE")
        self.assertFree()
        self.media.media_timeout(session, Side.CALLEE)

    def test_list(self) -> None:
        """What operators see: each session, its sides, and how they are heard."""
        self.established()
        (call,) = self.dialogs.all()
        command: Any
        ((name, _, command),) = self.media.commands()
        self.assertEqual(name, "media_list")
        told: Any = self.successResultOf(Deferred.fromCoroutine(command()))
        (session,) = told["sessions"]
        self.assertEqual(told["engine"], "fake")
        self.assertEqual(
            (session["dialog"], session["branch"], session["answered"]), (call.did, "1", True)
        )
        heard = {"packets": 100, "loss": 0.0099, "jitter_ms": 2.0, "mos": 4.31}
        self.assertEqual(session["caller"], {"kind": "webrtc", **heard})
        self.assertEqual(session["callee"], {"kind": "rtp", **heard})

    def test_keys(self) -> None:
        """Whoever subscribes hears of them."""
        self.media.dtmf(MediaSession("did", "1"), Side.CALLER, "5", 100)
        self.assertEqual(self.heard, [KeyPressed("did", Side.CALLER, "5", 100)])


class ForkTests(MediaTestCase):
    def test_branches(self) -> None:
        """Each has a session; the losers' are freed; a browser among them is not bridged."""
        self.invite(browser_sdp(), BROWSER, PHONE, DESK, OTHER)
        first, second = self.request(PHONE, "INVITE"), self.request(DESK, "INVITE")
        other = self.request(OTHER, "INVITE")
        self.assertEqual((first.body, second.body), (b"offered 1 for rtp", b"offered 2 for rtp"))
        self.assertEqual(other.body, browser_sdp())
        assert self.engine is not None
        self.assertEqual(len({session.call for session in self.engine.sessions}), 1)
        self.answer(first, PHONE, 183, phone_sdp())
        self.answer(second, DESK, 183, phone_sdp(DESK.host))
        self.assertEqual(len({one.body for one in self.responses(BROWSER)}), 2)
        self.answer(second, DESK, 200, phone_sdp(DESK.host))
        self.request(PHONE, "CANCEL")
        self.answer(first, PHONE, 487)
        self.answer(other, OTHER, 487)
        self.assertEqual([one.branch for one in self.engine.deleted], ["1"])
        self.assertEqual(len(self.engine.sessions), 1)

    def test_answered_where_no_engine_is_needed(self) -> None:
        """A phone answers the phone: what was bridged towards the browser is freed at once."""
        self.invite(phone_sdp(DESK.host), DESK, PHONE, BROWSER)
        direct, bridged = self.request(PHONE, "INVITE"), self.request(BROWSER, "INVITE")
        self.assertEqual(direct.body, phone_sdp(DESK.host))
        self.assertEqual(bridged.body, b"offered 1 for webrtc")
        self.answer(direct, PHONE, 200, phone_sdp())
        self.answer(bridged, BROWSER, 487)
        self.assertEqual(self.response(DESK).body, phone_sdp())
        self.assertFree()
        self.assertEqual(len(self.dialogs.all()), 1)

    def test_two_answers(self) -> None:
        """The caller hangs up on the second: its answer does not touch the call."""
        self.invite(browser_sdp(), BROWSER, PHONE, DESK)
        first, second = self.request(PHONE, "INVITE"), self.request(DESK, "INVITE")
        self.answer(first, PHONE, 200, phone_sdp())
        self.answer(second, DESK, 200, phone_sdp(DESK.host))
        won, late = self.responses(BROWSER)
        self.assertEqual((won.body, late.body), (b"answered 3 for webrtc", phone_sdp(DESK.host)))
        self.assertEqual(self.asked.count("answer"), 1)

    def test_unfit_answer_among_others(self) -> None:
        """The branch that cannot be bridged does not count: who answers next is heard."""
        self.invite(browser_sdp(), BROWSER, PHONE, DESK)
        first, second = self.request(PHONE, "INVITE"), self.request(DESK, "INVITE")
        self.answer(first, PHONE, 200, phone_sdp(more="a=refused\r\n"))
        self.assertEqual(self.responses(BROWSER), [])
        self.answer(second, DESK, 200, phone_sdp(DESK.host))
        self.assertEqual(self.response(BROWSER).body, b"answered 4 for webrtc")
        self.pump(0.1)
        (call,) = self.dialogs.all()
        self.assertEqual(call.profiles["media"], "fake 2 webrtc rtp")

    def test_one_after_the_other(self) -> None:
        """The caller's side of a failed branch stays until the next one has begun."""
        assert self.engine is not None
        self.targets = [self.target(PHONE, q=1.0), self.target(DESK, q=0.5)]
        self.invite(browser_sdp(), BROWSER)
        first = self.request(PHONE, "INVITE")
        self.answer(first, PHONE, 183, phone_sdp())
        self.answer(first, PHONE, 486)
        self.assertEqual(self.request(DESK, "INVITE").body, b"offered 3 for rtp")
        self.assertEqual(self.asked, ["offer", "answer", "offer"])
        self.assertEqual([one.branch for one in self.engine.deleted], ["1"])
        self.assertEqual([one.branch for one in self.engine.sessions], ["2"])

    def test_a_refused_branch_among_others(self) -> None:
        """Only the outcome counts: who answers wins, 488 when nobody does."""
        self.invite(browser_sdp("a=refused\r\n"), BROWSER, PHONE, OTHER)
        other = self.request(OTHER, "INVITE")
        self.answer(other, OTHER, 200, browser_sdp())
        self.assertEqual(self.response(BROWSER).status, 200)


class SlowEngineTests(MediaTestCase):
    """Engines in other programs take their time."""

    def setUp(self) -> None:
        super().setUp()
        assert self.engine is not None
        self.slow = self.engine
        self.slow.slow = True

    def test_responses_stay_in_order(self) -> None:
        """180, 183 and 200 arrive as they were sent, however long the engine thinks."""
        self.invite(browser_sdp(), BROWSER, PHONE)
        self.assertEqual(self.at(PHONE), [])
        self.slow.go()
        arrived = self.request(PHONE, "INVITE")
        self.answer(arrived, PHONE, 183, phone_sdp())
        self.answer(arrived, PHONE, 180)
        self.answer(arrived, PHONE, 200, phone_sdp(more="a=other\r\n"))
        self.assertEqual(self.responses(BROWSER), [])
        self.slow.go()
        self.assertEqual([one.status for one in self.responses(BROWSER)], [183, 180])
        self.slow.go()
        self.assertEqual(self.response(BROWSER).status, 200)

    def test_cancelled_while_it_thinks(self) -> None:
        """487 at once; what it makes afterwards is freed."""
        invite = self.invite(browser_sdp(), BROWSER, PHONE)
        cancel = made("CANCEL sip:callee@pbx.test", via=invite.get("via") or "", call_id="call-1")
        self.send(cancel, BROWSER)
        self.assertEqual([one.status for one in self.responses(BROWSER)], [200, 487])
        self.slow.go()
        self.assertEqual(self.at(PHONE), [])
        self.assertFree()

    def test_callee_gives_up_while_it_thinks(self) -> None:
        """A negative response waits for its turn too."""
        self.invite(browser_sdp(), BROWSER, PHONE)
        self.slow.go()
        arrived = self.request(PHONE, "INVITE")
        self.answer(arrived, PHONE, 183, phone_sdp())
        self.answer(arrived, PHONE, 486)
        self.assertEqual(self.responses(BROWSER), [])
        self.slow.go()
        self.assertEqual([one.status for one in self.responses(BROWSER)], [183, 486])
        self.assertFree()

    def test_late_offer(self) -> None:
        """Also an ACK waits for its answer."""
        self.invite(b"", PHONE, BROWSER)
        self.answer(self.request(BROWSER, "INVITE"), BROWSER, 200, browser_sdp())
        self.slow.go()
        answered = self.response(PHONE)
        self.within(answered, "ACK", PHONE, phone_sdp())
        self.assertEqual(self.at(BROWSER), [])
        self.slow.go()
        self.assertEqual(self.request(BROWSER, "ACK").body, b"answered 2 for webrtc")


class RestartTests(MediaTestCase):
    def restored(self, words: str) -> Call:
        """A call that was read back from the database."""
        call = Call("did.1", "call-1", "a", BROWSER)
        call.to_tag, call.callee, call.answered = "b", PHONE, 900.0
        call.profiles["media"] = words
        self.dialogs._table.add(call, self.dialogs._active)
        self.events.publish(CallRestored(call))
        return call

    def test_media_that_is_lost(self) -> None:
        """The engine of this process died with it: the call is ended soon after the start."""
        self.restored("native 1 webrtc rtp")
        self.assertEqual(len(self.dialogs.all()), 1)
        self.pump(6)
        self.assertEqual(self.dialogs.all(), [])

    def test_calls_without_engine_go_on(self) -> None:
        """Their media never came near us."""
        self.restored("")
        self.pump(6)
        self.assertEqual(len(self.dialogs.all()), 1)

    def test_media_that_lives_on(self) -> None:
        """An engine of its own has kept the session: it goes on, and is freed at the end."""
        assert self.engine is not None
        self.engine.outlives_us = True
        session = MediaSession("did.1", "1")
        self.engine.sessions[session] = 1
        self.restored("fake 1 webrtc rtp")
        self.pump(6)
        self.assertEqual(len(self.dialogs.all()), 1)
        self.dialogs.end("did.1")
        self.assertEqual(self.engine.deleted, [session])


class NoPolicyTests(MediaTestCase):
    def test_nobody_is_called(self) -> None:
        """A call that the policy refuses never comes near the engine."""
        self.policy.decide = lambda request, arrival: Reply(404)
        self.invite(browser_sdp(), BROWSER)
        self.assertEqual(self.response(BROWSER).status, 404)
        self.assertEqual(self.asked, [])

    def test_a_thousand_calls_leave_nothing(self) -> None:
        """Refused, cancelled, answered and ended."""
        for number in range(1000):
            invite = self.invite(browser_sdp(), BROWSER, PHONE, number=number)
            arrived = self.request(PHONE, "INVITE")
            if number % 3 == 0:
                self.answer(arrived, PHONE, 486)
            elif number % 3 == 1:
                cancel = made(
                    "CANCEL sip:callee@pbx.test",
                    via=invite.get("via") or "",
                    call_id=f"call-{number}",
                )
                self.answer(arrived, PHONE, 183, phone_sdp())
                self.send(cancel, BROWSER)
                self.answer(arrived, PHONE, 487)
            else:
                self.answer(arrived, PHONE, 200, phone_sdp())
                answered = self.response(BROWSER)
                self.within(answered, "ACK", BROWSER)
                self.within(answered, "BYE", BROWSER)
            self.at(BROWSER)
            self.at(PHONE)
        self.assertFree()
