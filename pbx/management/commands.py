"""The management interface: JSON-RPC 2.0 in the dialect of OpenSIPS 3.x, over any transport.

A transport hands over the bytes of one request and gets the bytes of the answer, or None when there
is none to send (a notification).
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from zope.interface import implementer

from pbx.commands import CommandFailed
from pbx.interfaces import ICommands, IManagement
from pbx.management.help import described

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
SERVER_ERROR = -32000

#: Requests in one batch: each of them may be a long answer.
MAX_BATCH = 100

#: Parameters that are lists; a lone text stands for a list of one.
LISTS = frozenset(
    {"statistics", "filter", "DID", "events", "cmd_params", "values", "scenario_params"}
)
#: The few commands whose list parameter has a name that is a plain one elsewhere.
LISTS_OF = frozenset({("raise_event", "params")})

#: Commands that take no positional values (spec 40, N).
NAMED_ONLY = frozenset({"dlg_list", "dlg_list_ctx"})

#: Names of 4.x servers whose command is not simply the part behind the colon with a prefix.
MODULE_PREFIXES: Mapping[str, tuple[str, ...]] = {
    "dialog": ("dlg_", "profile_"),
    "dialplan": ("dp_",),
    "dispatcher": ("ds_",),
    "domain": ("domain_",),
    "drouting": ("dr_",),
    "load_balancer": ("lb_",),
    "nathelper": ("nh_",),
    "registrar": ("reg_",),
    "rtpengine": ("rtpengine_",),
    "rtpproxy": ("rtpproxy_",),
    "tm": ("t_",),
    "tracer": ("trace_",),
    "uac_registrant": ("reg_",),
    "usrloc": ("ul_",),
    "presence": ("pres_", ""),
}
RENAMED: Mapping[str, str] = {
    "statistics:get": "get_statistics",
    "statistics:list": "list_statistics",
    "statistics:reset": "reset_statistics",
    "statistics:reset_all": "reset_all_statistics",
    "dialog:list_profiles": "list_all_profiles",
    "nathelper:enable_ping": "nh_enable_ping",
}


class RPCError(Exception):
    """What becomes the error member of a response."""

    def __init__(self, code: int, message: str, data: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data

    def member(self) -> dict[str, object]:
        """As JSON-RPC writes it."""
        error: dict[str, object] = {"code": self.code, "message": self.message}
        if self.data:
            error["data"] = self.data
        return error


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One command: ``recipes`` are the lists of parameter names that it takes."""

    name: str
    recipes: tuple[tuple[str, ...], ...]
    function: Callable[..., object]
    module: str = "core"
    named_only: bool = False


def _no_number(name: str) -> object:
    """NaN and Infinity, which JSON does not know."""
    raise ValueError(name)


def json_text(value: object) -> bytes:
    """One line of JSON; text that came off the wire may hold anything."""
    return json.dumps(value, separators=(",", ":")).encode("utf-8", "surrogateescape")


@implementer(ICommands, IManagement)
class Commands:
    """Every command by name, and the dispatcher. `add` parts before the first request."""

    log = Logger()

    def __init__(self, clock: IReactorTime | None = None) -> None:
        """``clock`` lets other work have its turn between the requests of a batch."""
        self._clock = clock
        self._commands: dict[str, Command] = {}
        for name, recipes, function in self.commands():
            self.add_command(name, recipes, function)

    def add(self, part: Any) -> None:
        """Every command of a part that provides ICommands; raises ValueError for a second owner."""
        for name, recipes, function in ICommands(part).commands():
            self.add_command(name, recipes, function, module_of(part))

    def add_command(
        self,
        name: str,
        recipes: Sequence[Sequence[str]],
        function: Callable[..., object],
        module: str = "core",
    ) -> None:
        """One command."""
        if name in self._commands:
            raise ValueError(f"command {name} is already provided")
        self._commands[name] = Command(
            name=name,
            recipes=tuple(tuple(recipe) for recipe in recipes) or ((),),
            function=function,
            module=module,
            named_only=name in NAMED_ONLY,
        )

    # What the interface tells about itself.

    def commands(self) -> Sequence[tuple[str, Sequence[Sequence[str]], Callable[..., object]]]:
        """``which`` and ``help``."""
        return (
            ("which", ((), ("command",)), self.which),
            ("help", ((), ("mi_cmd",)), self.help),
        )

    def which(self, command: str = "") -> object:
        """The names of all commands, or the recipes of one."""
        if not command:
            return sorted(self._commands)
        found = self.find(str(command))
        if found is None:
            raise CommandFailed(404, "unknown MI command")
        return [list(recipe) for recipe in found.recipes]

    def help(self, mi_cmd: str = "") -> object:
        """What a command does."""
        if not mi_cmd:
            return "help mi_cmd - returns information about 'mi_cmd'"
        found = self.find(str(mi_cmd))
        if found is None:
            raise CommandFailed(404, "unknown MI command")
        return {
            "Help": described(found.function) or "not available for this command",
            "Exported by": found.module,
        }

    # Requests.

    def find(self, name: str) -> Command | None:
        """The command of a plain name or of ``module:command``."""
        if command := self._commands.get(name):
            return command
        module, colon, rest = name.partition(":")
        if not colon:
            return None
        if command := self._commands.get(RENAMED.get(name, "")):
            return command
        for prefix in (*MODULE_PREFIXES.get(module, ()), f"{module}_"):
            if command := self._commands.get(prefix + rest):
                return command
        command = self._commands.get(rest)
        return command if command is not None and command.module in (module, "core") else None

    def handle(self, text: bytes) -> Deferred[bytes | None]:
        """The answer to the text of one request or batch. Never fails."""
        return Deferred.fromCoroutine(self._handle(text))

    async def _handle(self, text: bytes) -> bytes | None:
        try:
            request = json.loads(text, parse_constant=_no_number)
        except (ValueError, RecursionError):
            return json_text(_failed(RPCError(PARSE_ERROR, "Parse error"), None))
        answer: object
        if isinstance(request, list) and len(request) > MAX_BATCH:
            why = f"a batch has at most {MAX_BATCH} requests"
            answer = _failed(RPCError(INVALID_REQUEST, "Invalid Request", why), None)
        elif isinstance(request, list) and request:
            answers = []
            for entry in request:
                answers.append(await self.respond(entry))
                if self._clock is not None:
                    await deferLater(self._clock, 0, lambda: None)
            answer = [entry for entry in answers if entry is not None] or None
        else:
            answer = await self.respond(request)
        return None if answer is None else json_text(answer)

    async def respond(self, request: object) -> dict[str, object] | None:
        """The response object to one request object; None to a notification."""
        try:
            name, params = _checked(request)
        except RPCError as error:
            return _failed(error, _id(request))
        try:
            answer = {"jsonrpc": "2.0", "result": await self._call(name, params)}
        except RPCError as error:
            answer = _failed(error, None)
        if not (isinstance(request, dict) and "id" in request):
            return None
        answer["id"] = request["id"]
        return answer

    async def _call(self, name: str, params: Mapping[str, object] | Sequence[object]) -> object:
        command = self.find(name)
        if command is None:
            raise RPCError(METHOD_NOT_FOUND, "Method not found")
        arguments = matched(command, params)
        try:
            result = command.function(**arguments)
            if inspect.isawaitable(result):
                result = await result
            json.dumps(result)
        except CommandFailed as error:
            raise RPCError(error.code, error.message) from None
        except Exception:
            self.log.failure("command {name} failed", name=command.name)
            raise RPCError(SERVER_ERROR, "Server error") from None
        return "OK" if result is None else result


def module_of(part: object) -> str:
    """What ``help`` names as the exporter of a part's commands: the service, plugin or layer."""
    path = type(part).__module__.split(".")
    if path[:2] == ["pbx", "management"]:
        return "core"
    return path[2] if path[:2] == ["pbx", "services"] else path[min(1, len(path) - 1)]


def _checked(request: object) -> tuple[str, Mapping[str, object] | Sequence[object]]:
    if not isinstance(request, dict):
        raise RPCError(INVALID_REQUEST, "Invalid Request", "the request is no object")
    if request.get("jsonrpc") != "2.0":
        raise RPCError(INVALID_REQUEST, "Invalid Request", "jsonrpc is not 2.0")
    if isinstance(request.get("id"), (dict, list, bool)):
        raise RPCError(INVALID_REQUEST, "Invalid Request", "id is no text and no number")
    name, params = request.get("method"), request.get("params")
    if not isinstance(name, str):
        raise RPCError(INVALID_REQUEST, "Invalid Request", "method is no text")
    if params is not None and not isinstance(params, (dict, list)):
        raise RPCError(INVALID_REQUEST, "Invalid Request", "params is no object and no array")
    return name, params or {}


def _id(request: object) -> object:
    id_ = request.get("id") if isinstance(request, dict) else None
    return id_ if isinstance(id_, (str, int, float)) and not isinstance(id_, bool) else None


def matched(command: Command, params: Mapping[str, object] | Sequence[object]) -> dict[str, object]:
    """Arguments by name for the recipe that fits. Raises RPCError."""
    recipes = command.recipes
    if isinstance(params, Mapping):
        names: Iterable[str] = params
        if not any(set(recipe) == set(params) for recipe in recipes):
            raise _mismatch(recipes)
        values: Iterable[object] = params.values()
    else:
        if command.named_only:
            raise RPCError(
                INVALID_PARAMS,
                "Invalid params",
                "Commands with positional parameters not supported, use named parameters",
            )
        fitting = [recipe for recipe in recipes if len(recipe) == len(params)]
        if not fitting:
            raise _mismatch(recipes)
        if len(fitting) > 1:
            raise RPCError(INVALID_PARAMS, "Invalid params", "Ambiguous call, use named parameters")
        names, values = fitting[0], params
    return {
        name: _value(command.name, name, value) for name, value in zip(names, values, strict=True)
    }


def _mismatch(recipes: Sequence[Sequence[str]]) -> RPCError:
    if all(not recipe for recipe in recipes):
        return RPCError(INVALID_PARAMS, "Invalid params", "No parameters expected")
    return RPCError(INVALID_PARAMS, "Invalid params", "Parameters don't match any recipe")


def _value(command: str, name: str, value: object) -> object:
    """A text or number as sent; for list parameters a list of those."""
    wrong = RPCError(INVALID_PARAMS, "Invalid params", f"wrong type of parameter {name}")
    if name in LISTS or (command, name) in LISTS_OF:
        items = value if isinstance(value, list) else [value]
        if not all(isinstance(item, (str, int, float)) for item in items):
            raise wrong
        return items
    if isinstance(value, bool) or value is None:
        raise wrong
    if not isinstance(value, (str, int, float)):
        raise wrong
    return value


def _failed(error: RPCError, id_: object) -> dict[str, object]:
    return {"jsonrpc": "2.0", "error": error.member(), "id": id_}
