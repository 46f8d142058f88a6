"""Descriptions that nobody should write: refused, or bridged as far as they make sense."""

from __future__ import annotations

import random

from pbx.errors import MediaFailed
from pbx.legs import MediaSession
from tests.media.browser import Browser
from tests.media.native.engine_case import BROWSER, PHONE, EngineTestCase, phone_sdp

#: Pieces that go where they do not belong.
SCRAPS = (
    b"a=candidate:1 1 udp 99999999999999999999 ../../etc/passwd -1 typ host\r\n",
    b"a=candidate:\r\n",
    b"a=fingerprint:sha-256 zz\r\n",
    b"a=fingerprint:sha-256 " + b"AB:" * 400 + b"AB\r\n",
    b"a=fingerprint:md5 " + b"AB:" * 15 + b"AB\r\n",
    b"a=fingerprint\r\n",
    b"a=setup:\r\n",
    b"a=setup:holdconn\r\n",
    b"a=ice-lite\r\n",
    b"a=ice-ufrag:\r\n",
    b"a=ice-pwd:" + b"x" * 1500 + b"\r\n",
    b"a=mid:\r\n",
    b"a=mid:" + b"m" * 900 + b"\r\n",
    b"a=rtcp:99999999\r\n",
    b"a=rtcp:x\r\n",
    b"a=rtpmap:0 /\r\n",
    b"a=rtpmap:126 telephone-event/0\r\n",
    b"a=rtpmap:126 telephone-event/8000/" + b"9" * 50 + b"\r\n",
    b"a=rtpmap: \r\n",
    b"a=fmtp:\r\n",
    b"a=ptime:-1\r\n",
    b"c=IN IP6 fe80::1%eth0\r\n",
    b"c=IN IP4 256.1.1.1\r\n",
    b"c=IN IP4 0.0.0.0\r\n",
    b"m=audio 0 RTP/AVP 0\r\n",
    b"m=audio 4000 RTP/AVP\r\n",
    b"m=audio 4000/99 RTP/AVP 0 0 0 0\r\n",
    b"m=video 4000 UDP/TLS/RTP/SAVPF 96\r\n",
    b"m= \r\n",
    b"a=group:BUNDLE\r\n",
    b"a=sendrecv\r\na=inactive\r\n",
    b"\x00\xff\xfe\r\n",
    b"\xe2\x98\x83=\xe2\x98\x83\r\n",
)


def spoilt(good: bytes, chance: random.Random) -> bytes:
    """A description with a few things wrong."""
    data = good
    for _ in range(chance.randint(1, 4)):
        lines = data.split(b"\r\n")
        at = chance.randrange(len(lines))
        match chance.randrange(6):
            case 0:
                lines.insert(at, chance.choice(SCRAPS).rstrip(b"\r\n"))
            case 1:
                del lines[at]
            case 2:
                lines.append(lines[at])
            case 3:
                lines[at] = lines[at][: chance.randrange(len(lines[at]) + 1)]
            case 4:
                lines[at] = bytes(
                    chance.randrange(256) if not chance.randrange(9) else one for one in lines[at]
                )
            case _:
                other = chance.randrange(len(lines))
                lines[at], lines[other] = lines[other], lines[at]
        data = b"\r\n".join(lines)
    return data


class SpoiltDescriptionTests(EngineTestCase):
    def test_nothing_but_a_refusal(self) -> None:
        """2,000 spoilt offers and answers: MediaFailed at worst, and nothing is left."""
        refused = bridged = 0
        for seed in range(2000):
            chance = random.Random(seed)
            session = MediaSession(f"call-{seed}", "1")
            browser = Browser(lambda data, at: None)
            try:
                if seed % 2:
                    caller = BROWSER
                    self.offer(spoilt(browser.offer(), chance), BROWSER, PHONE, session)
                    self.answer(spoilt(phone_sdp(), chance), PHONE, BROWSER, session)
                    self.offer(spoilt(browser.offer(), chance), caller, PHONE, session)
                else:
                    self.offer(spoilt(phone_sdp(), chance), PHONE, BROWSER, session)
                    self.answer(spoilt(browser.answer(), chance), BROWSER, PHONE, session)
                    self.offer(spoilt(phone_sdp(), chance), PHONE, BROWSER, session)
                bridged += 1
            except MediaFailed:
                refused += 1
            self.clock.advance(0.1)
            self.delete(session)
        self.assertNothingLeft()
        self.assertTrue(refused > 300, refused)
        self.assertTrue(bridged > 300, bridged)

    def test_no_line_from_one_side_reaches_the_other_unasked(self) -> None:
        """Neither candidates nor keys nor a second connection line."""
        offer = phone_sdp() + b"".join(one for one in SCRAPS[:21] if b"\x00" not in one)
        caller = PHONE
        made_up = (b"a=ice-ufrag:", b"a=ice-pwd:", b"a=fingerprint:")
        lines = self.offer(offer, caller, BROWSER).split(b"\r\n")
        # Our own keys are random, and may hold any of it.
        seen = b"\r\n".join(line for line in lines if not line.startswith(made_up))
        for gone in (b"passwd", b"zz", b"holdconn", b"xxxx", b"mmmm", b"99999999", b"/0\r\n"):
            self.assertNotIn(gone, seen)
