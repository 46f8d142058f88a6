"""Routing policy: phones and browsers on one side, FreeSWITCH nodes (if any) on the other.

One decision per line, read from the top. A path returns a verdict: `Reply` answers, `Relay` sends
on, `Drop` stays silent. Edit it and run ``pbxctl reload``; with an error in it the old one stays.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial

from zope.interface import implementer

from pbx.interfaces import (
    IAliases,
    IAuthenticator,
    IDialogs,
    IDialplan,
    IDomains,
    IGateways,
    ILoadBalancer,
    IMessageSilo,
    IPresence,
    IRegistrar,
    IRegistry,
    IRoutingPolicy,
)
from pbx.sip.dialog import replaced_dialog
from pbx.sip.message import Request, Response
from pbx.sip.uri import URI
from pbx.verdicts import Arrival, Relay, Reply, Target, Verdict

INTERNAL, EXTERNAL = 1, 3  # load_balancer groups: towards FreeSWITCH, and back from it
RESOURCE = "pstn"  # what a call uses up on a node
DIALPLAN = 0
E164 = re.compile(r"\+[1-9][0-9]+")
ALLOW = (
    "INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, UPDATE, PRACK, REFER, NOTIFY, MESSAGE, REGISTER, "
    "SUBSCRIBE, PUBLISH"
)
ABOUT_US = (
    ("Accept", "application/sdp, text/plain"),
    ("Allow", ALLOW),
    ("Supported", "path, outbound, gruu, eventlist"),
)
#: Let callers of any foreign domain reach local users without a password, as SIP between domains
#: was meant to be; False keeps everybody out but trusted peers.
OPEN_INBOUND = False
#: Seconds for the phones to take a MESSAGE: the 202 for a stored one has to come before the sender
#: gives up after 32 s.
MESSAGE_TIMEOUT = 16.0
#: Seconds for a phone that a FreeSWITCH node calls: the node gives up first (its call_timeout is
#: 30) and goes on with voicemail; we only clear away what it left.
NODE_RING_TIMEOUT = 35.0
BUSY_NODES = Reply(503, "No Node Available", (("Retry-After", "30"),))


@implementer(IRoutingPolicy)
class Policy:
    """Who may call whom, and where a request goes."""

    def __init__(self, registry: IRegistry) -> None:
        self.aliases = IAliases(registry)
        self.auth = IAuthenticator(registry)
        self.balancer = ILoadBalancer(registry)
        self.domains = IDomains(registry)
        self.registrar = IRegistrar(registry)
        # These may be switched off in pbx.toml.
        self.dialogs = IDialogs(registry, None)
        self.dialplan = IDialplan(registry, None)
        self.gateways = IGateways(registry, None)
        self.presence = IPresence(registry, None)
        self.silo = IMessageSilo(registry, None)

    async def route_request(self, request: Request, arrival: Arrival) -> Verdict:
        """Rules R4 to R20 of the reference deployment, with its mistakes mended."""
        if request.in_dialog:
            return await self.within_dialog(request, arrival)
        if request.method == "OPTIONS" and not request.uri.user and self.is_ours(request.uri):
            return Reply(200, headers=ABOUT_US, stateless=True)
        if refusal := await self.refusal(request, arrival):
            return refusal
        if arrival.preloaded:
            return Reply(403, "Preload Route denied")
        if not self.is_ours(request.uri):
            return self.to_foreign(request)
        match request.method:
            case "REGISTER":
                return await self.registrar.save(request, arrival)
            case "PUBLISH" if self.presence:
                return await self.presence.publish(request, arrival)
            case "SUBSCRIBE" if self.presence and self.is_watchable(request):
                return await self.presence.subscribe(request, arrival)
            case "PUBLISH":
                return Reply(489)
            case _:
                return await self.to_extension(request, arrival)

    async def within_dialog(self, request: Request, arrival: Arrival) -> Verdict:
        """Along the route set that we recorded when the dialog began, or to ourselves."""
        ours = request.method == "SUBSCRIBE" and self.is_ours(request.uri)
        # Also with a Route: many phones name us there as their outbound proxy.
        if ours and self.presence and self.is_watchable(request):
            return await self.presence.subscribe(request, arrival)
        if arrival.own_route is not None:
            return Relay([Target(request.uri)], account=request.method == "BYE")
        return Reply(404, "Not here")

    async def refusal(self, request: Request, arrival: Arrival) -> Reply | None:
        """Trusted peers pass, local users prove who they are, strangers stay out."""
        if request.method == "REGISTER":
            if not self.is_ours(request.uri):
                return Reply(403, "Relay Forbidden")
            return await self.auth.check(request, arrival)
        if self.is_trusted(arrival, request):
            return None
        if self.domains.is_local(request.from_.uri.host):
            return await self.auth.check(request, arrival)
        if OPEN_INBOUND and self.is_ours(request.uri):
            return None
        return Reply(403, "Relay Forbidden")

    async def to_extension(self, request: Request, arrival: Arrival) -> Verdict:
        """Alias, dial plan, then the PSTN, a FreeSWITCH node or the phones themselves."""
        if not request.uri.user:
            return Reply(484)
        uri = self.aliases.resolve(request.uri)
        if self.dialplan:
            uri = self.dialplan.translate(uri, DIALPLAN)
        if E164.fullmatch(uri.user) and self.gateways:
            return self.to_gateways(self.gateways.route(uri, request.from_.uri), request)
        if request.method == "INVITE" and self.wants_freeswitch(arrival, request):
            if node := self.node_with_replaced(request):
                return Relay([Target(uri, next_hop=node)], account=True)
            return await self.to_freeswitch(uri, arrival, request)
        return await self.to_phones(uri, request, arrival)

    def to_gateways(self, gateways: Sequence[Target], request: Request) -> Verdict:
        """The first gateway, then the others in turn."""
        if not gateways:
            return Reply(500, "No PSTN Route found")
        after = partial(self.after_gateway, gateways[1:]) if len(gateways) > 1 else None
        return Relay(gateways[:1], account=request.method == "INVITE", on_failure=after)

    async def after_gateway(
        self, others: Sequence[Target], request: Request, failed: Response
    ) -> Verdict | None:
        """What the callee said goes to the caller: a busy one is not called by another gateway."""
        if failed.status != 408 and not 500 <= failed.status < 600:
            return None
        return self.to_gateways(others, request)

    async def to_freeswitch(
        self, uri: URI, arrival: Arrival, request: Request, failed: Response | None = None
    ) -> Verdict:
        """The least loaded node, the next one when a node itself failed; 503 when that was all."""
        node = await self.balancer.reserve(arrival, INTERNAL, RESOURCE)
        if node is None:
            return BUSY_NODES
        target = Target(uri, next_hop=node, headers=(("X-PBX-Call", arrival.call),))
        after = partial(self.after_freeswitch, uri, arrival, node)
        return Relay([target], account=True, on_failure=after)

    async def after_freeswitch(
        self, uri: URI, arrival: Arrival, node: URI, request: Request, failed: Response
    ) -> Verdict | None:
        """What the callee said goes to the caller; what only a node said, to the next node."""
        if failed.status != 408 and not 500 <= failed.status < 600:
            return None
        if failed.local:
            self.balancer.disable(node, f"{failed.status} {failed.reason}")
        return await self.to_freeswitch(uri, arrival, request)

    async def to_phones(self, uri: URI, request: Request, arrival: Arrival) -> Verdict:
        """Every phone of a user that accepts the method."""
        if not self.domains.is_local(uri.host):
            return Relay([Target(uri)], account=request.method == "INVITE")
        contacts = self.registrar.lookup(uri, request.method)
        if contacts:
            if request.method == "MESSAGE" and self.silo and self.auth.knows(uri):
                later = partial(self.after_phones, uri, arrival)
                return Relay(contacts, on_failure=later, timeout=MESSAGE_TIMEOUT)
            if request.method == "INVITE":
                from_node = self.is_from_freeswitch(arrival, request)
                limit = NODE_RING_TIMEOUT if from_node else None
                return Relay(contacts, account=True, timeout=limit)
            return Relay(contacts)
        if self.registrar.is_registered(uri):
            return Reply(405)
        if not self.auth.knows(uri):
            return Reply(404)
        if request.method == "MESSAGE" and self.silo:
            return await self.silo.store(request, arrival, uri)
        # A node has its own idea of what becomes of the call: voicemail, as a rule.
        missed = request.method == "INVITE" and not self.is_from_freeswitch(arrival, request)
        return Reply(480, account=missed)

    async def after_phones(
        self, uri: URI, arrival: Arrival, request: Request, failed: Response
    ) -> Verdict | None:
        """A message that no phone took for want of a connection waits for the next one."""
        if self.silo is None or failed.status not in (408, 430, 480, 503):
            return None
        return await self.silo.store(request, arrival, uri)

    def to_foreign(self, request: Request) -> Verdict:
        """Local users may call any other domain; `refusal` kept strangers out before."""
        return Relay([Target(request.uri)], account=request.method == "INVITE")

    def is_ours(self, uri: URI) -> bool:
        """Whether a Request-URI is in a domain of ours, or a number without any domain."""
        return uri.scheme == "tel" or self.domains.is_local(uri.host)

    def is_watchable(self, request: Request) -> bool:
        """Whether our event server answers a subscription, and not the phone itself."""
        event = (request.get("event") or "").partition(";")[0].strip().lower()
        return event not in ("refer", "conference")

    def wants_freeswitch(self, arrival: Arrival, request: Request) -> bool:
        """With nodes in the table every call goes through one, except what comes from there."""
        if not self.balancer.has_destinations(INTERNAL):
            return False
        return not self.is_from_freeswitch(arrival, request)

    def node_with_replaced(self, request: Request) -> URI | None:
        """The node that made the call which Replaces names, as who picks up a ringing call or takes
        over another does: no other node knows that call (RFC 3891).
        """
        named = replaced_dialog(request)
        if named is None or self.dialogs is None:
            return None
        call = self.dialogs.find_by_tags(*named)
        if call is None or not self.balancer.is_destination(call.caller, EXTERNAL):
            return None
        return URI("sip", "", call.caller.host, call.caller.port)

    def is_from_freeswitch(self, arrival: Arrival, request: Request) -> bool:
        """From the profile by which a node calls phones."""
        return self.balancer.is_destination(arrival.peer, EXTERNAL, request.via.port)

    def is_trusted(self, arrival: Arrival, request: Request) -> bool:
        """Nodes and gateways need no password, whatever domain is in their From (O25)."""
        port = request.via.port
        for group in (EXTERNAL, INTERNAL):
            if self.balancer.is_destination(arrival.peer, group, port):
                return True
        return self.gateways is not None and self.gateways.is_gateway(arrival.peer, port)
