"""The routing policy with fakes of all that it asks."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from pbx.interfaces import (
    IAliases,
    IAuthenticator,
    IDialplan,
    IDomains,
    IGateways,
    ILoadBalancer,
    IMessageSilo,
    IPresence,
    IRegistrar,
    IRoutingPolicy,
)
from pbx.proxy.coroutines import run
from pbx.registry import Registry
from pbx.sip.address import Address
from pbx.sip.message import Request, Response, response_to
from pbx.sip.route import OwnRoute
from pbx.sip.uri import URI
from pbx.verdicts import Arrival, Relay, Reply, Target, Verdict
from tests.fakes import FakeFlow, request

ROUTING = Path(__file__).parent.parent / "etc" / "routing.py"
CHALLENGE = Reply(407, headers=(("Proxy-Authenticate", "Digest"),))
PHONE = Address("UDP", "192.0.2.50", 5060)
NODE = Address("UDP", "192.0.2.112", 5080)
GATEWAY = Address("UDP", "192.0.2.200", 5060)


@implementer(IDomains)
class FakeDomains:
    def is_local(self, host: str) -> bool:
        return host == "pbx.test"

    def canonical(self, host: str) -> str:
        return host

    def names(self) -> Sequence[str]:
        return ("pbx.test",)


@implementer(IAliases)
class FakeAliases:
    def __init__(self) -> None:
        self.known: dict[str, str] = {}

    def resolve(self, uri: URI) -> URI:
        return URI.parse(self.known[uri.aor]) if uri.aor in self.known else uri


@implementer(IAuthenticator)
class FakeAuthenticator:
    def __init__(self) -> None:
        self.answer: Reply | None = CHALLENGE
        self.asked = 0
        self.users = {"1001@pbx.test", "1002@pbx.test"}

    async def check(self, request: Request, arrival: Arrival) -> Reply | None:
        self.asked += 1
        return self.answer

    def knows(self, uri: URI) -> bool:
        return uri.aor in self.users

    def is_own_realm(self, realm: str) -> bool:
        return realm == "pbx.test"


@implementer(IRegistrar)
class FakeRegistrar:
    def __init__(self) -> None:
        self.contacts: dict[str, list[Target]] = {}
        self.methods: set[str] | None = None

    async def save(self, request: Request, arrival: Arrival) -> Reply:
        return Reply(200, "saved")

    def lookup(self, uri: URI, method: str = "") -> Sequence[Target]:
        if self.methods is not None and method not in self.methods:
            return ()
        return self.contacts.get(uri.aor, ())

    def is_registered(self, uri: URI) -> bool:
        return uri.aor in self.contacts

    def bindings(self, aor: str = "") -> Sequence[Mapping[str, Any]]:
        return ()

    def remove(self, aor: str, contact: str = "") -> int:
        return 0

    def pingable(self, nated_only: bool = True) -> Iterable[tuple[str, Target]]:
        return ()


@implementer(ILoadBalancer)
class FakeBalancer:
    def __init__(self) -> None:
        self.nodes: list[str] = []
        self.disabled: list[str] = []

    def acquire(
        self, arrival: Arrival, group: int, resources: str, flags: str = "ns"
    ) -> URI | None:
        return URI.parse(self.nodes.pop(0)) if self.nodes and group == 1 else None

    async def reserve(
        self, arrival: Arrival, group: int, resources: str, flags: str = "ns"
    ) -> URI | None:
        return self.acquire(arrival, group, resources, flags)

    def is_destination(self, peer: Address, group: int, via_port: int | None = None) -> bool:
        return peer == NODE and group == 3

    def has_destinations(self, group: int) -> bool:
        return bool(self.nodes)

    def disable(self, uri: URI, reason: str) -> None:
        self.disabled.append(str(uri))


@implementer(IDialplan)
class FakeDialplan:
    def __init__(self) -> None:
        self.numbers: dict[str, str] = {}

    def translate(self, uri: URI, dpid: int = 0) -> URI:
        return uri.replace(user=self.numbers[uri.user]) if uri.user in self.numbers else uri

    def lookup(self, text: str, dpid: int = 0) -> tuple[str, str] | None:
        return (self.numbers[text], "") if text in self.numbers else None


@implementer(IGateways)
class FakeGateways:
    def __init__(self) -> None:
        self.targets: list[Target] = []

    def is_gateway(
        self,
        peer: Address,
        via_port: int | None = None,
        kind: int | None = None,
        partition: str = "",
    ) -> bool:
        return peer == GATEWAY

    def route(
        self, uri: URI, caller: URI, group: int | None = None, partition: str = ""
    ) -> Sequence[Target]:
        return self.targets


@implementer(IPresence)
class FakePresence:
    async def publish(self, request: Request, arrival: Arrival) -> Reply:
        return Reply(200, "published")

    async def subscribe(self, request: Request, arrival: Arrival) -> Reply:
        return Reply(200, "subscribed")


@implementer(IMessageSilo)
class FakeSilo:
    def __init__(self) -> None:
        self.owners: list[str] = []

    async def store(
        self, request: Request, arrival: Arrival, owner: URI | None = None, send_at: float = 0.0
    ) -> Reply:
        self.owners.append((owner or request.uri).aor)
        return Reply(202)

    def deliver(self, owner: URI) -> None:
        self.owners.remove(owner.aor)


def load_routing() -> ModuleType:
    """etc/routing.py as a module of its own."""
    spec = importlib.util.spec_from_file_location("routing_under_test", ROUTING)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class PolicyTestCase(SynchronousTestCase):
    """Asks the shipped policy."""

    optional = True

    def setUp(self) -> None:
        self.aliases = FakeAliases()
        self.auth = FakeAuthenticator()
        self.registrar = FakeRegistrar()
        self.balancer = FakeBalancer()
        self.dialplan = FakeDialplan()
        self.gateways = FakeGateways()
        self.silo = FakeSilo()
        self.module = load_routing()
        registry = Registry()
        with registry.building():
            registry.provide(IDomains, FakeDomains())
            registry.provide(IAliases, self.aliases)
            registry.provide(IAuthenticator, self.auth)
            registry.provide(IRegistrar, self.registrar)
            registry.provide(ILoadBalancer, self.balancer)
            if self.optional:
                registry.provide(IDialplan, self.dialplan)
                registry.provide(IGateways, self.gateways)
                registry.provide(IPresence, FakePresence())
                registry.provide(IMessageSilo, self.silo)
            policy = self.module.Policy(registry)
        self.policy: IRoutingPolicy = policy

    def authenticated(self) -> None:
        """From here on the sender proves who it is."""
        self.auth.answer = None

    def arrival(
        self,
        peer: Address = PHONE,
        *,
        own_route: str | None = None,
        preloaded: bool = False,
    ) -> Arrival:
        route = None
        if own_route is not None:
            uri = URI.parse(own_route)
            route = OwnRoute(uri.params, uri)
        return Arrival(
            flow=FakeFlow(peer), peer=peer, own_route=route, preloaded=preloaded, call="a.1"
        )

    def route(
        self, line: str, headers: str = "", arrival: Arrival | None = None, **given: Any
    ) -> Verdict:
        """The verdict on a request from the phone of 1001."""
        return self.ask(request(line, headers, **_with_defaults(given)), arrival)

    def ask(self, asked: Request, arrival: Arrival | None = None) -> Verdict:
        verdicts: list[Verdict] = []
        errors: list[BaseException] = []
        coroutine = self.policy.route_request(asked, arrival or self.arrival())
        run(coroutine, verdicts.append, errors.append)  # type: ignore[arg-type]
        if errors:
            raise errors[0]
        return verdicts[0]

    def after(
        self, verdict: Verdict, asked: Request, status: int, *, local: bool
    ) -> Verdict | None:
        """What the policy makes of the failure of a verdict."""
        assert isinstance(verdict, Relay)
        assert verdict.on_failure is not None
        response: Response = response_to(asked, status)
        response.local = local
        outcomes: list[Verdict | None] = []
        run(verdict.on_failure(asked, response), outcomes.append, _raise)  # type: ignore[arg-type]
        return outcomes[0]


def _with_defaults(given: dict[str, Any]) -> dict[str, Any]:
    return {"from_": "<sip:1001@pbx.test>;tag=a", **given}


def _raise(error: BaseException) -> None:
    raise error
