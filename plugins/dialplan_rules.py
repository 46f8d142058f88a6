"""The rows of ``dialplan``: what matches, and what becomes of it. No I/O."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from fnmatch import translate as fnmatch_pattern
from typing import Final

from twisted.logger import Logger

from pbx.rows import column, left_out, whole
from plugins.dialplan_patterns import check_pattern, compile_template, expand
from plugins.timerec import Schedule, parse

EQUAL, REGEX, FNMATCH = 0, 1, 2
IGNORE_CASE: Final = 1
#: Columns in the order that `make_plans` takes them.
COLUMNS: Final = (
    "id, dpid, pr, match_op, match_exp, match_flags, subst_exp, repl_exp, timerec, disabled, attrs"
)
log = Logger()


class Rule:
    """One row. ``order`` is its place among all rules of its plan."""

    __slots__ = ("_pattern", "_subst", "_template", "attrs", "expression", "order", "schedule")

    def __init__(
        self,
        expression: str,
        pattern: re.Pattern[str] | None,
        subst: re.Pattern[str] | None,
        template: tuple[str | int, ...] | None,
        attrs: str,
        schedule: Schedule | None,
    ) -> None:
        self.expression = expression
        self.attrs = attrs
        self.schedule = schedule
        self.order = 0
        self._pattern = pattern
        self._subst = subst
        self._template = template

    def matches(self, text: str) -> bool:
        """Whether its pattern is found in the text."""
        return self._pattern is not None and self._pattern.search(text) is not None

    def output(self, text: str) -> str | None:
        """What becomes of a text that it matches; None when ``subst_exp`` finds nothing."""
        if self._template is None:
            return text
        if self._subst is None:
            return expand(self._template, None)
        found = self._subst.search(text)
        return None if found is None else expand(self._template, found)


class Plan:
    """The rules of one dpid."""

    __slots__ = ("_equal", "_folded", "_patterns")

    def __init__(self, rules: Iterable[tuple[int, int, Rule]]) -> None:
        """``rules`` are match_op, match_flags and the rule, in the order of pr and id."""
        self._equal: dict[str, list[Rule]] = {}
        self._folded: dict[str, list[Rule]] = {}
        self._patterns: list[Rule] = []
        for order, (operator, flags, rule) in enumerate(rules):
            rule.order = order
            if operator != EQUAL:
                self._patterns.append(rule)
            elif flags & IGNORE_CASE:
                self._folded.setdefault(rule.expression.casefold(), []).append(rule)
            else:
                self._equal.setdefault(rule.expression, []).append(rule)

    def find(self, text: str, now: float, longest: int) -> Rule | None:
        """The first rule that matches now; patterns see no text that is longer than ``longest``."""
        best = _first(self._equal.get(text, ()), now)
        if self._folded:
            folded = _first(self._folded.get(text.casefold(), ()), now)
            if folded is not None and (best is None or folded.order < best.order):
                best = folded
        if len(text) > longest:
            return best
        for rule in self._patterns:
            if best is not None and best.order < rule.order:
                break
            if rule.matches(text) and (rule.schedule is None or rule.schedule(now)):
                return rule
        return best


def _first(rules: Sequence[Rule], now: float) -> Rule | None:
    for rule in rules:
        if rule.schedule is None or rule.schedule(now):
            return rule
    return None


def make_plans(rows: Sequence[Sequence[object]], longest: int) -> tuple[dict[int, Plan], int]:
    """Plans by dpid and how many rules they have; bad rows are left out, with a log line."""
    found: dict[int, list[tuple[int, int, int, int, Rule]]] = {}
    for row in rows:
        try:
            if whole("disabled", row[9]):
                continue
            id, dpid = whole("id", row[0]), whole("dpid", row[1])
            priority = whole("pr", row[2])
            operator, flags = whole("match_op", row[3]), whole("match_flags", row[5])
            rule = make_rule(
                operator,
                str(row[4] or ""),
                flags,
                *(str(value or "") for value in (row[6], row[7], row[8], row[10])),
                longest=longest,
            )
        except ValueError as error:
            left_out("dialplan", row[0], error)
            continue
        found.setdefault(dpid, []).append((priority, id, operator, flags, rule))
    plans: dict[int, Plan] = {}
    for dpid, rules in found.items():
        rules.sort(key=lambda entry: entry[:2])
        plans[dpid] = Plan(entry[2:] for entry in rules)
    return plans, sum(map(len, found.values()))


def make_rule(
    operator: int,
    expression: str,
    flags: int,
    subst: str,
    replacement: str,
    timerec: str,
    attrs: str,
    *,
    longest: int,
) -> Rule:
    """A rule from the values of its columns. Raises ValueError with what is wrong."""
    case = re.IGNORECASE if flags & IGNORE_CASE else 0
    pattern: re.Pattern[str] | None = None
    if operator == REGEX:
        with column("match_exp"):
            pattern = check_pattern(expression, case, longest)
    elif operator == FNMATCH:
        pattern = re.compile(rf"\A{fnmatch_pattern(expression)}", case)
    elif operator != EQUAL:
        raise ValueError(f"match_op {operator}: 0 equal, 1 regular expression, 2 file name pattern")
    with column("subst_exp"):
        found = check_pattern(subst, case, longest) if subst else None
    # "\1" of a rule without subst_exp means a group of its match_exp.
    template = compile_template(replacement) if replacement else None
    used = max((part for part in template or () if isinstance(part, int)), default=-1)
    if found is None and used >= 0 and operator == REGEX:
        found = pattern
    if used > (found.groups if found is not None else -1):
        raise ValueError(f"repl_exp {replacement!r}: there is no group {used}")
    return Rule(expression, pattern, found, template, attrs, parse(timerec))
