"""The end of a session on the terminal: a table with intervals, and what to do next. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.markup import escape
from rich.table import Table

from enginewatch_db.metrics import METRICS, Direction
from enginewatch_db.model import Comparison, RunRecord, RunStatus, Verdict
from enginewatch_db.text_columns import fits, fitting, longest_word, text_width
from enginewatch_db.workspace import Workspace
from enginewatch_harness.progress import clock
from enginewatch_harness.troubles import counting_line, reason_lines

if TYPE_CHECKING:
    from rich.console import JustifyMethod

    from enginewatch_ci.judgement import Judgement
    from enginewatch_ci.speedup import Speedup
    from enginewatch_harness.session_request import SessionOutcome

COLUMNS = {
    "p50 ms": ("latency_p50_ms", "ttft_p50_ms"),
    "p99 ms": ("latency_p99_ms", "ttft_p99_ms"),
    "rate": ("throughput_qps", "output_tokens_s"),
}
"""Column → the metric of an engine case, the metric of a server case (there, p50 and p99 are those of TTFT)."""

ERROR = "error"
"""Column of the relative L2 distance from the fp32 outputs; only where a case has one."""

ACCURACY = ("output_rel_l2", "output_max_abs", "output_cosine", "output_top1_agreement_pct")

FIRST_TO_GO = ("runs", ERROR, "rate", "p99 ms", "p50 ms")
"""Columns that a narrow window does without, after the intervals: the closing lines tell of runs that do not count."""

VERDICT_WIDTH = 15
"""Columns in which a verdict stays on one line; a longer one is wrapped at its words."""

SEPARATOR = 3
_INTERVAL = re.compile(r" \[.*\]")

CONFIDENCE = 0.95


def spread(records: Sequence[RunRecord], metric: str) -> tuple[float, float | None, float | None] | None:
    """Return location and interval of a metric over the valid runs of a case; ``None`` when no run has it."""
    from enginewatch_ci.stats.effect import Sample, one_sample

    found = [
        item
        for record in records
        if record.valid
        for item in record.metrics
        if item.metric == metric and item.value is not None and item.value > 0
    ]
    if not found:
        return None
    logs = np.log([item.value for item in found if item.value is not None])
    value, low, high = one_sample(Sample(logs=logs), CONFIDENCE)
    return (
        math.exp(value),
        None if low is None else math.exp(low),
        None if high is None else math.exp(high),
    )


def cell(records: Sequence[RunRecord], metrics: tuple[str, ...]) -> str:
    """Return ``value [low, high]`` with its unit where it is a rate."""
    for metric in metrics:
        found = spread(records, metric)
        if found is None:
            continue
        value, low, high = found
        unit = "" if METRICS[metric].unit == "ms" else f" {METRICS[metric].unit}"
        interval = "" if low is None or high is None else f" [{low:.4g}, {high:.4g}]"
        return f"{value:.4g}{interval}{unit}"
    return "–"


def by_case(records: Sequence[RunRecord]) -> dict[str, list[RunRecord]]:
    """Return the runs of each case, cases sorted."""
    grouped: dict[str, list[RunRecord]] = {}
    for record in sorted(records, key=lambda record: record.case_key):
        grouped.setdefault(record.case_key, []).append(record)
    return grouped


def table(records: Sequence[RunRecord], judged: Judgement | None, *, width: int | None = None) -> Table:
    """Return one row a case: location over its runs with a 95 % interval, runs, verdict.

    Args:
        records: The runs.
        judged: Where their verdicts are.
        width: Columns of the window; where it is too narrow, intervals are left out, then ``FIRST_TO_GO``.
    """
    cases = by_case(records)
    comparisons = tuple(judged.comparisons) if judged else ()
    verdicts = [_words(case_verdict(case_key, runs, comparisons)) for case_key, runs in cases.items()]
    words = [*verdicts, "verdict"]
    last = max(longest_word(words), min(max(map(text_width, words)), VERDICT_WIDTH)) + SEPARATOR
    columns = _columns(cases)
    if not fits(columns, list(columns), width, separator=SEPARATOR, reserved=last):
        columns |= {name: [_INTERVAL.sub("", text) for text in columns[name]] for name in COLUMNS}
    chosen = fitting(columns, width, first_to_go=FIRST_TO_GO, separator=SEPARATOR, reserved=last)
    whole = fits(columns, chosen, width, separator=SEPARATOR, reserved=last)
    shown = Table(show_edge=False, pad_edge=False)
    for name in chosen:
        justify: JustifyMethod = "right" if name == "runs" else "left"
        shown.add_column(columns[name][0], overflow="fold", no_wrap=whole, justify=justify)
    # Where not even case and verdict fit, rich is to fold the case: a width of its own keeps the verdict whole.
    shown.add_column("verdict", overflow="fold", width=None if whole else last - SEPARATOR)
    for idx, verdict in enumerate(verdicts, start=1):
        shown.add_row(*(escape(columns[name][idx]) for name in chosen), escape(verdict))
    return shown


def _columns(cases: Mapping[str, Sequence[RunRecord]]) -> dict[str, list[str]]:
    """Return each column's heading and cells, the verdict left out."""
    served = {_is_served(runs) for runs in cases.values()} - {None}
    columns = {"case": ["case", *cases]}
    for name, metrics in COLUMNS.items():
        columns[name] = [_heading(name, served)]
        for runs in cases.values():
            text = cell(runs, metrics)
            mark = name.endswith(" ms") and len(served) > 1 and _is_served(runs) and text != "–"
            columns[name].append(f"TTFT {text}" if mark else text)
    errors = [_error(runs) for runs in cases.values()]
    if any(errors):
        columns[ERROR] = ["error\nvs fp32", *(error or "–" for error in errors)]
    counts = [(sum(record.valid for record in runs), len(runs)) for runs in cases.values()]
    columns["runs"] = ["runs", *(f"{valid}" if valid == total else f"{valid}/{total}" for valid, total in counts)]
    return columns


def accuracy(records: Sequence[RunRecord]) -> dict[str, float]:
    """Return the accuracy of a case: each metric's worst value over its runs; those that no run has are left out."""
    found: dict[str, float] = {}
    for record in records:
        for item in record.metrics:
            if item.metric in ACCURACY and item.value is not None:
                worse = min if METRICS[item.metric].direction is Direction.HIGHER else max
                found[item.metric] = worse(found.get(item.metric, item.value), item.value)
    return found


def accuracy_lines(records: Sequence[RunRecord]) -> list[str]:
    """Return one line for each reason why cases that were to be compared with the fp32 outputs have no accuracy."""
    from enginewatch_harness.accuracy.check import ELSEWHERE, SWITCHED_OFF

    cases: dict[str, list[str]] = {}
    for case_key, runs in by_case(records).items():
        reasons = [
            item.absent_reason for run in runs for item in run.metrics if item.metric in ACCURACY and item.absent_reason
        ]
        if not accuracy(runs) and reasons:
            why = next((reason for reason in reasons if reason != ELSEWHERE), ELSEWHERE)
            cases.setdefault(why, []).append(case_key)
    cases.pop(SWITCHED_OFF, None)
    return [f"no accuracy of {', '.join(keys)}: {why}" for why, keys in cases.items()]


def _error(records: Sequence[RunRecord]) -> str | None:
    value = accuracy(records).get("output_rel_l2")
    return None if value is None else f"{value:.2g}"


def _is_served(runs: Sequence[RunRecord]) -> bool | None:
    """Return whether a case's times are those to the first token, as ``cell`` takes them; ``None`` if it has none."""
    found = {item.metric for record in runs for item in record.metrics if item.value is not None}
    return None if found.isdisjoint(COLUMNS["p50 ms"]) else COLUMNS["p50 ms"][0] not in found


def _heading(name: str, served: set[bool | None]) -> str:
    if not name.endswith(" ms"):
        return name
    if len(served) > 1:
        return f"latency or\nTTFT {name}"
    return f"TTFT\n{name}" if True in served else f"latency\n{name}"


def _words(verdict: str) -> str:
    return verdict.replace(Verdict.NOT_COMPARABLE.value, Verdict.NOT_COMPARABLE.value.replace("_", " "))


def case_verdict(case_key: str, runs: Sequence[RunRecord], comparisons: Sequence[Comparison]) -> str:
    """Return the worst verdict of a case, or why there is none."""
    from enginewatch_db.model import SEVERITY

    failure = next((record.failure for record in runs if record.failure is not None), None)
    if failure is not None and not any(record.status is RunStatus.OK for record in runs):
        return "not available" if failure.code == "not_available" else f"failed: {failure.code}"
    own = [item for item in comparisons if item.case_key == case_key]
    if not own:
        return "no baseline yet"
    worst = min(own, key=lambda item: SEVERITY.index(item.verdict))
    effect = "" if worst.effect is None else f" {worst.metric} {worst.effect.rel:+.1%}"
    return f"{worst.verdict}{effect if worst.verdict not in ('unchanged', 'inconclusive') else ''}"


def closing(workspace: Workspace, outcome: SessionOutcome, judged: Judgement | None) -> list[str]:
    """Return the last lines: verdict, failures and reasons against runs with their remedies, what to do next."""
    lines = [judged.sentence, *judged.notes] if judged else []
    said = set()
    for record in outcome.records:
        failure = record.failure
        if failure is None or (failure.code, failure.message) in said:
            continue
        said.add((failure.code, failure.message))
        place = "" if failure.message.startswith(record.case_key) else f"{record.case_key}: "
        lines.append(f"{place}{failure.message}" + (f" → {failure.remedy}" if failure.remedy else ""))
    lines += speedup_lines(outcome.records)
    counting = counting_line(outcome.records)
    lines += [counting] if counting else []
    lines += reason_lines(outcome.records)
    lines += accuracy_lines(outcome.records)
    lines += [f"quarantined {name}: {reason}" for name, reason in outcome.ingested.quarantined.items()]
    stages = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in outcome.stage_s.items())
    ok = sum(record.status is RunStatus.OK for record in outcome.records)
    lines.append(f"session {outcome.session_id}: {ok} runs in {clock(outcome.wall_s)} ({stages})")
    lines.append(
        f"stored in {workspace.root}; look at it with `enginewatch dashboard`, ask it with `enginewatch db query`"
    )
    return lines


def session_speedups(records: Sequence[RunRecord]) -> tuple[Speedup, ...]:
    """Return the speed-ups of a session's cases over their reference, as they are stored at judging."""
    from enginewatch_ci.speedup import Measured, speedups

    runs = [
        Measured(
            case_key=record.case_key,
            repeat=record.repeat,
            identity=asdict(record.identity),
            metrics={item.metric: item for item in record.metrics},
        )
        for record in records
        if record.valid
    ]
    reference = next((record.session.get("speedup_reference") for record in records), None)
    return speedups(runs, reference)


def speedup_lines(records: Sequence[RunRecord]) -> list[str]:
    """Return one line for each case that has a reference: how many times faster, by its leading metric."""
    said: dict[str, str] = {}
    for item in session_speedups(records):
        if item.case_key not in said:
            interval = "" if item.ci_low is None else f" [{item.ci_low:.3g}, {item.ci_high:.3g}]"
            said[item.case_key] = (
                f"{item.case_key}: {item.speedup:.3g}x{interval} the speed of {item.reference_case_key} ({item.metric})"
            )
    return list(said.values())


def as_json(outcome: SessionOutcome, judged: Judgement | None) -> dict[str, Any]:
    """Return the session's result for machines (``schema_version`` 1)."""
    cases = []
    for case_key, runs in by_case(outcome.records).items():
        values = {}
        for metric in (name for names in COLUMNS.values() for name in names):
            found = spread(runs, metric)
            if found is not None:
                values[metric] = {"value": found[0], "ci_low": found[1], "ci_high": found[2]}
        failure = next((record.failure for record in runs if record.failure is not None), None)
        cases.append(
            {
                "case": case_key,
                "runs": len(runs),
                "valid": sum(record.valid for record in runs),
                "metrics": values,
                "accuracy": accuracy(runs),
                "failure": None if failure is None else {"code": failure.code, "message": failure.message},
                "verdict": case_verdict(case_key, runs, tuple(judged.comparisons) if judged else ()),
            }
        )
    return {
        "schema_version": 1,
        "session_id": outcome.session_id,
        "wall_s": outcome.wall_s,
        "stage_s": outcome.stage_s,
        "left_for_another_host": outcome.left,
        "sentence": judged.sentence if judged else None,
        "cases": cases,
        "speedups": [asdict(item) for item in session_speedups(outcome.records)],
    }
