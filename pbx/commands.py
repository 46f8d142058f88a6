"""What commands of the management interface raise."""

from __future__ import annotations


class CommandFailed(Exception):
    """A management command that could not be done: an HTTP-like ``code`` and a message."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
