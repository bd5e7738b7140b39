"""What a load test found: frontier, knee or SLO limit, what does not count and what to do, for people and machines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from enginewatch_db.metrics import METRICS, MetricKind
from enginewatch_db.model import RunRecord
from enginewatch_harness.commands.load_cases import HARMLESS_SHARE, value_of
from enginewatch_harness.commands.load_rows import Row, number, operating_points
from enginewatch_harness.load.calibrate import Limit
from enginewatch_harness.load.frontier import Located, Placed, frontier
from enginewatch_harness.load.knee import Knee, NoKnee
from enginewatch_harness.load.search import KneeSearch, LevelVerdict, SloAnswer, SloSearch
from enginewatch_harness.troubles import reason_lines

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What the test was and what it brought.

    Attributes:
        rows: The levels with their runs.
        by_rate: Levels are requests per second.
        search: The search, where there was one.
        knee: The knee of a ladder or of a search; ``None`` where it was not asked for and has too few levels.
        slo: Objective → ms.
        slo_share: Share of requests that must meet them, in percent.
    """

    rows: tuple[Row, ...]
    by_rate: bool
    search: KneeSearch | SloSearch | None
    knee: Knee | NoKnee | None
    slo: dict[str, float]
    slo_share: float

    @property
    def unit(self) -> str:
        """What a level counts."""
        return "req/s" if self.by_rate else "streams"


def _counted(level: float, unit: str) -> str:
    return f"1 {unit.removesuffix('s')}" if level == 1 and unit != "req/s" else f"{level:g} {unit}"


def interval(found: Located) -> str:
    """Return a value with its interval, where there is one."""
    if found.low is None or found.high is None:
        return number(found.value)
    return f"{number(found.value)} [{number(found.low)}, {number(found.high)}]"


def frontier_lines(found: Found) -> list[str]:
    """Return the frontier in words, one line a level."""
    placed = frontier(operating_points(found.rows))
    if len(placed) < 2:
        return []
    lines = ["Throughput against interactivity (95 % intervals over runs):"]
    for item in placed:
        point = item.point
        lines.append(
            f"  {_counted(point.level, found.unit)}: {interval(point.throughput)} tok/s, "
            f"{interval(point.interactivity)} tok/s/user{_place(item, found.unit)}"
        )
    return lines


def _place(item: Placed, unit: str) -> str:
    if item.dominated_by is None:
        return ""
    other = _counted(item.dominated_by, unit)
    if item.clear:
        return f" – dominated: more of both at {other}"
    return f" – no better than {other} in either, within the noise"


def knee_lines(found: Found) -> list[str]:
    """Return the answer about the knee."""
    knee, search = found.knee, found.search
    if knee is None:
        return []
    if isinstance(knee, NoKnee):
        return [f"No knee: {knee.why}."]
    lines = [
        f"Knee: {number(knee.load, 3)} {found.unit} [{number(knee.ci_low, 3)}, {number(knee.ci_high, 3)}], where "
        f"throughput levels off near {number(knee.throughput)} {'req/s' if found.by_rate else 'tok/s'}; it grows as "
        f"load^{knee.slope_before:.2f} before and load^{knee.slope_after:.2f} after ({_counted(knee.points, 'runs')})."
    ]
    late = sum(
        any(reason.code == "client_bound" for reason in run.reasons) for row in found.rows for run in row.records
    )
    if late:
        runs = sum(len(row.records) for row in found.rows)
        lines.append(
            f"The client was late in {late} of {runs} runs (client_bound): their latencies do not count, their "
            f"throughput does where the delay was under {HARMLESS_SHARE:.0%} of a request's time. Where client and "
            "server share a host, the knee is that of both together."
        )
    if isinstance(search, KneeSearch) and not search.settled:
        lines.append(
            f"The interval is wider than ±{search.limits.tolerance:.0%} after {search.spent} runs: the bend is "
            "gradual or the runs differ; raise --max-runs or --duration-s."
        )
    return lines


def slo_lines(found: Found) -> list[str]:
    """Return the answer about the SLO."""
    if not isinstance(found.search, SloSearch):
        return []
    answer = found.search.answer()
    limits = ", ".join(f"{key.removesuffix('_ms')} ≤ {value:g} ms" for key, value in found.slo.items())
    goal = f"{found.slo_share:g} % of requests with {limits}"
    if answer.passes is None:
        return [f"No load meets the SLO ({goal}): {answer.why or 'nothing passed'} ({_counted(answer.runs, 'runs')})."]
    head = f"Highest load that meets the SLO ({goal}): {_counted(answer.passes, found.unit)}"
    upper = "" if answer.fails is None else f"; {answer.fails:g} miss it"
    sure = "" if answer.sure else ", not for certain: the shares are within their intervals of the goal"
    lines = [f"{head}{upper} ({_counted(answer.runs, 'runs')}{sure})."]
    if answer.why:
        lines.append(f"The limit is not closed in: {answer.why}.")
    ends = [item for item in found.search.verdicts() if item.level in (answer.passes, answer.fails)]
    return [*lines, *(f"  {_share(item, found.unit)}" for item in ends)]


def _share(item: LevelVerdict, unit: str) -> str:
    if item.share is None or item.low is None or item.high is None:
        return f"{_counted(item.level, unit)}: no request"
    share = f"{item.share:.1%} good [{item.low:.1%}, {item.high:.1%}]"
    return f"{_counted(item.level, unit)}: {share} in {_counted(item.runs, 'runs')}"


def trouble_lines(records: Sequence[RunRecord]) -> list[str]:
    """Return each failure and each reason against a run once, with what to do."""
    lines: dict[str, str] = {}
    for record in records:
        if record.failure is not None:
            remedy = f" → {record.failure.remedy}" if record.failure.remedy else ""
            lines.setdefault(record.failure.message, f"{record.failure.code}: {record.failure.message}{remedy}")
    # Few levels of a ladder have 100 requests: a reason that nearly every run has would hide the others.
    return [*lines.values(), *reason_lines(records, without=frozenset({"tail_undersampled"}))]


def within_line(records: Sequence[RunRecord], limit: Limit) -> str:
    """Say whether the most tokens per second of a client process stayed within the calibration."""
    most = max(
        (
            (value_of(record, "output_tokens_s") or 0.0) / (value_of(record, "client_processes") or 1.0)
            for record in records
        ),
        default=0.0,
    )
    place = "within" if most <= limit.tokens_s else "beyond"
    return (
        f"The client took up to {number(most)} tok/s per process, {place} the {number(limit.tokens_s)} tok/s that "
        "this host was shown to drive (enginewatch load calibrate)."
    )


def as_json(found: Found, records: Sequence[RunRecord], **facts: object) -> dict[str, Any]:
    """Return the whole result for machines (``schema_version`` 1)."""
    placed = {item.point.level: item for item in frontier(operating_points(found.rows))}
    return {
        "schema_version": SCHEMA_VERSION,
        **facts,
        "levels": [_level_json(row, placed.get(row.load)) for row in found.rows],
        "knee": _knee_json(found.knee),
        "slo": _slo_json(found),
        "runs": len(records),
        "valid": sum(record.valid for record in records),
    }


def _level_json(row: Row, placed: Placed | None) -> dict[str, Any]:
    metrics = {}
    for key, definition in METRICS.items():
        if definition.kind is MetricKind.LLM and (middle := row.middle(key)) is not None:
            place = row.located(key)
            metrics[key] = {
                "value": middle if place is None else place.value,
                "ci_low": None if place is None else place.low,
                "ci_high": None if place is None else place.high,
            }
    return {
        "level": row.load,
        "case": row.case_key,
        "runs": [record.run_id for record in row.records],
        "valid": sum(record.valid for record in row.records),
        "reasons": sorted({reason.code for record in row.records for reason in record.reasons}),
        "failures": [asdict(record.failure) for record in row.records if record.failure is not None],
        "on_frontier": None if placed is None else placed.dominated_by is None,
        "dominated_by": None if placed is None else placed.dominated_by,
        "metrics": metrics,
    }


def _knee_json(knee: Knee | NoKnee | None) -> dict[str, Any] | None:
    return None if knee is None else asdict(knee)


def _slo_json(found: Found) -> dict[str, Any] | None:
    if not found.slo:
        return None
    answer: SloAnswer | None = found.search.answer() if isinstance(found.search, SloSearch) else None
    return {
        "objectives_ms": found.slo,
        "share_pct": found.slo_share,
        "answer": None if answer is None else asdict(answer),
    }
