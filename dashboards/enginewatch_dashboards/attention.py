"""What a person should look at: findings, failed cases and limits, in order of need. Pure."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from enginewatch_ci.policy import Limits
from enginewatch_dashboards import format as fmt
from enginewatch_dashboards.reasons import Cause
from enginewatch_db.model import FindingKind, Severity

Row = dict[str, Any]

MAX_ITEMS = 8
SHOWN_INFO = (FindingKind.BOTTLENECK, FindingKind.CHANGE_POINT)
"""Kinds that are worth a line although nothing is wrong."""

LIMITS: dict[str, tuple[str, str]] = {
    "latency_p99_ms": ("p99 latency below {limit} ms", "limit_ms"),
    "tokens_vs_baseline": ("tokens/s not below the baseline", ""),
    "sm_active_pct": ("SM activity above {limit} %", "limit_pct"),
    "dram_bw_max_pct": ("memory bandwidth within spec (at most {limit} % of peak)", "limit_pct"),
    "tensor_active_pct": ("compute near peak (tensor pipes above {limit} %)", "limit_pct"),
    "accuracy": ("outputs as close to fp32 as the precision allows", ""),
}
"""Limit → words, and where its value stands in the evidence; before a judgement it is the policy's own."""
STATES = ("breached", "not_evaluable", "met")
"""States of a limit, the one that matters most first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One line of the list.

    Attributes:
        severity: How much attention it needs.
        title: One line.
        remedy: What to try; ``None`` where nothing is known.
        case_key: The case; ``None`` for a whole session.
        metric: The metric; ``None`` where none.
        run_id: The run; ``None`` for more than one.
    """

    severity: Severity
    title: str
    remedy: str | None = None
    case_key: str | None = None
    metric: str | None = None
    run_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitLine:
    """One of the five limits over the cases of the sessions that are shown.

    Attributes:
        name: Words with the limit's value.
        state: Its most urgent state among the cases; ``None`` when it was not judged.
        counts: State → cases.
        told: The finding behind ``state``, or what to do.
        reason: Why the limit cannot be evaluated, without the case; empty where it can.
    """

    name: str
    state: str | None
    counts: dict[str, int]
    told: str
    reason: str = ""


def items(findings: Sequence[Row], cases: Sequence[Row], causes: Sequence[Cause] = ()) -> list[Item]:
    """Return the lines, worst first: failed cases that no finding names, what spoils many runs, then findings."""
    named = {row["case_key"] for row in findings if row["severity"] == Severity.CRITICAL}
    failed = [
        Item(
            severity=Severity.CRITICAL,
            title=f"{case['case_key']} failed: {case['failure_message']}",
            remedy=case["failure_remedy"],
            case_key=case["case_key"],
            run_id=case["failed_run"],
        )
        for case in cases
        if case["n_failed"] and case["case_key"] not in named
    ]
    runs = {case["case_key"]: case["failed_run"] for case in cases}
    found = [
        Item(
            severity=Severity(row["severity"]),
            title=row["title"],
            remedy=row["remedy"],
            case_key=row["case_key"],
            metric=row["metric"],
            run_id=row["run_id"] or runs.get(row["case_key"]),
        )
        for row in findings
        if _is_shown(row)
    ]
    spoilt = [Item(severity=Severity.WARNING, title=cause.told, remedy=cause.remedy) for cause in causes]
    order = list(Severity)
    return sorted([*failed, *spoilt, *found, *_breached(findings)], key=lambda item: order.index(item.severity))


def _breached(findings: Sequence[Row]) -> list[Item]:
    """Return one line for each limit that is breached without being a warning; a warning has a line for each case."""
    by_limit: dict[str, list[Row]] = {}
    for row in findings:
        if row["kind"] == FindingKind.THRESHOLD and row["severity"] == Severity.INFO and row["state"] != "closed":
            by_limit.setdefault(row["detector"].removeprefix("limit."), []).append(row)
    found = []
    for rows in by_limit.values():
        broken = [row for row in rows if _proof(row).get("state") == "breached"]
        if broken:
            first, many = broken[0], len(broken) > 1
            more = f" (and {fmt.count(len(broken) - 1, 'more case')} of {len(rows)})" if many else ""
            found.append(
                Item(
                    severity=Severity.INFO,
                    title=f"{first['title']}{more}",
                    remedy=first["remedy"],
                    case_key=first["case_key"],
                    metric=first["metric"],
                    run_id=first["run_id"],
                )
            )
    return found


def _proof(row: Row) -> Row:
    found: Row = json.loads(row["evidence"] or "{}")
    return found


def _is_shown(row: Row) -> bool:
    return row["state"] != "closed" and (row["severity"] != Severity.INFO or row["kind"] in SHOWN_INFO)


def limit_lines(findings: Sequence[Row]) -> list[LimitLine]:
    """Return the limits in their order, each with its most urgent state."""
    by_limit: dict[str, list[Row]] = {name: [] for name in LIMITS}
    for row in findings:
        if row["kind"] == FindingKind.THRESHOLD:
            by_limit.setdefault(row["detector"].removeprefix("limit."), []).append(row)
    return [_limit_line(name, rows) for name, rows in by_limit.items()]


def collapsed(lines: Sequence[LimitLine]) -> list[LimitLine]:
    """Return the lines with those that cannot be evaluated for one and the same reason as one line, at the end."""
    silent: dict[str, list[LimitLine]] = {}
    for line in lines:
        if line.state == STATES[1] and len(line.counts) == 1 and line.reason:
            silent.setdefault(line.reason, []).append(line)
    merged = [
        replace(members[0], name="; ".join(line.name for line in members), told=reason)
        for reason, members in silent.items()
        if len(members) > 1
    ]
    gone = {id(line) for members in silent.values() if len(members) > 1 for line in members}
    return [*(line for line in lines if id(line) not in gone), *merged]


def _limit_line(name: str, rows: Sequence[Row]) -> LimitLine:
    words, where = LIMITS.get(name, (name, ""))
    evidence = [_proof(row) for row in rows]
    value = next((proof[where] for proof in evidence if where in proof), getattr(Limits(), name, None))
    told_name = words.format(limit="" if value is None else f"{value:g}")
    if not rows:
        return LimitLine(name=told_name, state=None, counts={}, told="")
    counts = Counter(str(proof.get("state", "breached")) for proof in evidence)
    state = next((state for state in STATES if counts[state]), STATES[1])
    worst, proof = next(
        pair for pair in zip(rows, evidence, strict=True) if str(pair[1].get("state", "breached")) == state
    )
    reason = str(proof.get("reason", "")) if state == STATES[1] else ""
    return LimitLine(name=told_name, state=state, counts=dict(counts), told=worst["title"], reason=reason)
