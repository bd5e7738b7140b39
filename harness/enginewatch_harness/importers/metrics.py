"""The metrics of an imported load: by our own code where the requests are known, else the tool's. Pure."""

from __future__ import annotations

from enginewatch_db.metrics import METRICS, MetricKind, MetricValue
from enginewatch_db.quantile import MIN_SAMPLES, TAIL_MIN_SAMPLES
from enginewatch_db.validity import Reason
from enginewatch_harness.importers.facts import ImportedRun
from enginewatch_harness.load.judgement import Judgement, judge_load

NOT_TOLD = "{tool}'s summary does not give it, and the file has no single requests"


def judge_import(run: ImportedRun) -> Judgement:
    """Return metrics, reasons, counts and notes of an imported load.

    Every LLM metric is in it, absent ones with their reason: that the tool defines it otherwise, or keeps it not.
    """
    devices = run.device_count if run.device is not None or run.device_count > 1 else None
    if run.requests is None:
        judged = _of_summary(run)
    else:
        judged = judge_load(run.requests, run.load, run.window_ns, devices=devices)
    metrics = tuple(_merged(run, metric) for metric in judged.metrics)
    imported = Reason(code="imported", detail=_tool(run))
    return Judgement(
        metrics=metrics,
        reasons=(imported, *run.reasons, *judged.reasons),
        counts=judged.counts,
        notes=(*run.notes, *judged.notes),
        window_ns=judged.window_ns,
    )


def _tool(run: ImportedRun) -> str:
    return run.tool if run.tool_version is None else f"{run.tool} {run.tool_version}"


def _of_summary(run: ImportedRun) -> Judgement:
    why = NOT_TOLD.format(tool=run.tool)
    metrics = [_failed_pct(run)]
    for key, item in METRICS.items():
        if item.kind is MetricKind.LLM and key != "requests_failed_pct":
            metrics.append(MetricValue(metric=key, value=None, absent_reason=why))
    window_s = (run.window_ns[1] - run.window_ns[0]) / 1e9
    counts = {
        "requests": float(run.completed + (run.failed or 0)),
        "completed": float(run.completed),
        "window_s": window_s,
    }
    return Judgement(
        metrics=tuple(metrics), reasons=_few(run.completed), counts=counts, notes=(), window_ns=run.window_ns
    )


def _failed_pct(run: ImportedRun) -> MetricValue:
    if run.failed is None:
        why = f"{run.tool} does not say how many requests failed"
        return MetricValue(metric="requests_failed_pct", value=None, absent_reason=why)
    total = run.completed + run.failed
    return MetricValue(metric="requests_failed_pct", value=100 * run.failed / total, n=total)


def _few(completed: int) -> tuple[Reason, ...]:
    if completed < MIN_SAMPLES:
        return (Reason(code="too_few_samples", detail=f"{completed} requests"),)
    if completed < TAIL_MIN_SAMPLES:
        return (Reason(code="tail_undersampled", detail=f"{completed} requests"),)
    return ()


def _merged(run: ImportedRun, metric: MetricValue) -> MetricValue:
    """Return the computed value, the tool's where there is none, or the reason why there is neither."""
    key = metric.metric
    why = run.absent.get(key) or run.absent.get(key.split("_p")[0])
    if why is not None:
        return MetricValue(metric=key, value=None, absent_reason=why)
    told_wins = key in run.told_wins or key.split("_p")[0] in run.told_wins
    if told_wins and key not in run.told:
        return MetricValue(metric=key, value=None, absent_reason=NOT_TOLD.format(tool=run.tool))
    if key in run.told and (told_wins or run.requests is None):
        return MetricValue(metric=key, value=run.told[key], n=run.completed, source=run.tool)
    return metric
