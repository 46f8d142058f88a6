"""The ``[auth]`` table."""

from __future__ import annotations

from dataclasses import dataclass

from pbx.sip.digest import HASHES


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthenticatorSettings:
    """How users prove who they are."""

    algorithms: tuple[str, ...] = ("SHA-256", "MD5")
    """What is offered and accepted, in this order: SHA-512-256, SHA-256, MD5. One that some
    subscriber lacks both the password and the hash for is left out, except the last."""
    browser_algorithms: tuple[str, ...] = ("MD5",)
    """Which of them browsers are offered, in this order: they know nothing but MD5 and give up
    when they see another first. Without any in common they are offered all."""
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
    name_attribute: str = "display_name"
    """Attribute of ``usr_preferences`` that holds the display name of a user."""
    use_uri_table: bool = False
    """Let the ``uri`` table say which further user parts a login may put into From and To."""

    def __post_init__(self) -> None:
        """Reject what cannot work."""
        for key, names in (
            ("algorithms", self.algorithms),
            ("browser_algorithms", self.browser_algorithms),
        ):
            if not names or any(name not in HASHES for name in names):
                raise ValueError(f"{key}: expected some of {', '.join(HASHES)}")
        if self.qop not in ("", "auth", "auth,auth-int"):
            raise ValueError('qop: expected "", "auth" or "auth,auth-int"')
        if not self.password_column.replace("_", "").isalnum():
            raise ValueError("password_column: expected the name of a column")
