"""The ``[xcap]`` table."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class XCAPSettings:
    """The documents that users keep with us: who may watch them, contact lists."""

    enabled: bool = True
    """Let users read and edit their documents on the HTTP site; what is in the table counts in
    any case."""
    root: str = "xcap-root"
    """The path on the HTTP site."""
    max_document: int = 65536
    """Largest document in bytes."""
    max_documents_per_user: int = 20
    """Most documents of one user."""

    def __post_init__(self) -> None:
        if not self.root.strip("/") or "/" in self.root.strip("/"):
            raise ValueError(f'root: expected one segment like "xcap-root", not {self.root!r}')
        if self.max_document < 1 or self.max_documents_per_user < 1:
            raise ValueError("max_document, max_documents_per_user: expected at least 1")
