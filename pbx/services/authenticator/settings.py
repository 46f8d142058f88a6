"""The ``[auth]`` table."""

from __future__ import annotations

from dataclasses import dataclass

from pbx.sip.digest import HASHES


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthenticatorSettings:
    """How users prove who they are."""

    algorithms: tuple[str, ...] = ("SHA-256", "MD5")
    """What is offered and accepted, in this order: SHA-512-256, SHA-256, MD5. One that some
    subscriber lacks both the password and the hash for is left out, except the last. Browsers
    are offered nothing but MD5 when it is among them, for they know nothing else and give up
    when they see another first."""
    qop: str = "auth"
    """Quality of protection that is offered; "" for challenges as before RFC 2617."""
    nonce_expire: int = 30
    """Seconds that a nonce can be used."""
    max_nonces: int = 500_000
    """Most used nonces remembered at a time."""
    realm: str = ""
    """Digest realm for everybody; empty for the domain of the user."""
    calculate_ha1: bool = True
    """The password column holds clear text; otherwise it holds HA1 of MD5. An empty password is
    never accepted: then the hash columns count."""
    password_column: str = "password"
    """Column of ``subscriber``."""
    use_domain: bool = True
    """Users are known by user and domain; otherwise by the user part alone."""
    use_uri_table: bool = False
    """Let the ``uri`` table say which further user parts a login may put into From and To."""

    def __post_init__(self) -> None:
        """Reject what cannot work."""
        unknown = [name for name in self.algorithms if name not in HASHES]
        if unknown or not self.algorithms:
            raise ValueError(f"algorithms: expected some of {', '.join(HASHES)}")
        if self.qop not in ("", "auth", "auth,auth-int"):
            raise ValueError('qop: expected "", "auth" or "auth,auth-int"')
        if not self.password_column.replace("_", "").isalnum():
            raise ValueError("password_column: expected the name of a column")
