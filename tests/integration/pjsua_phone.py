"""A phone of pjsua2 as a program of its own: registers, publishes, watches one user.

    pjsua_phone.py USER PASSWORD DOMAIN HOST:PORT BUDDY

Commands come on standard input: ``open NOTE``, ``busy NOTE``, ``away``, ``quit``. What happens is
written a line each: ``registered``, ``buddy online NOTE``, ``buddy offline``, ``watcher STATE``.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import pjsua2 as pj

ONLINE = {pj.PJSUA_BUDDY_STATUS_ONLINE: "online", pj.PJSUA_BUDDY_STATUS_OFFLINE: "offline"}


def say(text: str) -> None:
    """One line."""
    print(text, flush=True)


class Account(pj.Account):  # type: ignore[misc]
    """Says whether it is registered."""

    def onRegState(self, info: Any) -> None:
        say("registered" if info.code == 200 else f"registration failed {info.code}")


class Buddy(pj.Buddy):  # type: ignore[misc]
    """Says what is known of somebody."""

    def onBuddyState(self) -> None:
        info = self.getInfo()
        status = info.presStatus
        word = ONLINE.get(status.status, "unknown")
        activity = {pj.PJRPID_ACTIVITY_BUSY: "busy", pj.PJRPID_ACTIVITY_AWAY: "away"}
        more = [activity.get(status.activity, ""), status.note or ""]
        say(" ".join(["buddy", word, *filter(None, more)]))
        say(f"watcher {info.subStateName}")


def status(command: str) -> Any:
    """What a command publishes."""
    word, _, note = command.partition(" ")
    made = pj.PresenceStatus()
    made.status = pj.PJSUA_BUDDY_STATUS_OFFLINE if word == "away" else pj.PJSUA_BUDDY_STATUS_ONLINE
    if word == "busy":
        made.activity = pj.PJRPID_ACTIVITY_BUSY
    made.note = note
    return made


def main() -> None:
    """Until ``quit`` or the end of standard input."""
    user, password, domain, place, watched = sys.argv[1:]
    endpoint = pj.Endpoint()
    endpoint.libCreate()
    config = pj.EpConfig()
    config.logConfig.level = config.logConfig.consoleLevel = 4
    config.uaConfig.threadCnt = 0
    config.uaConfig.mainThreadOnly = True
    endpoint.libInit(config)
    transport = pj.TransportConfig()
    transport.boundAddress = "127.0.0.1"
    endpoint.transportCreate(pj.PJSIP_TRANSPORT_UDP, transport)
    endpoint.audDevManager().setNullDev()
    endpoint.libStart()
    settings = pj.AccountConfig()
    settings.idUri = f"sip:{user}@{domain}"
    settings.regConfig.registrarUri = f"sip:{domain}"
    settings.sipConfig.authCreds.append(pj.AuthCredInfo("digest", "*", user, 0, password))
    settings.sipConfig.proxies.append(f"sip:{place};lr")
    settings.presConfig.publishEnabled = True
    account = Account()
    account.create(settings)
    buddy = Buddy()
    about = pj.BuddyConfig()
    about.uri = f"sip:{watched}@{domain}"
    about.subscribe = True
    buddy.create(account, about)
    os.set_blocking(0, False)
    while True:
        endpoint.libHandleEvents(50)
        try:
            command = sys.stdin.readline().strip()
        except (BlockingIOError, TypeError):
            continue
        if command == "quit":
            break
        if command:
            account.setOnlineStatus(status(command))
    endpoint.libDestroy()


if __name__ == "__main__":
    main()
