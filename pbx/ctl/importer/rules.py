"""The routes against the rules of the reference recipe (R1 to R20) and its oddities (O1 to O35).

Routes are not translated: the policy that is shipped is that recipe with its mistakes mended. What
is found of each rule tells how near an old file is to it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from pbx.ctl.importer.draft import Draft, Note
from pbx.ctl.importer.mapping import FUNCTIONS
from pbx.ctl.importer.parser import Call, Script

MAIN = ("route",)


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: ``found`` gives the call that it is seen by, ``exact`` whether it is as in the
    recipe, ``here`` what happens in the shipped policy.
    """

    name: str
    title: str
    found: Callable[[Script], Call | None]
    exact: Callable[[Script, Call], bool]
    here: str


def _call(*names: str, within: str = "") -> Callable[[Script], Call | None]:
    def find(script: Script) -> Call | None:
        calls = script.calls(*names, kinds=MAIN)
        return next((c for c in calls if not within or _under(c, within)), None)

    return find


def _under(call: Call, text: str) -> bool:
    return any(text in condition for condition in call.within)


def _always(script: Script, call: Call) -> bool:
    return True


def _arguments(*wanted: tuple[str, ...]) -> Callable[[Script, Call], bool]:
    return lambda script, call: call.arguments in wanted


NAT_23 = ("23",), ("private-contact,diff-ip-src-via,private-via,diff-port-src-via",)

RULES: tuple[Rule, ...] = (
    Rule("R1", "answers to the source port", _call("force_rport"), _always, "always"),
    Rule(
        "R2",
        "NAT test and Contact repair",
        _call("nat_uac_test"),
        lambda script, call: _names_of(call) in (NAT_23[0][0], _sorted(NAT_23[1][0])),
        "the core repairs Contacts when the test 23 says so, on WebSocket always (O10)",
    ),
    Rule(
        "R3",
        "Max-Forwards",
        _call("mf_process_maxfwd_header"),
        _arguments(("10",)),
        "the core: 483 at zero, counted down",
    ),
    Rule("R4", "requests within dialogs", _call("has_totag"), _always, "along our own route"),
    Rule(
        "R5",
        "CANCEL",
        _call("t_check_trans", within='is_method ( "CANCEL" )'),
        _always,
        "the core; 481 when nothing matches (O30)",
    ),
    Rule("R6", "repeated requests", _call("t_check_trans"), _always, "the core"),
    Rule(
        "R7",
        "callers prove who they are",
        _call("proxy_authorize"),
        lambda script, call: bool(script.calls("is_from_local", "is_from_gw", kinds=MAIN)),
        "local callers by digest, gateways and nodes by address; foreign callers are refused unless"
        " OPEN_INBOUND in the policy is True",
    ),
    Rule(
        "R8",
        "preloaded routes",
        _call("loose_route", within="loose_route ( )"),
        _always,
        "403, except a route to ourselves alone",
    ),
    Rule("R9", "Record-Route", _call("record_route"), _always, "the core, where it is needed"),
    Rule(
        "R10",
        "MESSAGE to phones",
        _call("lookup", within='is_method ( "MESSAGE"'),
        _always,
        "to every phone of the user, stored when there is none (O1, O2)",
    ),
    Rule(
        "R11",
        "calls by way of FreeSWITCH nodes",
        _call("lb_start_or_next", "lb_start", "load_balance"),
        lambda script, call: call.arguments[:2] == ("1", "pstn"),
        "the least loaded node, the next one when it fails (O4, O5); the groups and what is counted"
        " are INTERNAL, EXTERNAL and RESOURCE in the policy",
    ),
    Rule(
        "R12",
        "calls to foreign domains",
        _call("is_uri_host_local"),
        _always,
        "local callers may; no P-hint header (O14, O28)",
    ),
    Rule(
        "R13",
        "presence",
        _call("handle_subscribe", "handle_publish"),
        _always,
        "served, with busy lamps and message waiting besides",
    ),
    Rule(
        "R14",
        "registration",
        _call("save"),
        lambda script, call: bool(script.calls("www_authorize", kinds=MAIN)),
        "after a digest; a phone that comes back displaces its old contact (O11)",
    ),
    Rule(
        "R15",
        "requests without a user",
        lambda script: next(
            (c for c in script.calls("send_reply", "sl_send_reply") if c.arguments[:1] == ("484",)),
            None,
        ),
        _always,
        "484, OPTIONS 200 (O26)",
    ),
    Rule("R16", "aliases", _call("alias_db_lookup"), _always, "before a node is chosen (O13)"),
    Rule(
        "R17",
        "dial plan",
        _call("dp_translate"),
        lambda script, call: call.arguments[:1] == ("0",),
        "before a node is chosen (O13); DIALPLAN in the policy is the id",
    ),
    Rule(
        "R18",
        "gateways",
        _call("do_routing"),
        lambda script, call: call.arguments[:1] == ("0",),
        "numbers like +49..., the gateways in turn; the group is that of the caller in dr_groups,"
        " else [drouting] default_group",
    ),
    Rule("R19", "NAT flag of contacts", _call("isbflagset"), _always, "not needed"),
    Rule(
        "R20",
        "accounting of calls and missed calls",
        lambda script: next(
            (c for c in script.calls("do_accounting") if "missed" in c.arguments), None
        ),
        _always,
        "INVITE only, also for the phones behind a node (O14, O34)",
    ),
)

#: Everything that the rules look at or that needs no word.
PLAIN = frozenset(
    "is_method has_totag is_myself is_from_local is_domain_local is_uri_host_local is_from_gw"
    " force_rport nat_uac_test fix_nated_register fix_nated_contact fix_nated_sdp setbflag setflag"
    " isflagset isbflagset resetflag mf_process_maxfwd_header send_reply sl_send_reply t_reply"
    " sl_reply_error exit drop return route loose_route validate_dialog fix_route_dialog"
    " do_accounting acc_db_request acc_log_request check_route_param t_check_trans t_relay"
    " proxy_authorize proxy_challenge www_authorize www_challenge db_check_from db_check_to"
    " db_is_from_authorized db_is_to_authorized consume_credentials record_route add_rr_param"
    " lookup xlog log create_dialog lb_is_destination lb_start_or_next lb_start lb_next append_hf"
    " remove_hf handle_publish handle_subscribe t_newtran save alias_db_lookup dp_translate"
    " do_routing t_on_branch t_on_reply t_on_failure t_was_cancelled t_check_status cache_store"
    " is_avp_set is_present_hf has_body isset t_local_replied is_audio_on_hold match_dialog"
    " db_does_uri_exist does_uri_exist is_registered registered avp_check uri_exists"
    " $var t_anycast_replicate is_ip_rfc1918 registrar_in_memory remove_hf_match"
    " force_tcp_alias setdebug".split()
)


def judge(script: Script, draft: Draft) -> None:
    """Tell how the routes compare."""
    for rule in RULES:
        call = rule.found(script)
        if call is None:
            if script.routes:
                draft.differ(0, f"not found: {rule.title}", f"here: {rule.here}", rule.name)
            continue
        text = f"{call.name}({', '.join(call.arguments)})"
        if rule.exact(script, call):
            draft.understood.append(
                Note(call.line, text, f"{rule.title}: {rule.here}", (rule.name,))
            )
        else:
            draft.differ(call.line, text, f"{rule.title}, here: {rule.here}", rule.name)
    _constants(script, draft)
    _oddities(script, draft)
    _others(script, draft)


def _constants(script: Script, draft: Draft) -> None:
    """Numbers that the policy has as constants."""
    groups = {
        call.arguments[0] for call in script.calls("lb_start_or_next", "lb_start") if call.arguments
    }
    back = {
        call.arguments[2] for call in script.calls("lb_is_destination") if len(call.arguments) > 2
    }
    plans = {call.arguments[0] for call in script.calls("dp_translate") if call.arguments}
    for name, found, usual in (
        ("INTERNAL", groups, "1"),
        ("EXTERNAL", back, "3"),
        ("DIALPLAN", plans, "0"),
    ):
        numbers = {_number(value) for value in found if _number(value)}
        if numbers and numbers != {usual}:
            draft.todo.append(
                f"etc/routing.py: {name} = {', '.join(sorted(numbers))}"
                + (" (one of them)" if len(numbers) > 1 else "")
            )
    resources = {
        c.arguments[1] for c in script.calls("lb_start_or_next", "lb_start") if len(c.arguments) > 1
    }
    if resources and resources != {"pstn"}:
        draft.todo.append(f'etc/routing.py: RESOURCE = "{sorted(resources)[0]}"')
    routing = {c.arguments[0] for c in script.calls("do_routing") if c.arguments}
    numbers = {_number(value) for value in routing if _number(value)}
    if numbers and "default_group" not in draft.tables.get("drouting", {}):
        call = script.calls("do_routing")[0]
        draft.put("drouting", "default_group", int(sorted(numbers)[0]), call.line, "do_routing()")
    dialogs = script.calls("create_dialog")
    if dialogs:
        flags = "".join(argument for call in dialogs for argument in call.arguments)
        line = dialogs[0].line
        draft.put(
            "dialog", "bye_on_timeout", "B" in flags or "bye" in flags, line, "create_dialog()"
        )
        if "P" in flags or "p" in flags.replace("options-ping", "p"):
            draft.put(
                "dialog", "ping_caller", "P" in flags or "caller" in flags, line, "create_dialog()"
            )
            draft.put(
                "dialog", "ping_callee", "p" in flags or "callee" in flags, line, "create_dialog()"
            )
    if any(call.arguments[:1] == ("redis",) for call in script.calls("cache_store")):
        call = script.calls("cache_store")[0]
        draft.put("registrar", "contact_cache", True, call.line, "cache_store() after save()")


def _number(text: str) -> str:
    return text if text.isdigit() else ""


def _sorted(names: str) -> str:
    return ",".join(sorted(part.strip() for part in names.split(",")))


def _names_of(call: Call) -> str:
    text = call.arguments[0] if call.arguments else ""
    return _sorted(text) if "," in text else text


def _oddities(script: Script, draft: Draft) -> None:
    """Mistakes of the recipe that the old file has too, and what becomes of them here."""
    failure = script.text("failure_route")
    reply = script.text("onreply_route")
    main = script.text("route")
    loaded = script.modules
    found: list[tuple[bool, str, str, str]] = [
        (
            "msilo" in loaded and not script.calls("m_store"),
            "module msilo without m_store()",
            "messages for users who are away are stored and delivered",
            "O2",
        ),
        (
            bool(re.search(r"486 ?\| ?408|408 ?\| ?486", failure)) and "$du =" not in failure,
            "failure_route relays 486 and 408 to nowhere new",
            "a busy phone is busy; a node that fails is followed by the next one",
            "O4",
        ),
        (
            bool(script.calls("lb_start_or_next")) and not script.calls("lb_disable_dst"),
            "no lb_disable_dst()",
            "a node that does not answer gets no calls until a probe finds it",
            "O5",
        ),
        (
            "dispatcher" in loaded
            and not script.calls("ds_select_dst", "ds_select_domain", "ds_is_in_list"),
            "module dispatcher that no route uses",
            "the same: it probes and shows, no call goes by it",
            "O7",
        ),
        (
            'nat_uac_test ( "1" )' in reply,
            'nat_uac_test("1") for answers',
            "Contacts of browsers and of phones behind a NAT are repaired in answers too",
            "O10",
        ),
        (
            bool(script.value("nathelper", "sipping_bflag"))
            and any(_under(c, "isflagset") for c in script.calls("setbflag")),
            "SIP pings that hang on a message flag which REGISTER never has",
            "every registered phone behind a NAT gets OPTIONS",
            "O8",
        ),
        (
            script.value("registrar", "max_contacts") == "1",
            "max_contacts = 1",
            "the new contact displaces the old one for every phone, not only for browsers",
            "O11",
        ),
        (
            bool(script.calls("cache_store")),
            "cache_store() after save()",
            "only when the registration worked, removed with it, never waited for",
            "O12",
        ),
        (
            any(call.arguments[1:2] in (("0",), ("",)) for call in script.calls("proxy_challenge")),
            'challenges without qop ("0")',
            '[auth] qop = "auth" and SHA-256 first; qop = "" for the old challenges',
            "O19",
        ),
        (
            "validate_dialog" in main and "exit" not in _after(main, "validate_dialog"),
            "validate_dialog() only logs",
            "the same; [dialog] strict = true refuses",
            "O17",
        ),
        (
            not {"rtpproxy", "rtpengine"} & set(loaded),
            "no media relay",
            '[media] engine = "native" bridges browsers and phones',
            "O22",
        ),
        (
            script.value("tm", "fr_inv_timeout") == "30",
            "fr_inv_timeout = 30",
            "phones that a node calls get 35 s, so that the node gives up first",
            "O29",
        ),
    ]
    for holds, text, why, name in found:
        if holds:
            draft.differ(0, text, why, name)


def _after(text: str, word: str) -> str:
    return text.partition(word)[2][:200].partition("}")[0]


def _others(script: Script, draft: Draft) -> None:
    """Calls of functions that no rule is about, each name once."""
    told: set[str] = set()
    for route in script.routes:
        for call in route.calls:
            if call.name in PLAIN or call.name in told:
                continue
            told.add(call.name)
            why = FUNCTIONS.get(call.name, "write it in the policy, etc/routing.py")
            text = f"{call.name}({', '.join(call.arguments)})"
            draft.leave(call.line, text if len(text) < 80 else text[:76] + "...)", why)
        if route.kind in ("timer_route", "startup_route", "event_route", "error_route"):
            name = f"{route.kind}[{route.name}]" if route.name else route.kind
            draft.leave(route.line, name, "there is no such block: events tell other programs")
