"""Digest authentication (RFC 7616, RFC 8760, RFC 2069)."""

from __future__ import annotations

import random

from twisted.trial.unittest import SynchronousTestCase

from pbx.sip.digest import Credentials, Nonces, Use, challenge, digest, ha1
from pbx.sip.errors import MalformedMessage

SECRET = bytes(range(32))

#: RFC 7616 section 3.9.1: the same request with MD5 and SHA-256.
MUFASA = (
    'Digest username="Mufasa", realm="http-auth@example.org", uri="/dir/index.html", '
    'algorithm={algorithm}, nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", nc=00000001, '
    'cnonce="f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ", qop=auth, response="{response}", '
    'opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"'
)


def parsed(text: str) -> Credentials:
    credentials = Credentials.parse(text)
    assert credentials is not None
    return credentials


class ResponseTests(SynchronousTestCase):
    """The value of ``response``, against published examples and computed by hand."""

    def test_rfc_7616_md5(self) -> None:
        """RFC 7616 section 3.9.1."""
        credentials = parsed(
            MUFASA.format(algorithm="MD5", response="8ca523f5e9506fed4657c9700eebdbec")
        )
        secret = ha1("MD5", "Mufasa", "http-auth@example.org", "Circle of Life")
        self.assertTrue(credentials.proves(secret, "GET"))
        self.assertFalse(credentials.proves(secret, "PUT"))

    def test_rfc_7616_sha256(self) -> None:
        """RFC 7616 section 3.9.1."""
        credentials = parsed(
            MUFASA.format(
                algorithm="SHA-256",
                response="753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1",
            )
        )
        secret = ha1("SHA-256", "Mufasa", "http-auth@example.org", "Circle of Life")
        self.assertTrue(credentials.proves(secret, "GET"))
        self.assertFalse(
            credentials.proves(ha1("SHA-256", "Mufasa", "http-auth@example.org", "x"), "GET")
        )

    def test_rfc_2617_example(self) -> None:
        """RFC 2617 section 3.5."""
        credentials = parsed(
            'Digest username="Mufasa", realm="testrealm@host.com", '
            'nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", uri="/dir/index.html", qop=auth, '
            'nc=00000001, cnonce="0a4f113b", response="6629fae49393a05397450978507c4ef1", '
            'opaque="5ccc069c403ebaf9f0171e9517f40e41"'
        )
        secret = ha1("MD5", "Mufasa", "testrealm@host.com", "Circle Of Life")
        self.assertEqual(secret, "939e7578ed9e3c518a452acee763bce9")
        self.assertTrue(credentials.proves(secret, "GET"))

    def test_without_qop(self) -> None:
        """RFC 2069: H(HA1:nonce:HA2), as the seed's challenges ask for."""
        secret = ha1("MD5", "1001", "pbx.test", "secret")
        right = digest("MD5", f"{secret}:n1:{digest('MD5', 'REGISTER:sip:pbx.test')}")
        credentials = parsed(
            'Digest username="1001", realm="pbx.test", nonce="n1", uri="sip:pbx.test", '
            f'response="{right}"'
        )
        self.assertEqual((credentials.qop, credentials.count), ("", 0))
        self.assertTrue(credentials.proves(secret, "REGISTER"))

    def test_sha512_256(self) -> None:
        """RFC 7616 section 6.1: SHA-512/256 is no truncated SHA-512."""
        self.assertEqual(
            digest("SHA-512-256", ""),
            "c672b8d1ef56ed28ab87c3622c5114069bdd3ad7b8f9737498d0c01ecef0967a",
        )

    def test_session_algorithms(self) -> None:
        """RFC 7616 section 3.4.2: HA1 of -sess is hashed again with nonce and cnonce."""
        for base in ("MD5", "SHA-256", "SHA-512-256"):
            secret = ha1(base, "1001", "pbx.test", "secret")
            session = digest(base, f"{secret}:n1:c1")
            ha2 = digest(base, "INVITE:sip:1002@pbx.test")
            right = digest(base, f"{session}:n1:00000001:c1:auth:{ha2}")
            credentials = parsed(
                'Digest username="1001",realm="pbx.test",nonce="n1",uri="sip:1002@pbx.test",'
                f'response="{right}",algorithm={base}-sess,cnonce="c1",nc=00000001,qop=auth'
            )
            self.assertEqual((credentials.algorithm, credentials.base), (f"{base}-sess", base))
            self.assertTrue(credentials.proves(secret, "INVITE"), base)

    def test_auth_int_covers_the_body(self) -> None:
        """RFC 7616 section 3.4.3."""
        secret = ha1("MD5", "1001", "pbx.test", "secret")
        ha2 = digest("MD5", f"MESSAGE:sip:1002@pbx.test:{digest('MD5', 'hello')}")
        right = digest("MD5", f"{secret}:n1:00000001:c1:auth-int:{ha2}")
        credentials = parsed(
            'Digest username="1001", realm="pbx.test", nonce="n1", uri="sip:1002@pbx.test", '
            f'response="{right}", cnonce="c1", nc=00000001, qop=auth-int'
        )
        self.assertTrue(credentials.proves(secret, "MESSAGE", b"hello"))
        self.assertFalse(credentials.proves(secret, "MESSAGE", b"hullo"))

    def test_response_in_upper_case(self) -> None:
        """Hexadecimal digits of either case are the same proof."""
        text = MUFASA.format(algorithm="MD5", response="8CA523F5E9506FED4657C9700EEBDBEC")
        secret = ha1("MD5", "Mufasa", "http-auth@example.org", "Circle of Life")
        self.assertTrue(parsed(text).proves(secret, "GET"))

    def test_response_that_is_not_ascii(self) -> None:
        """Whatever bytes a peer sends are wrong, not an exception."""
        for response in ("\u00e4" * 32, "\udcff" * 32, "x"):
            text = MUFASA.format(algorithm="MD5", response=response)
            self.assertFalse(parsed(text).proves("0" * 32, "GET"))


class CredentialsTests(SynchronousTestCase):
    """Reading what phones write (RFC 7616 section 3.4)."""

    GOOD = (
        'Digest username="1001", realm="pbx.test", nonce="n1", uri="sip:pbx.test", response="0f", '
        'algorithm=MD5, cnonce="c1", qop=auth, nc=0000000a'
    )

    def assert_read(self, text: str) -> None:
        read = parsed(text)
        self.assertEqual(
            (read.username, read.realm, read.nonce, read.uri, read.response),
            ("1001", "pbx.test", "n1", "sip:pbx.test", "0f"),
        )
        self.assertEqual(
            (read.algorithm, read.cnonce, read.qop, read.nc, read.count),
            ("MD5", "c1", "auth", "0000000a", 10),
        )

    def test_regular(self) -> None:
        self.assert_read(self.GOOD)

    def test_quotes_everywhere(self) -> None:
        """Some phones quote algorithm, qop and nc."""
        self.assert_read(
            self.GOOD.replace("=MD5", '="md5"')
            .replace("qop=auth", 'qop="AUTH"')
            .replace("nc=0000000a", 'nc="0000000a"')
        )

    def test_no_quotes_anywhere(self) -> None:
        self.assert_read(self.GOOD.replace('"', ""))

    def test_odd_white_space_and_commas(self) -> None:
        self.assert_read(self.GOOD.replace("=", " =\t").replace(", ", " ,, ") + ",")
        self.assert_read(self.GOOD.replace(", ", ","))
        self.assert_read(self.GOOD.replace(", ", " "))
        self.assert_read("DIGEST\t" + self.GOOD[7:].replace(", ", "\t,\t"))

    def test_names_in_any_case(self) -> None:
        self.assert_read(self.GOOD.replace("username", "UserName").replace("nonce=", "Nonce="))

    def test_unknown_parameters(self) -> None:
        """auth-param may be anything (RFC 7616 section 3.4)."""
        self.assert_read(self.GOOD + ', opaque="", foo=bar, userhash=false')

    def test_commas_and_escapes_within_quotes(self) -> None:
        read = parsed(self.GOOD.replace('"1001"', r'"a\"b, c=\\d"'))
        self.assertEqual(read.username, 'a"b, c=\\d')
        read = parsed(self.GOOD.replace('"1001"', r'"ends in \\"'))
        self.assertEqual((read.username, read.realm), ("ends in \\", "pbx.test"))

    def test_extended_user_name(self) -> None:
        """username* (RFC 7616 section 3.9.2)."""
        read = parsed(self.GOOD.replace('username="1001"', "username*=UTF-8''J%C3%A4s%C3%B8n"))
        self.assertEqual(read.username, "J\u00e4s\u00f8n")

    def test_unknown_algorithm_is_kept(self) -> None:
        credentials = parsed(self.GOOD.replace("MD5", "Rot13"))
        self.assertEqual(credentials.algorithm, "Rot13")
        self.assertFalse(credentials.proves("0" * 32, "REGISTER"))

    def test_comma_at_the_edge_of_quotes(self) -> None:
        self.assertEqual(parsed(self.GOOD.replace('"1001"', '",1001"')).username, ",1001")
        self.assertEqual(parsed(self.GOOD.replace('"1001"', '"1001,"')).username, "1001,")

    def test_other_scheme(self) -> None:
        self.assertIsNone(Credentials.parse("Basic QWxhZGRpbjpvcGVu"))
        self.assertIsNone(Credentials.parse("Digestive a=b"))
        self.assertIsNone(Credentials.parse(""))

    def test_missing_parameters(self) -> None:
        """Spec 30 section 7: malformed credentials deserve 400."""
        for name in ("username", "realm", "nonce", "uri", "response", "cnonce", "nc"):
            text = self.GOOD.replace(f"{name}=", "x-=")
            self.assertRaises(MalformedMessage, Credentials.parse, text)
        self.assertRaises(MalformedMessage, Credentials.parse, "Digest")
        self.assertRaises(MalformedMessage, Credentials.parse, "Digest garbage")

    def test_bad_values(self) -> None:
        for old, new in (
            ("nc=0000000a", "nc=xyz"),
            ("nc=0000000a", "nc=123456789"),
            ("nc=0000000a", "nc=\u0663"),
            ("nc=0000000a", "nc=-1"),
            ('"1001"', '""'),
            ('cnonce="c1"', 'cnonce="c1'),
            ('username="1001"', "username*=latin-1''x"),
        ):
            with self.assertRaises(MalformedMessage, msg=new):
                Credentials.parse(self.GOOD.replace(old, new))

    def test_damaged_credentials(self) -> None:
        """Whatever a peer writes is read or is malformed; nothing else ever comes out."""
        dice = random.Random(7616)
        read = 0
        for _ in range(5000):
            text = list(self.GOOD)
            for _ in range(dice.randint(1, 5)):
                at = dice.randrange(7, len(text))
                text[at] = dice.choice(
                    ['"', ",", "=", "\\", " ", "\t", "", "a", "\udcff", "\u00e4"]
                )
            try:
                credentials = parsed("".join(text))
            except MalformedMessage:
                continue
            self.assertFalse(credentials.proves("0" * 32, "REGISTER"))
            read += 1
        self.assertGreater(read, 500)


class ChallengeTests(SynchronousTestCase):
    """RFC 7616 section 3.3; order and spelling of spec 30 section 7."""

    def test_as_the_reference_writes_it(self) -> None:
        """Spec 15, 1: realm and nonce only."""
        self.assertEqual(challenge("pbx.test", "n1", ""), 'Digest realm="pbx.test", nonce="n1"')

    def test_everything(self) -> None:
        self.assertEqual(
            challenge('a"b', "n1", "auth", "SHA-256", True),
            'Digest realm="a\\"b", nonce="n1", qop="auth", algorithm=SHA-256, stale=true',
        )


class NoncesTests(SynchronousTestCase):
    """RFC 7616 sections 3.3, 3.4 and 5.12; oddity O35."""

    def setUp(self) -> None:
        self.nonces = Nonces(SECRET, 7, 30)

    def test_nonces_differ(self) -> None:
        self.assertEqual(len({self.nonces.issue(1000.0) for _ in range(100)}), 100)

    def test_once_without_qop(self) -> None:
        """O35: from the first request on, a second use is refused."""
        nonce = self.nonces.issue(1000.0)
        self.assertIs(self.nonces.use(nonce, 0, 1000.5), Use.ACCEPTED)
        self.assertIs(self.nonces.use(nonce, 0, 1000.6), Use.REUSED)
        self.assertIs(self.nonces.use(nonce, 1, 1000.6), Use.REUSED)

    def test_counting_with_qop(self) -> None:
        """One nonce serves several requests when nc grows (RFC 7616 section 3.4)."""
        nonce = self.nonces.issue(1000.0)
        for count in (1, 2, 3, 70):
            self.assertIs(self.nonces.use(nonce, count, 1001.0), Use.ACCEPTED)
            self.assertIs(self.nonces.use(nonce, count, 1001.0), Use.REUSED)
        self.assertIs(self.nonces.use(nonce, 0, 1001.0), Use.REUSED)

    def test_late_requests_pass_once(self) -> None:
        """Requests that overtake each other are no replays, but each passes only once."""
        nonce = self.nonces.issue(1000.0)
        for count in (1, 5, 3, 4, 2):
            self.assertIs(self.nonces.use(nonce, count, 1001.0), Use.ACCEPTED)
        for count in (1, 2, 3, 4, 5):
            self.assertIs(self.nonces.use(nonce, count, 1001.0), Use.REUSED)

    def test_far_behind(self) -> None:
        """What is too old to be told from a replay is one."""
        nonce = self.nonces.issue(1000.0)
        self.assertIs(self.nonces.use(nonce, 1, 1001.0), Use.ACCEPTED)
        self.assertIs(self.nonces.use(nonce, 1000, 1001.0), Use.ACCEPTED)
        self.assertIs(self.nonces.use(nonce, 1000 - 63, 1001.0), Use.ACCEPTED)
        self.assertIs(self.nonces.use(nonce, 1000 - 64, 1001.0), Use.REUSED)

    def test_lifetime(self) -> None:
        """Spec 15, 1: good after 28 s, stale after 38 s."""
        nonce = self.nonces.issue(1000.0)
        self.assertIs(self.nonces.use(nonce, 1, 1028.0), Use.ACCEPTED)
        self.assertIs(self.nonces.use(nonce, 2, 1038.0), Use.EXPIRED)

    def test_forged(self) -> None:
        nonce = self.nonces.issue(1000.0)
        other = Nonces(bytes(32), 7, 30).issue(1000.0)
        flipped = nonce[:-1] + ("0" if nonce[-1] != "0" else "1")
        later = "f" + nonce[1:]
        for forged in (
            other,
            flipped,
            later,
            "",
            "x" * 40,
            "\u00e4" * 40,
            "\udcff" * 40,
            nonce * 2,
        ):
            self.assertIs(self.nonces.use(forged, 0, 1000.0), Use.FORGED)

    def test_from_the_future(self) -> None:
        """A clock that was set back does not leave nonces that live for ever."""
        nonce = self.nonces.issue(5000.0)
        self.assertIs(self.nonces.use(nonce, 0, 1000.0), Use.EXPIRED)

    def test_in_use_across_a_restart(self) -> None:
        """The next process with the same secret goes on with a nonce in use, counts below the
        first one it sees excepted: they may be replays.
        """
        nonce = self.nonces.issue(1000.0)
        self.nonces.use(nonce, 1, 1001.0)
        after = Nonces(SECRET, 99, 30)
        self.assertIs(after.use(nonce, 3, 1002.0), Use.ACCEPTED)
        self.assertIs(after.use(nonce, 1, 1002.0), Use.REUSED)
        self.assertIs(after.use(nonce, 2, 1002.0), Use.REUSED)
        self.assertIs(after.use(nonce, 4, 1002.0), Use.ACCEPTED)

    def test_used_nonces_are_forgotten_when_expired(self) -> None:
        for second in range(200):
            now = 1000.0 + second
            self.nonces.use(self.nonces.issue(now), 0, now)
        self.assertLessEqual(len(self.nonces), 70)

    def test_bound_costs_a_challenge_and_never_a_replay(self) -> None:
        """A full table makes older nonces stale instead of forgetting that they were used."""
        nonces = Nonces(SECRET, 7, 30, limit=10)
        first = nonces.issue(1000.0)
        nonces.use(first, 0, 1000.0)
        for number in range(100):
            now = 1000.0 + number / 10
            self.assertIs(nonces.use(nonces.issue(now), 0, now), Use.ACCEPTED)
        self.assertLessEqual(len(nonces), 20)
        self.assertIs(nonces.use(first, 0, 1010.0), Use.EXPIRED)
