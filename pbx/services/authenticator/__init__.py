"""Digest authentication against the ``subscriber`` table."""

from pbx.services.authenticator.accounts import Account, Accounts
from pbx.services.authenticator.service import Authenticator
from pbx.services.authenticator.settings import AuthenticatorSettings
from pbx.services.authenticator.subscribers import Subscribers

__all__ = ["Account", "Accounts", "Authenticator", "AuthenticatorSettings", "Subscribers"]
