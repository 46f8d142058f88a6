"""``pbxctl bans``, ``ban`` and ``unban``: who is kept out."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pbx.ctl import client
from pbx.ctl.output import duration, printable, table


def add_arguments(name: str, command: argparse.ArgumentParser) -> None:
    """What follows the words ``ban`` and ``unban``."""
    if name == "ban":
        command.add_argument("source", metavar="ADDRESS", help="IPv4, or IPv6 for its /64")
        command.add_argument("seconds", nargs="?", metavar="SECONDS", help="[guard] ban_time")
    else:
        command.add_argument("source", metavar="ADDRESS|all")


def ask(socket: Path, options: argparse.Namespace) -> tuple[object, str]:
    """The answer of the PBX, and in words. Raises client.NotRunning, client.Refused."""
    source = options.source
    if options.command == "unban":
        found = client.call(socket, "unban", {"source": source})
        return found, "nobody was banned" if not found["unbanned"] else f"{source}: let in again"
    params = {"source": source}
    if options.seconds is not None:
        params["seconds"] = options.seconds
    found = client.call(socket, "ban", params)
    return found, f"{found['source']}: banned for {duration(found['seconds'])}"


def listed(found: Mapping[str, Any]) -> str:
    """``pbxctl bans``: a line per banned address, then those that have failed so far."""
    rows = [
        (ban["source"], duration(ban["seconds"]), ban["bans"], ban["reason"])
        for ban in found["Bans"]
    ]
    text = table(("ADDRESS", "LEFT", "BANS", "WHY"), rows, "nobody is banned")
    failing = [f"{printable(one['source'])} ({one['failures']})" for one in found["Failing"]]
    return f"{text}\nfailed logins, not banned: {', '.join(failing)}" if failing else text
