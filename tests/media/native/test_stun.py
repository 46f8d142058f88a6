"""The half of STUN that an ICE-lite agent speaks."""

from __future__ import annotations

import hmac
from zlib import crc32

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pbx.media.native.stun import (
    Check,
    Credentials,
    new_credentials,
    parse_check,
    request,
    response,
)

OWN = Credentials("abcd1234", "0123456789abcdef012345")
ID = bytes(range(12))


class CheckTests(SynchronousTestCase):
    def check(self, **named: object) -> bytes:
        username = str(named.pop("username", "abcd1234:peer"))
        password = str(named.pop("password", OWN.password))
        return request(ID, username, password, nominate=bool(named.get("nominate")))

    def test_good(self) -> None:
        """Our name, our password (RFC 8445 section 7.3)."""
        self.assertEqual(parse_check(self.check(), OWN), Check(ID, False))
        self.assertEqual(parse_check(self.check(nominate=True), OWN), Check(ID, True))

    def test_strangers(self) -> None:
        """Another password or another user is not answered."""
        self.assertIsNone(parse_check(self.check(password="0123456789abcdef012346"), OWN))
        self.assertIsNone(parse_check(self.check(username="abcd:peer"), OWN))
        self.assertIsNone(parse_check(self.check(username="abcd1234"), OWN))

    def test_every_flipped_bit_counts(self) -> None:
        """Whatever is changed before the integrity, or in it, spoils it."""
        good = self.check(nominate=True)
        for at in range(len(good) - 8):
            for bit in range(8):
                bad = bytearray(good)
                bad[at] ^= 1 << bit
                self.assertIsNone(parse_check(bytes(bad), OWN), (at, bit))

    def test_cut_short(self) -> None:
        """No length makes it fail in any other way."""
        good = self.check()
        for size in range(len(good)):
            self.assertIsNone(parse_check(good[:size], OWN))

    def test_integrity_is_needed(self) -> None:
        """A request without any."""
        body = b"\x00\x06\x00\x0cabcd1234:pee"
        data = b"\x00\x01" + len(body).to_bytes(2, "big") + b"\x21\x12\xa4\x42" + ID + body
        self.assertIsNone(parse_check(data, OWN))

    def test_attributes_after_integrity_do_not_count(self) -> None:
        """USE-CANDIDATE behind it is anybody's (RFC 8489 section 14.5)."""
        good = self.check()
        body = good[20:-8] + b"\x00\x25\x00\x00"
        bad = good[:2] + len(body).to_bytes(2, "big") + good[4:20] + body
        self.assertEqual(parse_check(bad, OWN), Check(ID, False))

    @settings(deadline=None)
    @given(st.binary(max_size=200))
    def test_anything(self, data: bytes) -> None:
        """Noise is nothing."""
        self.assertIsNone(parse_check(data, OWN))
        self.assertIsNone(parse_check(b"\x00\x01" + data[:2] + b"\x21\x12\xa4\x42" + data, OWN))


class ResponseTests(SynchronousTestCase):
    def test_ipv4(self) -> None:
        """XOR-MAPPED-ADDRESS, integrity and fingerprint; never more bytes than came in."""
        check = request(ID, "abcd1234:p", OWN.password, nominate=False)
        made = response(Check(ID, False), OWN, "192.0.2.7", 32853)
        self.assertTrue(len(made) <= len(check), (len(made), len(check)))
        self.assertEqual(made[:2], b"\x01\x01")
        self.assertEqual(int.from_bytes(made[2:4], "big"), len(made) - 20)
        self.assertEqual(made[8:20], ID)
        self.assertEqual(
            made[20:28], b"\x00\x20\x00\x08\x00\x01" + (32853 ^ 0x2112).to_bytes(2, "big")
        )
        self.assertEqual(
            made[28:32],
            bytes(a ^ b for a, b in zip(b"\xc0\x00\x02\x07", b"\x21\x12\xa4\x42", strict=True)),
        )
        covered = made[:2] + (len(made) - 28).to_bytes(2, "big") + made[4:-32]
        self.assertEqual(made[-28:-8], hmac.digest(OWN.password.encode(), covered, "sha1"))
        self.assertEqual(int.from_bytes(made[-4:], "big"), crc32(made[:-8]) ^ 0x5354554E)

    def test_ipv6(self) -> None:
        """The longer form, with the transaction in the mask."""
        made = response(Check(ID, False), OWN, "2001:db8::7", 4)
        key = b"\x21\x12\xa4\x42" + ID
        address = bytes.fromhex("20010db8000000000000000000000007")
        self.assertEqual(made[20:26], b"\x00\x20\x00\x14\x00\x02")
        self.assertEqual(made[28:44], bytes(a ^ b for a, b in zip(address, key, strict=True)))


class CredentialsTests(SynchronousTestCase):
    def test_characters(self) -> None:
        """Only those of the grammar, long enough, and never the same (RFC 8839 section 5.4)."""
        made = [new_credentials() for _ in range(200)]
        for one in made:
            self.assertTrue(len(one.ufrag) >= 8 and len(one.password) >= 32, one)
            self.assertTrue((one.ufrag + one.password).replace("+", "").replace("/", "").isalnum())
        self.assertEqual(len(set(made)), 200)
