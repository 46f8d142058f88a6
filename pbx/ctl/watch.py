"""Live views: the same answer again and again; on a terminal in place, elsewhere as a list."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Callable
from typing import Any

from pbx.ctl import client
from pbx.ctl.output import BOLD, RED, coloured

INTERVAL = 2.0
#: To the top, without the flicker of clearing first; clear to the end of a line, of the screen.
_HOME, _REST_OF_LINE, _REST = "\x1b[H", "\x1b[K", "\x1b[J"
#: A screen of its own, as pagers have, and no cursor in it.
_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"


def add_option(command: argparse.ArgumentParser) -> None:
    """``--watch [SECONDS]``."""
    command.add_argument(
        "--watch",
        nargs="?",
        type=_seconds,
        const=INTERVAL,
        metavar="SECONDS",
        help=f"again every {INTERVAL:g} seconds (or as many as given) until Ctrl-C",
    )


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0.1 <= seconds <= 3600:
        raise argparse.ArgumentTypeError("expected 0.1 to 3600 seconds")
    return seconds


def watch(
    title: str, seconds: float, ask: Callable[[], Any], show: Callable[[Any], str], as_json: bool
) -> None:
    """Until Ctrl-C. On a terminal a PBX that is away is waited for; elsewhere that is an error."""
    screen = sys.stdout.isatty() and not as_json
    if screen:
        sys.stdout.write(_ENTER)
    try:
        while True:
            if screen:
                sys.stdout.write(page(title, seconds, ask, show))
            elif as_json:
                print(json.dumps(ask()))
            else:
                print(f"{time.strftime('%T')}\n{show(ask())}\n")
            sys.stdout.flush()
            time.sleep(seconds)
    except KeyboardInterrupt:
        return
    finally:
        if screen:
            sys.stdout.write(_LEAVE)
            sys.stdout.flush()


def page(title: str, seconds: float, ask: Callable[[], Any], show: Callable[[Any], str]) -> str:
    """One screenful: what does not fit is counted."""
    columns, rows = shutil.get_terminal_size()
    try:
        lines = show(ask()).split("\n")
    except client.NotRunning as error:
        lines = [coloured(str(error), RED), "waiting for it"]
    head = f"{title}  {time.strftime('%T')}  every {seconds:g} s, Ctrl-C ends"
    room = max(1, rows - 3)
    if len(lines) > room:
        hidden = len(lines) - room + 1
        lines = [*lines[: room - 1], f"... and {hidden} more"]
    drawn = [coloured(head[:columns], BOLD), "", *(_cut(line, columns) for line in lines)]
    return _HOME + "".join(f"{line}{_REST_OF_LINE}\r\n" for line in drawn)[:-2] + _REST


def _cut(line: str, columns: int) -> str:
    """Lines with colours are left as they are: they are short."""
    return line if "\x1b" in line else line[:columns]
