"""Session descriptions: what is read, what is written, what is refused."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pbx.errors import MediaFailed
from pbx.legs import LegKind
from pbx.media.sdp import Codec, SessionDescription, parse, write
from tests.media.browser import Browser

PHONE = b"""\
v=0
o=phone 12 34 IN IP4 192.0.2.5
s=A call
c=IN IP4 192.0.2.5
t=0 0
a=sendonly
m=audio 4000 RTP/AVP 0 18 101
a=rtpmap:0 PCMU/8000
a=rtpmap:101 telephone-event/8000
a=fmtp:101 0-15
a=ptime:20
m=video 4002/2 RTP/AVP 96
c=IN IP4 192.0.2.6
a=rtpmap:96 H264/90000
a=recvonly
"""


class ParseTests(SynchronousTestCase):
    def refused(self, data: bytes) -> MediaFailed:
        error = self.assertRaises(MediaFailed, parse, data)
        assert isinstance(error, MediaFailed)
        self.assertEqual(error.status, 488)
        return error

    def test_a_phone(self) -> None:
        """Everything where it belongs."""
        read = parse(PHONE)
        audio, video = read.media
        self.assertEqual(read.origin, ("phone", "12", "34"))
        self.assertEqual((audio.kind, audio.port, audio.proto), ("audio", 4000, "RTP/AVP"))
        self.assertEqual(
            audio.codecs,
            [
                Codec(0, "PCMU", 8000),
                Codec(18, "G729", 8000),
                Codec(101, "telephone-event", 8000, "", "0-15"),
            ],
        )
        self.assertEqual((read.host_of(audio), read.host_of(video)), ("192.0.2.5", "192.0.2.6"))
        self.assertEqual(
            (read.direction_of(audio), read.direction_of(video)), ("sendonly", "recvonly")
        )
        self.assertIs(read.kind, LegKind.RTP)
        self.assertEqual(read.audio_at, 0)

    def test_a_browser(self) -> None:
        """SAVPF, dynamic numbers, two channels."""
        read = parse(Browser(lambda data, at: None).offer())
        self.assertIs(read.kind, LegKind.WEBRTC)
        opus = read.media[0].codecs[0]
        self.assertEqual(opus, Codec(111, "opus", 48000, "2", "minptime=10;useinbandfec=1"))

    def test_line_ends(self) -> None:
        """CRLF, LF, blank lines and blanks at the end are all the same."""
        read = parse(PHONE)
        self.assertEqual(parse(PHONE.replace(b"\n", b"\r\n")), read)
        self.assertEqual(parse(PHONE.replace(b"\n", b" \r\n") + b"\r\n\r\n"), read)

    def test_what_it_is_written_as(self) -> None:
        """Parsing what was written gives the same again, with one address for all."""
        read = parse(PHONE)
        again = parse(write(read, "198.51.100.1"))
        self.assertEqual(again.host, "198.51.100.1")
        self.assertEqual([one.codecs for one in again.media], [one.codecs for one in read.media])
        self.assertIn(b"c=IN IP6 2001:db8::1\r\n", write(read, "2001:db8::1"))

    def test_bytes_that_are_no_text(self) -> None:
        """Names of sessions may hold anything."""
        read = parse(PHONE.replace(b"A call", b"\xff\xfe"))
        self.assertIn(b"s=\xff\xfe\r\n", write(read, "192.0.2.1"))

    def test_plain_beside_sdes(self) -> None:
        """A phone that offers both ways can be bridged by the plain one."""
        both = PHONE.replace(b"m=video 4002/2 RTP/AVP 96", b"m=audio 4004 RTP/AVP 0")
        both = both.replace(b"m=audio 4000 RTP/AVP", b"m=audio 4000 RTP/SAVP")
        self.assertEqual(parse(both).audio_at, 1)
        self.assertEqual(parse(PHONE.replace(b"RTP/AVP", b"RTP/SAVP")).audio_at, 0)

    def test_refused(self) -> None:
        """What is no description, or cannot be meant."""
        for bad in (
            b"",
            b"hello",
            b"v=1\r\n",
            b"\x00" * 50,
            PHONE.replace(b"v=0\n", b""),
            PHONE.replace(b"a=ptime:20", b"nonsense"),
            PHONE.replace(b"a=ptime:20", b"a=ptime:\x00"),
            PHONE.replace(b"a=ptime:20", b"a=pt\rime:20"),
            PHONE.replace(b"4000", b"70000"),
            PHONE.replace(b"4000", b"-1"),
            PHONE.replace(b"4000", b"4" * 400),
            PHONE.replace(b" 0 18 101", b" 0 128"),
            PHONE.replace(b" 0 18 101", b" 0 x"),
            PHONE.replace(b" 0 18 101", b""),
            PHONE.replace(b" 0 18 101", b" 0" + b" 1" * 99),
            PHONE.replace(b"IN IP4 192.0.2.6", b"IN IP4"),
            PHONE.replace(b"IN IP4 192.0.2.6", b"ATM NSAP 47"),
            PHONE.replace(b"o=phone 12 34 ", b"o=phone "),
        ):
            self.refused(bad)

    def test_too_much(self) -> None:
        """100 m-lines, endless lines, endless text."""
        self.refused(PHONE + b"m=audio 4000 RTP/AVP 0\n" * 100)
        self.refused(PHONE + b"a=" + b"x" * 3000)
        self.refused(PHONE + b"a=x\n" * 2000)
        self.refused(PHONE + b"a=x\n" * 20000)

    def test_hostile_numbers(self) -> None:
        """Codecs that cannot be read are left out."""
        bad = PHONE.replace(b"PCMU/8000", b"PCMU/" + b"9" * 500).replace(b" 18 ", b" 77 ")
        self.assertEqual([one.payload for one in parse(bad).media[0].codecs], [101])

    @settings(deadline=None)
    @given(st.binary(max_size=400), st.integers(0, len(PHONE)), st.integers(0, 50))
    def test_anything(self, noise: bytes, at: int, cut: int) -> None:
        """Whatever comes is read or refused; what was read can be written."""
        for data in (noise, PHONE[:at] + noise + PHONE[at + cut :]):
            try:
                read: SessionDescription = parse(data)
            except MediaFailed:
                continue
            again = parse(write(read, "192.0.2.1"))
            self.assertEqual(len(again.media), len(read.media))
            for media in read.media:
                _ = (media.codecs, read.direction_of(media), read.kind, read.audio_at)
