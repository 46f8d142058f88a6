"""Bencoding of the ng protocol."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from pbx.media.bencode import Writable, decode, encode


class BencodeTests(SynchronousTestCase):
    def test_there_and_back(self) -> None:
        """Every kind of value; keys leave in order."""
        value: Writable = {
            "sdp": "v=0\r\n",
            "command": "offer",
            "flags": ["a", "b"],
            "delete-delay": 0,
        }
        data = encode(value)
        self.assertTrue(data.startswith(b"d7:command5:offer12:delete-delayi0e5:flagsl1:a1:be"))
        self.assertEqual(
            decode(data),
            {b"sdp": b"v=0\r\n", b"command": b"offer", b"flags": [b"a", b"b"], b"delete-delay": 0},
        )
        self.assertEqual(decode(b"i-12e"), -12)
        self.assertEqual((decode(b"le"), decode(b"de"), decode(b"0:")), ([], {}, b""))

    def test_bad_bytes(self) -> None:
        """Nothing but ValueError, however they are bad."""
        for bad in (
            b"",
            b"x",
            b"i12",
            b"iee",
            b"i1_2e",
            b"5:abc",
            b"5",
            b"-1:a",
            b"l",
            b"li1e",
            b"d1:ae",
            b"di1ei2ee",
            b"i1ei2e",
            b"l" * 5000,
            b"9999999999999999999999:a",
        ):
            with self.assertRaises(ValueError, msg=bad):
                decode(bad)
