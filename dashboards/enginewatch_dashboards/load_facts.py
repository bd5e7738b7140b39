"""What a load run says about its load, its client, its steadiness and its goodput, in sentences. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from enginewatch_dashboards import format as fmt
from enginewatch_dashboards.checklist import Grade
from enginewatch_dashboards.load_words import said, slo_of, slo_words

Row = Mapping[str, Any]

CLIENT_CODES, STEADY_CODES = frozenset({"client_bound"}), frozenset({"load_not_steady", "not_steady"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One line about a load run.

    Attributes:
        title: What it is about.
        told: What is known, or why nothing is.
        grade: What it says about the run; ``None`` where it is no judgement.
    """

    title: str
    told: str
    grade: Grade | None = None


def load_facts(metrics: Sequence[Row], reasons: Sequence[Row], identity: Mapping[str, Any]) -> list[Fact]:
    """Return what is known: the load, the client, the steady state, the goodput.

    Args:
        metrics: Rows of the query ``run_metrics``.
        reasons: Rows of the query ``run_reasons``.
        identity: The series' identity.
    """
    rows = {row["metric"]: row for row in metrics}
    details = {row["code"]: row["detail"] or row["code"].replace("_", " ") for row in reasons}
    return [
        _load(identity),
        _client(rows, details),
        _steady(rows, details),
        _goodput(rows, slo_of(identity)),
    ]


def _load(identity: Mapping[str, Any]) -> Fact:
    load = identity.get("load") or {}
    mode = load.get("mode", "closed")
    if mode == "closed":
        parts = [f"closed loop of {fmt.count(int(load.get('concurrency') or 1), 'stream')}"]
    else:
        parts = [f"{mode} arrivals" + (f" at {said('rate_mrps', rate)}" if (rate := load.get("rate_mrps")) else "")]
    if load.get("isl") and load.get("osl"):
        parts.append(f"{load['isl']} → {load['osl']} tokens")
    known = ("mode", "concurrency", "rate_mrps", "isl", "osl")
    parts += [said(name, value) for name, value in load.items() if name not in known and value]
    return Fact(title="Load", told=", ".join(parts))


def _value(rows: Mapping[str, Row], metric: str, words: str) -> str | None:
    row = rows.get(metric)
    return None if row is None or row["value"] is None else f"{words} {fmt.quantity(metric, row['value'], 3)}"


def _why(rows: Mapping[str, Row], metrics: Sequence[str], otherwise: str) -> str:
    reasons = [row["absent_reason"] for name in metrics if (row := rows.get(name)) and row["absent_reason"]]
    return reasons[0] if reasons else otherwise


def _processes(n: int) -> str:
    return "one process" if n == 1 else f"{n} processes"


def _client(rows: Mapping[str, Row], details: Mapping[str, str]) -> Fact:
    asked = ("client_cpu_pct", "loop_lateness_p99_ms", "send_lateness_p99_ms", "client_processes")
    row = rows.get("client_processes")
    count = None if row is None or row["value"] is None else _processes(int(row["value"]))
    parts = [
        _value(rows, "client_cpu_pct", "busiest process at"),
        _value(rows, "loop_lateness_p99_ms", "event loop late by p99"),
        _value(rows, "send_lateness_p99_ms", "sends late by p99"),
        count,
    ]
    told = ", ".join(part for part in parts if part)
    bound = next((details[code] for code in CLIENT_CODES if code in details), None)
    if bound is not None:
        return Fact(
            title="Client", told="; ".join(filter(None, (f"it was the bottleneck: {bound}", told))), grade=Grade.BAD
        )
    if not told:
        why = _why(rows, asked, "the client's own work was not measured")
        return Fact(title="Client", told=f"unknown: {why}", grade=Grade.UNKNOWN)
    return Fact(title="Client", told=told, grade=Grade.GOOD)


def _steady(rows: Mapping[str, Row], details: Mapping[str, str]) -> Fact:
    parts = [
        _value(rows, "requests_in_flight", "in flight on average"),
        _value(rows, "little_law_ratio", "Little's law gives"),
        _value(rows, "load_drift_pct", "E2E drifted by"),
    ]
    told = ", ".join(part for part in parts if part)
    broken = next((details[code] for code in STEADY_CODES if code in details), None)
    if broken is not None:
        return Fact(title="Steady state", told="; ".join(filter(None, (f"none: {broken}", told))), grade=Grade.BAD)
    if not told:
        why = _why(rows, ("little_law_ratio", "load_drift_pct"), "it was not tested")
        return Fact(title="Steady state", told=f"unknown: {why}", grade=Grade.UNKNOWN)
    return Fact(title="Steady state", told=told, grade=Grade.GOOD)


def _goodput(rows: Mapping[str, Row], slo: Mapping[str, float]) -> Fact:
    limits = slo_words(slo)
    share, rate = rows.get("goodput_pct"), rows.get("goodput_requests_s")
    if share is None or share["value"] is None:
        why = _why(rows, ("goodput_pct", "goodput_requests_s"), "no SLO was declared")
        return Fact(title="Goodput", told=f"not counted: {why}" + (f" ({limits})" if limits else ""),
                    grade=Grade.UNKNOWN)  # fmt: skip
    ends = fmt.interval(share["ci_low"], share["ci_high"], 3)
    told = f"{fmt.quantity('goodput_pct', share['value'])} {ends}".rstrip() + " of requests met "
    told += limits or "the SLO (its limits were not stored)"
    if rate is not None and rate["value"] is not None:
        told += f": {fmt.quantity('goodput_requests_s', rate['value'])}"
    return Fact(title="Goodput", told=told)
