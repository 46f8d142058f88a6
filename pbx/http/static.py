"""The pages at ``/``: read into memory once, so that no request touches the disk."""

from __future__ import annotations

import gzip
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from twisted.logger import Logger
from twisted.web import http, resource
from twisted.web.server import Request
from zope.interface import implementer

from pbx.interfaces import IReloadable, IStartable

#: What comes with the PBX; built from web/ by `make run`.
BUILT = Path(__file__).parent / "static"
_TEXT = "; charset=utf-8"
TYPES = {
    ".html": "text/html" + _TEXT,
    ".js": "text/javascript" + _TEXT,
    ".mjs": "text/javascript" + _TEXT,
    ".css": "text/css" + _TEXT,
    ".json": "application/json",
    ".map": "application/json",
    ".webmanifest": "application/manifest+json",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".webp": "image/webp",
    ".woff2": "font/woff2",
    ".txt": "text/plain" + _TEXT,
}
_PACKED = (".html", ".js", ".mjs", ".css", ".json", ".map", ".webmanifest", ".svg", ".txt")
#: Bundlers put a hash of the content into names: such a file never changes.
_HASHED = re.compile(r"[-.](?=[\w-]*[A-Z0-9])[\w-]{8,}\.\w+$")
MAX_FILE = 16 * 1024 * 1024
#: No script, style or frame but our own; media are made in the browser, SIP goes to our /sip.
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data: blob:",
        "font-src 'self'",
        "media-src 'self' blob: data: mediastream:",
        "connect-src 'self'",
        "worker-src 'self'",
        "manifest-src 'self'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "content-security-policy": POLICY,
    "permissions-policy": "microphone=(self), camera=(), geolocation=(), usb=(), payment=()",
    "cross-origin-opener-policy": "same-origin",
    "x-frame-options": "DENY",
}
NOT_BUILT = b"""\
<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>The web phone is not built</title></head>
<body>
<h1>The web phone is not built</h1>
<p>The PBX runs, and phones can register and call. Only the pages for browsers are missing, because
their build needs <code>npm</code>, which was not there.</p>
<ol>
<li>Install it: <code>apt install npm</code></li>
<li>Build the pages in the folder of the project: <code>make web</code></li>
<li>Load them into the running PBX: <code>.venv/bin/pbxctl reload</code>, and this page again.</li>
</ol>
</body>
</html>
"""


@dataclass(frozen=True, slots=True)
class File:
    """One file as it is sent."""

    body: bytes
    packed: bytes
    kind: str
    etag: str
    forever: bool


def load(folder: Path, root: str = "") -> Mapping[str, File]:
    """Every file of a folder by its path on the site below ``root``; hidden ones are left out."""
    found: dict[str, File] = {}
    if not folder.is_dir():
        return found
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        hidden = any(part.startswith(".") for part in name.split("/"))
        if hidden or not path.is_file() or path.stat().st_size > MAX_FILE:
            continue
        found[f"{root}/{name}"] = file_of(path.name, path.read_bytes())
    for name in [name for name in found if name.endswith("/index.html")]:
        found[name.removesuffix("index.html")] = found[name]
    return found


def file_of(name: str, body: bytes) -> File:
    """A file with what its headers need."""
    ending = Path(name).suffix.lower()
    packed = gzip.compress(body, 9, mtime=0) if ending in _PACKED and len(body) > 1000 else b""
    return File(
        body,
        packed if len(packed) < len(body) else b"",
        TYPES.get(ending, "application/octet-stream"),
        hashlib.sha256(body).hexdigest()[:24],
        _HASHED.search(name) is not None,
    )


@implementer(IStartable, IReloadable)
class Pages(resource.Resource):
    """A page with all below it: the front page, or another at ``root``."""

    isLeaf = True
    log = Logger()

    def __init__(self, folder: Path, root: str = "") -> None:
        super().__init__()
        self._folder = folder
        self._root = root
        self._files: Mapping[str, File] = {}

    async def start(self) -> None:
        """Read the files."""
        await self.reload()

    async def stop(self) -> None:
        """Nothing is kept anywhere else."""

    async def reload(self) -> None:
        """Read the files again; browsers that have the old page still get its hashed files from
        their own store.
        """
        self._files = load(self._folder, self._root)
        if f"{self._root}/" not in self._files:
            self.log.info("no pages in {folder}: build them with make web", folder=self._folder)

    def render_GET(self, request: Request) -> bytes:
        """Also HEAD."""
        for name, value in HEADERS.items():
            request.setHeader(name, value)
        path = unquote(request.path.decode("latin-1"), errors="replace")
        file = self._files.get(f"{path}/" if path == self._root else path)
        if file is None:
            if path == "/":
                return self._not_built(request)
            request.setResponseCode(404)
            request.setHeader("content-type", "text/plain; charset=utf-8")
            request.setHeader("cache-control", "no-store")
            return b"not found\n"
        forever = "public, max-age=31536000, immutable"
        request.setHeader("cache-control", forever if file.forever else "no-cache")
        request.setHeader("content-type", file.kind)
        packed = bool(file.packed) and takes_gzip(request.getHeader("accept-encoding") or "")
        if file.packed:
            request.setHeader("vary", "accept-encoding")
        if request.setETag(f'"{file.etag}{"-gz" if packed else ""}"'.encode()) is http.CACHED:
            return b""
        if packed:
            request.setHeader("content-encoding", "gzip")
        return file.packed if packed else file.body

    @staticmethod
    def _not_built(request: Request) -> bytes:
        request.setResponseCode(503)
        request.setHeader("content-type", TYPES[".html"])
        request.setHeader("cache-control", "no-store")
        return NOT_BUILT


def takes_gzip(accepted: str) -> bool:
    """Whether a client wants gzip (RFC 9110 section 12.5.3)."""
    for part in accepted.lower().split(","):
        name, _, parameter = part.partition(";")
        if name.strip() in ("gzip", "*"):
            return parameter.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False
