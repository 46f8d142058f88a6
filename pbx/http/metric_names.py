"""Which statistic is which metric: a row for each name that ``/metrics`` gives to plain numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pbx.metrics import Kind

#: Groups that tell what the process metrics tell better.
IGNORED_GROUPS: Final = frozenset(("load", "shmem", "pkmem"))


@dataclass(frozen=True, slots=True)
class Row:
    """One metric. ``statistics`` are its sources, with the values of ``labels`` for each."""

    name: str
    kind: Kind
    help: str
    statistics: Mapping[str, tuple[str, ...]]
    labels: tuple[str, ...] = ()


def _counter(name: str, statistic: str, help: str) -> Row:
    return Row(f"{name}_total", Kind.COUNTER, help, {statistic: ()})


def _gauge(name: str, statistic: str, help: str) -> Row:
    return Row(name, Kind.GAUGE, help, {statistic: ()})


def _by(kind: Kind, name: str, label: str, help: str, **values: str) -> Row:
    """A metric with one label: ``value="group:statistic"``."""
    return Row(name, kind, help, {source: (value,) for value, source in values.items()}, (label,))


NAMED: Final[tuple[Row, ...]] = (
    # Bytes
    _counter("pbx_sip_requests_received", "core:rcv_requests", "SIP requests received."),
    _counter("pbx_sip_responses_received", "core:rcv_replies", "SIP responses received."),
    _counter("pbx_sip_malformed", "core:bad_msg_hdr", "Messages that could not be read."),
    _counter("pbx_sip_keepalives", "net:keep_alives", "CRLF, zero bytes and STUN of phones."),
    _counter("pbx_sip_datagrams_received", "net:rcv_datagrams", "UDP datagrams received."),
    _counter("pbx_sip_messages_sent", "net:sent_messages", "SIP messages sent."),
    _counter("pbx_sip_send_failures", "net:send_failures", "Messages that could not be sent."),
    _counter("pbx_connections_refused", "net:refused_connections", "Connections above the limits."),
    _counter(
        "pbx_connections_aborted", "net:aborted_connections", "Connections cut off by the PBX."
    ),
    _gauge("pbx_connections_opening", "net:connecting", "Connections that are being opened."),
    _by(
        Kind.GAUGE,
        "pbx_sip_send_queue_bytes",
        "transport",
        "Bytes that wait for the kernel or for slow peers.",
        udp="net:waiting_udp",
        stream="net:waiting_tcp",
    ),
    _counter("pbx_dns_queries", "dns:dns_total_queries", "Questions to DNS."),
    _counter("pbx_dns_failures", "dns:dns_failed_queries", "Questions that DNS did not answer."),
    _gauge("pbx_dns_cached_names", "dns:dns_cached_names", "Names whose addresses are known."),
    # The guard
    _gauge("pbx_guard_sources", "guard:sources", "Addresses that talk to the PBX."),
    _gauge("pbx_guard_banned", "guard:banned_sources", "Addresses that are banned now."),
    _counter("pbx_guard_bans", "guard:bans", "Bans since the start."),
    _counter(
        "pbx_guard_failed_logins", "guard:failed_logins", "Wrong passwords and unknown users."
    ),
    _by(
        Kind.COUNTER,
        "pbx_guard_dropped_total",
        "reason",
        "Messages not looked at: above the rate, from banned addresses, from scanners.",
        rate="guard:dropped_rate",
        ban="guard:dropped_ban",
        scanner="guard:dropped_scanner",
    ),
    # Transactions
    _by(
        Kind.COUNTER,
        "pbx_sip_transactions_total",
        "role",
        "Transactions begun.",
        server="tm:UAS_transactions",
        client="tm:UAC_transactions",
    ),
    _by(
        Kind.GAUGE,
        "pbx_sip_transactions_in_progress",
        "role",
        "Transactions in progress, and finished ones that are remembered.",
        server="tm:server_transactions",
        client="tm:client_transactions",
        finished="tm:finished_transactions",
    ),
    _by(
        Kind.COUNTER,
        "pbx_sip_retransmissions_total",
        "direction",
        "Messages that came again, or were sent again.",
        received="tm:received_retransmissions",
        sent="tm:sent_retransmissions",
    ),
    _by(
        Kind.COUNTER,
        "pbx_sip_client_failures_total",
        "reason",
        "Requests sent that got no final response.",
        timeout="tm:timeouts",
        transport="tm:transport_errors",
    ),
    _counter("pbx_sip_stray_responses", "tm:stray_replies", "Responses to no request of ours."),
    _counter(
        "pbx_sip_requests_refused",
        "tm:refused_requests",
        "Requests answered without a transaction: malformed, or too many in progress.",
    ),
    # The proxy
    _counter("pbx_sip_requests_forwarded", "core:fwd_requests", "Requests relayed."),
    _counter("pbx_sip_requests_dropped", "core:drop_requests", "Messages dropped in silence."),
    _counter("pbx_sip_requests_answered", "sl:sent_replies", "Requests answered by the PBX."),
    _counter("pbx_policy_failures", "core:err_requests", "Requests on which the policy failed."),
    # Users
    _gauge("pbx_registered_users", "usrloc:registered_users", "Users with a registered contact."),
    _counter(
        "pbx_registrations_expired", "usrloc:location-expires", "Contacts that were not refreshed."
    ),
    _by(
        Kind.COUNTER,
        "pbx_register_requests_total",
        "result",
        "REGISTER requests of users who proved who they are.",
        accepted="registrar:accepted_registrations",
        rejected="registrar:rejected_registrations",
    ),
    _gauge("pbx_subscribers", "auth:subscribers", "Users that can log in."),
    _by(
        Kind.COUNTER,
        "pbx_auth_events_total",
        "event",
        "Digest authentication: credentials checked, and of these the wrong and the outdated ones;"
        " challenges sent.",
        checked="auth:checked",
        rejected="auth:rejected",
        stale="auth:stale",
        challenged="auth:challenged",
    ),
    # Calls
    _by(
        Kind.GAUGE,
        "pbx_calls",
        "state",
        "Calls in progress.",
        early="dialog:early_dialogs",
        active="dialog:active_dialogs",
    ),
    _counter("pbx_calls_started", "dialog:processed_dialogs", "Calls begun."),
    _counter("pbx_calls_untracked", "pbx:untracked_calls", "Calls above the limit of early ones."),
    _by(
        Kind.COUNTER,
        "pbx_routed_total",
        "by",
        "Calls that got a node, gateway or destination.",
        load_balancer="lb:acquired",
        drouting="drouting:routed",
        dispatcher="dispatcher:selected",
    ),
    _by(
        Kind.COUNTER,
        "pbx_unrouted_total",
        "by",
        "Calls for which no node, gateway or destination was left.",
        load_balancer="lb:refused",
        drouting="drouting:refused",
        dispatcher="dispatcher:refused",
    ),
    _by(
        Kind.COUNTER,
        "pbx_probes_total",
        "by",
        "Probes of nodes, gateways and destinations.",
        load_balancer="lb:probes",
        drouting="drouting:probes",
        dispatcher="dispatcher:probes",
    ),
    # Media
    _gauge("pbx_media_bridged_calls", "media:bridged_calls", "Calls whose media pass the engine."),
    _gauge("pbx_media_sessions", "media:sessions", "Sessions of the media engine."),
    _counter("pbx_media_bridged", "media:bridged", "Calls that were given to the media engine."),
    _by(
        Kind.COUNTER,
        "pbx_media_failures_total",
        "reason",
        "Calls refused for want of common media, sessions that the engine refused, and those in"
        " which nothing was heard any more.",
        refused="media:refused",
        failed="media:failed",
        timeout="media:timeouts",
    ),
    # Storage
    _gauge("pbx_database_up", "sql:available", "1 while the database answers."),
    _counter("pbx_database_queries", "sql:queries", "Database operations."),
    _counter("pbx_database_failures", "sql:failures", "Database operations that failed."),
    _counter("pbx_database_slow_queries", "sql:slow_queries", "Those that took over a second."),
    _counter("pbx_database_rows_written", "sql:rows_written", "Rows written in batches."),
    _counter("pbx_database_rows_dropped", "sql:rows_dropped", "Rows that the database refused."),
    _gauge("pbx_database_connections", "sql:connections", "Connections to PostgreSQL."),
    _gauge("pbx_database_waiting", "sql:waiting", "Operations that wait for a connection."),
    _gauge("pbx_cache_up", "cdb:available", "1 while the cache answers."),
    _counter("pbx_cache_queries", "cdb:queries", "Commands to the cache server, many keys in one."),
    _counter("pbx_cache_failures", "cdb:failures", "Operations of the cache server that failed."),
    _gauge(
        "pbx_cache_waiting", "cdb:waiting", "Keys and questions that wait for the cache server."
    ),
    # Presence and messages
    _gauge("pbx_presence_subscriptions", "presence:subscriptions", "Subscriptions of watchers."),
    _gauge("pbx_presence_publications", "presence:publications", "Published event states."),
    _by(
        Kind.COUNTER,
        "pbx_presence_notifies_total",
        "result",
        "NOTIFY requests sent, and of these the unanswered and the refused ones.",
        sent="presence:notifies_sent",
        unanswered="presence:notifies_unanswered",
        refused="presence:notifies_refused",
    ),
    _gauge("pbx_stored_messages", "msilo:waiting_messages", "Messages that wait for their users."),
    _by(
        Kind.COUNTER,
        "pbx_offline_messages_total",
        "result",
        "Messages for users who were away.",
        stored="msilo:stored_messages",
        delivered="msilo:dumped_messages",
        failed="msilo:failed_messages",
    ),
    # Web
    _gauge(
        "pbx_certificate_days_left",
        "tls:certificate_days_left",
        "Days that the certificate for TLS, wss and https is good for.",
    ),
    _gauge("pbx_http_connections", "http:connections_used", "Open HTTP connections."),
    _counter(
        "pbx_http_connections_refused",
        "http:refused_connections",
        "HTTP connections above the limits.",
    ),
    _counter("pbx_http_requests_too_slow", "http:slow_requests", "HTTP requests cut off half-way."),
    _by(
        Kind.COUNTER,
        "pbx_web_logins_total",
        "result",
        "Log-ins to the web phone, wrong ones, and those refused after too many wrong ones.",
        ok="web:logins",
        failed="web:failed_logins",
        refused="web:refused_logins",
    ),
    _gauge(
        "pbx_web_failing_sources",
        "web:failing_sources_used",
        "Addresses that failed to log in to the web phone and are remembered.",
    ),
    # Plugins
    _by(
        Kind.COUNTER,
        "pbx_hep_messages_total",
        "result",
        "Messages for the capture server, sent or dropped because too many waited.",
        sent="hep:sent",
        dropped="hep:dropped",
    ),
    _gauge("pbx_hep_queue", "hep:queued", "Messages that wait for the capture server."),
    _gauge("pbx_hep_connected", "hep:connected", "1 while the capture server takes messages."),
    _by(
        Kind.COUNTER,
        "pbx_nat_pings_total",
        "result",
        "Keep-alives to phones behind NAT, unanswered ones, and contacts removed for it.",
        sent="nat_ping:sent",
        unanswered="nat_ping:unanswered",
        removed="nat_ping:removed",
    ),
    _by(
        Kind.COUNTER,
        "pbx_dialplan_total",
        "result",
        "Numbers that a rule of the dial plan matched, or none did.",
        translated="dialplan:translated",
        unmatched="dialplan:unmatched",
    ),
)
