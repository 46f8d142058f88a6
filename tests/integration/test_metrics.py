"""What a running PBX tells Prometheus, and whether page, dashboard and alerts agree with it."""

from __future__ import annotations

import json
import re
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.integration.harness import PBX, PROJECT, PBXTestCase, program, until
from tests.integration.phone import exchange

PAGE = PROJECT / "docs" / "metrics.md"
MONITORING = PROJECT / "etc" / "monitoring"
PLUGINS = ["nat_ping", "mi_http", "hep", "dialplan", "drouting", "dispatcher"]
#: ``| `name` | type | labels | meaning |``
ROW = re.compile(r"^\| `(\w+)` \| (\w+) \| ([^|]*) \| ([^|]+) \|$", re.MULTILINE)
#: Parts of PromQL that are no names of metrics.
WORDS = frozenset(
    "and by bool group_left group_right ignoring le offset on or unless without sum min max avg"
    " count rate increase histogram_quantile label_values topk".split()
)
#: What Prometheus itself adds.
ADDED = {"up": {"job", "instance"}}


def documented() -> dict[str, tuple[str, set[str]]]:
    """Type and labels of each metric, as docs/metrics.md has them."""
    return {
        name: (kind, set(re.findall(r"`(\w+)`", labels)))
        for name, kind, labels, _ in ROW.findall(PAGE.read_text())
    }


def fetched(pbx: PBX, path: str = "metrics", **headers: str) -> str:
    """A page of the site."""
    asked = urllib.request.Request(pbx.mi("status")["web"] + path, headers=headers)
    with urllib.request.urlopen(asked, timeout=20) as answer:
        text: str = answer.read().decode()
    return text


def scraped(pbx: PBX) -> dict[str, Metric]:
    """The families by the name that the page has for them."""
    return {
        family.name + ("_total" if family.type == "counter" else ""): family
        for family in text_string_to_metric_families(fetched(pbx))
    }


def values(family: Metric, *labels: str) -> dict[tuple[str, ...], float]:
    """Its numbers by some labels."""
    return {
        tuple(sample.labels[label] for label in labels): sample.value for sample in family.samples
    }


class MetricsTests(PBXTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.server = self.pbx({"plugins": {"enabled": PLUGINS}}, users=["alice", "bob"])

    def test_names(self) -> None:
        """docs/metrics.md names what is exported, no less and no more, with types and labels."""
        self.fill_tables()
        self.call()
        found = scraped(self.server)
        page = documented()
        self.assertEqual(sorted(found), sorted(page))
        for name, family in found.items():
            kind, labels = page[name]
            self.assertEqual(family.type, kind, name)
            shown = {label for sample in family.samples for label in sample.labels} - {"le"}
            if family.samples:
                self.assertEqual(shown, labels, name)
            self.assertTrue(family.documentation.endswith("."), name)

    def fill_tables(self) -> None:
        """A node, a gateway and a destination; nobody is there."""
        self.server.add_node(7, 3, 9)
        self.server.sql("INSERT INTO dr_gateways (gwid, type, address) VALUES ('g1', 1, '[::1]:9')")
        self.server.sql("INSERT INTO dispatcher (setid, destination) VALUES (4, 'sip:[::1]:9')")
        until(
            lambda: all(
                scraped(self.server)[name].samples
                for name in ("pbx_node_up", "pbx_gateway_up", "pbx_destination_up")
            ),
            "the rows are read",
        )

    def call(self) -> None:
        """Alice calls Bob over TCP, who answers; Alice hangs up."""
        alice = self.registered(self.server, "alice")
        bob = self.registered(self.server, "bob", "tcp")
        invite = alice.invite("bob")
        bob.answer(bob.request("INVITE"))
        dialog = alice.called(invite, alice.response(200))
        bob.request("ACK")
        exchange(alice, dialog, bob, "BYE")

    def test_numbers(self) -> None:
        """A registration and a call are counted where they belong."""
        self.call()
        until(lambda: self.server.statistic("dialog:active_dialogs") == 0, "the call is over")
        found = scraped(self.server)
        registrations = values(found["pbx_registrations"], "transport")
        self.assertEqual(registrations[("udp",)], 1)
        self.assertEqual(registrations[("tcp",)], 1)
        finals = values(found["pbx_sip_final_responses_total"], "method", "class")
        self.assertEqual(finals[("REGISTER", "4xx")], 2)
        self.assertEqual(finals[("REGISTER", "2xx")], 2)
        self.assertEqual(finals[("INVITE", "4xx")], 1)
        self.assertEqual(finals[("INVITE", "2xx")], 1)
        self.assertEqual(finals[("BYE", "2xx")], 1)
        received = values(found["pbx_sip_messages_received_total"], "transport")
        self.assertGreaterEqual(received[("udp",)], 6)
        self.assertGreaterEqual(received[("tcp",)], 4)
        ended = values(found["pbx_calls_ended_total"], "by")
        self.assertEqual((ended[("caller",)], ended[("callee",)]), (1, 0))
        for name in ("pbx_call_answer_seconds", "pbx_call_duration_seconds"):
            counts = [s.value for s in found[name].samples if s.name.endswith("_count")]
            self.assertEqual(counts, [1], name)
        self.assertGreater(
            next(s.value for s in found["pbx_database_seconds"].samples if "count" in s.name), 5
        )

    def test_format(self) -> None:
        """promtool has nothing to say about the page; OpenMetrics is spoken to who asks."""
        text = fetched(self.server)
        checked = subprocess.run(
            [program("promtool"), "check", "metrics"], input=text, capture_output=True, text=True
        )
        self.assertEqual(checked.stdout + checked.stderr, "")
        openmetrics = fetched(self.server, Accept="application/openmetrics-text; version=1.0.0")
        self.assertTrue(openmetrics.endswith("# EOF\n"))

    def test_strangers(self) -> None:
        """What came through a proxy may come from anywhere: refused, while /health answers."""
        with self.assertRaises(urllib.error.HTTPError) as caught:
            fetched(self.server, **{"X-Forwarded-For": "192.0.2.1"})
        self.assertEqual(caught.exception.code, 403)
        caught.exception.close()
        self.assertIn('"ok"', fetched(self.server, "health", **{"X-Forwarded-For": "192.0.2.1"}))


class MonitoringTests(PBXTestCase):
    """The files in etc/monitoring use what there is."""

    def dashboard(self) -> list[tuple[str, str]]:
        """Title and expression of each query of the dashboard."""
        found = json.loads((MONITORING / "grafana-dashboard.json").read_text())
        return [
            (panel["title"], target["expr"])
            for panel in found["panels"]
            for target in panel.get("targets", ())
        ]

    def rules(self) -> list[tuple[str, str]]:
        """Name and expression of each alert."""
        text = (MONITORING / "pbx-alerts.yml").read_text()
        return re.findall(r"- alert: (\w+)\n\s+expr: (.+)", text)

    def test_queries(self) -> None:
        """Every metric and label in dashboard and alerts is one of docs/metrics.md."""
        known: dict[str, set[str]] = dict(ADDED)
        for name, (kind, labels) in documented().items():
            ends = ("_bucket", "_count", "_sum") if kind == "histogram" else ("",)
            known.update((name + end, labels | {"instance", "job", "le"}) for end in ends)
        queries = [*self.dashboard(), *self.rules()]
        self.assertGreater(len(queries), 40)
        for title, expression in queries:
            used = list(metrics_in(expression))
            self.assertTrue(used, title)
            given: set[str] = set()
            for name, matched in used:
                self.assertIn(name, known, title)
                self.assertLessEqual(set(matched), known[name], title)
                given |= known[name]
            grouped = re.findall(r"\b(?:by|without|on|ignoring) \(([^)]*)\)", expression)
            for group in grouped:
                self.assertLessEqual(set(re.findall(r"\w+", group)), given, title)

    def test_legends(self) -> None:
        """Legends name labels that the query gives."""
        known = {name: labels for name, (_, labels) in documented().items()}
        found = json.loads((MONITORING / "grafana-dashboard.json").read_text())
        for panel in found["panels"]:
            for target in panel.get("targets", ()):
                labels = {"instance"}
                for name, _ in metrics_in(target["expr"]):
                    labels |= known.get(name.removesuffix("_bucket"), set())
                shown = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
                self.assertLessEqual(shown, labels, panel["title"])

    def test_promtool(self) -> None:
        """Prometheus reads all expressions; the alerts fire when they should."""
        copy = self.folder / "dashboard.yml"
        lines = ["groups:", "  - name: dashboard", "    rules:"]
        for at, (_, expression) in enumerate(self.dashboard()):
            plain = expression.replace("$__rate_interval", "5m").replace("$instance", ".*")
            lines += [f"      - record: panel:{at}", f"        expr: {json.dumps(plain)}"]
        copy.write_text("\n".join(lines) + "\n")
        self.promtool("check", "rules", str(copy), str(MONITORING / "pbx-alerts.yml"))
        self.promtool("check", "config", "--syntax-only", str(MONITORING / "prometheus.yml"))
        for name in ("pbx-alerts.yml", "pbx-alerts-test.yml"):
            folder = MONITORING if name == "pbx-alerts.yml" else Path(__file__).parent
            (self.folder / name).write_text((folder / name).read_text())
        self.promtool("test", "rules", str(self.folder / "pbx-alerts-test.yml"))

    def promtool(self, *arguments: str) -> None:
        done = subprocess.run([program("promtool"), *arguments], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)


def metrics_in(expression: str) -> Iterator[tuple[str, list[str]]]:
    """Each metric of an expression with the labels that it is matched by."""
    plain = re.sub(r"\b(?:by|without|on|ignoring) \([^)]*\)", "", expression)
    for name, matchers in re.findall(r"\b([a-z_]\w*)\b(?!\s*\()(\{[^}]*\})?", strip_texts(plain)):
        if name not in WORDS and not re.fullmatch(r"[smhdwy]", name):
            yield name, re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers)


def strip_texts(expression: str) -> str:
    """Without what stands in quotes and brackets."""
    return re.sub(r"\[[^\]]*\]", "", re.sub(r'"[^"]*"', '""', expression))
