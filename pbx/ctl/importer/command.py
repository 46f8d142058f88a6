"""``pbxctl import FILE.cfg``: read, write, report."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

import pbx
from pbx.config import base_folder
from pbx.ctl.importer.convert import convert
from pbx.ctl.importer.draft import Draft, Note
from pbx.ctl.importer.lexer import MAX_BYTES, BadScript
from pbx.ctl.importer.parser import parse
from pbx.ctl.importer.rules import RULES, judge
from pbx.ctl.output import BOLD, as_json, coloured, printable


class ImportFailed(Exception):
    """The file cannot be read or ours not be written; the text says why."""


def add_options(command: argparse.ArgumentParser) -> None:
    """Those of ``pbxctl import``."""
    command.add_argument("file", type=Path, metavar="FILE.cfg")
    command.add_argument(
        "-o", "--output", type=Path, metavar="FILE.toml", help="default: FILE.toml, here"
    )
    command.add_argument("--force", action="store_true", help="replace the output if it is there")


def import_file(options: argparse.Namespace) -> str:
    """The report; our file is written. Raises ImportFailed."""
    draft = imported(options.file)
    output: Path = options.output or Path(options.file.with_suffix(".toml").name)
    _policy(draft, output)
    _write(output, draft.text(options.file.name), options.force)
    if options.json:
        return as_json({"output": str(output), **draft.as_json()})
    return report(draft, options.file, output)


def imported(path: Path) -> Draft:
    """What becomes of a file. Raises ImportFailed."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ImportFailed(f"{path}: larger than {MAX_BYTES >> 20} MiB")
        source = path.read_text("utf-8", "replace")
    except OSError as error:
        raise ImportFailed(f"{path}: {error.strerror}") from None
    draft = Draft()
    try:
        script = parse(source)
    except BadScript as error:
        raise ImportFailed(f"{path}: {error}") from None
    if not (script.modules or script.routes or script.settings):
        raise ImportFailed(f"{path}: no OpenSIPS configuration: no setting, module or route")
    convert(script, draft)
    judge(script, draft)
    return draft


def _policy(draft: Draft, output: Path) -> None:
    """The policy that is shipped, from where the new file lies."""
    usual = Path("etc/routing.py")
    shipped = Path(pbx.__file__).resolve().parents[1] / usual
    here = (base_folder(output) / usual).is_file()
    if not here and not shipped.is_file():
        draft.todo.append("[routing] policy: put etc/routing.py there")
    value = str(usual if here or not shipped.is_file() else shipped)
    draft.put("routing", "policy", value, 0, "the routes, see the report of the import")


def _write(path: Path, text: str, replace: bool) -> None:
    flags = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if replace else os.O_EXCL)
    try:
        with os.fdopen(os.open(path, flags, 0o640), "w", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise ImportFailed(
            f"{path}: exists already; --force replaces it, -o names another"
        ) from None
    except OSError as error:
        raise ImportFailed(f"{path}: {error.strerror}") from None


def report(draft: Draft, source: Path, output: Path) -> str:
    """For people."""
    rules = {ref for note in draft.understood for ref in note.refs}
    lines = [
        f"{source} -> {output}",
        f"{len(draft.understood)} things understood, {len(draft.differs)} done differently here,"
        f" {len(draft.left_out)} left out",
        _nearness(len(rules)),
    ]
    for title, notes in (
        ("UNDERSTOOD", draft.understood),
        ("DIFFERENT HERE", draft.differs),
        ("LEFT OUT", draft.left_out),
    ):
        lines += ["", coloured(title, BOLD), *_listed(notes)]
    if draft.todo:
        lines += ["", coloured("TO DO", BOLD), *(f"  - {printable(one)}" for one in draft.todo)]
    lines += ["", f"Check it: twistd -n pbx --check -c {output}"]
    return "\n".join(lines)


def _nearness(found: int) -> str:
    """How near the routes are to the policy that is shipped."""
    if found == len(RULES):
        return (
            f"routes: the reference recipe, all {found} rules; etc/routing.py does the same, its"
            " mistakes mended"
        )
    if found == 0:
        return "routes: none of the rules of etc/routing.py"
    return f"routes: {found} of {len(RULES)} rules of etc/routing.py as they are there; see below"


def _listed(notes: Sequence[Note]) -> list[str]:
    if not notes:
        return ["  nothing"]
    lines = []
    for note in sorted(notes, key=lambda one: (one.line == 0, one.line)):
        at = f"{note.line:>5}" if note.line else "     "
        refs = f" ({', '.join(note.refs)})" if note.refs else ""
        lines.append(f"{at}  {printable(note.text)}{refs}")
        lines.append(f"         {printable(note.why)}")
    return lines
