"""Bindings as targets of a request (RFC 3261 section 16.5, RFC 5626, RFC 5627)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pbx.interfaces import ICluster
from pbx.services.registrar.location import Binding, Record
from pbx.sip.address import Address
from pbx.sip.errors import MalformedURI
from pbx.sip.nat import same_host
from pbx.sip.uri import URI
from pbx.verdicts import Target


def target_of(
    binding: Binding,
    is_listener: Callable[[Address], bool],
    cluster: ICluster | None = None,
) -> Target | None:
    """How to reach a binding; None when its Contact is nothing to send to."""
    try:
        uri = URI.parse(binding.contact)
        if not uri.is_sip:
            return None
        if binding.node is not None and cluster is not None and binding.node.alive:
            # Its node has the connection, or the hole in the NAT.
            route = cluster.route_to(binding.node, binding.aor, binding.contact_id)
            if route:
                return Target(
                    uri,
                    path=(route,),
                    q=1.0 if binding.q < 0 else binding.q,
                    instance=binding.instance if binding.reg_id else "",
                )
        next_hop = None
        if not binding.path:
            next_hop = _next_hop(binding, uri)
    except MalformedURI:
        return None
    socket = binding.socket
    if socket is not None and binding.flow is None and not is_listener(socket):
        # Written by another node, or before the listeners were changed.
        socket = None
    return Target(
        uri,
        next_hop=next_hop,
        flow=None if binding.path else binding.flow,
        path=binding.path,
        q=1.0 if binding.q < 0 else binding.q,
        instance=binding.instance if binding.reg_id else "",
        flow_required=binding.flow_required,
        behind_nat=bool(binding.cflags),
        socket=socket,
    )


def _next_hop(binding: Binding, uri: URI) -> URI | None:
    """Where packets go: the source of the REGISTER, unless a new connection is to be opened."""
    if not binding.received:
        return None
    received = URI.parse(binding.received)
    transport = received.transport
    if binding.flow is not None or not transport or binding.flow_required:
        return received
    # The port that the phone connected from does not listen, the one in Contact does.
    if uri.transport == transport or (uri.scheme == "sips" and transport == "TLS"):
        return None
    return uri.replace(params=uri.params.with_value("transport", transport.lower()), headers="")


def connectable(contact: str, peer_host: str) -> bool:
    """Whether a connection can be opened to a Contact: it names the address that it came from."""
    try:
        uri = URI.parse(contact)
    except MalformedURI:
        return False
    return uri.is_sip and uri.transport not in ("WS", "WSS") and same_host(uri.host, peer_host)


def make_targets(
    record: Record,
    newest_first: bool,
    is_listener: Callable[[Address], bool],
    cluster: ICluster | None = None,
) -> tuple[Target, ...]:
    """The targets of a record, best first; kept there until it changes."""
    found: list[tuple[Target, int | None]] = []
    for binding in record.bindings:
        if binding.reachable:
            target = target_of(binding, is_listener, cluster)
            if target is not None:
                found.append((target, binding.methods))
    if newest_first:
        found.reverse()
    elif len(found) > 1:
        found.sort(key=lambda entry: -entry[0].q)
    record.masks = tuple(methods for _, methods in found)
    record.targets = tuple(target for target, _ in found)
    return record.targets


def accepting(targets: Sequence[Target], masks: Sequence[int | None], bit: int) -> Sequence[Target]:
    """Those that accept a method."""
    for mask in masks:
        if mask is not None and not mask & bit:
            break
    else:
        return targets
    return tuple(
        target for target, mask in zip(targets, masks, strict=True) if mask is None or mask & bit
    )


def of_instance(bindings: Sequence[Binding]) -> Sequence[Binding]:
    """The bindings of one instance that its GRUU means: all flows, but of plain contacts only the
    one registered last (RFC 5627 section 5.1).
    """
    plain = [binding for binding in bindings if not binding.reg_id]
    if len(plain) < 2:
        return bindings
    newest = max(plain, key=lambda binding: (binding.last_modified, binding.contact_id))
    return [binding for binding in bindings if binding.reg_id or binding is newest]
