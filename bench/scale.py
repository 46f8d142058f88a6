"""How it behaves when there is much of everything: start, cost by size, pauses, browsers, watchers.

    scale.py PART [--site FOLDER] [--quick] [--rate N]

start: from the command to the first answer with 100,000 bindings stored. flat: what a REGISTER and
a call cost with 1,000 to 1,000,000 bindings, and memory per binding. pause: the longest turn of the
reactor at 5,000 REGISTER a second of its clock with 100,000 bindings, and what is late in a live
PBX at a clean rate (`bench.live`). fanout: NOTIFY of one change to 1,000 watchers. browsers: 10,000
of them on WebSockets in one process. wake: what an operation costs after a pause, and what a
datagram costs that nobody looks into.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import platform
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.browsers import gather
from bench.databases import fill_pbx
from bench.driver import DOMAIN, PASSWORD, PHONE, Driver, answer_to, driver, response
from bench.echo import echoes
from bench.live import pauses
from bench.measure import cpu_seconds, pss_bytes
from bench.servers import PBX, PROJECT, run_with
from bench.stored import STORED, rows, store
from bench.wake import pauses_between
from pbx.tap import GC_THRESHOLDS

PARTS = ("start", "flat", "pause", "fanout", "browsers", "wake")
SIZES = (1_000, 10_000, 100_000, 1_000_000)
WATCHERS = 1_000
BROWSERS, BROWSERS_QUICK = 10_000, 1_000
#: REGISTERs per second of the live pauses, unless the highest clean rate is known.
RATE = 3000.0
#: Seconds for which connected browsers are watched: some pings each.
STAY, STAY_QUICK = 60.0, 15.0
PORT, PORT_WS = 27081, 27082


@dataclass(frozen=True, slots=True)
class Chosen:
    """What a part is to measure: a compiled build, less of it, at what rate."""

    site: Path | None
    quick: bool
    rate: float


def of_build(part: str, chosen: Chosen) -> str:
    """The report of a part on a compiled build, or on the checkout."""
    options = ["--rate", str(chosen.rate), *(["--quick"] if chosen.quick else [])]
    options += ["--site", str(chosen.site)] if chosen.site else []
    return run_with(chosen.site, "bench.scale", part, *options)


def frozen() -> None:
    """As the started PBX has it."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


def resident() -> int:
    """Bytes of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def each(operation: Callable[[], None], count: int) -> float:
    """CPU microseconds for one, in the best of several rounds."""
    best = float("inf")
    for _ in range(5):
        began = time.process_time()
        for _ in range(count):
            operation()
        best = min(best, (time.process_time() - began) / count)
    return best * 1e6


def start(chosen: Chosen) -> str:
    """A start with many bindings."""
    with tempfile.TemporaryDirectory(prefix="pbx-bench-") as name:
        folder = Path(name)
        url = f"sqlite:{folder}/pbx.db"
        fill_pbx(PROJECT, url, 10_000, DOMAIN, PASSWORD, PORT)
        store(url, STORED)
        found: list[float] = []
        for _ in range(1 if chosen.quick else 3):
            server = PBX(folder, PORT, url, PORT + 5, site=chosen.site)
            began = time.monotonic()
            server.start()
            found.append(time.monotonic() - began)
            server.stop()
    return (
        f"Start to the first answer, {STORED} bindings and 10,000 subscribers in SQLite: "
        f"{min(found):.1f} s (of {', '.join(f'{one:.1f}' for one in found)})"
    )


def flat(chosen: Chosen) -> str:
    """Cost by number of bindings."""
    lines = [
        "| bindings | REGISTER (401, 200), us | call, us | bytes per binding |",
        "|---|---|---|---|",
    ]
    with driver(1000) as made:
        have = 1000
        for size in SIZES[:-1] if chosen.quick else SIZES:
            before, had = resident(), have
            expires = int(made.clock.seconds()) + 100_000
            made.registrar._restore(rows(have, size, expires), expires)
            have = max(have, size)
            frozen()
            grown = resident() - before
            per = f"{grown / (have - had):.0f}" if have > had else "-"
            register, call = each(made.register, 1000), each(made.call, 300)
            lines.append(
                f"| {made.registrar.location.contacts} | {register:.0f} | {call:.0f} | {per} |"
            )
            gc.unfreeze()
    lines.append("\nBoth ends in one process, the phones' digest included.")
    return "\n".join(lines)


def pause(chosen: Chosen) -> str:
    """The longest turn under many registrations: counted in this process, and live."""
    with driver(10_000) as made:
        expires = int(made.clock.seconds()) + 100_000
        made.registrar._restore(rows(0, STORED - 10_000, expires), expires)
        frozen()
        made.write_elsewhere()
        turns: list[float] = []
        made.watch(turns)
        made.pace, made.turn = 0.0002, 10
        for _ in range(20_000):
            made.register()
    turns.sort()
    return (
        f"Turns of the reactor (CPU time, in one process) at 5,000 REGISTER/s with {STORED} "
        f"bindings, rows written behind included: longest {turns[-1] * 1e3:.1f} ms, 99.9 % within "
        f"{turns[len(turns) * 999 // 1000] * 1e3:.1f} ms\n\n"
        + pauses(chosen.site, chosen.rate, 5.0 if chosen.quick else 15.0)
    )


def fanout(chosen: Chosen) -> str:
    """One change, many watchers."""
    with driver(WATCHERS, presence={"watcher_burst": 100_000}) as made:
        target = f"sip:u000000@{DOMAIN}"
        for at in range(WATCHERS):
            _asked(made, "SUBSCRIBE", target, f"u{at:06d}", "Event: presence\r\nExpires: 3600\r\n")
        made.wire.sent.clear()
        frozen()
        turns: list[float] = []
        made.watch(turns)
        body = (
            '<?xml version="1.0"?><presence xmlns="urn:ietf:params:xml:ns:pidf" '
            f'entity="{target}"><tuple id="t"><status><basic>open</basic></status></tuple>'
            "</presence>"
        )
        began = time.process_time()
        headers = "Event: presence\r\nExpires: 3600\r\nContent-Type: application/pidf+xml\r\n"
        _asked(made, "PUBLISH", target, "u000000", headers, body)
        sent = _notified(made)
        for _ in range(300):
            if sent >= WATCHERS:
                break
            made.clock.advance(0.01)
            sent += _notified(made)
        spent = time.process_time() - began
    return (
        f"One PUBLISH, {sent} NOTIFYs of {WATCHERS} watchers and their answers: "
        f"{spent * 1e3:.0f} ms of CPU, {spent / max(sent, 1) * 1e6:.0f} us each, "
        f"longest turn {max(turns) * 1e3:.1f} ms"
    )


def _notified(made: Driver) -> int:
    """Answer the NOTIFYs that left; how many there were."""
    sent, made.wire.sent = made.wire.sent, []
    count = 0
    for data, peer in sent:
        if data.startswith(b"NOTIFY "):
            count += 1
            made.put(peer, response(data, "200 OK"))
    return count


def _asked(made: Driver, method: str, uri: str, user: str, headers: str, body: str = "") -> None:
    """A request with credentials; NOTIFYs that come of it are answered or left on the wire."""
    serial = made.serial()
    text = (
        f"{method} {uri} SIP/2.0\r\n"
        f"Via: SIP/2.0/UDP {PHONE[0]}:{PHONE[1]};branch=z9hG4bK-{serial}-%d;rport\r\n"
        f"Max-Forwards: 70\r\nFrom: <sip:{user}@{DOMAIN}>;tag={serial}\r\nTo: <{uri}>\r\n"
        f"Call-ID: {serial}-watch\r\nCSeq: %d {method}\r\n"
        f"Contact: <sip:{user}@{PHONE[0]}:{PHONE[1]}>\r\n{headers}%s"
        f"Content-Length: {len(body)}\r\n\r\n{body}"
    )
    [(challenge, _)] = made.put(PHONE, (text % (0, 1, "")).encode())
    header = f"Proxy-Authorization: {answer_to(challenge, user, method, uri)}\r\n"
    sent = made.put(PHONE, (text % (5, 2, header)).encode())
    answers = [data for data, _ in sent if data.startswith(b"SIP/2.0 2")]
    assert answers, sent
    kept = [one for one in sent if one[0].startswith(b"NOTIFY ")]
    if method == "PUBLISH":
        made.wire.sent.extend(kept)
    for data, peer in kept if method != "PUBLISH" else ():
        made.put(peer, response(data, "200 OK"))


def browsers(chosen: Chosen) -> str:
    """Many connections in one process."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    wanted = min(BROWSERS_QUICK if chosen.quick else BROWSERS, hard - 200)
    with tempfile.TemporaryDirectory(prefix="pbx-bench-") as name:
        folder = Path(name)
        url = f"sqlite:{folder}/pbx.db"
        fill_pbx(PROJECT, url, wanted, DOMAIN, PASSWORD, PORT)
        more: dict[str, dict[str, object]] = {"transport": {"max_connections": wanted + 100}}
        listen = [f"ws:127.0.0.1:{PORT_WS}"]
        server = PBX(folder, PORT, url, PORT + 5, listen=listen, site=chosen.site, more=more)
        server.start()
        try:
            stay = STAY_QUICK if chosen.quick else STAY
            return asyncio.run(_connected(server, wanted, stay))
        finally:
            server.stop()


async def _connected(server: PBX, wanted: int, stay: float) -> str:
    pids = server.pids()
    before, cpu = pss_bytes(pids[0]), cpu_seconds(pids)
    crowd, found = await gather(wanted, PORT_WS)
    took = cpu_seconds(pids) - cpu
    await asyncio.sleep(5)
    each = (pss_bytes(pids[0]) - before) / max(crowd.registered, 1)
    cpu, pings = cpu_seconds(pids), crowd.pings
    await asyncio.sleep(stay)
    busy = (cpu_seconds(pids) - cpu) / stay * 100
    pings = crowd.pings - pings
    closed = crowd.closed
    for browser in found:
        browser.close()
    faults = f" ({crowd.faults})" if crowd.faults else ""
    return (
        f"{crowd.registered} of {wanted} browsers connected and registered in "
        f"{crowd.seconds:.0f} s{faults}: {took / max(crowd.registered, 1) * 1e6:.0f} us of CPU and "
        f"{each / 1024:.1f} kB each; then {busy:.1f} % of a core for {pings} pings in "
        f"{stay:.0f} s, {closed} lost"
    )


def wake(chosen: Chosen) -> str:
    """An operation after a pause, and what the wake-up alone costs."""
    paused = pauses_between(frozen)
    return (
        f"CPU us per operation, both ends in one process:\n\n{paused}\n\n"
        f"CPU us of a datagram that nobody looks into:\n\n{echoes()}"
    )


def main(arguments: Sequence[str]) -> int:
    """Print what was measured."""
    parser = argparse.ArgumentParser(description="Measure at scale.")
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--site", type=Path)
    parser.add_argument("--quick", action="store_true", help="less of it")
    parser.add_argument("--rate", type=float, default=RATE, help="REGISTERs per second of pause")
    found = parser.parse_args(arguments)
    measure = {
        "start": start,
        "flat": flat,
        "pause": pause,
        "fanout": fanout,
        "browsers": browsers,
        "wake": wake,
    }[found.part]
    print(measure(Chosen(found.site, found.quick, found.rate)), flush=True)
    print(f"{found.part}: measured on {platform.platform()}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
