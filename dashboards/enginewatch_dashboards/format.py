"""How values are written for people. Pure: the clock is passed in."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime

from enginewatch_db.metrics import METRICS, Direction

ABSENT = "–"
MINUS = "−"
_HYPHEN_MINUS = re.compile(r"(?<![\w.:/-])-(?=\d)")
"""A hyphen that stands for a minus: before a digit, and not within a word, a date or an option."""

_WORDS = {
    "bw": "bandwidth",
    "cov": "spread",
    "cpu": "CPU",
    "ctrl": "controller",
    "dram": "DRAM",
    "e2e": "E2E",
    "freq": "frequency",
    "gpu": "GPU",
    "itl": "ITL",
    "kv": "KV",
    "mem": "memory",
    "p999": "p99.9",
    "sm": "SM",
    "temp": "temperature",
    "tpot": "TPOT",
    "ttfo": "TTFO",
    "ttft": "TTFT",
    "util": "utilisation",
}
_UNIT_SUFFIXES = ("_pct_of_peak", "_pct", "_ms", "_mhz", "_mib", "_mj", "_w", "_j", "_c")
_ALIASES = {
    "build_time_s": "build time",
    "load_time_s": "load time",
    "throughput_qps": "throughput",
    "throughput_items_s": "item throughput",
    "output_tokens_s": "output tokens",
    "output_tokens_s_per_gpu": "output tokens per GPU",
    "goodput_requests_s": "goodput",
    "goodput_pct": "requests that met the SLO",
    "little_law_ratio": "Little's law ratio",
    "input_tokens_s": "input tokens",
    "total_tokens_s": "all tokens",
    "requests_s": "requests",
    "tokens_s_per_user": "tokens per user",
    "energy_per_token_mj": "energy per token",
    "output_rel_l2": "output relative L2 error",
    "output_max_abs": "largest output error",
    "dram_bw_mean_pct_of_peak": "DRAM bandwidth",
}


def metric_label(metric: str) -> str:
    """Return a metric's name without its unit: ``latency_p99_ms`` → ``latency p99``."""
    if metric in _ALIASES:
        return _ALIASES[metric]
    stem = next((metric.removesuffix(suffix) for suffix in _UNIT_SUFFIXES if metric.endswith(suffix)), metric)
    return " ".join(filter(None, (_WORDS.get(word, word) for word in stem.split("_"))))


def metric_unit(metric: str) -> str:
    """Return a metric's unit; empty for plain ratios and for metrics that this version does not know."""
    found = METRICS.get(metric)
    if found is None or found.unit == "1":
        return ""
    return "% of peak" if metric.endswith("_pct_of_peak") else found.unit


def direction_hint(metric: str) -> str:
    """Return "lower is better ↓", "higher is better ↑", or nothing."""
    found = METRICS.get(metric)
    match found.direction if found else Direction.INFO:
        case Direction.LOWER:
            return "lower is better ↓"
        case Direction.HIGHER:
            return "higher is better ↑"
        case Direction.INFO:
            return ""


def axis_title(metric: str) -> str:
    """Return the title of an axis: name, unit, direction."""
    unit, hint = metric_unit(metric), direction_hint(metric)
    return metric_label(metric) + (f" ({unit})" if unit else "") + (f", {hint}" if hint else "")


def number(value: float | None, digits: int = 4) -> str:
    """Return ``value`` with about ``digits`` significant digits and thousands separators."""
    if value is None or not math.isfinite(value):
        return ABSENT
    if value == 0:
        return "0"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{min(decimals, 9)}f}"
    return (text.rstrip("0").rstrip(".") if decimals > digits else text).replace("-", MINUS)


def tiny(value: float) -> str:
    """Return a distance that may be very small: ``0.0151``, and ``2.64e−07`` where zeros would have to be counted."""
    return f"{value:.3g}".replace("-", MINUS)


def quantity(metric: str, value: float | None, digits: int = 4) -> str:
    """Return a metric's value with its unit; shares get no more than three digits."""
    unit = metric_unit(metric)
    if unit.startswith("%"):
        digits = min(digits, 3)
    return number(value, digits) if value is None or not unit else f"{number(value, digits)} {unit}"


def interval(low: float | None, high: float | None, digits: int = 4) -> str:
    """Return ``[low, high]``; an open end is ``…``; nothing where neither is known."""
    if low is None and high is None:
        return ""
    ends = ("…" if end is None else number(end, digits) for end in (low, high))
    return f"[{', '.join(ends)}]"


def percent(rel: float | None) -> str:
    """Return a relative change as a signed percentage: 0.118 → ``+11.8 %``."""
    if rel is None or not math.isfinite(rel):
        return ABSENT
    return f"{_signed(rel)} %"


def _signed(rel: float) -> str:
    pct = rel * 100
    decimals = 0 if abs(pct) >= 100 else 1 if abs(pct) >= 1 else 2
    return f"{pct:+.{decimals}f}".replace("-", MINUS)


def effect(rel: float | None, low: float | None, high: float | None) -> str:
    """Return a relative change with its interval: ``+11.8 % [+10.1, +13.4]``."""
    if rel is None:
        return ABSENT
    ends = "" if low is None or high is None else f" [{_signed(low)}, {_signed(high)}]"
    return percent(rel) + ends


def count(n: int, noun: str) -> str:
    """Return ``1 run`` or ``3 runs``."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def when(moment: datetime | None) -> str:
    """Return a moment in UTC to the minute."""
    return ABSENT if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M}"


def ago(moment: datetime | None, now: datetime) -> str:
    """Return how long before ``now`` a moment was, in its largest unit."""
    if moment is None:
        return ABSENT
    seconds = (now - moment).total_seconds()
    if seconds < 0:
        return "in the future: a clock is wrong"
    for size, noun in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds >= size:
            return f"{count(int(seconds // size), noun)} ago"
    return "just now"


def seconds(value: float | None) -> str:
    """Return a duration in its natural unit."""
    if value is None:
        return ABSENT
    for factor, unit in ((1, "s"), (1e3, "ms"), (1e6, "µs")):
        if value * factor >= 1 or unit == "µs":
            return f"{number(value * factor, 3)} {unit}"
    raise AssertionError("unreachable: the last unit takes every value")


def short(identifier: str) -> str:
    """Return the first 13 characters of a UUID: enough to tell apart what was made in different milliseconds."""
    return identifier[:13]


def device_label(device: str) -> str:
    """Return a device name without the vendor noise that makes tiles wrap."""
    noise = ("(R)", "(TM)", " CPU", " Processor")
    cleaned = device
    for part in noise:
        cleaned = cleaned.replace(part, "")
    return " ".join(cleaned.split())


def plain(text: str) -> str:
    """Return text that Markdown shows as it is: brackets, stars and underscores of names are no markup."""
    for sign in "\\`*_[]$<>~":
        text = text.replace(sign, f"\\{sign}")
    return text.replace("\n", " ")


def minus(text: str) -> str:
    """Return text whose negative numbers have the minus sign of all other numbers."""
    return _HYPHEN_MINUS.sub(MINUS, text)


def sentence(text: str) -> str:
    """Return a stored sentence for Markdown: ``commands`` in backticks are code, all else is shown as it is."""
    parts = text.split("`")
    if len(parts) % 2 == 0:
        return plain(minus(text))
    return "".join(
        plain(minus(part)) if index % 2 == 0 else f"`{part}`" if _is_code(part) else plain(f"`{part}`")
        for index, part in enumerate(parts)
    )


def _is_code(text: str) -> bool:
    # A bracket would end the coloured span that the sentence may stand in; a backslash would guard the closing sign.
    return bool(text.strip()) and not set("[]\\\n") & set(text)
