"""Result files of ``vllm bench serve --save-result --save-detailed``. Pure.

What the tool measures (vLLM 0.20 to 0.33, ``vllm/benchmarks``): ``start_times`` are readings of
``time.perf_counter`` before the request is handed to the HTTP client, so a latency includes writing the JSON
and connecting; ``ttfts`` end with the first chunk that has choices, ``itls`` are the gaps between chunks. When
a request was *due* is not written, so an open loop counts from the real start: a client that falls behind is
invisible in it. A request that failed has zeros for its latencies; if all failed, so has the whole summary.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from enginewatch_db.errors import MeasurementError, UsageError
from enginewatch_db.model import Json

if TYPE_CHECKING:
    import pyarrow as pa

PER_REQUEST = ("input_lens", "output_lens", "ttfts", "itls", "start_times", "errors")
NS_PER_S = 1_000_000_000
ENDLESS_S = 1e9
"""Seconds from which on a time is a mistake: 31 years, which in ns still fit a column."""

SLACK_S = 0.001
"""The last token may lie this far outside of the reported duration: sums of rounded gaps."""

_REPORTED = re.compile(r"(mean|median|std|p\d+(\.\d+)?)_(ttft|tpot|itl|e2el)_ms|.*_throughput")
_EXCEPTION = re.compile(r"^(?:[\w.]+\.)?(\w*(?:Error|Exception|Timeout|Disconnected|Refused)\w*)\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchFacts:
    """What a result file says about the load as a whole.

    Attributes:
        model: Name that was asked for.
        client: The tool's request function (``openai``, ``openai-chat``, ``vllm``).
        date: When the file was written, in the client's local time, as written: ``20261120-221057``.
        mode: ``closed`` (a new request when one ends), ``poisson``, ``gamma`` or ``constant``.
        concurrency: Requests in flight at most: the closed loop's streams, or the open loop's ceiling.
        rate_rps: Offered requests per second; ``None`` in the closed loop.
        duration_s: From the start of the load to its last answer.
        completed: Requests that succeeded.
        failed: Requests that did not.
        input_tokens: Prompt tokens of the completed requests.
        output_tokens: Output tokens of the completed requests.
        origin_s: The client's monotonic clock at the start of the load; times in the table count from it.
        reported: What the tool itself computed (``p99_ttft_ms``, ``output_throughput``), as it stands there.
        label: Free text of the user.
    """

    model: str
    client: str
    date: str | None
    mode: str
    concurrency: int
    rate_rps: float | None
    duration_s: float
    completed: int
    failed: int
    input_tokens: int
    output_tokens: int
    origin_s: float
    reported: dict[str, float] = field(default_factory=dict)
    label: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchResult:
    """One load.

    Attributes:
        facts: About the load as a whole.
        requests: Table ``llm_requests``; every request belongs to the phase ``measure``.
        window_ns: The load, relative to ``facts.origin_s``; its end lies 1 ns after the last token at least.
    """

    facts: BenchFacts
    requests: pa.Table
    window_ns: tuple[int, int]


def parse_results(text: str, source: str) -> tuple[BenchResult, ...]:
    """Parse a result file: one JSON object, or one in each line (``--append-result``).

    Args:
        text: The file.
        source: Its name, for messages.

    Raises:
        UsageError: It is no such file, it is cut, or it lacks what is needed; the message says what.
        MeasurementError: Every request failed (``load_failed``): the zeros in it are no latencies.
    """
    return tuple(parse_result(content, where) for content, where in _objects(text, source))


def parse_result(content: Json, source: str) -> BenchResult:
    """Parse one result object; see ``parse_results``."""
    columns = _columns(content, source)
    failed = [_has_failed(error, n) for error, n in zip(columns["errors"], columns["output_lens"], strict=True)]
    if all(failed):
        raise MeasurementError(
            f"{source}: all {len(failed)} requests failed, so its latencies are zeros that mean nothing; "
            f"the first error: {_last_line(columns['errors'][0]) or 'none was written'}",
            code="load_failed",
            remedy="read the server's log, and measure again",
        )
    _check_latencies(columns, failed, source)
    origin_s, duration_s, last_s = _span(content, columns, failed, source)
    facts = _facts(content, columns, failed, source, origin_s=origin_s, duration_s=duration_s)
    window_ns = (0, max(_ns(duration_s), _ns(last_s - origin_s) + 1))
    return BenchResult(facts=facts, requests=_table(columns, failed, origin_s), window_ns=window_ns)


def _objects(text: str, source: str) -> list[tuple[Json, str]]:
    try:
        found = [(json.loads(text), source)]
    except json.JSONDecodeError:
        found = _lines(text, source)
    for content, where in found:
        if not isinstance(content, dict):
            raise UsageError(f"{where} is JSON, but no result of `vllm bench serve`", remedy="give its result file")
    return found


def _lines(text: str, source: str) -> list[tuple[Json, str]]:
    found = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            found.append((json.loads(line), f"{source}, line {number}"))
        except json.JSONDecodeError as error:
            raise UsageError(
                f"{source}, line {number}, is not JSON: {error.msg} at character {error.pos}",
                remedy="the file is cut or was edited: remove that line, or save the result again",
            ) from error
    if not found:
        raise UsageError(f"{source} is empty", remedy="give a result file of `vllm bench serve --save-result`")
    return found


def _columns(content: Json, source: str) -> dict[str, list[Any]]:
    absent = [name for name in PER_REQUEST if not isinstance(content.get(name), list)]
    if absent:
        raise UsageError(
            f"{source} has no list {absent[0]!r}: without the single requests nothing can be compared",
            remedy="run `vllm bench serve --save-result --save-detailed` (start_times: vLLM of February 2026 or newer)",
        )
    columns = {name: content[name] for name in PER_REQUEST}
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise UsageError(f"{source} is incomplete: its lists differ in length ({told})", remedy="save it again")
    if not columns["ttfts"]:
        raise UsageError(f"{source} holds no request", remedy="raise --num-prompts")
    return columns


def _has_failed(error: str | None, output_tokens: int) -> bool:
    # A refused request may carry an empty reason; no output token is the tool's own mark of failure.
    return bool(error) or not output_tokens


def _last_line(error: str | None) -> str:
    lines = (error or "").strip().splitlines()
    return lines[-1].strip() if lines else ""


def error_class(error: str | None) -> str:
    """Return the class of an error text: the exception's name, else ``http_error``, else ``no_content``."""
    line = _last_line(error)
    if not line:
        return "no_content"
    match = _EXCEPTION.match(line)
    return match[1] if match else "http_error"


def _check_latencies(columns: dict[str, list[Any]], failed: Sequence[bool], source: str) -> None:
    rows = zip(columns["ttfts"], columns["itls"], columns["start_times"], failed, strict=True)
    for number, (ttft, gaps, start, is_failed) in enumerate(rows):
        if is_failed:
            continue
        for name, value in (("ttft", ttft), ("start_time", start), *(("itl", gap) for gap in gaps)):
            if not isinstance(value, int | float) or not 0 <= value < ENDLESS_S:
                raise UsageError(f"{source}: request {number} has {name} = {value!r}", remedy="measure again")
        if ttft == 0:
            raise UsageError(
                f"{source}: request {number} succeeded with a time to first token of 0: it was not streamed",
                remedy="measure a streaming endpoint, without --no-stream",
            )


def _span(
    content: Json, columns: dict[str, list[Any]], failed: Sequence[bool], source: str
) -> tuple[float, float, float]:
    """Return the start of the load on the client's clock, its duration, and its last token."""
    duration_s = _number(content, "duration", source)
    if duration_s >= ENDLESS_S:
        raise UsageError(f"{source}: duration = {duration_s:g} s is beyond any clock", remedy="save the result again")
    rows = zip(columns["start_times"], columns["ttfts"], columns["itls"], failed, strict=True)
    ends = [start + ttft + math.fsum(gaps) for start, ttft, gaps, is_failed in rows if not is_failed]
    first_s = min((start for start in columns["start_times"] if start > 0), default=None)
    if first_s is None:
        raise UsageError(f"{source}: no request has a start_time", remedy="save the result again")
    last_s = max(ends)
    if last_s - first_s > duration_s + SLACK_S:
        raise UsageError(
            f"{source}: its requests span {last_s - first_s:.3f} s, but duration says {duration_s:.3f} s",
            remedy="the file was edited or put together: give one result as it was saved",
        )
    # The tool's duration ends with the last answer, and begins before the first request is due.
    return min(first_s, last_s - duration_s), duration_s, last_s


def _number(content: Json, key: str, source: str) -> float:
    value = content.get(key)
    if not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
        raise UsageError(f"{source}: {key} = {value!r} is no positive number", remedy="save the result again")
    return float(value)


def _rate(content: Json, source: str) -> float | None:
    """Return the offered rate; ``None`` for unlimited, which is written as the text ``inf`` or as Infinity."""
    value = content.get("request_rate")
    if value is None or value == "inf" or value == math.inf:
        return None
    return _number(content, "request_rate", source)


def _mode(rate_rps: float | None, burstiness: float | None) -> str:
    if rate_rps is None:
        return "closed"
    if burstiness == math.inf:
        return "constant"
    return "poisson" if burstiness in (None, 1.0) else "gamma"


def _facts(
    content: Json,
    columns: dict[str, list[Any]],
    failed: Sequence[bool],
    source: str,
    *,
    origin_s: float,
    duration_s: float,
) -> BenchFacts:
    rate_rps = _rate(content, source)
    ok = [not item for item in failed]
    reported = {
        key: float(value)
        for key, value in content.items()
        if _REPORTED.fullmatch(key) and isinstance(value, int | float)
    }
    return BenchFacts(
        model=str(content.get("model_id", "unknown")),
        client=str(content.get("endpoint_type") or content.get("backend") or "unknown"),
        date=content.get("date"),
        mode=_mode(rate_rps, content.get("burstiness")),
        # Without a limit every request of an unlimited rate is in flight at once.
        concurrency=int(content.get("max_concurrency") or len(failed)),
        rate_rps=rate_rps,
        duration_s=duration_s,
        completed=sum(ok),
        failed=len(ok) - sum(ok),
        input_tokens=sum(n for n, keep in zip(columns["input_lens"], ok, strict=True) if keep),
        output_tokens=sum(n for n, keep in zip(columns["output_lens"], ok, strict=True) if keep),
        origin_s=origin_s,
        reported=reported,
        label=content.get("label"),
    )


def _ns(seconds: float) -> int:
    return round(seconds * NS_PER_S)


def _table(columns: dict[str, list[Any]], failed: Sequence[bool], origin_s: float) -> pa.Table:
    import pyarrow as pa

    from enginewatch_db.tables import LLM_REQUESTS

    rows = []
    for number, is_failed in enumerate(failed):
        start_s = columns["start_times"][number]
        error = columns["errors"][number]
        row: Json = {
            "request_idx": number,
            "phase": "measure",
            "status": "error" if is_failed else "ok",
            "sent_at_ns": _ns(start_s - origin_s) if start_s > 0 else None,
        }
        if is_failed:
            row |= {"error_class": error_class(error), "error": _last_line(error) or "no output and no error text"}
        else:
            row |= _latencies(
                columns["ttfts"][number],
                columns["itls"][number],
                columns["input_lens"][number],
                columns["output_lens"][number],
            )
        rows.append(row)
    return pa.Table.from_pylist(rows, schema=LLM_REQUESTS)


def _latencies(ttft_s: float, gaps_s: Sequence[float], prompt_tokens: int, output_tokens: int) -> Json:
    gaps_ns = [_ns(gap) for gap in gaps_s]
    ttft_ns, decode_ns = _ns(ttft_s), sum(gaps_ns)
    return {
        "prompt_tokens": prompt_tokens,
        "output_tokens": output_tokens,
        "content_events": len(gaps_ns) + 1,
        "ttft_ns": ttft_ns,
        "e2e_ns": ttft_ns + decode_ns,
        "tpot_ns": round(decode_ns / (output_tokens - 1)) if output_tokens > 1 else None,
        "itl_ns": gaps_ns,
    }
