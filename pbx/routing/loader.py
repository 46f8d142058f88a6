"""Load the routing policy from its file, check it, swap it while requests go on."""

from __future__ import annotations

import traceback
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import cast

from twisted.logger import Logger
from zope.interface import Interface, implementer
from zope.interface.exceptions import Invalid
from zope.interface.verify import verifyObject

from pbx.interfaces import IRegistry, IReloadable, IRoutingPolicy
from pbx.sip.message import Request
from pbx.verdicts import Arrival, Verdict


class PolicyError(Exception):
    """The policy file cannot be used; the text says where and why."""


def load(path: Path, registry: IRegistry) -> IRoutingPolicy:
    """``Policy(registry)`` from the file. Raises PolicyError."""
    try:
        source = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise PolicyError(f"{path}: cannot be read: {reason}") from None
    try:
        code = compile(source, str(path), "exec")
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None) or 1
        raise PolicyError(f"{path}:{line}: {getattr(error, 'msg', error)}") from None
    namespace: dict[str, object] = {"__name__": "routing_policy", "__file__": str(path)}
    try:
        exec(code, namespace)
        kind = namespace.get("Policy")
        if not callable(kind):
            raise PolicyError(f"{path}: there is no class Policy")
        policy = kind(registry)
        verifyObject(cast(type[Interface], IRoutingPolicy), policy)
    except PolicyError:
        raise
    except Invalid as error:
        why = " ".join(str(error).split())
        raise PolicyError(f"{path}: Policy is no IRoutingPolicy: {why}") from None
    except Exception as error:
        raise PolicyError(f"{_place(error, path)}: {type(error).__name__}: {error}") from None
    return cast(IRoutingPolicy, policy)


def _place(error: Exception, path: Path) -> str:
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
    return f"{path}:{frames[-1].lineno}" if frames else str(path)


@implementer(IRoutingPolicy, IReloadable)
class ReloadablePolicy:
    """The policy of the moment. A request ends with the policy that it began with."""

    log = Logger()

    def __init__(
        self,
        path: Path,
        registry: IRegistry,
        building: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._path = path
        self._registry = registry
        self._building = building
        self._policy = load(path, registry)

    def route_request(self, request: Request, arrival: Arrival) -> Awaitable[Verdict]:
        """What the present policy says."""
        return self._policy.route_request(request, arrival)

    async def reload(self) -> None:
        """Take the file as it is now; on any error the old policy stays. Raises PolicyError."""
        try:
            with self._building():
                self._policy = load(self._path, self._registry)
        except PolicyError as error:
            self.log.error("the policy was not reloaded: {error}", error=str(error))
            raise
        self.log.info("policy {path} reloaded", path=str(self._path))
