"""Offers and answers on their way through an engine (spec 35 section 1)."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from pbx.errors import MediaFailed
from pbx.legs import LegKind
from pbx.media.bridging import (
    Endpoint,
    Payloads,
    bridged_answer,
    bridged_offer,
    direction_of,
    text_of,
)
from pbx.media.sdp import Codec, parse
from tests.media.browser import Browser
from tests.media.test_sdp import PHONE

PLAIN = Endpoint(kind=LegKind.RTP, host="192.0.2.1", port=20000, rtcp_port=20001)
WEBRTC = Endpoint(
    kind=LegKind.WEBRTC,
    host="192.0.2.1",
    port=20002,
    ufrag="BzOZ",
    password="FhmL7DwVLhbai0polgtlisM2",
    fingerprint="sha-256 55:E9",
    setup="passive",
    candidates=("1 1 UDP 2113929471 192.0.2.1 20002 typ host",),
)
CODECS = ("pcmu", "pcma", "g722")
ANSWER = b"""\
v=0
o=- 1795422278 1 IN IP4 192.0.2.5
s=-
c=IN IP4 192.0.2.5
t=0 0
m=audio 30000 RTP/AVP 0 126
a=rtpmap:126 telephone-event/8000
a=fmtp:126 0-16
"""
VIDEO = """\
m=video 9 UDP/TLS/RTP/SAVPF 96 97
a=mid:1
a=rtpmap:96 VP8/90000
m=application 9 UDP/DTLS/SCTP webrtc-datachannel
a=mid:2
"""


def browser() -> Browser:
    return Browser(lambda data, at: None)


class TowardsPhonesTests(SynchronousTestCase):
    def seen(self, offer: bytes, codecs: tuple[str, ...] = CODECS) -> str:
        return text_of(bridged_offer(parse(offer), PLAIN, codecs), PLAIN).decode()

    def test_worked_example(self) -> None:
        """Spec 35, section 1.3: all a phone gets to see of Chromium's offer."""
        self.assertEqual(
            self.seen(browser().offer()).split("\r\n"),
            [
                "v=0",
                "o=- 6798698091143193490 1 IN IP4 192.0.2.1",
                "s=-",
                "c=IN IP4 192.0.2.1",
                "t=0 0",
                "m=audio 20000 RTP/AVP 9 0 8 126",
                "a=rtpmap:9 G722/8000",
                "a=rtpmap:0 PCMU/8000",
                "a=rtpmap:8 PCMA/8000",
                "a=rtpmap:126 telephone-event/8000",
                "a=fmtp:126 0-16",
                "a=sendrecv",
                "",
            ],
        )

    def test_opus_for_those_who_know_it(self) -> None:
        """With the keys at its own clock rate."""
        seen = self.seen(browser().offer(), ("opus",))
        self.assertIn("m=audio 20000 RTP/AVP 111 110\r\n", seen)
        self.assertIn("a=rtpmap:111 opus/48000/2\r\n", seen)
        self.assertIn("a=fmtp:111 minptime=10;useinbandfec=1\r\n", seen)

    def test_only_audio(self) -> None:
        """Phones see one m-line, browsers get the others back refused, in order."""
        peer = browser()
        peer.further = VIDEO
        offer = parse(peer.offer())
        seen = bridged_offer(offer, PLAIN, CODECS)
        self.assertEqual([one.kind for one in seen.media], ["audio"])
        got = text_of(bridged_answer(parse(ANSWER), offer, WEBRTC), WEBRTC).decode()
        lines = [line for line in got.split("\r\n") if line[:2] == "m=" or line[:6] == "a=mid:"]
        self.assertEqual(
            lines,
            [
                *("m=audio 20002 UDP/TLS/RTP/SAVPF 0 126", "a=mid:0"),
                *("m=video 0 UDP/TLS/RTP/SAVPF 96", "a=mid:1"),
                *("m=application 0 UDP/DTLS/SCTP webrtc-datachannel", "a=mid:2"),
            ],
        )
        self.assertIn("a=group:BUNDLE 0\r\n", got)

    def test_audio_behind_video(self) -> None:
        """The position of the line is kept."""
        peer = browser()
        text = peer.offer().decode()
        head, audio = text.split("m=audio")
        offer = parse((head + VIDEO + "m=audio" + audio).encode())
        got = bridged_answer(parse(ANSWER), offer, WEBRTC)
        self.assertEqual([bool(one.port) for one in got.media], [False, False, True])

    def test_answer(self) -> None:
        """Spec 35, section 1.3: what a browser needs, and nothing that it may not get."""
        offer = parse(browser().offer())
        got = text_of(bridged_answer(parse(ANSWER), offer, WEBRTC), WEBRTC).decode()
        self.assertEqual(
            got.split("\r\n"),
            [
                "v=0",
                "o=- 1795422278 1 IN IP4 192.0.2.1",
                "s=-",
                "c=IN IP4 192.0.2.1",
                "t=0 0",
                "a=ice-lite",
                "a=group:BUNDLE 0",
                "m=audio 20002 UDP/TLS/RTP/SAVPF 0 126",
                "a=rtcp:20002 IN IP4 192.0.2.1",
                "a=ice-ufrag:BzOZ",
                "a=ice-pwd:FhmL7DwVLhbai0polgtlisM2",
                "a=fingerprint:sha-256 55:E9",
                "a=setup:passive",
                "a=mid:0",
                "a=msid:pbx audio",
                "a=rtcp-mux",
                "a=candidate:1 1 UDP 2113929471 192.0.2.1 20002 typ host",
                "a=end-of-candidates",
                "a=rtpmap:0 PCMU/8000",
                "a=rtpmap:126 telephone-event/8000",
                "a=fmtp:126 0-16",
                "a=sendrecv",
                "",
            ],
        )

    def test_numbers_of_the_offer(self) -> None:
        """A browser is answered in its own numbers, whatever the phone's are."""
        offer = parse(browser().offer())
        answer = parse(ANSWER.replace(b"126", b"101").replace(b" 0 101", b" 101 0"))
        got = bridged_answer(answer, offer, WEBRTC)
        self.assertEqual(got.media[0].formats, ("126", "0"))
        numbers = Payloads(offer.media[0].codecs, answer.media[0].codecs)
        self.assertEqual((numbers.to_answerer, numbers.to_offerer), ({126: 101}, {101: 126}))
        same = Payloads(offer.media[0].codecs, parse(ANSWER).media[0].codecs)
        self.assertEqual((same.to_answerer, same.to_offerer), (None, None))

    def test_a_number_that_means_something_else(self) -> None:
        """The answerer sends by the offer: its own 111 for keys is not the offer's 111."""
        numbers = Payloads(
            [Codec(111, "opus", 48000, "2"), Codec(126, "telephone-event", 8000)],
            [Codec(111, "telephone-event", 8000)],
        )
        self.assertEqual((numbers.to_answerer, numbers.to_offerer), ({126: 111}, None))

    def test_no_common_codec(self) -> None:
        """305 in the offer, and in an answer that agrees to nothing but keys."""
        offer = parse(browser().offer())
        error = self.assertRaises(MediaFailed, bridged_offer, offer, PLAIN, ("g729",))
        self.assertEqual(error.warning, 305)
        keys = parse(ANSWER.replace(b" 0 126", b" 126"))
        error = self.assertRaises(MediaFailed, bridged_answer, keys, offer, WEBRTC)
        self.assertEqual(error.warning, 305)

    def test_no_audio(self) -> None:
        """304: an answer that refuses the only line, and an offer of video alone."""
        offer = parse(browser().offer())
        refused = parse(ANSWER.replace(b"30000", b"0"))
        self.assertEqual(
            self.assertRaises(MediaFailed, bridged_answer, refused, offer, WEBRTC).warning, 304
        )
        video = parse(PHONE.replace(b"m=audio", b"m=video"))
        self.assertEqual(
            self.assertRaises(MediaFailed, bridged_offer, video, PLAIN, CODECS).warning, 304
        )


class TowardsBrowsersTests(SynchronousTestCase):
    def test_offer(self) -> None:
        """Spec 35, section 1.4: BUNDLE, mid 0 and the phone's numbers."""
        got = bridged_offer(parse(PHONE), WEBRTC, CODECS)
        self.assertEqual(got.get("group"), "BUNDLE 0")
        (audio,) = got.media
        self.assertEqual((audio.proto, audio.formats), ("UDP/TLS/RTP/SAVPF", ("0", "101")))
        self.assertEqual(audio.get("fmtp"), "101 0-15")
        self.assertEqual(audio.get("ptime"), "20")
        self.assertEqual(audio.get("sendonly"), "")

    def test_lines_never_disappear(self) -> None:
        """A browser that began with video still finds its line in the phone's re-INVITE."""
        peer = browser()
        peer.mid, peer.further = "a", VIDEO
        got = bridged_offer(parse(PHONE), WEBRTC, CODECS, parse(peer.offer()).media)
        self.assertEqual([one.kind for one in got.media], ["audio", "video", "application"])
        self.assertEqual([one.port for one in got.media], [20002, 0, 0])
        self.assertEqual(got.get("group"), "BUNDLE a")
        self.assertEqual(got.media[0].get("mid"), "a")

    def test_sdes(self) -> None:
        """No keys, no bridge: 302."""
        secret = parse(PHONE.replace(b"RTP/AVP", b"RTP/SAVP"))
        error = self.assertRaises(MediaFailed, bridged_offer, secret, WEBRTC, CODECS)
        self.assertEqual(error.warning, 302)


class HoldTests(SynchronousTestCase):
    def test_old_hold(self) -> None:
        """0.0.0.0 is the hold of RFC 2543; browsers always write it and mean nothing."""
        text = PHONE.replace(b"a=sendonly\n", b"").replace(b"192.0.2.5\nt", b"0.0.0.0\nt")
        self.assertEqual(direction_of(parse(text)), "sendonly")
        both = text.replace(b"a=ptime:20", b"a=recvonly")
        self.assertEqual(direction_of(parse(both)), "inactive")
        self.assertEqual(direction_of(parse(browser().offer())), "sendrecv")


class BetweenPhonesTests(SynchronousTestCase):
    def test_transport_is_hidden(self) -> None:
        """Addresses, ICE and RTCP ports of the one side are of no use to the other."""
        text = PHONE.replace(
            b"a=ptime:20",
            b"a=ptime:20\na=rtcp:4567\na=candidate:1 1 UDP 1 10.0.0.1 4000 typ host\n"
            b"a=ice-ufrag:x\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:abc",
        )
        got = text_of(bridged_offer(parse(text), PLAIN, ()), PLAIN)
        for gone in (b"4567", b"candidate", b"ice-", b"192.0.2.5", b"192.0.2.6"):
            self.assertNotIn(gone, got)
        self.assertIn(b"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:abc\r\n", got)
        self.assertIn(b"m=audio 20000 RTP/AVP 0 18 101\r\n", got)

    def test_answer(self) -> None:
        """As it came, with our address; the video line is refused."""
        got = bridged_answer(parse(ANSWER), parse(PHONE), PLAIN)
        self.assertEqual([one.port for one in got.media], [20000, 0])
        self.assertEqual(got.media[0].formats, ("0", "126"))

    def test_rtcp_elsewhere(self) -> None:
        """Only an unusual RTCP port is named."""
        other = Endpoint(kind=LegKind.RTP, host="192.0.2.1", port=20000, rtcp_port=20009)
        self.assertEqual(bridged_offer(parse(PHONE), other, ()).media[0].get("rtcp"), "20009")
        self.assertIsNone(bridged_offer(parse(PHONE), PLAIN, ()).media[0].get("rtcp"))
