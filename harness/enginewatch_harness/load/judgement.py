"""From the requests of a load to its metrics and validity: the one entry, for our loads and imported ones. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from enginewatch_db.metrics import METRICS, MetricKind, MetricValue
from enginewatch_db.validity import Reason
from enginewatch_harness.load.arrays import LoadArrays, load_arrays
from enginewatch_harness.load.goodput import goodput_metrics
from enginewatch_harness.load.metrics import ClientStats, client_metrics, latency_metrics, rate_metrics
from enginewatch_harness.load.spec import LoadSpec
from enginewatch_harness.load.steady import steadiness, steady_metrics, steady_reasons
from enginewatch_harness.load.verdicts import bound_by_client, failures, few_samples, token_counts
from enginewatch_harness.load.window import Totals, Window, count_arrivals, cut

if TYPE_CHECKING:
    import pyarrow as pa

FAILED_NOTE_PCT = 1.0
"""Share of failures above which requests in flight, counted from completed ones alone, are told to be too few."""

NS_PER_S = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What a load's requests say.

    Attributes:
        metrics: Every LLM metric, in the order of ``METRICS``; absent ones with their reason.
        reasons: Validity reasons.
        counts: ``requests``, ``completed``, ``window_s``; where known ``output_tokens``, ``input_tokens``,
            ``tokens_per_event``, ``client_waited_pct``; ``ramp_down_s`` where it was cut.
        notes: What a reader of the numbers needs to know.
        window_ns: What the rates count over: the measuring phase less its ramp-down.
    """

    metrics: tuple[MetricValue, ...]
    reasons: tuple[Reason, ...]
    counts: dict[str, float]
    notes: tuple[str, ...]
    window_ns: tuple[int, int]


def judge_load(
    requests: pa.Table,
    spec: LoadSpec,
    window_ns: tuple[int, int],
    clients: tuple[ClientStats, ...] = (),
    *,
    devices: int | None = None,
    cores: int | None = None,
) -> Judgement:
    """Return the metrics and the validity of a load.

    Args:
        requests: All requests, schema ``llm_requests``.
        spec: How they arrived.
        window_ns: The measuring phase, relative to the same origin as the table's times.
        clients: What each process of the load generator knows about itself; empty for another tool's load.
        devices: GPUs behind the server; ``None`` where unknown.
        cores: Cores that the load generator may use; ``None`` where unknown.

    Raises:
        UsageError: The spec has an objective that is not known.
    """
    arrays = load_arrays(requests)
    window = cut(arrays, spec, window_ns)
    counted_ns = (window.begin_ns, window.end_ns)
    counted = count_arrivals(arrays, counted_ns)
    state = steadiness(arrays, spec, counted_ns)
    metrics = (
        *latency_metrics(arrays),
        *rate_metrics(arrays, counted, devices),
        *goodput_metrics(arrays, spec.slo, counted_ns),
        *steady_metrics(state),
        *client_metrics(arrays, clients),
    )
    values = {metric.metric: metric.value for metric in metrics}
    reasons = (
        failures(requests),
        few_samples(arrays),
        bound_by_client(arrays, clients, rate_rps=spec.rate_rps, cores=cores),
        token_counts(values["usage_vs_tokenizer_pct"]),
        *steady_reasons(state),
    )
    return Judgement(
        metrics=_in_order(metrics),
        reasons=tuple(reason for reason in reasons if reason is not None),
        counts=_counts(arrays, counted, window, window_ns, clients),
        notes=_notes(arrays, window, state.why_not, values["requests_failed_pct"]),
        window_ns=counted_ns,
    )


def _in_order(metrics: tuple[MetricValue, ...]) -> tuple[MetricValue, ...]:
    found = {metric.metric: metric for metric in metrics}
    return tuple(found[key] for key, item in METRICS.items() if item.kind is MetricKind.LLM)


def _counts(
    arrays: LoadArrays,
    counted: Totals,
    window: Window,
    asked_ns: tuple[int, int],
    clients: tuple[ClientStats, ...],
) -> dict[str, float]:
    counts: dict[str, float] = {
        "requests": arrays.ok.size,
        "completed": counted.completed,
        "window_s": counted.window_s,
    }
    if counted.output_known:
        counts["output_tokens"] = counted.output_tokens
    if counted.input_tokens is not None:
        counts["input_tokens"] = counted.input_tokens
    waits = [client.waited_pct for client in clients if client.waited_pct is not None]
    if waits:
        counts["client_waited_pct"] = max(waits)
    if asked_ns[1] > window.end_ns:
        counts["ramp_down_s"] = (asked_ns[1] - window.end_ns) / NS_PER_S
    told = ~np.isnan(arrays.usage_tokens) & ~np.isnan(arrays.ttft_ns) & ~np.isnan(arrays.events)
    if events := float(arrays.events[told].sum()):
        counts["tokens_per_event"] = float(arrays.usage_tokens[told].sum()) / events
    return counts


def _notes(arrays: LoadArrays, window: Window, no_trend: str | None, failed_pct: float | None) -> tuple[str, ...]:
    notes = [] if window.note is None else [window.note]
    if no_trend is not None and arrays.chosen.any():
        notes.append(f"steady state was not tested: {no_trend}")
    if failed_pct is not None and failed_pct > FAILED_NOTE_PCT:
        notes.append("requests in flight are those that completed: when a failed one ended is not recorded")
    if np.isnan(arrays.ttft_ns[arrays.chosen]).any() and (arrays.events[arrays.chosen] <= 1).any():
        notes.append("answers that came whole have no TTFT, ITL or TPOT")
    return tuple(notes)
