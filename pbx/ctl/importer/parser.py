"""Tokens to settings, modules, parameters and routes. What is none of these is skipped and told."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from pbx.ctl.importer.lexer import BadScript, Kind, Token, tokens

ROUTES = (
    "route",
    "branch_route",
    "failure_route",
    "onreply_route",
    "local_route",
    "error_route",
    "startup_route",
    "timer_route",
    "event_route",
    "request_route",
    "reply_route",
)


@dataclass(frozen=True, slots=True)
class Setting:
    """A parameter: of the core when ``module`` is empty."""

    module: str
    name: str
    value: str
    line: int


@dataclass(frozen=True, slots=True)
class Call:
    """A function call in a route: texts and numbers as they are, variables with their $."""

    name: str
    arguments: tuple[str, ...]
    line: int
    #: What stands in the conditions around it, as text.
    within: tuple[str, ...] = ()


@dataclass(slots=True)
class Route:
    """One block: ``kind`` is route, failure_route and so on, ``name`` "" for the main one."""

    kind: str
    name: str
    line: int
    calls: list[Call] = field(default_factory=list)
    #: Everything as text, spaces between the words.
    text: str = ""


@dataclass(slots=True)
class Script:
    """A whole file."""

    settings: list[Setting] = field(default_factory=list)
    modules: dict[str, int] = field(default_factory=dict)
    repeated: list[tuple[str, int]] = field(default_factory=list)
    routes: list[Route] = field(default_factory=list)
    #: Line and text of what is no setting, module or route.
    strange: list[tuple[int, str]] = field(default_factory=list)

    def calls(self, *names: str, kinds: Sequence[str] = ()) -> list[Call]:
        """Every call of these functions, in routes of these kinds."""
        return [
            call
            for route in self.routes
            if not kinds or route.kind in kinds
            for call in route.calls
            if call.name in names
        ]

    def value(self, module: str, name: str) -> str | None:
        """The last value of a parameter."""
        for setting in reversed(self.settings):
            if (setting.module, setting.name) == (module, name):
                return setting.value
        return None

    def text(self, *kinds: str) -> str:
        """All routes of these kinds as text."""
        return "\n".join(route.text for route in self.routes if route.kind in kinds)


def parse(source: str) -> Script:
    """The script. Raises BadScript."""
    return _Parser(tokens(source)).script()


class _Parser:
    def __init__(self, found: Sequence[Token]) -> None:
        self._tokens = found
        self._at = 0

    def script(self) -> Script:
        script = Script()
        while self._now.kind is not Kind.END:
            self._statement(script)
        return script

    @property
    def _now(self) -> Token:
        return self._tokens[self._at]

    def _next(self) -> Token:
        token = self._now
        if token.kind is not Kind.END:
            self._at += 1
        return token

    def _peek(self, ahead: int = 1) -> Token:
        return self._tokens[min(self._at + ahead, len(self._tokens) - 1)]

    def _statement(self, script: Script) -> None:
        token = self._now
        if token.is_sign(";"):
            self._next()
        elif token.is_word("loadmodule"):
            self._next()
            name = self._next()
            module = name.value.rpartition("/")[2].removesuffix(".so")
            if module in script.modules:
                script.repeated.append((module, token.line))
            script.modules.setdefault(module, token.line)
        elif token.is_word("modparam") and self._peek().is_sign("("):
            self._modparam(script)
        elif token.is_word(*ROUTES) and (self._peek().is_sign("{") or self._peek().is_sign("[")):
            self._route(script)
        elif token.is_word("include_file", "import_file"):
            self._next()
            script.strange.append((token.line, f'{token.value} "{self._next().value}"'))
        elif token.kind is Kind.WORD and self._peek().is_sign("="):
            self._setting(script)
        else:
            self._strange(script)

    def _setting(self, script: Script) -> None:
        name = self._next()
        self._next()
        words: list[str] = []
        if self._now.is_sign("{"):
            script.strange.append((name.line, f"{name.value} = {{...}}"))
            self._block()
            return
        # A value ends with its line, or where the next setting begins.
        while self._now.kind is not Kind.END and not self._now.is_sign(";"):
            if words and (self._now.line != name.line or self._peek().is_sign("=")):
                break
            words.append(self._next().value)
        script.settings.append(Setting("", name.value, _joined(words), name.line))

    def _modparam(self, script: Script) -> None:
        line = self._next().line
        arguments = self._arguments()
        if len(arguments) != 3:
            script.strange.append((line, f"modparam({', '.join(arguments)})"))
            return
        modules, name, value = arguments
        for module in modules.split("|"):
            script.settings.append(Setting(module.strip(), name, value, line))

    def _arguments(self) -> list[str]:
        """``( a , b )`` as texts. Raises BadScript."""
        line = self._next().line
        found: list[str] = []
        words: list[str] = []
        depth = 0
        empty = True
        while True:
            token = self._next()
            if token.kind is Kind.END:
                raise BadScript(f"line {line}: a parenthesis is never closed")
            if token.is_sign("(") or token.is_sign("["):
                depth += 1
            elif token.is_sign(")") or token.is_sign("]"):
                if depth == 0:
                    break
                depth -= 1
            if token.is_sign(",") and depth == 0:
                found.append(_joined(words))
                words = []
            else:
                words.append(token.value)
            empty = False
        return [] if empty else [*found, _joined(words)]

    def _route(self, script: Script) -> None:
        first = self._next()
        name = ""
        if self._now.is_sign("["):
            self._next()
            while not self._now.is_sign("]"):
                token = self._next()
                if token.kind is Kind.END:
                    raise BadScript(f"line {first.line}: a bracket is never closed")
                name += token.value
            self._next()
        kind = {"request_route": "route", "reply_route": "onreply_route"}.get(
            first.value, first.value
        )
        start = self._at
        self._block()
        body = self._tokens[start : self._at]
        route = Route(kind, name, first.line)
        route.calls = list(_calls(body))
        route.text = " ".join(_shown(token) for token in body)
        script.routes.append(route)

    def _block(self) -> None:
        """Over ``{ ... }``. Raises BadScript."""
        opening = self._next()
        if not opening.is_sign("{"):
            raise BadScript(f"line {opening.line}: expected {{, not {opening.value!r}")
        depth = 1
        while depth:
            token = self._next()
            if token.kind is Kind.END:
                raise BadScript(f"line {opening.line}: a brace is never closed")
            depth += token.is_sign("{")
            depth -= token.is_sign("}")

    def _strange(self, script: Script) -> None:
        """Over what nobody knows: to the end of its line, or of its block."""
        line = self._now.line
        words: list[str] = []
        while self._now.kind is not Kind.END and self._now.line == line:
            if self._now.is_sign("{"):
                self._block()
                words.append("{...}")
                break
            words.append(self._next().value)
        script.strange.append((line, " ".join(words)))


def _calls(body: Sequence[Token]) -> Iterator[Call]:
    """Function calls with the conditions that they stand under: of ``if (A) { f(); }`` f is within
    A, and the calls in A are within nothing.
    """
    #: For each open brace the condition before it; "" for none.
    braces: list[str] = []
    pending = ""
    for at, token in enumerate(body):
        if token.is_sign("{"):
            braces.append(pending)
            pending = ""
        elif token.is_sign("}") and braces:
            braces.pop()
        elif token.is_sign(";"):
            pending = ""
        elif token.kind is Kind.WORD and at + 1 < len(body) and body[at + 1].is_sign("("):
            arguments, end = _texts(body, at + 1)
            if token.value in ("if", "while", "switch"):
                pending = " ".join(_shown(one) for one in body[at + 2 : end])
            else:
                conditions = (*filter(None, braces), *filter(None, (pending,)))
                yield Call(token.value, arguments, token.line, conditions)


def _texts(body: Sequence[Token], opening: int) -> tuple[tuple[str, ...], int]:
    """The arguments in the parenthesis, and where it closes."""
    found: list[str] = []
    words: list[str] = []
    depth = 0
    at = opening
    for at in range(opening, len(body)):
        token = body[at]
        depth += token.is_sign("(")
        depth -= token.is_sign(")")
        if depth == 0:
            break
        if token.is_sign(",") and depth == 1:
            found.append(_joined(words))
            words = []
        elif at > opening:
            words.append(token.value)
    if words or found:
        found.append(_joined(words))
    return tuple(found), at


def _shown(token: Token) -> str:
    return f'"{token.value}"' if token.kind is Kind.TEXT else token.value


def _joined(words: Sequence[str]) -> str:
    """Of adjacent signs and numbers, as in -1 or 1.5, one word."""
    text = " ".join(words)
    return text.replace("- ", "-", 1) if text.startswith("- ") else text
