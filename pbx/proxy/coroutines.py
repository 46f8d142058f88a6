"""Run a coroutine at once; only one that must wait costs more than a call."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

ResultT = TypeVar("ResultT")


def run(
    coroutine: Coroutine[Any, Any, ResultT],
    done: Callable[[ResultT], object],
    failed: Callable[[BaseException], object],
) -> None:
    """Call ``done`` with the result or ``failed`` with the exception, now or later.

    A coroutine that awaits nothing but fired Deferreds ends within this call.
    """
    _step(coroutine, coroutine.send, None, done, failed)


def _step(
    coroutine: Coroutine[Any, Any, ResultT],
    resume: Callable[[Any], Any],
    value: Any,
    done: Callable[[ResultT], object],
    failed: Callable[[BaseException], object],
) -> None:
    try:
        waited = resume(value)
    except StopIteration as stop:
        done(stop.value)
        return
    except Exception as error:
        failed(error)
        return
    if not isinstance(waited, Deferred):
        coroutine.close()
        failed(TypeError(f"a policy may await only Deferreds and coroutines, not {waited!r}"))
        return

    def resumed(result: Any) -> None:
        if isinstance(result, Failure):
            _step(coroutine, coroutine.throw, result.value, done, failed)
        else:
            _step(coroutine, coroutine.send, result, done, failed)

    waited.addBoth(resumed)
