"""What operators ask and tell: commands, events, logs, traces, and the local socket."""

from __future__ import annotations

from typing import cast

from twisted.internet.interfaces import IReactorCore

from pbx.appliance.foundation import Foundation
from pbx.appliance.services import Services
from pbx.appliance.transport import Transport
from pbx.appliance.web import WebSite
from pbx.interfaces import ICommands, IManagement
from pbx.management.commands import Commands, module_of
from pbx.management.core import CoreCommands
from pbx.management.events import EventInterface
from pbx.management.logs import LogCommands
from pbx.management.reports import StatusReports
from pbx.management.requests import RequestCommands
from pbx.management.trace import Tracer, TraceSettings, TraceStreams
from pbx.management.unix import ManagementSettings, ManagementSocket
from pbx.management.wire_log import WireLog


def open_commands(foundation: Foundation) -> Commands:
    """Who answers commands, without any yet: plugins and pages hand it theirs and their users'."""
    commands = Commands(foundation.reactor)
    foundation.registry.provide(IManagement, commands)
    return commands


def build_management(
    foundation: Foundation,
    transport: Transport,
    services: Services,
    website: WebSite,
    commands: Commands,
) -> ManagementSocket:
    """The last parts, then the commands of all; what is returned listens when all have started."""
    parts, reactor, delivery = foundation.parts, foundation.reactor, foundation.delivery
    settings = foundation.tables.of(ManagementSettings)
    add = foundation.add
    add(EventInterface(foundation.events, services.registrar, reactor))
    add(LogCommands())
    add(WireLog(delivery, reactor))
    add(StatusReports(lambda: parts, module_of, foundation.events, reactor))
    add(
        RequestCommands(
            transport.transactions, transport.user_agent, transport.flows, services.dialogs
        )
    )
    add(TraceStreams(delivery, reactor))
    add(Tracer(foundation.tables.of(TraceSettings), delivery, reactor))
    add(
        CoreCommands(
            reactor,
            lambda: [*parts, *website.parts()],
            website.sip_listeners,
            cast(IReactorCore, reactor).stop,
            website.url,
        )
    )
    for part in parts:
        if ICommands.providedBy(part):
            commands.add(part)
    return ManagementSocket(settings, foundation.base / settings.socket, reactor, commands.handle)
