"""GuideLLM: ``benchmarks.json``, several loads in one file. Pure.

Read from GuideLLM 0.3.1 and 0.8.1 (``schemas/base/request_stats.py``). Times are readings of the wall clock in
seconds; a request starts when its headers are sent. It keeps the first and the last token's time and no gap
between them: there is no ITL. What it calls ``inter_token_latency_ms`` is (last - first) / (tokens - 1) of a
request, our TPOT; what it calls ``time_per_output_token_ms`` includes the first token and is no metric of ours.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from enginewatch_db.model import Json
from enginewatch_db.validity import Reason
from enginewatch_harness.importers.facts import ImportedRun, Opened, incomplete, not_a_result
from enginewatch_harness.importers.nodes import NS_PER_S, Node
from enginewatch_harness.importers.rows import Request, end_ns, origin_ns, to_table
from enginewatch_harness.load.spec import CLOSED, LoadSpec

NO_GAPS = "GuideLLM keeps the first and the last token's time only; its inter_token_latency_ms is a mean per request"
TOTAL_RATE = "GuideLLM counts the tokens of failed and unfinished requests too, and its file holds only some requests"
STATISTICS = ("mean", "median", "std_dev", "min", "max", "count")
LEVELS = ("p50", "p90", "p95", "p99")
STEMS = {"time_to_first_token_ms": ("ttft", 1.0), "inter_token_latency_ms": ("tpot", 1.0)}
MODES = {"constant": "constant", "async": "constant", "poisson": "poisson", "trace": "trace", "replay": "trace"}
_LENGTH = re.compile(r"\b(prompt_tokens|output_tokens)=(\d{1,9})\b")
_STATUS = re.compile(r"\b([45]\d\d)\b")
_EXCEPTION = re.compile(r"\s*(?:[\w.]+\.)?(\w+)\(")


def recognises(opened: Opened) -> bool:
    """Return whether this is GuideLLM's report."""
    found = opened.value if opened.kind == "json" and isinstance(opened.value, dict) else {}
    benchmarks = found.get("benchmarks")
    if not isinstance(benchmarks, list):
        return False
    metadata = found.get("metadata")
    if isinstance(metadata, dict) and "guidellm_version" in metadata:
        return True
    return any(isinstance(item, dict) and "metrics" in item and "requests" in item for item in benchmarks)


def parse(opened: Opened) -> tuple[ImportedRun, ...]:
    """Parse a report: one run for each benchmark.

    Raises:
        UsageError: It is no such file, or a value in it cannot be.
        MeasurementError: It has no benchmark, or nothing in one of them succeeded.
    """
    node = Node(opened.value, opened.document.name)
    benchmarks = node.get("benchmarks").elements()
    if not benchmarks:
        raise incomplete(node.where, "it has no benchmark: GuideLLM ended before the first one did")
    version = node.get("metadata", "guidellm_version").text()
    runs = []
    for number, item in enumerate(benchmarks, start=1):
        place = f"benchmark {number}" if len(benchmarks) > 1 else ""
        where = f"{opened.document.name}, {place}" if place else opened.document.name
        runs.append(_run(Node(item.value, where), place, version, _asked(node, item)))
    return tuple(runs)


def _asked(report: Node, benchmark: Node) -> dict[str, int]:
    """Return the lengths that were asked for, so that two runs of one plan have one identity."""
    text = benchmark.get("request_loader", "data").value
    found = dict(_LENGTH.findall(text)) if isinstance(text, str) else {}
    asked = {key: int(value) for key, value in found.items()}
    for item in report.get("config", "spec", "data").elements():
        for key in ("prompt_tokens", "output_tokens"):
            count = item.get(key).count()
            if count is not None and item.get(f"{key}_stdev").absent:
                asked.setdefault(key, count)
    return asked


def _run(node: Node, place: str, version: str | None, asked: dict[str, int]) -> ImportedRun:
    strategy = node.get("config", "strategy") if not node.get("config").absent else node.get("args", "strategy")
    if not strategy.is_object:
        raise not_a_result(node.where, "the benchmark names no strategy", "give the JSON that GuideLLM wrote")
    mode = MODES.get(str(strategy.get("type_").value), CLOSED)
    requests = sorted(_requests(node, mode), key=lambda item: item.sent_at_ns or 0)
    kept = sum(request.ok for request in requests)
    completed, failed = _totals(node)
    if not completed:
        why = next((item.error for item in requests if item.error), "it names no error")
        raise incomplete(node.where, f"no request succeeded, {failed} failed: {why}")
    origin = origin_ns(requests)
    duration_ns = max(node.get("duration").ns(NS_PER_S) or 0, 1)
    is_whole = kept == completed
    return ImportedRun(
        tool="guidellm",
        tool_version=version,
        place=place,
        model=_model(node),
        load=_load(node, strategy, mode, completed + failed, asked),
        endpoint=node.get("config", "backend", "request_format").text(),
        started_unix_ns=origin if is_whole else node.get("start_time").ns(NS_PER_S),
        window_ns=(0, max(end_ns(requests) + 1 - origin, 1)) if is_whole else (0, duration_ns),
        requests=to_table(requests, origin) if is_whole else None,
        completed=completed,
        failed=failed,
        told=_told(node),
        absent=_absent(is_whole=is_whole),
        own=_own(node),
        reasons=() if is_whole or not failed else (_failures(completed, failed),),
        notes=_notes(node, mode, is_whole=is_whole),
        command=_command(node),
    )


def _totals(node: Node) -> tuple[int, int]:
    for path in (("metrics", "request_totals"), ("request_totals",)):
        totals = node.get(*path)
        if totals.is_object:
            return totals.get("successful").count() or 0, totals.get("errored").count() or 0
    requests = node.get("requests")
    return len(requests.get("successful").elements()), len(requests.get("errored").elements())


def _requests(node: Node, mode: str) -> Iterator[Request]:
    for outcome in ("successful", "errored", "incomplete"):
        for item in node.get("requests", outcome).elements():
            yield _request(item, outcome, mode)


def _request(item: Node, outcome: str, mode: str) -> Request:
    times = _times(item)
    sent_ns, error = times["sent"], item.get("info", "error").value or item.get("error").value
    failed = outcome != "successful"
    if not failed and (sent_ns is None or times["last"] is None):
        raise item.bad("succeeded without a start and an end")
    text = str(error) if error else None
    return Request(
        sent_at_ns=sent_ns,
        intended_at_ns=times["targeted"] if mode != CLOSED else None,
        # What was under way when the load ended neither succeeded nor failed.
        phase="drain" if outcome == "incomplete" else "measure",
        error_class=_error_class(outcome, text) if failed else None,
        error=(text or outcome) if failed else None,
        http_status=int(match[1]) if failed and text and (match := _STATUS.search(text)) else None,
        first_ns=_since(sent_ns, times["first"]),
        last_ns=_since(sent_ns, times["last"]),
        first_output_ns=_since(sent_ns, times["first_output"]),
        content_events=item.get("info", "timings", "token_iterations").count() or None,
        prompt_tokens=item.get("prompt_tokens").count(),
        output_tokens=item.get("output_tokens").count(),
        cached_prompt_tokens=item.get("cached_tokens").count(),
    )


def _times(item: Node) -> dict[str, int | None]:
    """Return a request's times; an answer that came whole has no last token, and ends with the request."""
    timings = item.get("info", "timings")
    if timings.is_object:
        names = {"sent": "request_start", "first": "first_token_iteration", "last": "last_token_iteration"}
        names |= {"first_output": "first_output_token_iteration", "targeted": "targeted_start"}
        times = {key: timings.get(name).ns(NS_PER_S) for key, name in names.items()}
        return {**times, "last": times["last"] or timings.get("request_end").ns(NS_PER_S)}
    found = {"sent": "start_time", "first": "first_token_time", "last": "last_token_time"}
    times = {key: item.get(name).ns(NS_PER_S) for key, name in found.items()}
    targeted = item.get("scheduler_info", "targeted_start_time").ns(NS_PER_S)
    last_ns = times["last"] or item.get("end_time").ns(NS_PER_S)
    return {**times, "last": last_ns, "first_output": None, "targeted": targeted}


def _since(start_ns: int | None, at_ns: int | None) -> int | None:
    # The wall clock may step back; a negative latency is none.
    return None if start_ns is None or at_ns is None or at_ns < start_ns else at_ns - start_ns


def _error_class(outcome: str, text: str | None) -> str:
    if outcome == "incomplete":
        return "cancelled"
    if text and (match := _STATUS.search(text)):
        return f"http_{match[1]}"
    return match[1] if text and (match := _EXCEPTION.match(text)) else "error"


def _told(node: Node) -> dict[str, float]:
    told = {}
    for name, (stem, factor) in STEMS.items():
        values = node.get("metrics", name, "successful")
        if not values.get("count").count():
            # GuideLLM writes zeros for what it has no value of.
            continue
        for level in LEVELS:
            value = values.get("percentiles", level).at_least(0)
            if value is not None:
                told[f"{stem}_{level}_ms"] = value * factor
    return told


def _absent(*, is_whole: bool) -> dict[str, str]:
    found = {"itl": NO_GAPS, "zero_gap_pct": NO_GAPS}
    if not is_whole:
        latency = "GuideLLM's request_latency ends with the response, not with the last token"
        found |= {"e2e": latency}
        found |= dict.fromkeys(("output_tokens_s", "input_tokens_s", "total_tokens_s", "requests_s"), TOTAL_RATE)
    return found


def _own(node: Node) -> Json:
    found: Json = {}
    for name, metric in node.get("metrics").items():
        values = metric.get("successful")
        kept = {key: values.get(key).value for key in STATISTICS}
        kept |= {level: values.get("percentiles", level).value for level in LEVELS}
        numbers = {key: value for key, value in kept.items() if isinstance(value, int | float)}
        if numbers.get("count"):
            found[name] = numbers
    return found


def _mean(node: Node, name: str) -> int:
    return round(node.get("metrics", name, "successful", "mean").at_least(0) or 0)


def _load(node: Node, strategy: Node, mode: str, requests: int, asked: dict[str, int]) -> LoadSpec:
    streams = strategy.get("streams").count() or strategy.get("max_concurrency").count()
    if strategy.get("type_").value == "synchronous":
        streams = 1
    return LoadSpec(
        mode=mode,
        concurrency=min(streams or requests, max(requests, 1)) if mode != CLOSED else (streams or requests),
        rate_rps=None if mode == CLOSED else strategy.get("rate").at_least(0),
        isl=asked.get("prompt_tokens") or _mean(node, "prompt_token_count"),
        osl=asked.get("output_tokens") or _mean(node, "output_token_count"),
        requests=requests,
    )


def _model(node: Node) -> str:
    return node.get("config", "backend", "model").text() or node.get("worker", "backend_model").text() or "unknown"


def _failures(completed: int, failed: int) -> Reason:
    return Reason(code="requests_failed", detail=f"{failed} of {completed + failed} requests")


def _notes(node: Node, mode: str, *, is_whole: bool) -> tuple[str, ...]:
    notes = ["times are GuideLLM's wall clock: a step of it is a step in them"]
    if mode != CLOSED and is_whole:
        notes.append("latencies count from when GuideLLM meant to send (targeted_start)")
    if not is_whole:
        notes.append("the file holds a sample of the requests: quantiles are GuideLLM's own")
    warned = [f"GuideLLM warned: {item.get('message').value}" for item in node.get("warnings").elements()]
    return (*notes, *warned)


def _command(node: Node) -> str | None:
    target = node.get("config", "backend", "target").text() or node.get("worker", "backend_target").text()
    return None if target is None else f"guidellm against {target}"
