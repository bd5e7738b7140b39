"""May one trust this run? The stored facts of a run, read as a list of checks. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from enginewatch_dashboards import format as fmt
from enginewatch_db.model import Phase, RunStatus
from enginewatch_db.quantile import MIN_SAMPLES, TAIL_MIN_SAMPLES
from enginewatch_db.validity import REASONS, ValidityEffect

Row = Mapping[str, Any]

LATE_SHARE_WARN = 0.05
"""Share of late ticks from which the telemetry's times are worth a remark (the limit of ``telemetry_gaps``)."""
CLOCK_SPREAD_WARN = 0.02
"""Spread of the SM clock that is called unstable (the limit of ``clocks_unstable``)."""


class Grade(StrEnum):
    """What a check says."""

    GOOD = "good"
    WARN = "warn"
    BAD = "bad"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One line of the checklist.

    Attributes:
        grade: What it says.
        title: What was checked.
        told: What was found.
        remedy: What to do about it; ``None`` where nothing needs doing.
    """

    grade: Grade
    title: str
    told: str
    remedy: str | None = None


def checklist(
    run: Row, metrics: Sequence[Row], reasons: Sequence[Row], phases: Sequence[Row], quality: Mapping[str, Any]
) -> list[Check]:
    """Return the checks of a run, the worst first.

    Args:
        run: Row of the query ``run``.
        metrics: Rows of the query ``run_metrics``.
        reasons: Rows of the query ``run_reasons``.
        phases: Rows of the query ``run_phases``.
        quality: The run's quality block.
    """
    checks = [_ending(run), *(_reason(row) for row in reasons if row["code"] != "run_failed")]
    if run["status"] == RunStatus.OK:
        codes = {row["code"] for row in reasons}
        checks += [
            *_samples(metrics, codes),
            _warm_up(phases),
            _telemetry(quality, codes),
            *_clocks(metrics, codes),
            *_precision(run),
        ]
    checks += _commit(run)
    order = [Grade.BAD, Grade.WARN, Grade.UNKNOWN, Grade.GOOD]
    return sorted(checks, key=lambda check: order.index(check.grade))


def verdict_of(checks: Sequence[Check], *, valid: bool) -> str:
    """Return the answer in a few words."""
    if not valid:
        return "No: it does not count in any verdict"
    care = sum(check.grade is Grade.WARN for check in checks)
    return "Yes" if not care else f"Yes, with care: {fmt.count(care, 'remark')}"


def _ending(run: Row) -> Check:
    if run["status"] == RunStatus.OK:
        return Check(grade=Grade.GOOD, title="Ended well", told="the tool came to its end and wrote its results")
    word = "Failed" if run["status"] == RunStatus.FAILED else "Not available"
    grade = Grade.BAD if run["status"] == RunStatus.FAILED else Grade.UNKNOWN
    return Check(grade=grade, title=word, told=run["failure_message"] or "no message", remedy=run["failure_remedy"])


def _reason(row: Row) -> Check:
    known = REASONS.get(row["code"])
    title = row["code"].replace("_", " ").capitalize()
    told = " ".join(filter(None, (known.description if known else "", f"({row['detail']})" if row["detail"] else "")))
    grade = Grade.BAD if row["effect"] == ValidityEffect.REJECT else Grade.WARN
    return Check(grade=grade, title=title, told=told, remedy=known.remedy if known else None)


def _samples(metrics: Sequence[Row], codes: set[str]) -> list[Check]:
    if codes & {"too_few_samples", "tail_undersampled"}:
        return []
    by_name = {row["metric"]: row for row in metrics}
    row = by_name.get("latency_p50_ms") or by_name.get("itl_p50_ms") or by_name.get("ttft_p50_ms")
    if row is None or row["n"] is None:
        return [Check(grade=Grade.UNKNOWN, title="Samples", told="their number was not stored")]
    n, what = row["n"], "token gaps" if row["metric"].startswith("itl") else "samples"
    if n >= TAIL_MIN_SAMPLES:
        return [Check(grade=Grade.GOOD, title="Samples", told=f"{n:,} {what}: enough for p99")]
    grade = Grade.WARN if n >= MIN_SAMPLES else Grade.BAD
    told = f"{n:,} {what}: p99 rests on {fmt.number(n / 100, 2)} of them"
    return [Check(grade=grade, title="Samples", told=told, remedy="measure longer, or judge the median")]


def _warm_up(phases: Sequence[Row]) -> Check:
    spent = sum(row["end_s"] - row["start_s"] for row in phases if row["phase"] == Phase.WARMUP)
    if spent > 0:
        return Check(grade=Grade.GOOD, title="Warm-up", told=f"{fmt.seconds(spent)} of work before the measuring phase")
    return Check(grade=Grade.UNKNOWN, title="Warm-up", told="none was recorded", remedy="set warmup_s in the plan")


def _telemetry(quality: Mapping[str, Any], codes: set[str]) -> Check:
    achieved, wanted = quality.get("achieved_hz"), quality.get("rate_hz")
    if "telemetry_absent" in codes or achieved is None:
        told = "its quality was not stored" if "telemetry_absent" not in codes else "none covers this run"
        return Check(grade=Grade.UNKNOWN, title="Telemetry", told=told)
    late, made, gaps = quality.get("late_ticks") or 0, quality.get("ticks_made") or 0, quality.get("gaps") or 0
    told = f"{fmt.number(achieved, 3)} Hz" + (f" of {fmt.number(wanted, 3)} Hz asked for" if wanted else "")
    told += f", {fmt.count(gaps, 'gap')}" + (f", {late} of {made} ticks late" if made else "")
    if longest := quality.get("max_gap_ms"):
        told += f", longest pause {fmt.seconds(longest / 1e3)}"
    grade = Grade.WARN if made and late > LATE_SHARE_WARN * made else Grade.GOOD
    return Check(grade=grade, title="Telemetry", told=told)


def _clocks(metrics: Sequence[Row], codes: set[str]) -> list[Check]:
    values = {row["metric"]: row["value"] for row in metrics}
    mean, low = values.get("sm_clock_mean_mhz"), values.get("sm_clock_min_mhz")
    if not mean or not low or "clocks_unstable" in codes:
        return []
    spread = (mean - low) / mean
    told = f"SM clock {mean:.0f} MHz, never below {low:.0f} MHz"
    grade = Grade.WARN if spread > CLOCK_SPREAD_WARN else Grade.GOOD
    return [Check(grade=grade, title="Clocks", told=told, remedy="lock the clocks" if grade is Grade.WARN else None)]


def _precision(run: Row) -> list[Check]:
    wanted, got = run["precision"], run["realised_precision"]
    if got is None:
        return [Check(grade=Grade.UNKNOWN, title="Precision", told=f"{wanted} was asked for; the tool does not tell")]
    told = f"{got}, as asked for" if got == wanted else f"{wanted} was asked for, {got} was built"
    return [Check(grade=Grade.GOOD if got == wanted or wanted == "best" else Grade.WARN, title="Precision", told=told)]


def _commit(run: Row) -> list[Check]:
    if not run["git_dirty"]:
        return []
    told = "the repository had changes that no commit holds"
    return [Check(grade=Grade.WARN, title="Commit", told=told, remedy="commit them before measuring")]
