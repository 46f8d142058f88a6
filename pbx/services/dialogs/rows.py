"""Calls as rows of the ``dialog`` table (spec 20, section 5)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from pbx.rows import needed, whole
from pbx.services.dialogs.call import Call, Leg
from pbx.sip.address import Address
from pbx.sip.dialog import cookie_of
from pbx.sip.errors import MalformedURI
from pbx.sip.params import split_outside
from pbx.sip.uri import split_host_port

DIALOG_KEY = ("dlg_id",)
DIALOG_COLUMNS = (
    "dlg_id",
    "callid",
    "from_uri",
    "from_tag",
    "to_uri",
    "to_tag",
    "caller_cseq",
    "callee_cseq",
    "caller_ping_cseq",
    "callee_ping_cseq",
    "caller_route_set",
    "callee_route_set",
    "caller_contact",
    "callee_contact",
    "caller_sock",
    "callee_sock",
    "state",
    "start_time",
    "timeout",
    "vars",
    "profiles",
    "script_flags",
    "module_flags",
    "flags",
)

#: Bits of the ``flags`` column.
BYE_SEEN, BYE_ON_TIMEOUT, INITIAL = 4, 8, 16
#: The variable that holds what the table has no column for.
FACTS = "pbx"
#: Keys are matched and never clipped: a call with longer ones lives in memory only.
_WIDTHS = {"callid": 255, "tag": 64, "contact": 255, "uri": 255}


def fits(call: Call, callee: Leg) -> bool:
    """Whether the table can hold the call (spec 20, rule 7)."""
    return (
        len(call.call_id) <= _WIDTHS["callid"]
        and len(call.from_tag) <= _WIDTHS["tag"]
        and len(callee.tag) <= _WIDTHS["tag"]
        and len(call.caller_leg.target) <= _WIDTHS["contact"]
        and len(callee.target) <= _WIDTHS["contact"]
    )


def to_row(call: Call, flags: int, node: str = "") -> tuple[object, ...]:
    """The values of `DIALOG_COLUMNS` for an answered call."""
    caller = call.caller_side()
    callee = call.callee_side() or Leg(call.to_tag)
    return (
        call.number,
        call.call_id,
        call.from_uri[: _WIDTHS["uri"]],
        caller.tag,
        call.to_uri[: _WIDTHS["uri"]],
        callee.tag,
        str(caller.cseq),
        str(callee.cseq),
        0,
        0,
        ",".join(caller.route_set),
        ",".join(callee.route_set),
        caller.target,
        callee.target,
        caller.socket,
        callee.socket,
        call.state,
        int(call.answered),
        call.timeout,
        encode({**call.variables, FACTS: _facts(call, node)}).encode("utf-8", "surrogateescape"),
        encode(call.profiles) or None,
        "",
        0,
        flags,
    )


def _facts(call: Call, node: str) -> str:
    owner = {"node": node} if node else {}
    return json.dumps(
        {
            **owner,
            "did": call.did,
            "call": call.correlation,
            "created": call.created,
            "answered": call.answered,
            "caller": str(call.caller),
            "callee": str(call.callee or ""),
            "ruri": call.request_uri,
            "to": call.to_uri,
            "from": call.from_uri,
            "name": call.from_display,
            "acc": int(call.accounted),
            "code": call.sip_code,
            "reason": call.sip_reason,
        },
        separators=(",", ":"),
    )


def from_row(row: Sequence[object]) -> Call:
    """The call of a row, whoever wrote it. Raises ValueError."""
    value = dict(zip(DIALOG_COLUMNS, row, strict=True))
    number = whole("dlg_id", needed("dlg_id", value["dlg_id"]))
    variables = decode(_text(value["vars"]))
    facts = _known_facts(variables.pop(FACTS, "{}"))
    from_tag = _text(value["from_tag"])
    caller = _address(str(facts.get("caller") or "")) or Address("UDP", "", 0)
    did = str(facts.get("did") or cookie_of(number))
    call = Call(did, _text(value["callid"]), from_tag, caller)
    call.number = number
    call.variables = variables
    call.profiles = {name: str(kept) for name, kept in decode(_text(value["profiles"])).items()}
    call.from_uri = str(facts.get("from") or _text(value["from_uri"]))
    call.to_uri = str(facts.get("to") or _text(value["to_uri"]))
    call.request_uri = str(facts.get("ruri") or call.to_uri)
    call.from_display = str(facts.get("name") or "")
    call.node = str(facts.get("node") or "")
    call.correlation = str(facts.get("call") or did)
    call.state = whole("state", needed("state", value["state"]))
    call.timeout = whole("timeout", value["timeout"])
    start = whole("start_time", value["start_time"])
    call.answered = _seconds(facts.get("answered"), start)
    call.created = _seconds(facts.get("created"), start)
    call.accounted = bool(facts.get("acc", True))
    call.sip_code = 200
    call.sip_reason = str(facts.get("reason") or "OK")
    call.callee = _address(str(facts.get("callee") or ""))
    _restore_leg(call.caller_leg, value, "caller", call.caller if caller.host else None)
    callee = Leg(_text(value["to_tag"]))
    _restore_leg(callee, value, "callee", call.callee)
    call.to_tag = callee.tag
    call.callees.append(callee)
    call.saved = True
    return call


def _restore_leg(leg: Leg, value: Mapping[str, object], side: str, peer: Address | None) -> None:
    leg.cseq = leg.invite_cseq = whole(f"{side}_cseq", value[f"{side}_cseq"])
    routes = _text(value[f"{side}_route_set"])
    leg.route_set = tuple(split_outside(routes, ",")) if routes else ()
    leg.target = _text(value[f"{side}_contact"])
    leg.local = _address(_text(value[f"{side}_sock"]))
    leg.peer = peer


def _known_facts(text: str | int) -> dict[str, object]:
    try:
        facts = json.loads(str(text))
    except ValueError:
        return {}
    return facts if isinstance(facts, dict) else {}


def _address(text: str) -> Address | None:
    """``udp:192.0.2.1:5060`` back to an address."""
    transport, _, rest = text.partition(":")
    try:
        host, port = split_host_port(rest)
    except MalformedURI:
        return None
    return Address(transport.upper(), host, port or 0)


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, (bytes, memoryview)):
        return bytes(value).decode("utf-8", "surrogateescape")
    return str(value)


def _seconds(value: object, otherwise: int) -> float:
    return float(value) if isinstance(value, (int, float)) and value else float(otherwise)


def encode(values: Mapping[str, str | int]) -> str:
    """``name#type#value|`` repeated; type 1 is a text, 2 a number (spec 20, column ``vars``)."""
    return "".join(
        f"{_escape(name)}#{2 if isinstance(value, int) else 1}#{_escape(str(value))}|"
        for name, value in values.items()
    )


def decode(text: str) -> dict[str, str | int]:
    """The inverse of `encode`; also reads the older form without type."""
    found: dict[str, str | int] = {}
    fields: list[str] = [""]
    escaped = False
    for char in text:
        if escaped:
            fields[-1] += char
            escaped = False
        elif char == "\\":
            escaped = True
        elif char == "#":
            fields.append("")
        elif char == "|":
            _add(found, fields)
            fields = [""]
        else:
            fields[-1] += char
    return found


def _add(found: dict[str, str | int], fields: list[str]) -> None:
    if len(fields) == 2:
        found[fields[0]] = fields[1]
    elif len(fields) == 3:
        name, kind, value = fields
        number = kind == "2" and value.lstrip("-").isascii() and value.lstrip("-").isdigit()
        found[name] = int(value) if number else value


def _escape(text: str) -> str:
    if "\\" in text or "#" in text or "|" in text:
        text = text.replace("\\", "\\\\").replace("#", "\\#").replace("|", "\\|")
    return text
