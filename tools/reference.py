"""Write docs/configuration.md, named by the only argument, from the settings dataclasses."""

from __future__ import annotations

import sys
from pathlib import Path

from pbx.config import reference
from pbx.tap import all_settings

HEAD = """# Configuration

One TOML file, `etc/pbx.toml` unless `twistd pbx -c FILE` names another. Unknown tables and keys
are errors with a suggestion; `twistd -n pbx --check -c FILE` finds them without starting anything.
Times are seconds, sizes bytes. Relative paths start from the folder that holds `etc/` when the file
lies in a folder of that name, else from the folder of the file, wherever the PBX is started.

Passwords never stand in this file: PostgreSQL takes them from `PGPASSWORD` or `~/.pgpass`.

Changes need a restart, except the policy and the tables of the database (`pbxctl reload`).

This page is written by `make reference`; `twistd pbx --reference` prints the same.
"""


def main() -> None:
    """The whole page."""
    tables = [f"```\n{reference(kind, name)}\n```\n" for name, kind in all_settings().items()]
    Path(sys.argv[1]).write_text("\n".join([HEAD, *tables]), "utf-8")


if __name__ == "__main__":
    main()
