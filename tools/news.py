"""Fold newsfragments/ into CHANGELOG.md under the version given as the only argument."""

from __future__ import annotations

import datetime
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

KINDS = {"feature": "New", "bugfix": "Mended", "removal": "Removed"}
HEADING = "# Changelog\n"


def section(version: str, date: str, fragments: Mapping[str, Sequence[str]]) -> str:
    """The text of one version: a list per kind."""
    lines = [f"## {version} ({date})", ""]
    for kind, title in KINDS.items():
        if texts := fragments.get(kind):
            lines += [f"### {title}", "", *(f"- {text}" for text in texts), ""]
    return "\n".join(lines)


def collect(folder: Path) -> tuple[dict[str, list[str]], list[Path]]:
    """Texts by kind and the files they came from. Raises ValueError for an unknown kind."""
    texts: dict[str, list[str]] = {}
    paths = sorted(path for path in folder.iterdir() if path.name != "README.md")
    for path in paths:
        kind = path.name.rpartition(".")[2]
        if kind not in KINDS:
            raise ValueError(f"{path}: the kind is one of {', '.join(KINDS)}")
        number = path.name.partition(".")[0]
        texts.setdefault(kind, []).append(f"{' '.join(path.read_text().split())} (#{number})")
    return texts, paths


def main(arguments: Sequence[str]) -> int:
    """Exit status: 0, 1 for a bad fragment, 2 for usage."""
    if len(arguments) != 1 or not arguments[0][:1].isalnum():
        print("usage: news.py VERSION", file=sys.stderr)
        return 2
    try:
        texts, paths = collect(Path("newsfragments"))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    changelog = Path("CHANGELOG.md")
    older = changelog.read_text().removeprefix(HEADING).lstrip("\n")
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    changelog.write_text(f"{HEADING}\n{section(arguments[0], date, texts)}\n{older}")
    for path in paths:
        path.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
