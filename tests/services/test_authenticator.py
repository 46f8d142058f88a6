"""The authenticator: rules R7 and R14, oddities O19 and O35, RFC 7616, RFC 8760."""

from __future__ import annotations

import re
import sys
from collections.abc import Awaitable
from types import FrameType
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pbx.config import ConfigError, settings
from pbx.errors import DatabaseError, Kind
from pbx.events import AuthenticationFailed, Events, TableChanged
from pbx.gate import OpenGate
from pbx.services.authenticator import Authenticator, AuthenticatorSettings
from pbx.services.authenticator.accounts import Account, Accounts
from pbx.services.domains import Domains
from pbx.sip import digest
from pbx.sip.address import Address
from pbx.sip.digest import Credentials, ha1
from pbx.sip.message import Request
from pbx.sip.uri import URI
from pbx.storage.memory import memory_database
from pbx.verdicts import Arrival, Reply
from tests.fakes import LOCAL, PEER, FakeFlow, request

NOW = 1_790_000_000.0
PASSWORD = "Tiger7"
ResultT = TypeVar("ResultT")


def challenges(reply: Reply | None) -> list[dict[str, str]]:
    """The challenges of a 401 or 407, as name and value."""
    assert reply is not None
    found = []
    for _, value in reply.headers:
        parts = (part.partition("=") for part in value.removeprefix("Digest ").split(", "))
        found.append({name: text.strip('"') for name, _, text in parts})
    return found


class AuthenticatorTestCase(SynchronousTestCase):
    """1001@pbx.test has the password of `PASSWORD`."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(NOW)
        self.database = memory_database(self.clock)
        self.add("1001", password=PASSWORD)
        self.use()

    def use(self, **options: Any) -> None:
        """An authenticator with these settings, as after a restart."""
        self.events = Events()
        self.failures: list[AuthenticationFailed] = []
        self.events.subscribe(AuthenticationFailed, self.failures.append)
        domains = Domains("pbx.test", lambda host: host == LOCAL.host, self.database, self.events)
        self.done(domains.start())
        self.auth = Authenticator(
            settings(AuthenticatorSettings, options, "auth"),
            self.database,
            domains,
            self.events,
            self.clock,
            OpenGate(),
        )
        self.done(self.auth.start())

    def done(self, awaitable: Awaitable[ResultT]) -> ResultT:
        async def wait() -> ResultT:
            return await awaitable

        return self.successResultOf(Deferred.fromCoroutine(wait()))

    def add(self, user: str, domain: str = "pbx.test", **columns: str) -> None:
        names = ", ".join(["username", "domain", *columns])
        marks = ", ".join("?" * (2 + len(columns)))
        self.done(
            self.database.execute(
                f"INSERT INTO subscriber ({names}) VALUES ({marks})",
                (user, domain, *columns.values()),
            )
        )

    def check(self, made: Request, peer: Address = PEER) -> Reply | None:
        """Without ever suspending: everything is in memory."""
        waiting = self.auth.check(made, Arrival(flow=FakeFlow(peer), peer=peer))
        try:
            waiting.send(None)
        except StopIteration as done:
            result: Reply | None = done.value
            return result
        raise AssertionError("check had to wait")

    def message(self, *credentials: str, user: str = "1001", method: str = "MESSAGE") -> Request:
        register = method == "REGISTER"
        header = "Authorization" if register else "Proxy-Authorization"
        target = "sip:pbx.test" if register else "sip:1002@pbx.test"
        own = f"<sip:{user}@pbx.test>"
        return request(
            f"{method} {target}",
            "\n".join(f"{header}: {value}" for value in credentials),
            from_=f"{own};tag=a",
            to=own if register else "",
        )

    def challenge(self, algorithm: str = "MD5", method: str = "MESSAGE") -> dict[str, str]:
        """The challenge of that algorithm for a request without credentials."""
        found = challenges(self.check(self.message(method=method)))
        return next(one for one in found if one.get("algorithm", "MD5") == algorithm)

    def answer(
        self,
        challenge: dict[str, str],
        method: str = "MESSAGE",
        *,
        user: str = "1001",
        password: str = PASSWORD,
        qop: str = "auth",
        nc: int = 1,
        realm: str = "",
        algorithm: str = "",
    ) -> str:
        """What a client that knows the password writes."""
        fields = {
            "username": user,
            "realm": realm or challenge["realm"],
            "nonce": challenge["nonce"],
            "uri": "sip:pbx.test",
            "response": "none",
            "algorithm": algorithm or challenge.get("algorithm", "MD5"),
        }
        if qop:
            fields |= {"qop": qop, "nc": f"{nc:08x}", "cnonce": "c1"}
        credentials = Credentials(fields)
        secret = ha1(credentials.base, user, fields["realm"], password)
        fields["response"] = credentials.expected(secret, method)
        return "Digest " + ", ".join(f'{name}="{value}"' for name, value in fields.items())

    def status(self, reply: Reply | None) -> int:
        return 0 if reply is None else reply.status


class ChallengeTests(AuthenticatorTestCase):
    """Who offers nothing is asked."""

    def test_register_gets_401_for_the_host_of_to(self) -> None:
        """R14: WWW-Authenticate, realm = To host."""
        made = request(
            "REGISTER sip:pbx.test", from_="<sip:1001@other.test>;tag=a", to="<sip:1001@pbx.test>"
        )
        reply = self.check(made)
        assert reply is not None
        self.assertEqual((reply.status, reply.reason), (401, ""))
        self.assertEqual({name for name, _ in reply.headers}, {"WWW-Authenticate"})
        self.assertEqual({one["realm"] for one in challenges(reply)}, {"pbx.test"})

    def test_others_get_407_for_the_host_of_from(self) -> None:
        """R7: Proxy-Authenticate, realm = From host."""
        made = request("INVITE sip:1002@other.test", from_="<sip:1001@PBX.test>;tag=a")
        reply = self.check(made)
        assert reply is not None
        self.assertEqual(reply.status, 407)
        self.assertEqual({name for name, _ in reply.headers}, {"Proxy-Authenticate"})
        self.assertEqual({one["realm"] for one in challenges(reply)}, {"pbx.test"})

    def test_strongest_first(self) -> None:
        """O19: SHA-256, then MD5, both with qop=auth (RFC 8760 section 2.4)."""
        found = challenges(self.check(self.message()))
        self.assertEqual(
            [(one["algorithm"], one["qop"]) for one in found],
            [("SHA-256", "auth"), ("MD5", "auth")],
        )

    def test_browsers_are_offered_md5_only(self) -> None:
        found = challenges(self.check(self.message(), Address("WSS", "192.0.2.9", 40000)))
        self.assertEqual([one["algorithm"] for one in found], ["MD5"])
        self.use(algorithms=["SHA-256"])
        found = challenges(self.check(self.message(), Address("WSS", "192.0.2.9", 40000)))
        self.assertEqual([one["algorithm"] for one in found], ["SHA-256"])

    def test_what_browsers_are_offered_is_a_setting(self) -> None:
        """In its own order, and only what the table has secrets for."""
        self.use(browser_algorithms=["MD5", "SHA-256"])
        browser = Address("WS", "192.0.2.9", 40000)
        found = challenges(self.check(self.message(), browser))
        self.assertEqual([one["algorithm"] for one in found], ["MD5", "SHA-256"])
        found = challenges(self.check(self.message()))
        self.assertEqual([one["algorithm"] for one in found], ["SHA-256", "MD5"])

    def test_as_the_seed(self) -> None:
        """Spec 15, 1: without qop and algorithm (the no_qop switch of O19)."""
        self.use(algorithms=["MD5"], qop="")
        reply = self.check(self.message())
        nonce = challenges(reply)[0]["nonce"]
        value = f'Digest realm="pbx.test", nonce="{nonce}"'
        self.assertEqual(reply, Reply(407, "", (("Proxy-Authenticate", value),), stateless=True))

    def test_ack_and_cancel_pass(self) -> None:
        """R7: they cannot be challenged (RFC 3261 section 22.1)."""
        self.assertIsNone(self.check(self.message(method="ACK")))
        self.assertIsNone(self.check(self.message(method="CANCEL")))

    def test_fixed_realm(self) -> None:
        self.use(realm="the realm")
        challenge = self.challenge()
        self.assertEqual(challenge["realm"], "the realm")
        self.assertIsNone(self.check(self.message(self.answer(challenge))))

    def test_own_address_counts_as_the_default_domain(self) -> None:
        """design/contract.md: a phone that knows our address only is a user of our domain."""
        made = request(f"REGISTER sip:{LOCAL.host}", to=f"<sip:1001@{LOCAL.host}>")
        challenge = challenges(self.check(made))[-1]
        self.assertEqual(challenge["realm"], "pbx.test")
        made = request(
            f"REGISTER sip:{LOCAL.host}",
            f"Authorization: {self.answer(challenge, 'REGISTER')}",
            to=f"<sip:1001@{LOCAL.host}>",
        )
        self.assertIsNone(self.check(made))

    def test_weak_accounts_withdraw_what_they_cannot(self) -> None:
        """O19: SHA-256 when hashes or clear text are there, for everybody alike."""
        self.add("1002", ha1="0" * 32)
        self.use()
        for user in ("1001", "1002", "nobody"):
            found = challenges(self.check(self.message(user=user)))
            self.assertEqual([one["algorithm"] for one in found], ["MD5"], user)

    def test_rows_without_any_secret_withdraw_nothing(self) -> None:
        self.add("1002")
        self.use()
        self.assertEqual(len(challenges(self.check(self.message()))), 2)

    def test_the_last_algorithm_stays(self) -> None:
        """One account with nothing but SHA-256 must not lock out all the old phones."""
        self.add("1002", ha1_sha256="0" * 64)
        self.use()
        self.assertEqual(len(challenges(self.check(self.message()))), 2)


class CredentialsTests(AuthenticatorTestCase):
    """Right and wrong answers."""

    def test_right_password(self) -> None:
        for method in ("MESSAGE", "REGISTER", "INVITE"):
            for algorithm in ("MD5", "SHA-256"):
                answer = self.answer(self.challenge(algorithm, method), method)
                self.assertIsNone(self.check(self.message(answer, method=method)), method)
        self.assertEqual(self.failures, [])

    def test_all_algorithms(self) -> None:
        self.use(algorithms=["SHA-512-256", "SHA-256", "MD5"])
        for algorithm in ("SHA-512-256", "SHA-256", "MD5", "MD5-sess", "SHA-256-sess"):
            challenge = self.challenge(algorithm.removesuffix("-sess"))
            answer = self.answer(challenge, algorithm=algorithm)
            self.assertIsNone(self.check(self.message(answer)), algorithm)

    def test_without_qop_is_accepted_too(self) -> None:
        """O19: both forms are answered."""
        self.assertIsNone(self.check(self.message(self.answer(self.challenge(), qop=""))))

    def test_wrong_password_and_unknown_user_look_alike(self) -> None:
        """Spec 15, 2: challenged again, no 403, no 404; no way to tell users."""
        wrong = self.check(self.message(self.answer(self.challenge(), password="x")))
        unknown = self.check(self.message(self.answer(self.challenge(), user="1009"), user="1009"))
        assert wrong is not None
        assert unknown is not None
        shapes = [
            (
                reply.status,
                reply.reason,
                [
                    {name: text for name, text in one.items() if name != "nonce"}
                    for one in challenges(reply)
                ],
            )
            for reply in (wrong, unknown)
        ]
        self.assertEqual(shapes[0], shapes[1])
        self.assertEqual(shapes[0][0], 407)
        self.assertNotIn("stale", challenges(wrong)[0])

    def test_state(self) -> None:
        """RFC 3261 section 8.2.7: none for a challenge; wrong credentials that come again because
        the answer was lost are no second failure, and so have a transaction.
        """
        challenge = self.challenge()
        wrong = self.check(self.message(self.answer(challenge, password="x")))
        other = self.check(
            self.message(self.answer(challenge, algorithm="MD5-sess", qop="auth-int"))
        )
        for reply, stateless in (
            (self.check(self.message()), True),
            (wrong, False),
            (other, False),
        ):
            assert reply is not None
            self.assertEqual((reply.status, reply.stateless), (407, stateless))

    def test_failures_are_told(self) -> None:
        """Only what was offered and is wrong; a first challenge is no failure."""
        self.check(self.message())
        self.assertEqual(self.failures, [])
        self.check(self.message(self.answer(self.challenge(), password="x")))
        self.check(self.message(self.answer(self.challenge(), user="1009")))
        self.assertEqual(
            self.failures,
            [
                AuthenticationFailed(PEER, "1001", "pbx.test", "wrong password"),
                AuthenticationFailed(PEER, "1009", "pbx.test", "unknown user"),
            ],
        )

    def test_other_realms_are_not_ours(self) -> None:
        """Of several credentials the ones for our realm count (RFC 3261 section 22.3)."""
        challenge = self.challenge()
        foreign = self.answer(challenge, realm="elsewhere.test")
        self.assertEqual(self.status(self.check(self.message(foreign))), 407)
        self.assertEqual(self.failures, [])
        self.assertIsNone(self.check(self.message(foreign, self.answer(challenge))))

    def test_other_schemes_are_not_ours(self) -> None:
        self.assertEqual(self.status(self.check(self.message("Basic QQ=="))), 407)

    def test_malformed_credentials(self) -> None:
        """Spec 30 section 7: 400."""
        self.assertEqual(self.status(self.check(self.message('Digest username="1001"'))), 400)

    def test_malformed_beside_good_ones(self) -> None:
        answer = self.answer(self.challenge())
        self.assertIsNone(self.check(self.message("Digest x", answer)))

    def test_register_does_not_take_proxy_credentials(self) -> None:
        answer = self.answer(self.challenge(method="REGISTER"), "REGISTER")
        made = request(
            "REGISTER sip:pbx.test", f"Proxy-Authorization: {answer}", to="<sip:1001@pbx.test>"
        )
        self.assertEqual(self.status(self.check(made)), 401)

    def test_algorithm_that_is_not_offered(self) -> None:
        """No way down from SHA-256 to MD5 when the operator does not want it."""
        self.use(algorithms=["SHA-256"])
        answer = self.answer(self.challenge("SHA-256"), algorithm="MD5")
        self.assertEqual(self.status(self.check(self.message(answer))), 407)
        answer = self.answer(self.challenge("SHA-256"), algorithm="MD5").replace('"MD5"', "Rot13")
        self.assertEqual(self.status(self.check(self.message(answer))), 407)

    def test_auth_int_only_when_offered(self) -> None:
        answer = self.answer(self.challenge(), qop="auth-int")
        self.assertEqual(self.status(self.check(self.message(answer))), 407)
        self.use(qop="auth,auth-int")
        answer = self.answer(self.challenge(), qop="auth-int")
        self.assertIsNone(self.check(self.message(answer)))


class HTTPTests(AuthenticatorTestCase):
    """The same passwords for HTTP (RFC 7616); see `IHTTPLogin`."""

    URI = "/xcap-root/pres-rules/users/sip:1001@pbx.test/index"
    BROWSER = Address("TLS", "192.0.2.70", 50000)

    def log_in(self, *authorization: str, uri: str = URI) -> str | Reply:
        return self.auth.log_in("PUT", uri, authorization, b"", "pbx.test", self.BROWSER)

    def credentials(self, password: str = PASSWORD, user: str = "1001", uri: str = URI) -> str:
        asked = self.log_in()
        assert isinstance(asked, Reply)
        self.assertEqual((asked.status, asked.headers[0][0]), (401, "WWW-Authenticate"))
        given = next(one for one in challenges(asked) if one["algorithm"] == "MD5")
        secret = ha1("MD5", user, "pbx.test", password)
        text = (
            f'Digest username="{user}", realm="pbx.test", nonce="{given["nonce"]}", uri="{uri}", '
            'response="0", cnonce="c", qop=auth, nc=00000001, algorithm=MD5'
        )
        found = Credentials.parse(text)
        assert found is not None
        return text.replace('response="0"', f'response="{found.expected(secret, "PUT")}"')

    def test_right_password(self) -> None:
        self.assertEqual(self.log_in(self.credentials()), "1001@pbx.test")

    def test_whole_uri(self) -> None:
        uri = f"http://pbx.test:8888{self.URI}"
        self.assertEqual(self.log_in(self.credentials(uri=uri)), "1001@pbx.test")

    def test_wrong_password_and_unknown_user(self) -> None:
        for credentials in (self.credentials("wrong"), self.credentials(user="9999")):
            refused = self.log_in(credentials)
            assert isinstance(refused, Reply)
            self.assertEqual(refused.status, 401)
        self.assertEqual(
            [(failure.peer, failure.username) for failure in self.failures],
            [(self.BROWSER, "1001"), (self.BROWSER, "9999")],
        )

    def test_once(self) -> None:
        credentials = self.credentials()
        self.log_in(credentials)
        self.assertEqual(self.status(self.log_in(credentials)), 401)  # type: ignore[arg-type]

    def test_made_for_something_else(self) -> None:
        refused = self.log_in(self.credentials(), uri="/xcap-root/other")
        self.assertEqual(refused, Reply(400, "Credentials for Another URI"))

    def test_malformed(self) -> None:
        self.assertEqual(self.log_in("Digest nonsense"), Reply(400, "Incomplete Credentials"))


class NonceTests(AuthenticatorTestCase):
    """Replay (O35, RFC 7616 section 5.12)."""

    def stale(self, reply: Reply | None) -> bool:
        return all(one.get("stale") == "true" for one in challenges(reply))

    def test_replay(self) -> None:
        """From the first request on, the very same credentials are refused, with stale=true."""
        for qop in ("", "auth"):
            answer = self.answer(self.challenge(), qop=qop)
            self.assertIsNone(self.check(self.message(answer)))
            self.assertTrue(self.stale(self.check(self.message(answer))))
        self.assertEqual(self.failures, [])

    def test_one_nonce_for_several_requests(self) -> None:
        challenge = self.challenge()
        for nc in (1, 2, 3):
            self.assertIsNone(self.check(self.message(self.answer(challenge, nc=nc))))

    def test_old_nonce(self) -> None:
        """Spec 15, 1: good after 28 s, stale after 38 s."""
        challenge = self.challenge()
        self.clock.advance(28)
        self.assertIsNone(self.check(self.message(self.answer(challenge))))
        self.clock.advance(10)
        self.assertTrue(self.stale(self.check(self.message(self.answer(challenge, nc=2)))))

    def test_old_nonce_and_wrong_password(self) -> None:
        """Stale is only told to who knows the password, else a phone would try for ever."""
        challenge = self.challenge()
        self.clock.advance(60)
        reply = self.check(self.message(self.answer(challenge, password="x")))
        self.assertFalse(self.stale(reply))

    def test_foreign_nonce(self) -> None:
        """A nonce that we never made costs a phone one more round, and no alarm."""
        challenge = self.challenge() | {"nonce": "f" * 40}
        self.assertTrue(self.stale(self.check(self.message(self.answer(challenge)))))
        self.assertEqual(self.failures, [])

    def test_nonces_survive_a_restart(self) -> None:
        """ "nonces in use work on": the key is in the database."""
        challenge = self.challenge()
        self.assertIsNone(self.check(self.message(self.answer(challenge, nc=1))))
        self.use()
        self.assertIsNone(self.check(self.message(self.answer(challenge, nc=2))))
        self.assertTrue(self.stale(self.check(self.message(self.answer(challenge, nc=1)))))


class IdentityTests(AuthenticatorTestCase):
    """R7, R14: nobody speaks for somebody else."""

    def test_other_user_in_from(self) -> None:
        answer = self.answer(self.challenge())
        reply = self.check(self.message(answer, user="1002"))
        self.assertEqual(reply, Reply(403, "Forbidden auth ID"))

    def test_other_user_in_to_of_register(self) -> None:
        answer = self.answer(self.challenge(method="REGISTER"), "REGISTER")
        reply = self.check(self.message(answer, user="1002", method="REGISTER"))
        self.assertEqual(reply, Reply(403, "Forbidden auth ID"))

    def test_case_of_the_user_does_not_matter(self) -> None:
        self.add("Alice", password=PASSWORD)
        self.use()
        answer = self.answer(self.challenge(), user="Alice")
        self.assertIsNone(self.check(self.message(answer, user="aLICE")))

    def test_user_name_with_domain(self) -> None:
        """Spec 30 section 7: ``user`` or ``user@domain``."""
        answer = self.answer(self.challenge(), user="1001@pbx.test")
        self.assertIsNone(self.check(self.message(answer)))

    def test_same_number_in_another_domain(self) -> None:
        """The domain of user@domain overrides that of the look-up, not that of From."""
        self.add("1001", "other.test", password="theirs")
        self.use()
        answer = self.answer(self.challenge(), user="1001@other.test", password="theirs")
        reply = self.check(self.message(answer))
        self.assertEqual(reply, Reply(403, "Forbidden auth ID"))

    def test_domains_are_apart(self) -> None:
        """use_domain: a user of one domain is unknown in another."""
        self.add("2001", "other.test", password=PASSWORD)
        self.use()
        answer = self.answer(self.challenge(), user="2001")
        self.assertEqual(self.status(self.check(self.message(answer, user="2001"))), 407)
        self.use(use_domain=False)
        answer = self.answer(self.challenge(), user="2001")
        self.assertIsNone(self.check(self.message(answer, user="2001")))

    def test_uri_table(self) -> None:
        """One login, several caller ids, when use_uri_table is on (spec 20 section 3)."""
        self.done(
            self.database.execute(
                "INSERT INTO uri (username, domain, uri_user) VALUES (?, ?, ?)",
                ("1001", "pbx.test", "Sales"),
            )
        )
        for used, status in ((False, 403), (True, 0)):
            self.use(use_uri_table=used)
            answer = self.answer(self.challenge())
            self.assertEqual(self.status(self.check(self.message(answer, user="sales"))), status)
        answer = self.answer(self.challenge())
        self.assertEqual(self.status(self.check(self.message(answer, user="boss"))), 403)


class AccountTests(AuthenticatorTestCase):
    """The subscriber table, both ways of calculate_ha1."""

    def try_(
        self, user: str, password: str = PASSWORD, algorithm: str = "MD5", name: str = ""
    ) -> int:
        answer = self.answer(self.challenge(algorithm), user=name or user, password=password)
        return self.status(self.check(self.message(answer, user=user)))

    def test_hash_when_the_password_is_empty(self) -> None:
        """Spec 20: as opensips-cli adds users."""
        self.add(
            "1002",
            ha1=ha1("MD5", "1002", "pbx.test", "p").upper(),
            ha1_sha256=ha1("SHA-256", "1002", "pbx.test", "p"),
        )
        self.use()
        self.assertEqual(self.try_("1002", "p"), 0)
        self.assertEqual(self.try_("1002", "p", "SHA-256"), 0)
        self.assertEqual(self.try_("1002", ""), 407)

    def test_empty_password_is_never_accepted(self) -> None:
        self.add("1002")
        self.use()
        self.assertEqual(self.try_("1002", ""), 407)

    def test_password_column_holds_ha1(self) -> None:
        """calculate_ha1 = 0."""
        self.add("1002", password=ha1("MD5", "1002", "pbx.test", "p"))
        self.use(calculate_ha1=False)
        self.assertEqual(self.try_("1002", "p"), 0)
        self.assertEqual(self.try_("1002", "q"), 407)
        self.assertEqual(self.try_("1001"), 407)

    def test_other_column(self) -> None:
        self.add("1002", ha1=ha1("MD5", "1002", "pbx.test", "p"))
        self.use(calculate_ha1=False, password_column="ha1")
        self.assertEqual(self.try_("1002", "p"), 0)

    def test_hash_for_user_names_with_domain(self) -> None:
        """Legacy column ha1b."""
        self.add(
            "1002",
            ha1=ha1("MD5", "1002", "pbx.test", "p"),
            ha1b=ha1("MD5", "1002@pbx.test", "pbx.test", "p"),
        )
        self.use()
        self.assertEqual(self.try_("1002", "p", name="1002@pbx.test"), 0)
        self.assertEqual(self.try_("1002", "p"), 0)

    def test_one_copy_of_each_text(self) -> None:
        """Thousands of accounts share what is the same in all; no hashes beside a password."""
        domains = [str(b"pbx.test", "ascii") for _ in range(2)]
        self.assertIsNot(domains[0], domains[1])
        fresh: dict[str, Account] = {}
        accounts = Accounts(AuthenticatorSettings(), self.database, self.clock)
        for at, domain in enumerate(domains):
            accounts._take(fresh, (at, f"u{at}", domain, "secret", "0" * 32), ("ha1",))
        one, two = fresh.values()
        self.assertIs(one.domain, two.domain)
        self.assertEqual((one.hashes, one.password), ((), "secret"))
        for account in (one, two):
            name = str(account.username.encode(), "ascii")
            algorithm, realm = str(b"MD5", "ascii"), str(b"pbx.test", "ascii")
            right = ha1("MD5", name, "pbx.test", "secret")
            self.assertEqual(account.ha1(algorithm, name, realm), right)
            self.assertIs(account.ha1(algorithm, name, realm), account.ha1("MD5", name, "pbx.test"))
            self.assertIs(account._name, account.username)
        self.assertIs(one._algorithm, two._algorithm)
        self.assertIs(one._realm, two._realm)
        self.assertNotEqual(one.ha1("SHA-256", "u0", "pbx.test"), one.ha1("MD5", "u0", "pbx.test"))
        self.assertNotEqual(one.ha1("MD5", "u0", "a.test"), one.ha1("MD5", "u0", "pbx.test"))

    def test_changes_are_noticed(self) -> None:
        """design/contract.md: a row is a phone, a new password locks the old one out."""
        self.add("1003", password="p")
        self.assertEqual(self.try_("1003", "p"), 407)
        self.events.publish(TableChanged("subscriber"))
        self.assertEqual(self.try_("1003", "p"), 0)
        self.done(self.database.execute("UPDATE subscriber SET password = 'q'"))
        self.events.publish(TableChanged("subscriber"))
        self.assertEqual(self.try_("1003", "p"), 407)
        self.assertEqual(self.try_("1003", "q"), 0)

    def test_many_subscribers_are_read_page_by_page(self) -> None:
        """Nobody waits long for a large table, and the old rows serve until all are there."""
        self.done(
            self.database.write(
                "subscriber",
                ("username", "domain"),
                ("username", "domain", "password"),
                [(f"u{number}", "pbx.test", "p") for number in range(5000)],
            )
        )
        self.events.publish(TableChanged("subscriber"))
        self.assertEqual(self.auth.statistics()["auth:subscribers"], 1)
        for _ in range(5):
            self.clock.advance(0)
        self.assertEqual(self.auth.statistics()["auth:subscribers"], 5001)
        self.assertEqual(self.try_("u4999", "p"), 0)

    def test_database_out_of_reach(self) -> None:
        """Known users go on; of others nothing can be said: 500 with Retry-After. The same while
        its answers take seconds.
        """
        self.patch(type(self.database), "prompt", False)
        self.assertEqual(self.try_("1001"), 0)
        answer = self.answer(self.challenge(), user="1009")
        reply = self.check(self.message(answer, user="1009"))
        assert reply is not None
        self.assertEqual((reply.status, dict(reply.headers)["Retry-After"]), (500, "10"))

    def test_a_change_that_could_not_be_read_is_tried_again(self) -> None:
        self.add("1003", password="p")
        query = self.database.query
        self.patch(self.database, "query", lambda *_: fail(DatabaseError(Kind.UNAVAILABLE, "gone")))
        self.events.publish(TableChanged("subscriber"))
        self.assertEqual(self.try_("1001"), 0)
        self.database.query = query  # type: ignore[method-assign]
        self.clock.advance(5)
        self.assertEqual(self.try_("1003", "p"), 0)

    def test_stop_leaves_no_timer(self) -> None:
        self.patch(self.database, "query", lambda *_: fail(DatabaseError(Kind.UNAVAILABLE, "gone")))
        self.events.publish(TableChanged("subscriber"))
        self.done(self.auth.stop())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_knows(self) -> None:
        for uri, known in (
            ("sip:1001@pbx.test", True),
            (f"sip:1001@{LOCAL.host}:5060", True),
            ("sip:1009@pbx.test", False),
            ("sip:1001@other.test", False),
        ):
            self.assertEqual(self.auth.knows(URI.parse(uri)), known, uri)

    def test_own_realm(self) -> None:
        """Credentials for our realms are not passed on (R7: consume_credentials)."""
        self.assertTrue(self.auth.is_own_realm("pbx.test"))
        self.assertFalse(self.auth.is_own_realm("elsewhere.test"))
        self.use(realm="the realm")
        self.assertTrue(self.auth.is_own_realm("the realm"))


class SettingsTests(SynchronousTestCase):
    def test_faults(self) -> None:
        tables: list[dict[str, Any]] = [
            {"algorithms": ["SHA-1"]},
            {"algorithms": []},
            {"browser_algorithms": ["SHA-1"]},
            {"qop": "1"},
            {"password_column": "password; DROP TABLE subscriber"},
        ]
        for table in tables:
            with self.assertRaises(ConfigError):
                settings(AuthenticatorSettings, table, "auth")


class EnumerationTests(AuthenticatorTestCase):
    """Nobody learns who exists, neither from an answer nor from its time."""

    def refusal(self, user: str) -> tuple[Reply, list[str]]:
        """The answer to a wrong password, and every function of ours that it took."""
        made = self.message(self.answer(self.challenge(), user=user, password="wrong"), user=user)
        calls: list[str] = []

        def called(frame: FrameType, event: str, argument: object) -> None:
            if event == "call":
                calls.append(frame.f_code.co_qualname)
            elif event == "c_call" and "openssl" in repr(argument):
                calls.append(repr(argument))

        sys.setprofile(called)
        try:
            reply = self.check(made)
        finally:
            sys.setprofile(None)
        assert reply is not None
        return reply, calls

    def test_answer(self) -> None:
        """The same challenge, but for its nonce."""
        answers = [self.refusal(user)[0] for user in ("1001", "1999")]
        texts = [re.sub('nonce="[^"]+"', "", str(reply)) for reply in answers]
        self.assertEqual(texts[0], texts[1])

    def test_work(self) -> None:
        """The same functions in the same order, and as many hashes. (The first time ever that a
        user is asked for, one more MD5 is computed and kept.) What compiled modules call cannot be
        seen.
        """
        self.refusal("1001")
        known, unknown = (self.refusal(user)[1] for user in ("1001", "1999"))
        pure = str(digest.__file__).endswith(".py")
        self.assertEqual(any("openssl" in call for call in known), pure, known)
        self.assertEqual(known, unknown)
