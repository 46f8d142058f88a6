"""One sentence about a call: how it ended, and why it failed if it did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pbx.management.trace.calls import TracedCall
from pbx.management.trace.messages import TracedMessage

#: What a final status of somebody else says; {who} was called, {where} answered.
THEIRS: Mapping[int, str] = {
    404: "{where} does not know {who}",
    410: "{where} says that {who} is gone",
    415: "{where} cannot read the body of the INVITE",
    480: "{who} is away: {where} takes no calls now",
    484: "{where} finds the number {who} incomplete",
    486: "{who} is busy",
    488: "{where} accepts none of the media that were offered",
    503: "{where} is overloaded or out of order",
    600: "{who} is busy",
    603: "{who} declined",
    604: "{where} does not know {who}",
    606: "{where} accepts none of the media that were offered",
}
#: The same when nobody but us said so.
OURS: Mapping[int, str] = {
    400: "the PBX could not read the request",
    403: "the PBX does not allow it",
    404: "the PBX knows no way to {who}: no such user or number, or no phone registered",
    408: "nobody answered in time",
    413: "the request is too large",
    420: "the phone requires an extension that the PBX does not have",
    480: "the PBX knows no way to {who}: no phone registered",
    481: "the PBX does not know the call any more",
    482: "the request came back to the PBX: a loop",
    483: "the request went around too often: a loop",
    484: "the PBX was given no complete number",
    500: "the PBX failed: its log says why",
    503: "nobody could be reached: no gateway or node is left, or the connection broke",
}


def outcome(call: TracedCall) -> str:
    """The sentence, without a full stop."""
    invite = call.invite
    if invite is None:
        return _exchange(call)
    who = invite.user("uri")[0] or invite.user("to")[0] or invite.uri
    return f"{invite.user('from')[0] or 'somebody'} -> {who}: {_call(call, invite, who)}"


def ended(call: TracedCall) -> bool:
    """Whether nothing more is to come; a challenge may still be answered."""
    invite = call.invite
    if invite is None:
        return any(message.status >= 200 for message in call.messages)
    towards = [message for message in call.messages if message.sent and message.status]
    if any(message.method == "BYE" for message in call.messages if message.status):
        return True
    last = [m.status for m in towards if m.method == "INVITE" and m.peer == invite.peer]
    return bool(last) and last[-1] >= 300 and last[-1] not in (401, 407)


def _exchange(call: TracedCall) -> str:
    first = call.messages[0]
    answers = [message for message in call.messages if message.status >= 200]
    user = first.user("to")[0] or first.user("from")[0] or first.peer.socket
    if not answers:
        return f"{first.method or 'unreadable message'} of {user}: no answer"
    return f"{first.method} of {user}: {answers[-1].status} {answers[-1].reason}"


def _call(call: TracedCall, invite: TracedMessage, who: str) -> str:
    leg = [message for message in call.messages if message.call_id == invite.call_id]
    towards = [message for message in leg if message.sent and message.peer == invite.peer]
    invites = [m for m in leg if m.is_request and m.method == "INVITE" and not m.to_tag]
    last = next((m for m in reversed(invites) if not m.sent and m.peer == invite.peer), invite)
    answers = [m for m in towards if m.method == "INVITE" and m.cseq == last.cseq and m.status]
    final = next((m for m in answers if m.status >= 200), None)
    rang = next((m for m in answers if m.status in (180, 183)), None)
    if final is None:
        state = "rings" if rang is not None else "no final response yet"
        return f"{state}, for {_seconds(last, call.messages[-1])} so far"
    if final.status < 300:
        return _answered(leg, invite, final, last)
    cancel = next((m for m in leg if m.method == "CANCEL" and m.is_request and not m.sent), None)
    if cancel is not None and final.status == 487:
        what = f"after {_seconds(rang, cancel)} of ringing" if rang else "before it rang"
        return f"the caller gave up {what}{_reason(cancel)}"
    return f"{_failure(leg, last, final, rang, who)} ({final.status} {final.reason})"


def _answered(
    leg: Sequence[TracedMessage], invite: TracedMessage, final: TracedMessage, last: TracedMessage
) -> str:
    text = f"answered after {_seconds(last, final)}"
    byes = [m for m in leg if m.method == "BYE" and m.is_request]
    if not byes:
        return f"{text}, in call"
    bye = next((m for m in byes if not m.sent), byes[0])
    by = "the PBX" if bye.sent else "the caller" if bye.peer == invite.peer else "the callee"
    return f"{text}, ended by {by} after {_seconds(final, bye)}{_reason(bye)}"


def _failure(
    leg: Sequence[TracedMessage],
    last: TracedMessage,
    final: TracedMessage,
    rang: TracedMessage | None,
    who: str,
) -> str:
    since = [message for message in leg if message.number >= last.number]
    asked = [m for m in since if m.sent and m.is_request and m.method == "INVITE"]
    heard = [m for m in since if not m.sent and m.status and m.method == "INVITE"]
    if final.status in (401, 407) and not asked:
        if b"\nproxy-authorization:" in last.data.lower() or b"\nauthorization:" in (
            last.data.lower()
        ):
            return f"the phone of {last.user('from')[0]} gave a wrong password"
        return f"the phone of {last.user('from')[0]} gave no password"
    theirs = next((m for m in reversed(heard) if m.status == final.status), None)
    if theirs is not None:
        text = THEIRS.get(final.status, "{where} refused")
        return text.format(who=who, where=theirs.peer.socket) + _reason(theirs)
    if final.status == 408 and rang is not None:
        return f"{who} rang for {_seconds(rang, final)} and nobody answered"
    silent = {m.peer.socket for m in asked} - {m.peer.socket for m in heard}
    if silent:
        return f"no answer at all from {', '.join(sorted(silent))}"
    if heard and heard[-1].status >= 300:
        return f"the last to be tried, {heard[-1].peer.socket}, said {heard[-1].start[8:]}"
    if asked and final.status in (480, 503):
        return f"the connection to {asked[-1].peer.socket} was lost"
    text = OURS.get(final.status, "the PBX refused")
    return text.format(who=who)


def _reason(message: TracedMessage) -> str:
    reason = message.headers.get("reason") or message.headers.get("warning")
    return f" [{reason}]" if reason else ""


def _seconds(start: TracedMessage, end: TracedMessage) -> str:
    return f"{max(0.0, end.time - start.time):.1f} s"
