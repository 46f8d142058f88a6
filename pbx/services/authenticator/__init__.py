"""Digest authentication against the ``subscriber`` table."""

from pbx.services.authenticator.accounts import Account, Accounts
from pbx.services.authenticator.service import Authenticator
from pbx.services.authenticator.settings import AuthenticatorSettings

__all__ = ["Account", "Accounts", "Authenticator", "AuthenticatorSettings"]
