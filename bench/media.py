"""What bridged calls cost: browsers and phones in pairs, 50 packets a second each way.

    python -m bench.media [--calls N] [--seconds N]

One process plays all of them with real DTLS, SRTP and G.711. CPU is that of the PBX while the calls
stand. Nothing may be lost: sequence numbers are compared on both sides.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

from bench.measure import cpu_seconds
from tests.integration.harness import PBX, until
from tests.integration.media import Lab, RTPBrowser, RTPPhone, connect, hears
from tests.integration.phone import Datagrams, Phone, WebSocket


def lost(packets: list[bytes], last: int) -> tuple[int, int]:
    """How many are missing between the first that came and the last that was sent; and the sum."""
    numbers = [int.from_bytes(one[2:4], "big") for one in packets if len(one) == 172]
    if not numbers:
        return last, last
    expected = ((last - numbers[0]) & 0xFFFF) + 1
    return expected - len(set(numbers)), expected


def offer(server: PBX, calls: int, seconds: float) -> bool:
    """The table on standard output; whether nothing was lost."""
    alice = Phone("alice", WebSocket(server.host, server.ports["ws"]))
    bob = Phone("bob", Datagrams(server.host, server.ports["udp"]))
    alice.register()
    bob.register()
    lab = Lab()
    assert server.process is not None
    pids = [server.process.popen.pid]
    cpu, began = cpu_seconds(pids), time.monotonic()
    pairs = [(RTPBrowser(400), RTPPhone(1000)) for _ in range(calls)]
    dialogs = [connect(lab, alice, bob, browser, desk) for browser, desk in pairs]
    until(lambda: all(hears(desk, 400) for _, desk in pairs), "everybody hears", 60)
    setup = cpu_seconds(pids) - cpu
    print(f"{calls} calls set up in {time.monotonic() - began:.1f} s, {setup:.2f} s of CPU")
    cpu, began = cpu_seconds(pids), time.monotonic()
    while time.monotonic() < began + seconds:
        # The WebSocket wants its pings answered.
        assert alice.silent(1.0)
    each = (cpu_seconds(pids) - cpu) / (time.monotonic() - began) / calls

    def pause() -> None:
        for browser, desk in pairs:
            browser.talking = desk.talking = False

    lab.do(pause)
    time.sleep(1.0)
    missing = total = 0
    for browser, desk in pairs:
        for gone, expected in (
            lost(browser.peer.rtp, desk._number),
            lost(desk.packets, browser.peer._number),
        ):
            missing += gone
            total += expected
    for dialog in dialogs:
        alice.send(alice.within(dialog, "BYE"))
        bob.respond(bob.request("BYE"), 200)
        alice.response(200)
    lab.close()
    query = "SELECT COUNT(*), MAX(jitter), MIN(mos) FROM cdr WHERE packets > 0"
    until(lambda: server.sql(query)[0][0] == calls, "the cdr", 20)
    ((_, jitter, mos),) = server.sql(query)
    print("| calls | seconds | packets | lost | CPU per call | worst jitter | worst score |")
    print("|---|---|---|---|---|---|---|")
    print(
        f"| {calls} | {seconds:.0f} | {total} | {missing} | {100 * each:.2f} % of a core |"
        f" {jitter:.1f} ms | {mos:.2f} |"
    )
    print(f"(the peers were up to {1000 * lab.late:.0f} ms late themselves)")
    return missing == 0


def measure(calls: int, seconds: float) -> int:
    """Print the table; exit status 0 when nothing was lost."""
    folder = Path(tempfile.mkdtemp(prefix="pbx-bench-"))
    server = PBX(folder, {"auth": {"nonce_expire": 600}})
    try:
        server.start()
        for user in ("alice", "bob"):
            server.add_user(user)
        until(lambda: server.mi("auth_knows", "bob@pbx.test"), "the users are known", 10)
        return 0 if offer(server, calls, seconds) else 1
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    """As the arguments say."""
    parser = argparse.ArgumentParser(description="What bridged calls cost.")
    parser.add_argument("--calls", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=30.0)
    arguments = parser.parse_args()
    return measure(arguments.calls, arguments.seconds)


if __name__ == "__main__":
    sys.exit(main())
