"""Every command of specification 40, section 3, as opensips-cli sends it: by HTTP and by FIFO, with
positional and with named values; the exact shape of every answer.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.integration.harness import ENVIRONMENT, free_port, until
from tests.integration.shapes import mismatch
from tests.integration.test_opensips_cli import CLI, OpensipsCliTestCase

OK = "OK"
YES_NO = frozenset({"yes", "no"})
STATES = frozenset({"Active", "Inactive", "Probing", "Disabled MI"})
READY = {"Readiness": bool, "Status": int, "Details": str}
NUMBER = re.compile(r"^\d+$")
CONTACT = {
    "Contact": str,
    "ContactID": NUMBER,
    "Expires": int,
    "Q": str,
    "Callid": str,
    "Cseq": int,
    "User-agent": str,
    "State": re.compile("^CS_(NEW|SYNC|DIRTY)$"),
    "Flags": int,
    "Cflags": str,
    "Socket": re.compile(r"^udp:127\.0\.0\.1:\d+$"),
    "Methods": int,
    "Received?": str,
    "Path?": str,
    "Attr?": str,
    "SIP_instance?": str,
    "Ping-Latency?": int,
}
CALLEE = dict.fromkeys(
    ("callee_tag", "callee_contact", "caller_cseq", "callee_route_set", "callee_bind_addr"), str
) | {"callee_sdp": str, "callee_sent_sdp": str}
DIALOG = {
    "ID": str,
    "db_id": str,
    "state": int,
    "user_flags": str,
    "timestart": int,
    "datestart?": str,
    "timeout": int,
    "dateout?": str,
    "callid": str,
    "from_uri": str,
    "to_uri": str,
    "caller_tag": str,
    "caller_contact": str,
    "callee_cseq": str,
    "caller_route_set": str,
    "caller_bind_addr": str,
    "caller_sdp": str,
    "caller_sent_sdp": str,
    "CALLEES": [CALLEE],
}
CONTEXT = DIALOG | {"context": {"values": [dict], "profiles": [dict]}}
DESTINATION = {
    "uri": str,
    "id": int,
    "group": int,
    "enabled": YES_NO,
    "auto-reenable": frozenset({"on", "off"}),
    "attrs?": str,
    "Resources": ({"name": str, "max": int, "load": int},),
}
DISPATCHED = {
    "URI": str,
    "state": STATES,
    "first_hit_counter": int,
    "socket?": str,
    "attr?": str,
    "script_attr?": str,
    "resolved_addresses": [str],
}
FULL = DISPATCHED | {"weight": int, "priority": int, "description": str}


def partitions(destination: dict[str, Any]) -> dict[str, Any]:
    return {
        "PARTITIONS": ({"name": "default", "SETS": ({"id": int, "Destinations": (destination,)},)},)
    }


@dataclass(frozen=True, slots=True)
class Asked:
    """A command: its name, ``name=value`` pairs, and the shape of the result; text that begins
    with ERROR is part of an error message. ``forms``: whether positions and names can be used.
    """

    name: str
    pairs: tuple[str, ...]
    shape: Any
    forms: str = "both"

    def line(self, form: str) -> str:
        """As it is typed."""
        values = [pair if form == "named" else pair.partition("=")[2] for pair in self.pairs]
        return shlex.join(["mi", self.name, *values])


def asked(command: str, shape: Any, forms: str = "both") -> Asked:
    name, *pairs = shlex.split(command)
    return Asked(name, tuple(pairs), shape, forms)


class EveryCommandTests(OpensipsCliTestCase):
    """Phones, a call, nodes, gateways and destinations to ask about."""

    tables = {"dialog": {"profiles_with_value": "p", "profiles_no_value": "n"}}
    plugins = (
        "mi_http",
        "mi_fifo",
        "mi_datagram",
        "dialplan",
        "drouting",
        "dispatcher",
        "nat_ping",
    )

    def setUp(self) -> None:
        super().setUp()
        running = self.running
        self.port = free_port()
        for user in ("2001", "2002"):
            running.add_user(user)
        running.add_node(1, 7, self.port, mode=0)
        running.sql("INSERT INTO domain (domain) VALUES ('other.test')")
        running.sql(
            "INSERT INTO dialplan (dpid, pr, match_op, match_exp, match_flags, subst_exp, repl_exp,"
            " attrs, disabled) VALUES (5, 1, 1, '^0([1-9][0-9]+)$', 0, '^0(.+)$', '49\\1', 'x', 0)"
        )
        gateway = f"127.0.0.1:{self.port}"
        running.sql("INSERT INTO dr_gateways (gwid, type, address) VALUES ('g1', 1, ?)", gateway)
        running.sql("INSERT INTO dr_carriers (carrierid, gwlist) VALUES ('c1', 'g1')")
        running.sql(
            "INSERT INTO dr_rules (groupid, prefix, priority, gwlist, attrs)"
            " VALUES ('0', '49', 0, 'g1,#c1', 'de')"
        )
        running.sql(
            "INSERT INTO dispatcher (setid, destination, state, weight, priority, attrs,"
            " description) VALUES (3, ?, 0, '5', 0, 'a', 'one')",
            f"sip:{gateway}",
        )
        until(lambda: running.mi("auth_knows", "2002@pbx.test"), "the users are known", 6)
        running.mi("reload")
        self.caller = self.registered(running, "2001")
        self.callee = self.registered(running, "2002")

    def call(self) -> str:
        """A call in progress; its Call-ID."""
        invite = self.caller.invite("2002")
        dialog = self.callee.answer(self.callee.request("INVITE"))
        self.caller.called(invite, self.caller.response(200))
        self.callee.request("ACK")
        return dialog.call_id

    def ask(self, way: str, lines: Sequence[str]) -> list[str]:
        """What the tool prints after each line, in one session."""
        chosen = [part for option in self.ways[way] for part in ("-o", option)]
        done = subprocess.run(
            [CLI, *chosen, "-o", "prompt_name=@@"],
            input="\n".join([*lines, "exit"]) + "\n",
            env={**ENVIRONMENT, "HOME": str(self.folder), "PYTHONUNBUFFERED": "1"},
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
        answers = done.stdout.split("(@@): ")[1:-1]
        self.assertEqual(len(answers), len(lines), done.stdout)
        return answers

    def check(self, way: str, form: str, commands: Sequence[Asked]) -> None:
        """Every answer has its shape."""
        commands = [one for one in commands if one.forms in ("both", form)]
        faults = []
        answers = self.ask(way, [one.line(form) for one in commands])
        for one, answer in zip(commands, answers, strict=True):
            if isinstance(one.shape, str) and one.shape.startswith("ERROR"):
                wanted = one.shape.removeprefix("ERROR").strip()
                fault = "" if wanted in answer else f"expected {one.shape}: {answer}"
            else:
                try:
                    fault = mismatch(json.loads(answer), one.shape)
                except ValueError:
                    fault = answer.strip()
            if fault:
                faults.append(f"{way} {form}: {one.line(form)}: {fault}")
        self.assertEqual(faults, [], "\n" + "\n".join(faults))

    def test_every_command(self) -> None:
        """Section 3, module by module; the state is the same after each round."""
        covered: set[str] = set()
        for way, form in (
            ("http", "positional"),
            ("http", "named"),
            ("fifo", "positional"),
            ("fifo", "named"),
        ):
            commands = [
                *self.core(),
                *self.statistics(),
                *self.usrloc(),
                *self.dialogs(self.call()),
                *self.balancing(),
                *self.routing(),
                *self.presence(),
                *self.transactions(),
            ]
            self.check(way, form, commands)
            covered |= {one.name for one in commands}
            for phone in (self.caller, self.callee):
                phone.respond(phone.request("BYE"), 200)
                while not phone.silent():
                    # The BYE was sent again before it was answered.
                    continue
        names = set(self.running.mi("which"))
        self.assertEqual(SPECIFIED - names, set())
        # One is asked all the time, the other one ends the PBX.
        self.assertEqual(SPECIFIED - covered, {"which", "kill"})

    def core(self) -> list[Asked]:
        one = '(udp, 192.0.2.0/24, 5060, "")'
        process = {"ID": 0, "PID": int, "Type": str}
        level = {"PID": int, "Log level": int, "Type": str}
        rule = {"IP": str, "Proto": str, "Port": int, "Match": str, "Flags": int, "Expires?": int}
        listed = {"name": str, "owner": str, "flags": int, "Rules": [rule]}
        event = {"name": re.compile("^E_"), "id": int}
        subscriber = {"socket": str, "expires": int, "dropped": int}
        subscribed = event | {"Subscribers": (subscriber,)}
        identified = {"Name": "main", **READY}
        report = {"Timestamp": int, "Date": str, "Log": str}
        return [
            asked("uptime", {"Now": str, "Up since": str, "Up time": re.compile(r"^\d+ \[sec\]$")}),
            asked("version", {"Server": re.compile(r"^OpenSIPS \(3\.6\.8")}),
            asked("version revision=1", {"Server": str}),
            asked("pwd", {"WD": str}),
            asked("arg", (str,)),
            asked("help", str),
            asked("help mi_cmd=lb_list", {"Help": str, "Exported by": "load_balancer"}),
            asked("ps", {"Processes": (process,)}),
            asked("log_level", {"Processes": (level,)}),
            asked("log_level level=3", {"New global log level": 3}),
            asked("xlog_level", {"xLog Level": int}),
            asked("xlog_level level=3", {"New xLog level": 3}),
            asked("log_level_filter consumer=stderror level_filter=0", OK),
            asked("log_level_filter consumer=stderror", {"Log level filter": 0}),
            asked("log_mute_state consumer=syslog", {"mute state": 0}),
            asked("log_mute_state consumer=syslog mute_state=0", OK),
            asked("cache_store system=local attr=a value=v", OK),
            asked("cache_store system=local attr=a value=v expire=60", OK),
            asked("cache_fetch system=local attr=a", {"key": "a", "value": "v"}),
            asked("cache_remove system=local attr=a", OK),
            asked("cache_fetch system=local attr=a", "ERROR Value not found"),
            asked("events_list", {"Events": (event,)}),
            asked("event_subscribe event=E_DLG_STATE_CHANGED socket=udp:127.0.0.1:9", OK),
            asked("event_subscribe event=E_ACC_CDR socket=unix:/none expire=60", OK),
            asked("subscribers_list", {"Events": (subscribed,)}),
            asked("subscribers_list event=E_ACC_CDR", {"Event": subscribed}),
            asked("subscribers_list event=E_ACC_CDR socket=unix:/none", {"Subscriber": subscriber}),
            asked("raise_event event=E_ACC_CDR", OK),
            asked("raise_event event=E_ACC_CDR params=1", OK),
            asked("event_subscribe event=E_ACC_CDR socket=unix:/none expire=0", OK),
            asked("event_subscribe event=E_DLG_STATE_CHANGED socket=udp:127.0.0.1:9 expire=0", OK),
            asked("event_subscribe event=E_NONE socket=udp:127.0.0.1:9", "ERROR Event not"),
            asked("list_tcp_conns", {"Connections": []}),
            asked("reload_routes", OK),
            asked("sr_get_status group=core", READY),
            asked("sr_get_status group=core identifier=main", READY),
            asked("sr_list_status", ({"Name": str, "Identifiers": (identified,)},)),
            asked("sr_list_status group=core", {"Name": "core", "Identifiers": (identified,)}),
            asked("sr_list_identifiers", ({"Name": str, "Identifiers": ("main",)},)),
            asked("sr_list_identifiers group=core", {"Name": "core", "Identifiers": ("main",)}),
            asked(
                "sr_list_reports",
                ({"Name": str, "Identifiers": ({"Name": "main", "Reports": [report]},)},),
            ),
            asked(
                "sr_list_reports group=core identifier=main",
                {"Name": "core", "Identifiers": ({"Name": "main", "Reports": (report,)},)},
            ),
            asked("sr_get_status group=nothing", "ERROR Group not found"),
            asked(f"add_blacklist_rule name=l {shlex.quote('rule=' + one)}", OK),
            asked(f"add_blacklist_rule name=l {shlex.quote('rule=' + one)} expire=60", OK),
            asked("list_blacklists", (listed,)),
            asked("list_blacklists name=l", (listed,)),
            asked("check_blacklists ip=192.0.2.9", []),
            asked("check_blacklists ip=192.0.2.9 port=5060 proto=udp", ("l",)),
            asked("check_blacklist name=l ip=192.0.2.9 port=5060 proto=udp pattern=x", OK),
            asked("check_blacklist name=l ip=198.51.100.1", "ERROR No match"),
            asked(f"del_blacklist_rule name=l {shlex.quote('rule=' + one)}", OK),
            asked("check_blacklist name=l ip=192.0.2.9", "ERROR Blacklist not found"),
            asked("mem_pkg_dump pid=1", OK),
            asked("mem_shm_dump", OK),
            asked("mem_rpm_dump", OK),
            asked("shm_check", OK),
        ]

    def statistics(self) -> list[Asked]:
        kinds = frozenset({"incremental", "non-incremental"})
        every = dict.fromkeys(STATISTICS, int)
        return [
            asked(
                f"get_statistics {shlex.quote('statistics=' + ' '.join(STATISTICS))}",
                every,
                "named",
            ),
            asked("get_statistics statistics=rcv_requests", {"core:rcv_requests": int}),
            asked("get_statistics statistics=nothing", "ERROR Statistics Not Found"),
            asked("list_statistics", dict),
            asked("list_statistics statistics=core:rcv_requests", {"core:rcv_requests": kinds}),
            asked("reset_statistics statistics=tm:local_replies", OK),
            asked("reset_all_statistics", OK),
        ]

    def usrloc(self) -> list[Asked]:
        record = {"AOR": re.compile(r"^200[12]@pbx\.test$"), "Contacts": (CONTACT,)}
        table = {"name": "location", "hash_size": int}
        add = "ul_add table_name=location aor=2009@pbx.test contact=sip:2009@127.0.0.1:9 expires=60"
        return [
            asked("ul_dump", {"Domains": ({**table, "AORs": (record,)},)}),
            asked("ul_dump brief=1", {"Domains": ({**table, "AORs": ({"AOR": str},)},)}),
            asked("ul_show_contact table_name=location aor=2001@pbx.test", record),
            asked("ul_show_contact table_name=no aor=2001@pbx.test", "ERROR Table not found"),
            asked("ul_show_contact table_name=location aor=2001", "ERROR Domain missing in AOR"),
            asked("ul_show_contact table_name=location aor=x@y", "ERROR AOR not found"),
            asked(f"{add} q=0.5 flags=0 cflags=0 methods=32767", OK),
            asked(
                "ul_rm_contact table_name=location aor=2009@pbx.test contact=sip:no@1.2.3.4",
                "ERROR Contact not found",
            ),
            asked(
                "ul_rm_contact table_name=location aor=2009@pbx.test contact=sip:2009@127.0.0.1:9",
                OK,
            ),
            asked(f"{add} q=0.5 flags=0 cflags=0 methods=32767", OK),
            asked("ul_rm table_name=location aor=2009@pbx.test", OK),
            asked("ul_rm table_name=location aor=2009@pbx.test", "ERROR AOR not found"),
            asked("ul_flush", OK),
            asked("ul_sync table_name=location", OK),
            asked("ul_sync table_name=location aor=2001@pbx.test", OK),
            asked("ul_cluster_sync", "ERROR Clustering not enabled"),
        ]

    def dialogs(self, call_id: str) -> list[Asked]:
        did = self.running.mi("dlg_list", callid=call_id)["Dialog"]["ID"]
        tag = self.running.mi("dlg_list", callid=call_id)["Dialog"]["caller_tag"]
        profile = {"name": "p", "value": "v", "count": 1, "shared": "no", "replicated": "no"}
        names_only = "ERROR Commands with positional parameters not supported"
        return [
            asked("dlg_list", {"count": int, "Dialogs": (DIALOG,)}, "named"),
            asked(f"dlg_list callid={call_id}", {"Dialog": DIALOG}, "named"),
            asked(f"dlg_list callid={call_id} from_tag={tag}", {"Dialog": DIALOG}, "named"),
            asked("dlg_list index=0 counter=5", {"count": int, "Dialogs": (DIALOG,)}, "named"),
            asked("dlg_list callid=none", "ERROR No such dialog", "named"),
            asked(f"dlg_list callid={call_id}", names_only, "positional"),
            asked(f"dlg_set_profile dlg_id={did} profile=p value=v", OK),
            asked(f"dlg_set_profile dlg_id={did} profile=p value=v clear_values=1", OK),
            asked(f"dlg_set_profile dlg_id={did} profile=n", OK),
            asked(f"dlg_push_var dlg_val_name=a dlg_val_value=b DID={did}", OK),
            asked(f"dlg_list_ctx callid={call_id}", {"Dialog": CONTEXT}, "named"),
            asked("profile_get_size profile=p value=v", {"Profile": profile}),
            asked("profile_get_size profile=p", {"Profile": profile | {"value": None}}),
            asked("profile_list_dlgs profile=p", {"Dialogs": (DIALOG,)}),
            asked("profile_list_dlgs profile=p value=none", {"Dialogs": []}),
            asked("profile_get_values profile=p", ({"value": "v", "count": 1},)),
            asked("profile_get_values profile=n", ({"value": None, "count": 1},)),
            asked("profile_get_values profile=no", "ERROR Profile not found"),
            asked("list_all_profiles", {"Profiles": ({"name": str, "has value": bool},)}),
            asked(f"dlg_unset_profile dlg_id={did} profile=n", OK),
            asked(f"dlg_unset_profile dlg_id={did} profile=p value=v", OK),
            asked("profile_end_dlgs profile=p", OK),
            asked("profile_end_dlgs profile=p value=v", OK),
            asked("dlg_db_sync", OK),
            asked("dlg_restore_db", OK),
            asked("dlg_cluster_sync", "ERROR Clustering not enabled"),
            asked("dlg_send_sequential callid=none", "ERROR Dialog not found"),
            asked("dlg_end_dlg dialog_id=none", "ERROR Requested Dialog not found"),
            asked(f"dlg_end_dlg dialog_id={did}", OK),
        ]

    def balancing(self) -> list[Asked]:
        here = f"sip:127.0.0.1:{self.port}"
        return [
            asked("lb_list", {"Destinations": (DESTINATION,)}),
            asked("lb_status destination_id=1", {"enable": "yes", "attrs?": str}),
            asked("lb_status destination_id=1 new_status=0", OK),
            asked("lb_status destination_id=1", {"enable": "no", "attrs?": str}),
            asked("lb_status destination_id=1 new_status=1", OK),
            asked("lb_status destination_id=9", "ERROR Destination ID not found"),
            asked("lb_resize destination_id=1 res_name=pstn new_capacity=9", OK),
            asked("lb_resize destination_id=1 res_name=no new_capacity=9", "ERROR"),
            asked("lb_reload", OK),
            asked("ds_list", partitions(DISPATCHED)),
            asked("ds_list full=1", partitions(FULL), "named"),
            asked("ds_list partition=default", partitions(DISPATCHED), "named"),
            asked("ds_list full=1 partition=default", partitions(FULL)),
            asked("ds_list full=1 partition=none", "ERROR"),
            asked(f"ds_set_state state=i group=3 address={here}", OK),
            asked(f"ds_set_state state=p group=default:3 address={here}", OK),
            asked(f"ds_set_state state=a group=3 address={here}", OK),
            asked(f"ds_set_state state=x group=3 address={here}", "ERROR Bad state value"),
            asked(f"ds_set_state state=a group=x address={here}", "ERROR bad group value"),
            asked(f"ds_set_state state=a group=9 address={here}", "ERROR destination not found"),
            asked(
                "ds_set_state state=a group=3 address=sip:1.2.3.4", "ERROR destination not found"
            ),
            asked("ds_reload", OK),
            asked("ds_reload partition=default inherit_state=y", OK),
            asked(f"ds_push_script_attrs attrs=s ip=127.0.0.1 port={self.port} set=3", OK),
            asked(
                f"ds_push_script_attrs attrs=s ip=127.0.0.1 port={self.port} set=3"
                " partition=default",
                OK,
            ),
        ]

    def routing(self) -> list[Asked]:
        gateway = {"ID": "g1", "IP": str, "ATTRS?": str, "State": STATES}
        routed = {"Matched Prefix": "49", "GW List": (dict,), "ATTRS": "de"}
        partition = {"name": "default", "table": "dialplan", "db_url": str}
        return [
            asked("dr_reload", OK),
            asked("dr_reload partition_name=default inherit_state=1", OK),
            asked("dr_gw_status", {"Gateways": (gateway,)}),
            asked("dr_gw_status gw_id=g1", {"State": "Active"}),
            asked("dr_gw_status gw_id=g1 status=0", OK),
            asked("dr_gw_status gw_id=g1", {"State": "Disabled MI"}),
            asked("dr_gw_status gw_id=g1 status=1", OK),
            asked("dr_gw_status gw_id=no", "ERROR"),
            asked("dr_carrier_status", {"Carriers": ({"ID": "c1", "Enabled": YES_NO},)}),
            asked("dr_carrier_status carrier_id=c1", {"Enabled": "yes"}),
            asked("dr_carrier_status carrier_id=c1 status=0", OK),
            asked("dr_carrier_status carrier_id=c1 status=1", OK),
            asked("dr_carrier_status carrier_id=no", "ERROR"),
            asked("dr_number_routing number=4930", routed),
            asked("dr_number_routing group_id=0 number=4930", routed),
            asked("dr_reload_status", {"Date": str}),
            asked("dr_enable_probing", {"Status": int}),
            asked("dr_enable_probing status=1", OK),
            asked("domain_reload", OK),
            asked("domain_dump", {"Domains": ({"name": "other.test", "attributes?": str},)}),
            asked("dp_reload", OK),
            asked("dp_reload partition=default", OK),
            asked("dp_translate dpid=5 input=030", {"Output": "4930", "ATTRIBUTES": "x"}),
            asked("dp_translate dpid=5 input=030 partition=default", dict),
            asked("dp_translate dpid=5 input=x", "ERROR No translation"),
            asked("dp_translate dpid=6 input=x", "ERROR No information available for dpid"),
            asked("dp_translate dpid=x input=x", "ERROR Wrong id parameter"),
            asked("dp_translate dpid=5 input=x partition=no", "ERROR Partition not found"),
            asked("dp_show_partition", {"Partitions": (partition,)}),
            asked(
                "dp_show_partition partition=default",
                {"Partition": "default", "Table": "dialplan", "db_url": str},
            ),
            asked("nh_enable_ping", {"Status": int}),
            asked("nh_enable_ping status=1", OK),
            asked("nathelper:enable_ping", {"Status": 1}, "none"),
        ]

    def presence(self) -> list[Asked]:
        return [
            asked("pres_phtable_list", []),
            asked("subs_phtable_list", []),
            asked("subs_phtable_list from=a@b to=c@d", []),
            asked(
                "refresh_watchers presentity_uri=sip:2001@pbx.test event=presence refresh_type=0",
                OK,
            ),
            asked(
                "refreshWatchers presentity_uri=sip:2001@pbx.test event=presence refresh_type=0",
                OK,
            ),
            asked("pres_expose event=presence", OK),
            asked("pres_expose event=presence filter=sip:2*", OK),
            asked("cleanup", OK),
        ]

    def transactions(self) -> list[Asked]:
        headers = "From: <sip:pbx@pbx.test>\\r\\nTo: <sip:2001@pbx.test>\\r\\n"
        nowhere = f"sip:x@127.0.0.1:{free_port()};transport=tcp"
        ask = ["t_uac_dlg", "method=OPTIONS", f"ruri={nowhere}", f"headers={headers}"]
        lost = {"Status": re.compile("^503 "), "Message": ""}
        return [
            asked(shlex.join(ask), lost),
            asked(shlex.join([*ask, "next_hop=.", "socket=.", "body=x"]), lost),
            asked("t_uac_dlg method=OPTIONS ruri=x headers=x", "ERROR Invalid ruri"),
            asked("t_uac_dlg method=OPTIONS ruri=sip:a headers=x", "ERROR Bad headers"),
            asked("t_uac_cancel callid=none cseq=1", "ERROR Transaction not found"),
            asked("t_hash", ({"index": 0, "Current": int, "Total": int},)),
            asked("t_reply code=480 reason=Gone trans_id=x to_tag=t", "ERROR Transaction not"),
        ]


#: The groups of section 3, statistics.
STATISTICS = tuple(
    f"{group}:{name}"
    for group, names in (
        ("core", "rcv_requests rcv_replies fwd_requests fwd_replies drop_requests drop_replies"),
        (
            "core",
            "err_requests err_replies bad_URIs_rcvd unsupported_methods bad_msg_hdr timestamp",
        ),
        ("net", "waiting_udp waiting_tcp waiting_tls"),
        ("tm", "received_replies relayed_replies local_replies UAS_transactions UAC_transactions"),
        ("tm", "2xx_transactions 3xx_transactions 4xx_transactions 5xx_transactions"),
        ("tm", "6xx_transactions inuse_transactions"),
        ("sl", "1xx_replies 2xx_replies 3xx_replies 4xx_replies 5xx_replies 6xx_replies"),
        ("sl", "sent_replies sent_err_replies received_ACKs"),
        ("usrloc", "registered_users location-users location-contacts location-expires"),
        ("registrar", "max_expires max_contacts default_expire accepted_registrations"),
        ("dialog", "active_dialogs early_dialogs processed_dialogs expired_dialogs"),
        ("dialog", "failed_dialogs"),
        ("msilo", "stored_messages dumped_messages failed_messages dumped_reminders"),
        ("load", "load load1m load10m load-all load1m-all load10m-all"),
        ("shmem", "total_size used_size real_used_size max_used_size free_size fragments"),
        ("dns", "dns_total_queries dns_slow_queries"),
        ("sql", "sql_total_queries sql_slow_queries"),
        ("cdb", "cdb_total_queries cdb_slow_queries"),
        ("uri", "positive_checks negative_checks"),
    )
    for name in names.split()
)

#: Section 3, for the modules of the reference configuration.
SPECIFIED = frozenset(
    """
    uptime version pwd arg which help ps kill log_level xlog_level log_level_filter log_mute_state
    cache_store cache_fetch cache_remove events_list subscribers_list event_subscribe raise_event
    list_tcp_conns reload_routes sr_get_status sr_list_status sr_list_reports sr_list_identifiers
    list_blacklists check_blacklist add_blacklist_rule del_blacklist_rule mem_pkg_dump mem_shm_dump
    mem_rpm_dump shm_check get_statistics list_statistics reset_statistics reset_all_statistics
    ul_dump ul_show_contact ul_add ul_rm ul_rm_contact ul_flush ul_sync ul_cluster_sync
    dlg_list dlg_list_ctx dlg_end_dlg profile_get_size profile_list_dlgs profile_get_values
    list_all_profiles profile_end_dlgs dlg_push_var dlg_db_sync dlg_restore_db dlg_cluster_sync
    dlg_send_sequential dlg_set_profile dlg_unset_profile
    lb_list lb_status lb_resize lb_reload ds_list ds_set_state ds_reload ds_push_script_attrs
    dr_reload dr_gw_status dr_carrier_status dr_number_routing dr_reload_status dr_enable_probing
    domain_reload domain_dump dp_reload dp_translate dp_show_partition
    refresh_watchers refreshWatchers cleanup pres_phtable_list subs_phtable_list pres_expose
    nh_enable_ping t_uac_dlg t_uac_cancel t_hash t_reply
    """.split()
)
