"""The ``dlg_*`` and ``profile_*`` commands of the management interface (spec 40)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from pbx.commands import CommandFailed
from pbx.services.dialogs.call import ENDED, Call, Leg
from pbx.services.dialogs.settings import DialogSettings
from pbx.services.dialogs.speaker import Speaker
from pbx.sip.errors import SIPError
from pbx.sip.params import split_outside

Json = dict[str, object]
#: Requests within a call that change nothing about it.
HARMLESS = ("OPTIONS", "INFO", "MESSAGE", "NOTIFY", "REFER")


class Calls(Protocol):
    """What the commands need of `pbx.services.dialogs.Dialogs`."""

    def find(self, did: str) -> Call | None:
        """By cookie."""
        ...

    def listed(self) -> Sequence[Call]:
        """Every call that is kept."""
        ...

    def end(
        self, did: str, by: str = ..., reason: str = ..., headers: tuple[tuple[str, str], ...] = ...
    ) -> bool:
        """BYE or CANCEL."""
        ...

    def changed(self, call: Call) -> None:
        """Variables or profiles of a call were changed."""

    speaker: Speaker

    async def sync(self) -> None:
        """Write every change now."""

    async def restore(self) -> int:
        """Read calls that are in the database only."""
        ...


class DialogCommands:
    """Commands about calls and what they are counted in."""

    def __init__(self, calls: Calls, settings: DialogSettings) -> None:
        self._calls = calls
        # Shared profiles are declared with a suffix, which is not part of the name.
        self._with_value = _names(settings.profiles_with_value)
        self._without_value = _names(settings.profiles_no_value)

    def commands(self) -> Sequence[tuple[str, Sequence[Sequence[str]], Callable[..., object]]]:
        """See `ICommands`."""
        lists = ((), ("callid",), ("callid", "from_tag"), ("index", "counter"))
        profile = (("profile",), ("profile", "value"))
        return (
            ("dlg_list", lists, self.dlg_list),
            ("dlg_list_ctx", lists, self.dlg_list_ctx),
            ("dlg_end_dlg", (("dialog_id",), ("dialog_id", "extra_hdrs")), self.dlg_end_dlg),
            ("dlg_send_sequential", _sequential(), self.dlg_send_sequential),
            ("profile_get_size", profile, self.profile_get_size),
            ("profile_list_dlgs", profile, self.profile_list_dlgs),
            ("profile_get_values", (("profile",),), self.profile_get_values),
            ("profile_end_dlgs", profile, self.profile_end_dlgs),
            ("list_all_profiles", ((),), self.list_all_profiles),
            ("dlg_push_var", (("dlg_val_name", "dlg_val_value", "DID"),), self.dlg_push_var),
            ("dlg_db_sync", ((),), self.dlg_db_sync),
            ("dlg_restore_db", ((),), self.dlg_restore_db),
            ("dlg_cluster_sync", ((), ("sharing_tag",)), self.dlg_cluster_sync),
            (
                "dlg_set_profile",
                (
                    ("dlg_id", "profile"),
                    ("dlg_id", "profile", "value"),
                    ("dlg_id", "profile", "value", "clear_values"),
                ),
                self.dlg_set_profile,
            ),
            (
                "dlg_unset_profile",
                (("dlg_id", "profile"), ("dlg_id", "profile", "value")),
                self.dlg_unset_profile,
            ),
        )

    # Calls

    def dlg_list(
        self,
        callid: str | None = None,
        from_tag: str | None = None,
        index: str | int | None = None,
        counter: str | int | None = None,
    ) -> Json:
        """All calls, a part of them, or one."""
        return self._list(callid, from_tag, index, counter, shown)

    def dlg_list_ctx(
        self,
        callid: str | None = None,
        from_tag: str | None = None,
        index: str | int | None = None,
        counter: str | int | None = None,
    ) -> Json:
        """The same with variables and profiles."""
        return self._list(callid, from_tag, index, counter, shown_with_context)

    def _list(
        self,
        callid: str | None,
        from_tag: str | None,
        index: str | int | None,
        counter: str | int | None,
        show: Callable[[Call], Json],
    ) -> Json:
        calls = self._calls.listed()
        if callid is not None:
            for call in calls:
                if call.call_id == callid and from_tag in (None, call.from_tag):
                    return {"Dialog": show(call)}
            raise CommandFailed(404, "No such dialog")
        count = len(calls)
        if index is not None:
            first = _number(index)
            calls = calls[first : first + _number(0 if counter is None else counter)]
        return {"count": count, "Dialogs": [show(call) for call in calls]}

    def dlg_end_dlg(self, dialog_id: str, extra_hdrs: str = "") -> str:
        """BYE to both sides, CANCEL before the answer."""
        call = self._named(dialog_id)
        if call is None or call.state == ENDED:
            raise CommandFailed(404, "Requested Dialog not found")
        if not self._calls.end(call.did, "admin", "", _headers(extra_hdrs)):
            raise CommandFailed(500, "Operation failed")
        return "OK"

    async def dlg_send_sequential(
        self,
        callid: str,
        method: str = "OPTIONS",
        body: str = "none",
        mode: str = "callee",
        headers: str = "",
    ) -> Json:
        """Ask one side (``mode`` caller or callee) within a call, and what it said; ``body`` is
        none or custom:TYPE:TEXT. What would change the call itself is refused.
        """
        call = self._named(callid)
        if call is None or call.state not in (3, 4):
            raise CommandFailed(404, "Dialog not found")
        if method.upper() not in HARMLESS:
            raise CommandFailed(400, f"Bad method: one of {', '.join(HARMLESS)}")
        if mode not in ("caller", "callee"):
            raise CommandFailed(400, "Bad mode: caller or callee")
        kind, _, rest = body.partition(":")
        type_, _, text = rest.partition(":")
        if body != "none" and not (kind == "custom" and "/" in type_):
            raise CommandFailed(400, "Bad body: none or custom:TYPE:TEXT")
        more = _headers(headers) + ((("Content-Type", type_),) if text else ())
        try:
            response = await self._calls.speaker.say(
                call, mode == "caller", method.upper(), more, text.encode()
            )
        except SIPError as error:
            raise CommandFailed(500, error.reason or "Operation failed") from None
        return {
            "Status": f"{response.status} {response.reason}",
            "Message": "" if response.local else bytes(response).decode("utf-8", "replace"),
        }

    def _named(self, name: str) -> Call | None:
        """By cookie, by row number or by Call-ID."""
        call = self._calls.find(name)
        if call is not None:
            return call
        live = [call for call in self._calls.listed() if call.state != ENDED]
        for call in live:
            if name in (call.call_id, str(call.number or "")):
                return call
        return None

    def dlg_push_var(
        self,
        dlg_val_name: str,
        dlg_val_value: str,
        DID: str | Sequence[str],  # noqa: N803
    ) -> str:
        """Set a variable of these calls."""
        names = [DID] if isinstance(DID, str) else DID
        calls = [call for call in map(self._named, names) if call is not None]
        if not calls:
            raise CommandFailed(404, "Dialog not found")
        for call in calls:
            call.variables[dlg_val_name] = dlg_val_value
            self._calls.changed(call)
        return "OK"

    async def dlg_db_sync(self) -> str:
        """Write every call now."""
        await self._calls.sync()
        return "OK"

    async def dlg_restore_db(self) -> str:
        """Read calls that are in the database only."""
        await self._calls.restore()
        return "OK"

    def dlg_cluster_sync(self, sharing_tag: str = "") -> str:
        """There is no cluster."""
        raise CommandFailed(400, "Clustering not enabled")

    # Profiles

    def _counted(self, profile: str, value: str | None) -> list[Call]:
        if not self._known(profile):
            raise CommandFailed(404, "Profile not found")
        return [
            call
            for call in self._calls.listed()
            if call.state != ENDED
            and profile in call.profiles
            and value in (None, call.profiles[profile])
        ]

    def _known(self, profile: str) -> bool:
        if profile in self._with_value or profile in self._without_value:
            return True
        return any(profile in call.profiles for call in self._calls.listed())

    def profile_get_size(self, profile: str, value: str | None = None) -> Json:
        """How many calls a profile counts."""
        count = len(self._counted(profile, value))
        about = {"name": profile, "value": value, "count": count}
        return {"Profile": {**about, "shared": "no", "replicated": "no"}}

    def profile_list_dlgs(self, profile: str, value: str | None = None) -> Json:
        """Which calls a profile counts."""
        return {"Dialogs": [shown(call) for call in self._counted(profile, value)]}

    def profile_get_values(self, profile: str) -> list[Json]:
        """How many calls a profile counts for each value."""
        counts: dict[str | None, int] = {}
        for call in self._counted(profile, None):
            value = None if profile in self._without_value else call.profiles[profile]
            counts[value] = counts.get(value, 0) + 1
        return [{"value": value, "count": count} for value, count in counts.items()]

    def profile_end_dlgs(self, profile: str, value: str | None = None) -> str:
        """End every call that a profile counts."""
        for call in self._counted(profile, value):
            self._calls.end(call.did)
        return "OK"

    def list_all_profiles(self) -> Json:
        """Every profile there is."""
        names = {name: True for call in self._calls.listed() for name in call.profiles}
        names.update(dict.fromkeys(self._with_value, True))
        names.update(dict.fromkeys(self._without_value, False))
        return {"Profiles": [{"name": name, "has value": names[name]} for name in sorted(names)]}

    def dlg_set_profile(
        self, dlg_id: str, profile: str, value: str = "", clear_values: str | int = 0
    ) -> str:
        """Count a call in a profile; a call has one value in each."""
        call = self._named(dlg_id)
        if call is None:
            raise CommandFailed(404, "Dialog not found")
        if profile not in self._with_value and profile not in self._without_value:
            raise CommandFailed(404, "Profile not found")
        call.profiles[profile] = value
        self._calls.changed(call)
        return "OK"

    def dlg_unset_profile(self, dlg_id: str, profile: str, value: str | None = None) -> str:
        """Count a call in a profile no more."""
        call = self._named(dlg_id)
        if call is None:
            raise CommandFailed(404, "Dialog not found")
        if value in (None, call.profiles.get(profile)) and call.profiles.pop(profile, None) is None:
            raise CommandFailed(404, "Profile not found")
        self._calls.changed(call)
        return "OK"


def shown(call: Call) -> Json:
    """A call as ``dlg_list`` shows it."""
    caller = call.caller_side()
    start = int(call.answered)
    about: Json = {"ID": call.did, "db_id": str(call.number) if call.number else ""}
    about |= {"state": call.state, "user_flags": "", "timestart": start}
    if start:
        about["datestart"] = _date(start)
    about["timeout"] = call.timeout
    if call.timeout:
        about["dateout"] = _date(call.timeout)
    return about | {
        "callid": call.call_id,
        "from_uri": call.from_uri,
        "to_uri": call.to_uri,
        "caller_tag": call.from_tag,
        "caller_contact": caller.target,
        "callee_cseq": str(next((leg.cseq for leg in call.callees), 0)),
        "caller_route_set": ",".join(caller.route_set),
        "caller_bind_addr": caller.socket,
        "caller_sdp": "",
        "caller_sent_sdp": "",
        "CALLEES": [_callee(leg, caller) for leg in call.callees],
    }


def _callee(leg: Leg, caller: Leg) -> Json:
    return {
        "callee_tag": leg.tag,
        "callee_contact": leg.target,
        "caller_cseq": str(caller.cseq),
        "callee_route_set": ",".join(leg.route_set),
        "callee_bind_addr": leg.socket,
        "callee_sdp": "",
        "callee_sent_sdp": "",
    }


def shown_with_context(call: Call) -> Json:
    """A call as ``dlg_list_ctx`` shows it."""
    context = {
        "values": _pairs(call.variables.items()),
        "profiles": _pairs(call.profiles.items()),
    }
    return shown(call) | {"context": context}


def _pairs(items: Iterable[tuple[str, object]]) -> list[Json]:
    return [{name: value} for name, value in items]


def _date(seconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _number(text: str | int) -> int:
    try:
        number = int(text)
    except ValueError:
        raise CommandFailed(400, "Bad number") from None
    if number < 0:
        raise CommandFailed(400, "Bad number")
    return number


def _names(text: str) -> frozenset[str]:
    names = (name.partition("/")[0].strip(" \t") for name in text.split(";"))
    return frozenset(name for name in names if name)


def _sequential() -> Sequence[Sequence[str]]:
    """Every selection of the optional parameters."""
    recipes: list[tuple[str, ...]] = [("callid",)]
    for name in ("method", "body", "mode", "headers"):
        recipes += [(*recipe, name) for recipe in recipes]
    return recipes


def _headers(text: str) -> tuple[tuple[str, str], ...]:
    """``X-A: 1|X-B: 2`` or with line ends; anything else is refused."""
    found: list[tuple[str, str]] = []
    for line in text.replace("\\r\\n", "\n").replace("\r\n", "\n").replace("|", "\n").split("\n"):
        if not line.strip(" \t"):
            continue
        name, colon, value = line.partition(":")
        if not colon or len(split_outside(name, " ")) != 1 or "\r" in value:
            raise CommandFailed(400, "Bad extra_hdrs")
        found.append((name.strip(" \t"), value.strip(" \t")))
    return tuple(found)
