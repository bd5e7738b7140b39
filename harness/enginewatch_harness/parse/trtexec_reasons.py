"""Warnings of a trtexec log → validity reasons, and notes for the provenance. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from enginewatch_db.validity import Reason
from enginewatch_harness.parse.trtexec_facts import BuildFacts, MeasuringOptions, finite
from enginewatch_harness.parse.trtexec_lines import LogLine

UNSTABLE_ABOVE_PCT = 2.5
"""The tool warned above 1.0 % up to 10.12 and warns above 2.5 % since 10.13.3: one threshold here for all."""

_UNSTABLE = re.compile(r"GPU compute time is unstable, with coefficient of variance = ([\d.eE+-]+)%")
GRAPH_FAILED = "CUDA graph capture failed"
_CODES: tuple[tuple[str, str, str], ...] = (
    ("may be bound by Enqueue Time", "enqueue_bound", "median enqueue time above 0.8 of median GPU time"),
    ("may be bound by host-to-device transfers", "transfer_bound", "inputs: host to device"),
    ("may be bound by device-to-host transfers", "transfer_bound", "outputs: device to host"),
    ("Multiple inference streams are used", "multiple_streams", ""),
    (GRAPH_FAILED, "cuda_graph_failed", "launched without a CUDA graph"),
    ("The e2e network timing is not reported since it is inaccurate", "profiler_on", "no separate profile run"),
)
_OVERRIDDEN = re.compile(
    r"Dynamic dimensions required for input: (.+?), but no shapes were provided\. "
    r"Automatically overriding shape to: (\S+)"
)
_NOTES = (
    "Local timing cache in use",
    "Using an engine plan file across different models of devices is not recommended",
    "weights are affected by this issue",
    "Weakly-typed networks have been deprecated",
    "has been deprecated",
    "converting weights between types",
)


def read_reasons(
    lines: Sequence[LogLine], options: MeasuringOptions, build: BuildFacts, cov_pct: float | None
) -> tuple[Reason, ...]:
    """Return what makes the run invalid or doubtful.

    Args:
        lines: All lines of both streams.
        options: Effective options.
        build: What the build said.
        cov_pct: Coefficient of variation of GPU time from the samples; ``None``: the tool's warning is used.
    """
    texts = [line.text for line in lines]
    reasons = [
        Reason(code=code, detail=detail) for words, code, detail in _CODES if any(words in text for text in texts)
    ]
    reasons += [
        Reason(code="shape_overridden", detail=f"{match[1]} became {match[2]}")
        for match in map(_OVERRIDDEN.search, texts)
        if match
    ]
    if options.profile and options.separate_profile is False:
        reasons.append(Reason(code="profiler_on", detail="no separate profile run"))
    if options.streams is not None and options.streams > 1:
        reasons.append(Reason(code="multiple_streams", detail=f"{options.streams} streams"))
    if build.tactics_skipped:
        reasons.append(Reason(code="tactics_skipped_for_memory", detail=f"{build.tactics_skipped} tactics skipped"))
    unstable = _printed_cov(texts) if cov_pct is None else cov_pct
    if unstable is not None and unstable > UNSTABLE_ABOVE_PCT:
        reasons.append(Reason(code="gpu_time_unstable", detail=f"coefficient of variation {unstable:.3g} %"))
    return _one_per_code(reasons)


def contradictions(options: MeasuringOptions, asked: Mapping[str, float | bool]) -> tuple[Reason, ...]:
    """Return a reason where the tool says that it measured in another way than it was asked to.

    Args:
        options: Effective options; those that the log does not tell contradict nothing.
        asked: Name of an attribute of ``options`` → what was asked for.
    """
    wrong = [
        f"{name}: asked for {_said(value)}, measured with {_said(getattr(options, name))}"
        for name, value in asked.items()
        if getattr(options, name) is not None and getattr(options, name) != value
    ]
    return (Reason(code="options_not_obeyed", detail="; ".join(wrong)),) if wrong else ()


def _said(value: object) -> str:
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)


def _printed_cov(texts: Sequence[str]) -> float | None:
    match = next((match for match in map(_UNSTABLE.search, texts) if match), None)
    try:
        return finite(match[1]) if match else None
    except ValueError:
        return None


def _one_per_code(reasons: Sequence[Reason]) -> tuple[Reason, ...]:
    merged: dict[str, list[str]] = {}
    for reason in reasons:
        details = merged.setdefault(reason.code, [])
        if reason.detail and reason.detail not in details:
            details.append(reason.detail)
    return tuple(Reason(code=code, detail="; ".join(details)) for code, details in merged.items())


def read_notes(lines: Sequence[LogLine]) -> tuple[str, ...]:
    """Return warnings that explain a result without making it invalid."""
    return tuple(dict.fromkeys(line.text for line in lines if any(words in line.text for words in _NOTES)))
