"""The log under control: the policy's own level, an upper limit, silence."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from zope.interface import implementer

from pbx.commands import CommandFailed
from pbx.interfaces import ICommands
from pbx.logs import LEVELS, LOG, LogFilter

#: What the log is called by tools that know several; here both are the one log of twistd.
CONSUMERS = ("stderror", "syslog")
#: The module name that the routing policy logs under.
POLICY = "routing_policy"

#: Modules that may have a level of their own.
MAX_MODULES = 100

Recipes = Sequence[Sequence[str]]


@implementer(ICommands)
class LogCommands:
    """``xlog_level``, ``log_level_filter``, ``log_mute_state`` and ``log_module``."""

    def __init__(self, log: LogFilter = LOG) -> None:
        self._log = log

    def commands(self) -> Sequence[tuple[str, Recipes, Callable[..., object]]]:
        """ICommands."""
        return (
            ("xlog_level", ((), ("level",)), self.xlog_level),
            (
                "log_level_filter",
                (("consumer",), ("consumer", "level_filter")),
                self.log_level_filter,
            ),
            ("log_mute_state", (("consumer",), ("consumer", "mute_state")), self.log_mute_state),
            ("log_module", ((), ("module",), ("module", "level")), self.log_module),
        )

    def log_module(self, module: object = None, level: object = None) -> object:
        """Modules with a level of their own; the level of one, with all below it, or a new one:
        -3 to 4, or "default" for that of the whole log.
        """
        if module is None:
            return {"Modules": dict(self._log.levels())}
        name = str(module)
        if not all(part.isidentifier() for part in name.split(".")) or len(name) > 128:
            raise CommandFailed(400, "Bad module: a dotted name like pbx.transport")
        if level == "default":
            self._log.forget_level_of(name)
        elif level is not None:
            if len(self._log.levels()) >= MAX_MODULES:
                raise CommandFailed(500, "Too many modules have a level of their own")
            self._log.set_level_of(name, _level(level))
        return {"module": name, "level": self._log.level_of(name)}

    def xlog_level(self, level: object = None) -> object:
        """The level of what the routing policy logs, or a new one: -3 to 4."""
        if level is None:
            return {"xLog Level": self._log.level_of(POLICY)}
        number = _level(level)
        self._log.set_level_of(POLICY, number)
        return {"New xLog level": number}

    def log_level_filter(self, consumer: object, level_filter: object = None) -> object:
        """The level that nothing exceeds whatever ``log_level`` says, or a new one; 0 for none."""
        _known(consumer)
        if level_filter is None:
            return {"Log level filter": self._log.limit}
        self._log.set_limit(0 if str(level_filter) == "0" else _level(level_filter))
        return "OK"

    def log_mute_state(self, consumer: object, mute_state: object = None) -> object:
        """Whether the log is silent (1), or make it so."""
        _known(consumer)
        if mute_state is None:
            return {"mute state": int(self._log.muted)}
        if str(mute_state) not in ("0", "1"):
            raise CommandFailed(400, "Bad mute state: 0 or 1")
        self._log.muted = str(mute_state) == "1"
        return "OK"


def _known(consumer: object) -> None:
    if consumer not in CONSUMERS:
        raise CommandFailed(404, f"Unknown log consumer; there are {' and '.join(CONSUMERS)}")


def _level(level: object) -> int:
    try:
        number = int(str(level))
    except ValueError:
        number = 0
    if number not in LEVELS:
        raise CommandFailed(400, "Bad log level: -3, -2, -1, 1, 2, 3 or 4")
    return number
