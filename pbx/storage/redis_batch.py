"""How changes of keys go to Redis: many in one call of a script, or one by one where scripts are
not allowed.

One call costs the reactor about as much as one command does, so fifty keys in it cost a fiftieth.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import txredisapi
from twisted.internet.defer import Deferred, DeferredList

from pbx.storage.redis_link import is_read_only

#: What becomes of a key: value and the time it is good for (None: for ever); None deletes.
Change = tuple[str, float | None] | None


@dataclass(frozen=True, slots=True)
class Refusal:
    """A key that Redis does not take, and why."""

    key: str
    why: str


#: ARGV[1]: JSON list of key, value and milliseconds by turns (0: for ever, -1: delete). Answers
#: position and reason, by turns, of those that were refused. The keys are not declared: Redis
#: checks what the user may write all the same, only Redis Cluster needs it.
SCRIPT = """
local changes = cjson.decode(ARGV[1])
local refused = {}
for i = 1, #changes, 3 do
    local key, value, milliseconds = changes[i], changes[i + 1], changes[i + 2]
    local answer
    if milliseconds > 0 then
        answer = redis.pcall("SET", key, value, "PX", milliseconds)
    elseif milliseconds == 0 then
        answer = redis.pcall("SET", key, value)
    else
        answer = redis.pcall("DEL", key)
    end
    if type(answer) == "table" and answer.err then
        refused[#refused + 1] = (i - 1) / 3
        refused[#refused + 1] = answer.err
    end
end
return refused
"""
#: What Redis says while it cannot: it says nothing about the key.
_PASSING = ("LOADING", "BUSY", "MASTERDOWN", "TRYAGAIN", "CLUSTERDOWN")

_json = json.JSONEncoder(check_circular=False, separators=(",", ":")).encode


def send_together(
    connection: txredisapi.RedisProtocol, changes: Mapping[str, Change], now: float
) -> Deferred[list[Refusal]]:
    """In one command; fails when it is refused as a whole, or when none of it counts."""
    keys = list(changes)
    rows: list[str | int] = []
    for key, change in changes.items():
        if change is None:
            rows += encodable(key), "", -1
        else:
            value, due = change
            rows += encodable(key), encodable(value), _milliseconds(due, now)
    reply: Deferred[object] = connection.execute_command("EVAL", SCRIPT, 0, _json(rows))

    def refused(answer: object) -> list[Refusal]:
        if not isinstance(answer, list):
            raise txredisapi.ResponseError(f"EVAL answers {answer!r:.100}")
        found = [
            Refusal(keys[int(at)], str(why))
            for at, why in zip(answer[::2], answer[1::2], strict=True)
        ]
        return _for_good(found)

    return reply.addCallback(refused)


def send_singly(
    connection: txredisapi.RedisProtocol, changes: Mapping[str, Change], now: float
) -> Deferred[list[Refusal]]:
    """In a command each; fails when one of them failed for another reason than to be refused."""
    replies: list[Deferred[object]] = []
    for key, change in changes.items():
        milliseconds = -1 if change is None else _milliseconds(change[1], now)
        if change is None or milliseconds < 0:
            replies.append(connection.delete(encodable(key)))
        else:
            value = encodable(change[0])
            replies.append(connection.set(encodable(key), value, pexpire=milliseconds or None))

    def refused(answers: Iterable[tuple[bool, object]]) -> list[Refusal]:
        found = []
        for key, (succeeded, failure) in zip(changes, answers, strict=True):
            if not succeeded:
                error = failure.value  # type: ignore[attr-defined]
                if not isinstance(error, txredisapi.ResponseError):
                    raise error
                found.append(Refusal(key, str(error)))
        return _for_good(found)

    return DeferredList(replies, consumeErrors=True).addCallback(refused)


def is_passing(why: str) -> bool:
    """Whether Redis will take the same later."""
    return why.startswith(_PASSING) or is_read_only(why)


def encodable(text: str) -> str:
    """The same, with a question mark for a half of a surrogate pair."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _milliseconds(due: float | None, now: float) -> int:
    """For the script. What is over already is deleted: Redis may have an older value."""
    if due is None:
        return 0
    left = int((due - now) * 1000)
    return left if left > 0 else -1


def _for_good(refused: list[Refusal]) -> list[Refusal]:
    for refusal in refused:
        if is_passing(refusal.why):
            raise txredisapi.ResponseError(refusal.why)
    return refused
