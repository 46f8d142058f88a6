"""Messages for users who are away: kept in the ``silo`` table, delivered when they are back."""

from pbx.services.msilo.courier import Courier
from pbx.services.msilo.settings import MessageSiloSettings
from pbx.services.msilo.silo import MessageSilo

__all__ = ["Courier", "MessageSilo", "MessageSiloSettings"]
