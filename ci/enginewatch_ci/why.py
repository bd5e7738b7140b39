"""The sentence behind each verdict: with numbers, and with what to do where nothing was concluded. Pure."""

from __future__ import annotations

import math

import numpy as np

from enginewatch_ci import phrasing
from enginewatch_ci.comparable import CasePair
from enginewatch_ci.host import HostShift
from enginewatch_ci.measure import Row
from enginewatch_db.model import Verdict

MANY_RUNS = 40
"""More runs a side than this are not advice: less noise is."""


def change(row: Row, confidence: float) -> str:
    """Return what happened: ``latency_p50_ms rose from 1.2 ms to 1.3 ms: +8.3 % [...] (95 %, 5 against 5 runs)``."""
    found = row.public(confidence)
    if found is None or row.baseline_value is None or row.candidate_value is None:
        return row.metric
    before = phrasing.quantity(row.baseline_value, row.metric)
    after = phrasing.quantity(row.candidate_value, row.metric)
    moved = (
        f"{'rose' if found.rel > 0 else 'fell'} from {before} to {after}" if before != after else f"stayed at {after}"
    )
    return f"{row.metric} {moved}: {phrasing.effect(found)} ({phrasing.runs(found)})"


def judged(row: Row, verdict: Verdict, confidence: float) -> str:
    """Return the sentence of a verdict that the interval and the threshold alone decide."""
    threshold = phrasing.threshold(row.threshold_rel)
    told = change(row, confidence)
    if verdict in (Verdict.REGRESSED, Verdict.IMPROVED):
        return f"{told}; all of the interval is beyond the {threshold} that matter"
    if verdict is Verdict.UNCHANGED:
        return f"{told}; all of the interval lies within ±{threshold}"
    kept_out = kept_from_counting(row.pair)
    more = f"; {kept_out}" if kept_out else ""
    return f"{told}; the interval reaches across the {threshold} that matter: {advice(row, confidence)}{more}"


def advice(row: Row, confidence: float) -> str:
    """Say how many runs would decide: the width of an interval goes with one over the root of the runs."""
    if row.effect is None:
        return "repeat at least 3 times a side"
    shift, half = row.effect.shift, row.effect.half_width(confidence)
    distance = min(abs(shift - limit) for limit in row.limits)
    runs = min(row.effect.n_baseline, row.effect.n_candidate)
    needed = math.ceil(runs * (half / distance) ** 2) if distance > 0 else MANY_RUNS + 1
    if needed > MANY_RUNS:
        return f"more than {MANY_RUNS} runs a side would be needed; quieten the host or measure longer"
    return f"about {max(needed, runs + 1)} runs a side would decide"


def no_effect(row: Row) -> str:
    """Return the sentence where no effect could be estimated."""
    if row.baseline_value is None or row.candidate_value is None or row.baseline_value <= 0:
        return row.problem or "no effect could be estimated"
    rel = row.candidate_value / row.baseline_value - 1
    told = f"{row.problem}: {row.metric} is {phrasing.percent(rel)}"
    # Where runs were rejected, more repeats would be rejected as well: what rejects them comes first.
    return f"{told}; {kept_from_counting(row.pair) or 'repeat at least 3 times a side'}"


def kept_from_counting(pair: CasePair) -> str | None:
    """Say how many runs of a case count, what rejected the others and what to do; ``None`` where all count."""
    told, remedies = [], dict[str, None]()
    for arm, used, rejected in (
        ("baseline", pair.baseline, pair.rejected_baseline),
        ("candidate", pair.candidate, pair.rejected_candidate),
    ):
        if rejected:
            codes = {code: remedy for run in rejected for code, remedy in run.rejected_by.items()}
            why = f" ({phrasing.listed(codes)})" if codes else ""
            counts = phrasing.counting(len(used), len(used) + len(rejected))
            told.append(f"{counts} in the {arm}{why}")
            remedies |= dict.fromkeys(remedy.rstrip(".") for remedy in codes.values() if remedy)
    if not told:
        return None
    return ", ".join(told) + (f" → {phrasing.listed(remedies)}" if remedies else "")


def chance(row: Row, confidence: float, family: int) -> str:
    """Return the sentence where the interval is beyond the threshold, but the family of comparisons is large."""
    threshold = phrasing.threshold(row.threshold_rel)
    return (
        f"{change(row, confidence)}; alone it would be beyond the {threshold} that matter, but among "
        f"{phrasing.count(family, 'comparison')} that can be chance (Benjamini-Hochberg): rerun to decide"
    )


def host_moved(row: Row, host: HostShift, left: tuple[float, float], confidence: float) -> str:
    """Return the sentence where the host's own change explains what was seen."""
    rest = phrasing.interval(float(np.expm1(left[0])), float(np.expm1(left[1])))
    told = f"the host itself moved by {host.text}" if host.moved else f"the host may have moved ({host.text})"
    return (
        f"{change(row, confidence)}, but {told}; without that the change is {rest}, not beyond "
        f"{phrasing.threshold(row.threshold_rel)}: measure both sides again, interleaved on one host"
    )


def crowded(row: Row, crowd: str, confidence: float) -> str:
    """Return the sentence where other programs on the CPU may be what was seen."""
    return f"{change(row, confidence)}, but {crowd}: measure both sides again on a quiet host"
