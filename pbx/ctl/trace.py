"""``pbxctl trace``: calls as they happen, or those of late, as ladders, JSON and capture files."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from pbx.ctl import client
from pbx.ctl.ladder import Ladder, glyphs, terminal_width
from pbx.ctl.output import BOLD, as_json, coloured, printable
from pbx.ctl.pcap import Capture

#: Seconds that the PBX may wait for messages before it answers.
WAIT = 20.0


def add_options(command: argparse.ArgumentParser) -> None:
    """Those of ``pbxctl trace``."""
    command.add_argument("what", nargs="?", default="", metavar="USER|ADDRESS|CALL-ID")
    command.add_argument(
        "--past", action="store_true", help="calls that the PBX still remembers, and end"
    )
    command.add_argument(
        "--all", action="store_true", help="registrations, subscriptions, messages and probes too"
    )
    command.add_argument("--full", action="store_true", help="the text of every message")
    command.add_argument(
        "--save", type=Path, metavar="FILE.pcap", help="also write a capture file for Wireshark"
    )
    command.add_argument(
        "--for", dest="seconds", type=float, default=0.0, metavar="SECONDS", help="then end"
    )


def trace(options: argparse.Namespace, socket: Path) -> None:
    """Print until the end. Raises NotRunning, Refused, OSError."""
    with saved(options.save) as capture:
        if options.past:
            past(options, socket, capture)
        else:
            Live(options, socket, capture).run()


@contextlib.contextmanager
def saved(path: Path | None) -> Iterator[Capture | None]:
    """The capture file; nobody else may read it, for it tells who called whom."""
    if path is None:
        yield None
        return
    number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(number, "wb") as file:
        yield _capture(file)


def _capture(file: BinaryIO) -> Capture:
    return Capture(file)


def past(options: argparse.Namespace, socket: Path, capture: Capture | None) -> None:
    """What the PBX remembers."""
    found = client.call(socket, "trace_messages", _asked(options))
    if capture is not None:
        for message in found["messages"]:
            capture.add(message)
    if options.json:
        print(as_json(found))
        return
    calls: dict[str, list[Mapping[str, Any]]] = {}
    for message in found["messages"]:
        calls.setdefault(message["call"], []).append(message)
    if not calls:
        print(f"no call{f' of {options.what}' if options.what else ''} is remembered")
    for name, messages in calls.items():
        began = time.strftime("%F %T", time.localtime(messages[0]["time"]))
        print(coloured(f"{began}  {printable(found['outcomes'][name])}", BOLD))
        print(f"Call-ID {', '.join(dict.fromkeys(printable(m['call_id']) for m in messages))}\n")
        ladder = Ladder(terminal_width(), glyphs())
        ladder.learn(messages)
        print("\n".join(ladder.titles()))
        for message in messages:
            print("\n".join(_shown(ladder, message, options.full)))
        print()


def _asked(options: argparse.Namespace) -> dict[str, object]:
    return {"what": options.what, "everything": int(options.all)}


def _shown(ladder: Ladder, message: Mapping[str, Any], full: bool) -> list[str]:
    lines = ladder.add(message)
    if full:
        text = message["text"].rstrip("\r\n")
        lines += ["", *(f"    {printable(line)}" for line in text.split("\r\n")), ""]
    return lines


class Live:
    """Messages as they come, under the heading of their call."""

    def __init__(self, options: argparse.Namespace, socket: Path, capture: Capture | None) -> None:
        self._options = options
        self._socket = socket
        self._capture = capture
        self._ladders: dict[str, Ladder] = {}
        self._current = ""

    def run(self) -> None:
        """Until Ctrl-C, or for the time that was asked for."""
        options = self._options
        end = time.monotonic() + options.seconds if options.seconds else float("inf")
        since = -1
        if not options.json:
            about = f" of {options.what}" if options.what else ""
            print(f"waiting for calls{about}; Ctrl-C ends\n", file=sys.stderr, flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            while (left := end - time.monotonic()) > 0:
                asked = {"since": since, "wait": min(WAIT, left), **_asked(options)}
                found = client.call(self._socket, "trace_follow", asked)
                since = found["next"]
                self._show(found)

    def _show(self, found: Mapping[str, Any]) -> None:
        if found["lost"]:
            print(f"{found['lost']} messages came too fast", file=sys.stderr)
        for message in found["messages"]:
            if self._capture is not None:
                self._capture.add(message)
            if self._options.json:
                print(json.dumps(message), flush=True)
            else:
                self._draw(message, found["outcomes"])
        if self._options.json:
            return
        for name in found["ended"]:
            print(coloured(f"\n{printable(found['outcomes'][name])}\n", BOLD), flush=True)
            self._current = ""

    def _draw(self, message: Mapping[str, Any], outcomes: Mapping[str, str]) -> None:
        name = message["call"]
        ladder = self._ladders.get(name)
        if ladder is None:
            ladder = self._ladders[name] = Ladder(terminal_width(), glyphs())
        if name != self._current:
            if self._current:
                print()
            print(coloured(printable(f"{outcomes[name].partition(':')[0]}  {name}"), BOLD))
            if ladder.began:
                print("\n".join(ladder.titles()))
            self._current = name
        print("\n".join(_shown(ladder, message, self._options.full)), flush=True)
        if len(self._ladders) > 1000:
            del self._ladders[next(iter(self._ladders))]
