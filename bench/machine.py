"""What a figure was measured on: machine, programs and their versions, which Python."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
from datetime import UTC, datetime
from pathlib import Path

_VERSION = re.compile(r"v?=?(\d+\.\d+(?:\.\d+)?)")


def description(compiled: bool, children: int) -> str:
    """A paragraph for docs/performance.md."""
    peers = (
        f"kamailio {version('kamailio', '-v')} with {children} workers",
        f"PostgreSQL {version(postgres(), '--version')}",
        f"Redis {version('redis-server', '--version')}",
        f"SIPp {version('sipp', '-v')} on the same cores",
    )
    return (
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, load {os.getloadavg()[0]:.1f} at the start. "
        f"{python_build()}, {'compiled' if compiled else 'pure'}; {', '.join(peers)}. "
        f"{os.cpu_count()} cores, {processor()}, {platform.system()} {platform.release()}."
    )


def distribution() -> str:
    """Whose Python this is: the word of the system for itself, "own" for any other."""
    if sys.base_prefix != "/usr":
        return "own"
    with contextlib.suppress(OSError):
        return platform.freedesktop_os_release()["ID"]
    return "system"


def python_build() -> str:
    """Version, whose build, and whether it says that it was optimised by profiles."""
    whose = distribution()
    options = str(sysconfig.get_config_var("CONFIG_ARGS") or "")
    if "--enable-optimizations" in options:
        built = "built with PGO"
    else:
        built = "built without PGO" if whose == "own" else "built as the distribution does"
    whose = "an own one" if whose == "own" else f"that of {whose}"
    return f"Python {platform.python_version()} ({whose}, {built})"


def processor() -> str:
    """Its model, and whether it is a virtual machine's."""
    text = ""
    with contextlib.suppress(OSError):
        text = Path("/proc/cpuinfo").read_text()
    found = re.search(r"^model name\s*:\s*(.*)$", text, re.MULTILINE)
    model = found[1].strip() if found else platform.machine()
    return f"{model} (virtual)" if re.search(r"^flags\s*:.*\bhypervisor\b", text, re.M) else model


def postgres() -> str:
    """The newest that is installed, as `bench.databases` takes it."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    return str(found[-1]) if found else "postgres"


def version(program: str, option: str) -> str:
    """What a program says of itself, "(none)" when there is no such program."""
    path = shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")
    if path is None:
        return "(none)"
    done = subprocess.run(
        [path, option],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    found = _VERSION.search(done.stdout)
    return found[1] if found else "(unknown)"
