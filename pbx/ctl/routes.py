"""``pbxctl gateways``, ``dispatcher`` and ``dialplan``: where numbers go."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from pbx.ctl.output import GREEN, RED, YELLOW, coloured, printable, table

#: Colours of states; a word that is none of these is shown as it is.
STATES = {"active": GREEN, "inactive": RED, "probing": YELLOW, "disabled mi": RED}
OPERATORS = {0: "equal", 1: "regex", 2: "pattern"}


def add_options(name: str, command: argparse.ArgumentParser) -> None:
    """A number to try, and in which group or plan."""
    if name == "gateways":
        command.add_argument("number", nargs="?", metavar="NUMBER", help="where would it go?")
        command.add_argument("--group", metavar="N", help="of dr_rules; default: that of the PBX")
    elif name == "dialplan":
        command.add_argument("number", nargs="?", metavar="NUMBER", help="what becomes of it?")
        command.add_argument("--id", default="0", metavar="DPID", help="default: 0")


def request(options: argparse.Namespace) -> tuple[str, Mapping[str, object]]:
    """Method and parameters."""
    if options.command == "dispatcher":
        return "ds_list", {"full": 1}
    if options.command == "dialplan":
        if options.number is None:
            return "dp_rules", {}
        return "dp_translate", {"dpid": options.id, "input": options.number}
    if options.number is None:
        return "dr_gw_status", {}
    group = {} if options.group is None else {"group_id": options.group}
    return "dr_number_routing", {**group, "number": options.number}


def shown(found: Mapping[str, Any]) -> str:
    """Whichever of the answers it is."""
    if "Gateways" in found:
        return gateways(found)
    if "PARTITIONS" in found:
        return destinations(found)
    if "Rules" in found:
        return rules(found)
    if "Output" in found:
        attributes = found["ATTRIBUTES"]
        return printable(found["Output"]) + (f"  ({printable(attributes)})" if attributes else "")
    return routing(found)


def gateways(found: Mapping[str, Any]) -> str:
    """A line per gateway."""
    rows = [(one["ID"], one["IP"], one["State"], one.get("ATTRS", "")) for one in found["Gateways"]]
    return _coloured_states(
        table(("ID", "ADDRESS", "STATE", "ATTRIBUTES"), rows, "no gateways: table dr_gateways")
    )


def routing(found: Mapping[str, Any]) -> str:
    """The rule that a number meets, and the gateways in their order."""
    lines = [f"prefix {printable(found['Matched Prefix']) or '(none)'}"]
    for entry in found["GW List"]:
        for kind, name in entry.items():
            lines.append(f"  {'carrier' if kind == 'CARRIER' else 'gateway'} {printable(name)}")
    if attributes := found.get("ATTRS"):
        lines.append(f"attributes {printable(attributes)}")
    return "\n".join(lines)


def destinations(found: Mapping[str, Any]) -> str:
    """A line per destination."""
    rows = [
        (
            group["id"],
            one["URI"],
            one["state"],
            one.get("weight", ""),
            one.get("priority", ""),
            one.get("description", ""),
            ", ".join(one["resolved_addresses"]),
        )
        for partition in found["PARTITIONS"]
        for group in partition["SETS"]
        for one in group["Destinations"]
    ]
    titles = ("SET", "DESTINATION", "STATE", "WEIGHT", "PRIORITY", "DESCRIPTION", "ADDRESSES")
    return _coloured_states(table(titles, rows, "no destinations: table dispatcher"))


def rules(found: Mapping[str, Any]) -> str:
    """A line per rule, in the order in which they are tried."""
    rows = [
        (
            one["dpid"],
            one["pr"],
            OPERATORS.get(one["match_op"], one["match_op"]),
            one["match_exp"],
            _becomes(one),
            one["attrs"],
            one["timerec"],
            "off" if one["disabled"] else "",
        )
        for one in found["Rules"]
    ]
    titles = ("ID", "PRIORITY", "MATCH", "EXPRESSION", "BECOMES", "ATTRIBUTES", "WHEN", "")
    return table(titles, rows, "no rules: table dialplan")


def _becomes(rule: Mapping[str, Any]) -> str:
    if rule["subst_exp"]:
        return f"{rule['subst_exp']} -> {rule['repl_exp']}"
    return str(rule["repl_exp"] or "(unchanged)")


def _coloured_states(text: str) -> str:
    """Where somebody looks, states in their colours: words between double spaces."""
    lines = []
    for line in text.split("\n"):
        for word in ("Disabled MI", "Inactive", "Probing", "Active"):
            if f"  {word}" in line:
                head, _, tail = line.partition(f"  {word}")
                line = f"{head}  {coloured(word, STATES[word.lower()])}{tail}"
                break
        lines.append(line)
    return "\n".join(lines)
