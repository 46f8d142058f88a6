"""``pbxctl log``: the level of the log, and whose messages are in it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from pbx.ctl import client
from pbx.ctl.output import duration, table

LEVELS = {"error": -1, "warn": 1, "info": 3, "debug": 4}
NAMES = {-3: "critical", -2: "critical", -1: "error", 1: "warn", 2: "info", 3: "info", 4: "debug"}
TARGETS = ("user", "call", "address")


def add_arguments(command: argparse.ArgumentParser) -> None:
    """What follows the word ``log``."""
    command.add_argument("level", nargs="?", choices=[*LEVELS, "default"], metavar="LEVEL")
    command.add_argument("--module", metavar="NAME", help="for this one only, as pbx.transport")
    whose = command.add_mutually_exclusive_group()
    whose.add_argument("--user", metavar="USER", help="log all messages of a user")
    whose.add_argument("--call", metavar="CALL-ID", help="log all messages of a call")
    whose.add_argument("--address", metavar="IP", help="log all messages of an address")
    command.add_argument("--seconds", metavar="N", help="for so long; an hour if not given")
    command.add_argument("--off", action="store_true", help="log no messages any more")


def change(socket: Path, options: argparse.Namespace) -> tuple[object, str]:
    """What was asked for is done; how things are now. Raises client.NotRunning, client.Refused."""
    targets = [
        f"{kind}:{value}" for kind in TARGETS if (value := getattr(options, kind)) is not None
    ]
    if options.off:
        client.call(socket, "log_wire_off", {"target": targets[0]} if targets else {})
    elif targets:
        params = {"target": targets[0]}
        if options.seconds is not None:
            params["seconds"] = options.seconds
        client.call(socket, "log_wire", params)
    if options.level is not None:
        if options.module is not None:
            level: object = LEVELS.get(options.level, "default")
            client.call(socket, "log_module", {"module": options.module, "level": level})
        else:
            level = LEVELS.get(options.level, LEVELS["info"])
            client.call(socket, "log_level", {"level": level})
    return shown(socket)


def shown(socket: Path) -> tuple[object, str]:
    """How things are."""
    level = client.call(socket, "log_level")["Processes"][0]["Log level"]
    modules: dict[str, Any] = client.call(socket, "log_module")["Modules"]
    targets = client.call(socket, "log_wire")["Targets"]
    found = {"level": level, "modules": modules, "messages": targets}
    rows = [("everything", NAMES[level], "")]
    rows += [(name, NAMES[of], "") for name, of in sorted(modules.items())]
    rows += [(one["target"], "messages", duration(one["seconds"])) for one in targets]
    return found, table(("WHAT", "LEVEL", "LEFT"), rows, "")
