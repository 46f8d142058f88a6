"""Answers of the management interface as text for people."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from pbx.ctl import bans
from pbx.ctl.output import GREEN, RED, YELLOW, as_json, coloured, duration, printable, table

COLOURS = {"ok": GREEN, "degraded": YELLOW, "down": RED}
CALL_STATES = {1: "new", 2: "ringing", 3: "answered", 4: "in call", 5: "ended"}


def status(found: Mapping[str, Any]) -> str:
    """``pbxctl status``."""
    health = found["health"]
    word = coloured(health["status"], COLOURS.get(health["status"], RED))
    database, cache = found.get("database") or {}, found.get("cache") or {}
    down = "" if database.get("available", True) else " (does not answer)"
    lines = [
        ("health", "; ".join([word, *map(printable, health["reasons"])])),
        ("version", " ".join((found["version"], found.get("build", "")))),
        ("process", f"{found['pid']}, up {duration(found['uptime'])}"),
        ("database", f"{database.get('url', 'none')}{down}"),
        ("cache", cache.get("url", "none")),
    ]
    lines += [("listener", at) for at in found["listeners"]]
    lines += [("web", found["web"])] if found.get("web") else []
    lines += [(name, str(value)) for name, value in found["counts"].items()]
    width = max(len(name) for name, _ in lines)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in lines)


def registrations(found: Mapping[str, Any]) -> str:
    """``pbxctl registrations``: a line per contact."""
    rows = [
        (
            record["AOR"],
            contact["Contact"],
            _left(contact.get("Expires")),
            contact.get("Received", ""),
            contact.get("User-agent", ""),
        )
        for domain in found["Domains"]
        for record in domain["AORs"]
        for contact in record.get("Contacts", ())
    ]
    titles = ("USER", "CONTACT", "EXPIRES", "RECEIVED FROM", "USER AGENT")
    return table(titles, rows, "nobody is registered") + (
        f"\n{_counted(len({row[0] for row in rows}), 'user')}, {_counted(len(rows), 'contact')}"
        if rows
        else ""
    )


def _left(expires: object) -> str:
    return duration(expires) if isinstance(expires, (int, float)) else printable(expires)


def calls(found: Mapping[str, Any]) -> str:
    """``pbxctl calls``: a line per call."""
    rows = [
        (
            _bare(call.get("from_uri")),
            _bare(call.get("to_uri")),
            CALL_STATES.get(call.get("state", 0), "?"),
            _talking(call),
            call.get("ID"),
            call.get("callid"),
        )
        for call in found["Dialogs"]
        if call.get("state") != 5
    ]
    titles = ("FROM", "TO", "STATE", "FOR", "ID", "CALL-ID")
    return table(titles, rows, "no calls") + (f"\n{_counted(len(rows), 'call')}" if rows else "")


def _bare(uri: object) -> str:
    """``user@domain`` of a SIP URI."""
    text = str(uri or "")
    return text.removeprefix("sip:").removeprefix("sips:")


def _talking(call: Mapping[str, Any]) -> str:
    """How long, by the clock of this machine; the PBX is on it."""
    start = call.get("timestart") or 0
    return duration(time.time() - start) if start else ""


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def balancer(found: Mapping[str, Any]) -> str:
    """``pbxctl lb``: a line per destination."""
    rows = [
        (
            node["id"],
            node["group"],
            node["uri"],
            "up" if node["enabled"] == "yes" else "DOWN",
            node["auto-reenable"],
            " ".join(f"{r['name']}={r['load']}/{r['max']}" for r in node["Resources"]),
        )
        for node in found["Destinations"]
    ]
    titles = ("ID", "GROUP", "NODE", "STATE", "PROBED", "LOAD")
    lines = table(titles, rows, "no nodes: calls go from phone to phone").split("\n")
    return "\n".join(
        line.replace("  DOWN", f"  {coloured('DOWN', RED)}", 1)
        if "  DOWN" in line
        else line.replace("  up", f"  {coloured('up', GREEN)}", 1)
        for line in lines
    )


def link(found: Mapping[str, Any]) -> str:
    """``pbxctl user link``: an address per line."""
    lines = [f"logs in as {found['user']} once, within {duration(found['expires'])}:"]
    return "\n".join([*lines, *(f"  {address}" for address in found["links"])])


def subscriptions(found: Mapping[str, Any]) -> str:
    """``pbxctl subscriptions``: a line per subscription."""
    rows = [
        (
            one["watcher"],
            one["presentity"] + (f" ({one['members']} members)" if one["members"] else ""),
            one["event"],
            one["state"],
            duration(one["expires"]),
            one["contact"],
        )
        for one in found["Subscriptions"]
    ]
    titles = ("WATCHER", "WATCHES", "EVENT", "STATE", "EXPIRES", "CONTACT")
    return table(titles, rows, "nobody watches anybody")


def presentities(found: Mapping[str, Any]) -> str:
    """``pbxctl presentities``: a line per user and event package."""
    rows = [
        (
            one["presentity"],
            one["event"],
            one["state"],
            one["publications"],
            one["watchers"],
            duration(one["expires"]),
        )
        for one in found["Presentities"]
    ]
    titles = ("USER", "EVENT", "STATE", "PUBLISHED BY", "WATCHERS", "EXPIRES")
    return table(titles, rows, "nobody has published anything")


def anything(found: object) -> str:
    """Text as it is, the rest as JSON."""
    return printable(found) if isinstance(found, str) else as_json(found)


#: Sub-command: method of the management interface and how to show its answer.
VIEWS: Mapping[str, tuple[str, Callable[[Any], str]]] = {
    "status": ("status", status),
    "registrations": ("ul_dump", registrations),
    "calls": ("dlg_list", calls),
    "lb": ("lb_list", balancer),
    "subscriptions": ("presence_subscriptions", subscriptions),
    "presentities": ("presence_presentities", presentities),
    "bans": ("ban_list", bans.listed),
    "reload": ("reload", anything),
    "stop": ("kill", anything),
}
