"""``pbxctl``: the operator's command line.

Questions about a running PBX go over its management socket; users are edited in the database, so
that this works while the PBX is down. Exit status: 0, 1 for "could not be done", 2 for usage.
"""

from __future__ import annotations

import argparse
import getpass
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

from pbx import __version__
from pbx.config import ConfigError, base_folder, located, read
from pbx.ctl import (
    bans,
    client,
    completion,
    importer,
    log,
    routes,
    show,
    trace,
    users,
    watch,
)
from pbx.ctl.output import as_json, table
from pbx.errors import DatabaseError
from pbx.interfaces import IDatabase
from pbx.storage.layout import SchemaMismatch
from pbx.storage.open import open_database

ResultT = TypeVar("ResultT")


class Setup:
    """What pbxctl needs of the configuration file. Raises ConfigError."""

    def __init__(self, path: Path) -> None:
        tables = read(path)
        base = base_folder(path)
        self.domain = _text(tables, "sip", "domain", "")
        self.socket = base / _text(tables, "management", "socket", "var/pbx.sock")
        self.database = located(_text(tables, "storage", "database", "sqlite:var/pbx.db"), base)


def _text(tables: dict[str, Any], table_: str, key: str, default: str) -> str:
    found = tables.get(table_, {})
    value = found.get(key, default) if isinstance(found, dict) else default
    if not isinstance(value, str):
        raise ConfigError(f"[{table_}] {key}: expected a text in quotes, not {value!r}")
    return value


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="pbxctl", description="Look at and steer a PBX.")
    top.add_argument("-c", "--config", type=Path, default=Path("etc/pbx.toml"), metavar="FILE")
    top.add_argument("--json", action="store_true", help="answers for programs")
    top.add_argument("--version", action="version", version=f"pbxctl {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in (
        ("status", "health, listeners, storage, counts"),
        ("registrations", "who is registered, and where"),
        ("calls", "calls in progress"),
        ("lb", "FreeSWITCH nodes and their load"),
        ("subscriptions", "who watches whom: presence, busy lamps, message waiting"),
        ("presentities", "what is published of whom"),
        ("bans", "addresses that are kept out, and why"),
        ("gateways", "gateways and their states; where a number would go"),
        ("dispatcher", "destinations of the dispatcher and their states"),
        ("dialplan", "rules of the dial plan; what becomes of a number"),
        ("reload", "read the policy and the tables kept in memory again"),
        ("stop", "stop the PBX"),
    ):
        view = _json_too(commands.add_parser(name, help=text, description=text))
        routes.add_options(name, view)
        if name not in ("reload", "stop"):
            watch.add_option(view)
    for name, text in (("ban", "keep an address out"), ("unban", "let an address in again")):
        bans.add_arguments(name, _json_too(commands.add_parser(name, help=text, description=text)))
    text = "the level of the log, and whose messages are in it"
    log.add_arguments(_json_too(commands.add_parser("log", help=text, description=text)))
    text = "follow calls as ladders, or look at those of late"
    trace.add_options(_json_too(commands.add_parser("trace", help=text, description=text)))
    text = "read an OpenSIPS configuration, write ours, and say what differs"
    importer.add_options(_json_too(commands.add_parser("import", help=text, description=text)))
    text = 'completion for a shell: eval "$(pbxctl completion bash)"'
    completion.add_options(commands.add_parser("completion", help=text, description=text))
    mi = _json_too(commands.add_parser("mi", help="any command of the management interface"))
    mi.add_argument("method", metavar="METHOD", help='"which" lists them')
    mi.add_argument("params", nargs="*", metavar="VALUE|NAME=VALUE")
    user = commands.add_parser("user", help="extensions and their passwords")
    actions = user.add_subparsers(dest="action", required=True, metavar="ACTION")
    _json_too(actions.add_parser("list", help="all users"))
    link = _json_too(actions.add_parser("link", help="a web address that logs a browser in once"))
    link.add_argument("user", metavar="USER[@DOMAIN]")
    named = _json_too(actions.add_parser("name", help="what people call a user"))
    named.add_argument("user", metavar="USER[@DOMAIN]")
    named.add_argument("name", metavar="NAME", help='"" for none')
    for name, text in (
        ("add", "a new user; the password is made up and printed once, unless given"),
        ("password", "a new password; the old one is refused within seconds"),
        ("remove", "a user goes, and the registrations of its phones"),
    ):
        action = _json_too(actions.add_parser(name, help=text, description=text))
        action.add_argument("user", metavar="USER[@DOMAIN]")
        if name == "add":
            action.add_argument("--name", default="", help="what people call the user")
        if name != "remove":
            given = action.add_mutually_exclusive_group()
            given.add_argument("--ask", action="store_true", help="ask for the password")
            given.add_argument(
                "--password-stdin", action="store_true", help="first line of standard input"
            )
    return top


def _json_too(command: argparse.ArgumentParser) -> argparse.ArgumentParser:
    command.add_argument(
        "--json", action="store_true", default=argparse.SUPPRESS, help="answers for programs"
    )
    return command


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status."""
    options = parser().parse_args(arguments)
    try:
        if options.command == "import":
            print(importer.import_file(options))
            return 0
        if options.command == "completion":
            print(completion.script(options.shell, parser()))
            return 0
        setup = Setup(options.config)
        if options.command == "user":
            text = user_command(options, setup)
        elif options.command == "trace":
            trace.trace(options, setup.socket)
            return 0
        elif options.command == "log":
            found, words = log.change(setup.socket, options)
            text = as_json(found) if options.json else words
        elif options.command in ("ban", "unban"):
            found, words = bans.ask(setup.socket, options)
            text = as_json(found) if options.json else words
        elif options.command == "mi":
            found = client.call(setup.socket, options.method, parameters(options.params))
            text = as_json(found) if options.json else show.anything(found)
        else:
            return view(options, setup)
    except BrokenPipeError:
        return 0
    except KeyboardInterrupt:
        return 1
    except (
        ConfigError,
        DatabaseError,
        SchemaMismatch,
        OSError,
        ValueError,
        client.NotRunning,
        client.Refused,
        importer.ImportFailed,
        users.UserError,
    ) as error:
        print(f"pbxctl: {error}", file=sys.stderr)
        return 1
    print(text)
    return 0


def view(options: argparse.Namespace, setup: Setup) -> int:
    """``pbxctl calls`` and the like, once or again and again."""
    show_: Callable[[Any], str] = routes.shown
    params: Mapping[str, object] = {}
    if options.command in ("gateways", "dispatcher", "dialplan"):
        method, params = routes.request(options)
    else:
        method, show_ = show.VIEWS[options.command]

    def ask() -> Any:
        return client.call(setup.socket, method, params)

    try:
        if getattr(options, "watch", None):
            watch.watch(f"pbxctl {options.command}", options.watch, ask, show_, options.json)
        else:
            found = ask()
            print(as_json(found) if options.json else show_(found))
    except client.Refused as error:
        if error.code != client.METHOD_NOT_FOUND:
            raise
        raise client.Refused(
            error.code, f"this PBX does without: no command {method}; see [plugins] enabled"
        ) from None
    return 0


def parameters(values: Sequence[str]) -> dict[str, object] | list[object]:
    """``NAME=VALUE`` for all: named; else positional."""
    pairs = [value.partition("=") for value in values]
    if values and all(equals and name.isidentifier() for name, equals, _ in pairs):
        return {name: value for name, _, value in pairs}
    return list(values)


def user_command(options: argparse.Namespace, setup: Setup) -> str:
    """``pbxctl user ...``: what to print."""
    if options.action == "list":
        found, names = with_database(setup.database, users.listed_with_names)
        if options.json:
            return as_json([users.shown(u, names.get(u, "")) for u in found])
        rows = [(u.username, u.domain, names.get(u, "")) for u in found]
        return table(("USER", "DOMAIN", "NAME"), rows, "no users")
    user = users.parse_user(options.user, setup.domain)
    if options.action == "link":
        link = client.call(setup.socket, "web_link", {"user": user.aor})
        return as_json(link) if options.json else show.link(link)
    if options.action == "name":
        with_database(setup.database, partial(users.set_name, user=user, name=options.name))
        return as_json(users.shown(user, options.name)) if options.json else f"{user.aor}: done"
    if options.action == "remove":
        with_database(setup.database, lambda database: users.remove(database, user))
        forget_phones(setup.socket, user)
        answer: dict[str, object] = {"username": user.username, "domain": user.domain}
        return as_json(answer) if options.json else f"{user.aor} is removed"
    password, made_up = chosen_password(options)
    if options.action == "add":
        work = partial(users.add, user=user, password=password, name=options.name)
    else:
        work = partial(users.change_password, user=user, password=password)
    with_database(setup.database, work)
    answer = {"username": user.username, "domain": user.domain}
    if made_up:
        answer["password"] = password
    if options.json:
        return as_json(answer)
    return f"{user.aor}  password: {password}" if made_up else f"{user.aor}: done"


def chosen_password(options: argparse.Namespace) -> tuple[str, bool]:
    """The password, and whether we made it up. Never from the command line, which others see."""
    if options.password_stdin:
        return sys.stdin.readline().rstrip("\r\n"), False
    if options.ask:
        password = getpass.getpass("password: ")
        if getpass.getpass("once more: ") != password:
            raise users.UserError("the two are not the same")
        return password, False
    return users.generated_password(), True


def forget_phones(socket: Path, user: users.User) -> None:
    """A PBX that runs has the registrations in memory."""
    try:
        client.call(socket, "ul_rm", {"table_name": "location", "aor": user.aor})
    except (client.NotRunning, client.Refused):
        return


def with_database(url: str, work: Callable[[IDatabase], Awaitable[ResultT]]) -> ResultT:
    """What the work gives, done on the opened database. Raises what it raises, ValueError."""
    from twisted.internet.defer import Deferred
    from twisted.internet.task import react

    results: list[ResultT] = []
    errors: list[Exception] = []

    async def session(reactor: Any) -> None:
        try:
            if url.startswith("sqlite:"):
                Path(url.removeprefix("sqlite:")).parent.mkdir(parents=True, exist_ok=True)
            database = open_database(url, reactor)
            try:
                await cast(Any, database).start()
                results.append(await work(database))
            finally:
                await database.close()
        except Exception as error:
            errors.append(error)

    try:
        react(lambda reactor: Deferred.fromCoroutine(session(reactor)))
    except SystemExit:
        if errors:
            raise errors[0] from None
    return results[0]


if __name__ == "__main__":
    sys.exit(main())
