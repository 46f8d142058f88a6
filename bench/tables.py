"""What was compared, as tables for docs/performance.md; ratios are ours to the peer's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median

from bench.compare import Results, Round, State, Window
from bench.sides import SCENARIOS, USERS


def report(results: Results) -> str:
    """Everything that was measured."""
    parts = (_costs(results), _highest(results), _states(results))
    lines = ["\n".join(part) for part in parts if part]
    lines.append("Written after the rounds: " + "; ".join(results.written) + ".")
    spent = (
        f"{name} {within:.1f} s within, {between:.1f} s between"
        for name, (within, between) in results.spent.items()
    )
    lines.append(
        "CPU in the windows and, for neither side counted, between them: " + "; ".join(spent) + "."
    )
    return "\n\n".join(lines)


def middle(windows: Sequence[Window]) -> Window:
    """The median by all CPU; of an even number the lower of the two."""
    return sorted(windows, key=lambda window: window.total)[(len(windows) - 1) // 2]


def ratios(rounds: Sequence[Round], names: Sequence[str]) -> Sequence[float]:
    """Ours to the peer's in every round that both have done cleanly."""
    if len(names) < 2:
        return ()
    pairs = [(one[names[0]], one[names[1]]) for one in rounds]
    return [a.total / b.total for a, b in pairs if a.clean and b.clean and b.total]


def cell(rounds: Sequence[Round], name: str) -> str:
    """The figure of one side with its spread, or why there is none."""
    windows = [one[name] for one in rounds]
    clean = [window for window in windows if window.clean]
    faults = _faults(windows)
    if not clean:
        return f"not clean: {faults}"
    found = middle(clean)
    text = f"{found.total:.3f} ({found.server:.3f} + {found.database:.3f})"
    if len(clean) > 1:
        totals = [window.total for window in clean]
        text += f", {min(totals):.3f} to {max(totals):.3f}"
    return f"{text}; {len(clean)} of {len(windows)} rounds, the others {faults}" if faults else text


def _faults(windows: Sequence[Window]) -> str:
    counts = {
        "failed": sum(window.failed for window in windows),
        "retransmitted": sum(window.retransmitted for window in windows),
        "rows missing": sum(window.missing for window in windows),
    }
    found = [f"{count} {what}" for what, count in counts.items() if count]
    if slow := sum(not window.reached for window in windows):
        found.append(f"{slow} below the rate")
    return ", ".join(found)


def _costs(results: Results) -> list[str]:
    if not results.rounds:
        return []
    heads = [
        f"{name}: CPU s per 1000 (server + database and cache), from to" for name in results.names
    ]
    lines = _head("operation", "at", *heads, "ratio")
    titles = {scenario.name: scenario.title for scenario in SCENARIOS}
    for (name, rate), begun in results.rounds.items():
        # A run that was broken off has a round that nobody ended.
        rounds = [one for one in begun if len(one) == len(results.names)]
        cells = [cell(rounds, side) for side in results.names]
        lines.append(
            _row(titles[name], f"{rate:.0f}/s", *cells, spread(ratios(rounds, results.names)))
        )
    return lines


def spread(values: Sequence[float]) -> str:
    """The median, and from where to where they are."""
    if not values:
        return "-"
    text = f"{median(values):.2f}"
    return f"{text} ({min(values):.2f} to {max(values):.2f})" if len(values) > 1 else text


def _highest(results: Results) -> list[str]:
    if not results.highest:
        return []
    lines = _head("operation", *(f"{name}: highest clean rate" for name in results.names), "ratio")
    for scenario in SCENARIOS:
        found = [results.highest.get((scenario.name, name)) for name in results.names]
        if found[0] is not None:
            rates = [one.rate if one is not None else 0.0 for one in found]
            lines.append(_row(scenario.title, *map(str, found), _ratio(rates)))
    return lines


_STATES: Sequence[tuple[str, Callable[[State], float], str]] = (
    (f"memory at {USERS:,} registrations (PSS)", lambda state: state.memory / 1e6, "MB"),
    ("of that for the registrations", lambda state: state.grown / 1e6, "MB"),
    ("CPU while idle", lambda state: state.idle * 100, "%"),
)


def _states(results: Results) -> list[str]:
    if len(results.states) < len(results.names):
        return []
    lines = _head("", *results.names, "ratio")
    for title, value, unit in _STATES:
        values = [value(results.states[name]) for name in results.names]
        digits = 2 if unit == "%" else 1
        lines.append(_row(title, *(f"{one:.{digits}f} {unit}" for one in values), _ratio(values)))
    return lines


def _head(*cells: str) -> list[str]:
    return [_row(*cells), "|" + "---|" * len(cells)]


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _ratio(values: Sequence[float]) -> str:
    return f"{values[0] / values[1]:.2f}" if len(values) > 1 and values[1] else "-"
