"""AIPerf: ``profile_export_aiperf.json`` and, beside it, ``profile_export.jsonl``. Pure.

Read from AIPerf 0.3.0 and 0.13.0 (``metrics/types/*``, ``common/models/export_models.py``). The clock starts
before the HTTP client takes a connection, TTFT ends with the first response that has content, request latency
with the last one; ``inter_chunk_latency`` holds every gap. Its ``inter_token_latency`` is one mean per request,
(latency - TTFT) / (output tokens - 1): that is our TPOT, and no ITL. Output tokens are counted with the client's
tokenizer; the server's own count stands beside them as ``usage_completion_tokens``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime

from enginewatch_db.model import Json
from enginewatch_db.validity import Reason
from enginewatch_harness.importers.facts import Document, ImportedRun, Opened, incomplete, not_a_result
from enginewatch_harness.importers.nodes import NS_PER_MS, NS_PER_S, Node
from enginewatch_harness.importers.rows import Request, end_ns, origin_ns, to_table
from enginewatch_harness.load.spec import CLOSED, LoadSpec

SUMMARY_SUFFIX = "_aiperf.json"
UNIT_NS = {"ns": 1.0, "us": 1e3, "ms": 1e6, "sec": 1e9, "s": 1e9}
LEVELS = ("p50", "p90", "p95", "p99")
STEMS = {"time_to_first_token": "ttft", "inter_chunk_latency": "itl", "inter_token_latency": "tpot"}
STEMS |= {"request_latency": "e2e", "time_to_first_output_token": "ttfo"}
TOKENIZER_TOKENS = "output tokens were counted with the client's tokenizer: the file has no usage of the server"
RATES = {"request_throughput": "requests_s", "output_token_throughput": "output_tokens_s"}
RATES |= {"total_token_throughput": "total_tokens_s", "input_token_throughput": "input_tokens_s"}
NO_CHUNKS = "AIPerf's inter_token_latency is one mean per request (our TPOT), and its file has no inter_chunk_latency"
TOKENS_AGREE = 0.02
"""As for ``token_counts_disagree``: below, both counts are the same but for special tokens."""

FIRST_CHUNK = "with --per-chunk-usage AIPerf divides by the tokens after the first chunk, not by output tokens - 1"
MODES = {"concurrency": CLOSED, "concurrency_burst": CLOSED, "poisson": "poisson", "constant": "constant"}
MODES |= {"gamma": "gamma", "fixed_schedule": "trace", "request_rate": "poisson", "user_centric": "constant"}


def recognises(opened: Opened) -> bool:
    """Return whether this is AIPerf's summary."""
    if opened.kind != "json" or not isinstance(opened.value, dict):
        return False
    found = opened.value
    if "aiperf_version" in found:
        return True
    config = found.get("input_config")
    is_ours = isinstance(config, dict) and ("loadgen" in config or "phases" in config)
    return is_ours and ("was_cancelled" in found or "request_latency" in found)


def is_records(opened: Opened) -> bool:
    """Return whether these are AIPerf's single requests."""
    first = opened.value[0][0] if opened.kind == "lines" and opened.value else opened.value
    return (
        isinstance(first, dict)
        and isinstance(first.get("metadata"), dict)
        and isinstance(first.get("metrics"), dict)
        and "request_start_ns" in first["metadata"]
    )


def records_name(summary: str) -> str | None:
    """Return the name of the file of single requests that belongs to a summary."""
    return summary.removesuffix(SUMMARY_SUFFIX) + ".jsonl" if summary.endswith(SUMMARY_SUFFIX) else None


def summary_name(records: str) -> str:
    """Return the name of the summary that belongs to a file of single requests."""
    return records.removesuffix(".jsonl") + SUMMARY_SUFFIX


def parse(opened: Opened) -> tuple[ImportedRun, ...]:
    """Parse a summary and the single requests beside it.

    Raises:
        UsageError: It is no such file, or a value in it cannot be.
        MeasurementError: The run was cancelled or incomplete, or nothing in it succeeded.
    """
    document = opened.document
    node = Node(opened.value, document.name)
    _refuse_incomplete(node)
    records = _records(document)
    requests = [_request(record, node) for record in records]
    measured = [request for request in requests if request.phase == "measure"]
    completed = sum(request.ok for request in measured) if measured else _avg_count(node, "request_count")
    failed = len(measured) - completed if measured else _avg_count(node, "error_request_count")
    if not completed:
        raise incomplete(document.name, f"no request succeeded ({failed} failed): {_first_error(node)}")
    origin = origin_ns(requests)
    duration_ns = node.get("benchmark_duration", "avg").ns(NS_PER_S) or 0
    window = (0, max(end_ns(requests) + 1 - origin, 1) if measured else max(duration_ns, 1))
    told, absent = _told(node)
    done = [request for request in measured if request.ok]
    if measured:
        absent = {"itl": NO_CHUNKS} if all(request.gaps_ns is None for request in done) else {}
    return (
        ImportedRun(
            tool="aiperf",
            tool_version=node.get("aiperf_version").text(),
            model=_model(node),
            load=_load(node, completed + failed),
            endpoint=node.get("input_config", "endpoint", "type").text(),
            started_unix_ns=origin if measured else _local_start_ns(node),
            window_ns=window,
            requests=to_table(requests, origin) if measured else None,
            completed=completed,
            failed=failed,
            told=told,
            absent=absent,
            own=_own(node),
            reasons=_failures(node, completed, failed) if not measured else (),
            notes=_notes(node, measured),
            command=node.get("run_info", "cli_command").text() or node.get("input_config", "cli_command").text(),
        ),
    )


def _refuse_incomplete(node: Node) -> None:
    if node.get("was_cancelled").value is True:
        why = node.get("incomplete_reason").value or "was_cancelled is true"
        raise incomplete(node.where, f"the run was cancelled ({why}), so its numbers are of a part of the load")
    if node.get("is_complete").value is False:
        why = node.get("incomplete_reason").value or "is_complete is false"
        raise incomplete(node.where, f"the run is incomplete: {why}")


def _first_error(node: Node) -> str:
    for item in node.get("error_summary").elements():
        details = item.get("error_details")
        return f"{details.get('code').value or ''} {details.get('type').value or ''}".strip() or "error without a type"
    return "it names no error"


def _avg_count(node: Node, name: str) -> int:
    return round(node.get(name, "avg").at_least(0) or 0)


def _records(document: Document) -> list[Node]:
    for name, text in document.beside.items():
        lines = [(number, line) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
        return [_record(line, f"{name}, line {number}") for number, line in lines]
    return []


def _record(line: str, where: str) -> Node:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise not_a_result(
            where, f"is not JSON ({error})", "the file is cut: copy it again, or move it away to import the summary"
        ) from error
    if not isinstance(value, dict) or not isinstance(value.get("metadata"), dict):
        raise not_a_result(where, "is no record of a request", "give the file as AIPerf wrote it")
    return Node(value, where)


def _request(record: Node, summary: Node) -> Request:
    meta, metrics = record.get("metadata"), record.get("metrics")
    sent_ns = meta.get("request_start_ns").ns()
    phase = "warmup" if meta.get("benchmark_phase").value == "warmup" else "measure"
    is_open = _phase(summary)[0] != CLOSED
    error = record.get("error")
    wrong: tuple[str | None, str | None] = (None, None)
    if not error.absent:
        wrong = (_error_class(error), str(error.get("message").value or error.get("type").value or error.value))
    elif meta.get("was_cancelled").value is True:
        phase, wrong = "drain", ("cancelled", "the request was cancelled")
    first_ns, last_ns = _time(metrics, "time_to_first_token"), _time(metrics, "request_latency")
    if wrong[0] is None and last_ns is None:
        wrong = ("no_content", "the record has no request_latency")
    gaps = metrics.get("inter_chunk_latency")
    gaps_ns = None if gaps.absent else [gap or 0 for gap in _gaps(gaps)]
    code = error.get("code").count()
    tokenizer, usage = metrics.get("output_sequence_length", "value"), metrics.get("usage_completion_tokens", "value")
    by_server = summary.get("input_config", "endpoint", "use_server_token_count").value is True
    return Request(
        sent_at_ns=sent_ns,
        intended_at_ns=meta.get("credit_issued_ns").ns() if is_open and phase == "measure" else None,
        phase=phase,
        error_class=wrong[0],
        error=wrong[1],
        http_status=code if code is not None and 100 <= code <= 599 else None,
        first_ns=first_ns,
        last_ns=last_ns,
        first_output_ns=_time(metrics, "time_to_first_output_token"),
        gaps_ns=gaps_ns,
        content_events=None if gaps_ns is None else len(gaps_ns) + 1,
        prompt_tokens=metrics.get("usage_prompt_tokens", "value").count()
        or metrics.get("input_sequence_length", "value").count(),
        output_tokens=usage.count() if not usage.absent else (tokenizer.count() if by_server else None),
        tokenizer_prompt_tokens=None if by_server else metrics.get("input_sequence_length", "value").count(),
        tokenizer_output_tokens=None if by_server else tokenizer.count(),
        new_connection=_new_connection(metrics),
    )


def _error_class(error: Node) -> str:
    code = error.get("code").count()
    if code is not None and 400 <= code <= 599:
        return f"http_{code}"
    return str(error.get("type").value or "error")


def _new_connection(metrics: Node) -> bool | None:
    reused = metrics.get("http_req_connection_reused", "value").number()
    return None if reused is None else reused == 0


def _time(metrics: Node, name: str) -> int | None:
    metric = metrics.get(name)
    return metric.get("value").ns(_unit_ns(metric))


def _gaps(metric: Node) -> Iterable[int | None]:
    unit_ns = _unit_ns(metric)
    return [gap.ns(unit_ns) for gap in metric.get("value").elements()]


def _unit_ns(metric: Node) -> float:
    unit = metric.get("unit").text() or "ms"
    if unit not in UNIT_NS:
        raise metric.bad(f"has the unit {unit!r}; known: {', '.join(UNIT_NS)}")
    return UNIT_NS[unit]


def _told(node: Node) -> tuple[dict[str, float], dict[str, str]]:
    """Return the summary's values whose definition is ours, and why others are not taken."""
    told: dict[str, float] = {}
    absent: dict[str, str] = {}
    per_chunk = node.get("input_config", "endpoint", "per_chunk_usage").value is True
    for name, stem in STEMS.items():
        if stem == "tpot" and per_chunk:
            absent |= {"tpot": FIRST_CHUNK, "tokens_s_per_user": FIRST_CHUNK}
            continue
        metric = node.get(name)
        for level in LEVELS:
            value = metric.get(level).at_least(0)
            if value is not None:
                told[f"{stem}_{level}_ms"] = value * _unit_ns(metric) / NS_PER_MS
    if node.get("inter_chunk_latency").absent:
        absent["itl"] = NO_CHUNKS
    for name, metric_key in RATES.items():
        value = node.get(name, "avg").at_least(0)
        if value is not None:
            told[metric_key] = value
    by_usage, disagreement = _by_usage(node)
    told |= by_usage
    if disagreement is not None:
        absent |= {"tpot": disagreement, "tokens_s_per_user": disagreement}
    elif told.get("tpot_p50_ms"):
        told["tokens_s_per_user"] = 1000 / told["tpot_p50_ms"]
    return told, absent


def _by_usage(node: Node) -> tuple[dict[str, float], str | None]:
    """Return the rates by the server's usage, where the summary has it, and whether the tokenizer disagrees."""
    output, counted = (node.get(name, "avg").at_least(0) for name in ("total_usage_completion_tokens", "total_osl"))
    prompts = node.get("total_usage_prompt_tokens", "avg").at_least(0)
    duration = node.get("benchmark_duration", "avg").at_least(0)
    if not output or not duration:
        return {}, None
    told = {"output_tokens_s": output / duration}
    if prompts is not None:
        told |= {"input_tokens_s": prompts / duration, "total_tokens_s": (prompts + output) / duration}
    if counted is None or abs(output / max(counted, 1) - 1) <= TOKENS_AGREE:
        return told, None
    return told, f"AIPerf divides by its tokenizer's {counted:.0f} output tokens, the server counted {output:.0f}"


def _own(node: Node) -> Json:
    """Return the tool's metrics under its own names: mean, quantiles and unit."""
    kept = ("avg", *LEVELS, "min", "max", "std", "unit")
    found: Json = {}
    for name, metric in node.items():
        if metric.is_object and "unit" in metric.value and "avg" in metric.value:
            found[name] = {
                key: metric.value[key] for key in kept if isinstance(metric.value.get(key), str | int | float)
            }
    return found


def _phase(node: Node) -> tuple[str, Node]:
    """Return the mode of the measured phase and where its numbers stand."""
    config = node.get("input_config")
    for phase in config.get("phases").elements():
        if phase.get("kind").value != "warmup" and phase.get("name").value != "warmup":
            return MODES.get(str(phase.get("type").value), "constant"), phase
    loadgen = config.get("loadgen")
    if not loadgen.get("request_rate").absent:
        return MODES.get(str(loadgen.get("request_rate_mode").value), "poisson"), loadgen
    if loadgen.get("fixed_schedule").value or config.get("input", "fixed_schedule").value:
        return "trace", loadgen
    return CLOSED, loadgen


def _load(node: Node, requests: int) -> LoadSpec:
    mode, phase = _phase(node)
    rate = phase.get("rate").at_least(0) or phase.get("request_rate").at_least(0)
    return LoadSpec(
        mode=mode,
        concurrency=phase.get("concurrency").count() or (1 if mode == CLOSED else requests),
        rate_rps=None if mode == CLOSED else rate,
        isl=_asked(node, "isl", "input_tokens") or _avg_count(node, "input_sequence_length"),
        osl=_asked(node, "osl", "output_tokens") or _avg_count(node, "output_sequence_length"),
        requests=requests,
    )


def _asked(node: Node, length: str, older: str) -> int | None:
    """Return a length that was asked for, so that two runs of one plan have one identity."""
    config = node.get("input_config")
    for dataset in config.get("datasets").elements():
        return round(dataset.get("prompts", length, "mean").at_least(0) or 0) or None
    return round(config.get("input", "prompt", older, "mean").at_least(0) or 0) or None


def _model(node: Node) -> str:
    config = node.get("input_config")
    names = [item.get("name").text() for item in config.get("models", "items").elements()]
    names += [item.text() for item in config.get("endpoint", "model_names").elements()]
    return next((name for name in names if name), "unknown")


def _local_start_ns(node: Node) -> int | None:
    text = node.get("start_time").text()
    try:
        found = datetime.fromisoformat(text) if text else None
        # Written without a zone: read as UTC, which `_notes` tells.
        return None if found is None else round(found.replace(tzinfo=found.tzinfo or UTC).timestamp()) * NS_PER_S
    except (ValueError, OverflowError) as error:
        raise node.get("start_time").bad(f"is no time: {text!r}") from error


def _failures(node: Node, completed: int, failed: int) -> tuple[Reason, ...]:
    if not failed:
        return ()
    return (Reason(code="requests_failed", detail=f"{failed} of {completed + failed} requests: {_first_error(node)}"),)


def _notes(node: Node, measured: list[Request]) -> tuple[str, ...]:
    notes = ["TTFT includes the wait for a connection: AIPerf's clock starts before it has one"]
    if measured and _phase(node)[0] != CLOSED:
        notes.append("a request was due when AIPerf issued its credit: latencies count from there")
    by_server = node.get("input_config", "endpoint", "use_server_token_count").value is True
    has_usage = all(request.output_tokens is not None for request in measured if request.ok)
    if not by_server and not (has_usage if measured else _by_usage(node)[0]):
        notes.append(TOKENIZER_TOKENS)
    if not measured:
        notes.append("no single requests: profile_export.jsonl was not beside the summary")
        notes.append("the start is AIPerf's local time, read as UTC: the file names no zone")
    return tuple(notes)
