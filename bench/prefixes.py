"""What a PSTN look-up costs with 100,000 rows in dr_rules: ``python -m bench.prefixes``."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Iterator

from pbx.sip.uri import URI
from plugins.drouting_table import Prefixes, add_rules, expand, make_carriers, make_gateways

RULES = 100_000
LOOKUPS = 100_000
#: What the product promises for one look-up.
LIMIT_US = 20.0


def prefixes(count: int) -> Iterator[str]:
    """Different prefixes of 1 to 9 digits, as rate sheets have them."""
    seen: set[str] = set()
    while len(seen) < count:
        prefix = str(random.randrange(1, 10 ** random.choice((3, 4, 5, 6, 7, 8, 9))))
        if prefix not in seen:
            seen.add(prefix)
            yield prefix


def measure(rules: int = RULES, lookups: int = LOOKUPS) -> tuple[float, float, float]:
    """Seconds to prepare the rows; microseconds per prefix search; per search and gateway list."""
    random.seed(1)
    gateways = make_gateways(
        (f"gw{at}", 0, f"192.0.2.{at}", 0, "", "", 0, 0, "") for at in range(10)
    )
    carriers = make_carriers((("c", "gw1=50,gw2=50", 0, "W", 0, ""),), 3)
    rows = [
        (at, "0", prefix, None, 0, "#c,gw3,gw4", "N", None, None)
        for at, prefix in enumerate(prefixes(rules))
    ]
    groups: dict[int, Prefixes] = {}
    began = time.process_time()
    add_rules(groups, rows, True, "")
    prepared = time.process_time() - began
    numbers = [str(random.randrange(10**9, 10**14)) for _ in range(lookups)]
    table, now = groups[0], 1_790_000_000.0
    began = time.process_time()
    for number in numbers:
        table.find(number, now)
    search = (time.process_time() - began) / lookups * 1e6
    uris = [URI.parse(f"sip:+{number}@pbx.test") for number in numbers]
    began = time.process_time()
    for uri in uris:
        rule = table.find(uri.user.removeprefix("+"), now)
        if rule is not None:
            expand(rule, gateways, carriers)
    whole = (time.process_time() - began) / lookups * 1e6
    return prepared, search, whole


def main() -> int:
    """Print the figures; status 1 when they are worse than promised."""
    prepared, search, whole = measure()
    print(f"dr_rules: {RULES} rows prepared in {prepared:.2f} s")
    print(f"longest prefix: {search:.2f} us, with the list of gateways: {whole:.2f} us per number")
    return int(search > LIMIT_US)


if __name__ == "__main__":
    sys.exit(main())
