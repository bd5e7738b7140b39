"""genai-perf: ``profile_export_genai_perf.json`` and perf_analyzer's ``profile_export.json`` beside it. Pure.

Read from genai-perf 0.0.16 and perf_analyzer's ``profile_data_exporter.cc``. perf_analyzer keeps the wall-clock
time (ns) and the text of every read, so latencies and gaps are computed here by our own definitions, from the reads
that hold content. Tokens are counted by genai-perf with the client's tokenizer; the server's usage is there only
where the server sent it. Its ``inter_token_latency`` is one mean per request, (latency - TTFT) / (tokens - 1).
"""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

from enginewatch_db.model import Json
from enginewatch_harness.importers.facts import Document, ImportedRun, Opened, incomplete, not_a_result
from enginewatch_harness.importers.nodes import NS_PER_MS, NS_PER_S, Node
from enginewatch_harness.importers.rows import Request, end_ns, origin_ns, to_table
from enginewatch_harness.load.spec import CLOSED, LoadSpec

SUMMARY_SUFFIX = "_genai_perf.json"
UNITS_NS = {"ns": 1.0, "us": 1e3, "ms": float(NS_PER_MS), "s": float(NS_PER_S)}
LEVELS = ("p50", "p90", "p95", "p99")
STEMS = {"time_to_first_token": "ttft", "request_latency": "e2e", "inter_token_latency": "tpot"}
NO_TOKENS = "the server sent no usage, and genai-perf's own token counts are in its summary, which is not there"
TOKENIZER_TOKENS = "output tokens were counted with the client's tokenizer: the file has no usage of the server"
NO_GAPS = (
    "genai-perf's inter_token_latency is one mean per request; the gaps are in perf_analyzer's profile_export.json"
)
NEED_TOKENS = ("output_tokens_s", "input_tokens_s", "total_tokens_s", "tpot", "tokens_s_per_user")
NO_RAW = "no single requests: perf_analyzer's profile_export.json was not beside the summary"


def recognises(opened: Opened) -> bool:
    """Return whether this is genai-perf's summary."""
    found = opened.value if opened.kind == "json" and isinstance(opened.value, dict) else {}
    config = found.get("input_config")
    if not isinstance(config, dict) or "aiperf_version" in found or "was_cancelled" in found:
        return False
    return "perf_analyzer" in config or "subcommand" in config or "formatted_model_name" in config


def is_raw(opened: Opened) -> bool:
    """Return whether this is perf_analyzer's file of single requests."""
    found = opened.value if opened.kind == "json" and isinstance(opened.value, dict) else {}
    return isinstance(found.get("experiments"), list) and "service_kind" in found


def raw_name(summary: str) -> str | None:
    """Return the name of perf_analyzer's file that belongs to a summary."""
    return summary.removesuffix(SUMMARY_SUFFIX) + ".json" if summary.endswith(SUMMARY_SUFFIX) else None


def summary_name(raw: str) -> str:
    """Return the name of the summary that belongs to perf_analyzer's file."""
    return raw.removesuffix(".json") + SUMMARY_SUFFIX


def parse(opened: Opened) -> tuple[ImportedRun, ...]:
    """Parse a summary with perf_analyzer's file beside it, or that file alone.

    Raises:
        UsageError: It is no such file, or a value in it cannot be.
        MeasurementError: Nothing in it succeeded.
    """
    document = opened.document
    if is_raw(opened):
        return _runs(Node({}, document.name), Node(opened.value, document.name))
    summary = Node(opened.value, document.name)
    raw = _raw(document)
    return _runs(summary, raw) if raw is not None else (_from_summary(summary),)


def _raw(document: Document) -> Node | None:
    for name, text in document.beside.items():
        try:
            return Node(json.loads(text), name)
        except (ValueError, RecursionError) as error:
            raise not_a_result(
                name, f"is not JSON ({error})", "the file is cut: copy it again, or move it away to import the summary"
            ) from error
    return None


def _runs(summary: Node, raw: Node) -> tuple[ImportedRun, ...]:
    experiments = raw.get("experiments").elements()
    if not experiments:
        raise incomplete(raw.where, "it has no experiment: perf_analyzer ended before it had measured")
    if len(experiments) > 1 and summary.value:
        summary = Node({}, summary.where)
    return tuple(
        _run(summary, raw, item, f"experiment {number}" if len(experiments) > 1 else "")
        for number, item in enumerate(experiments, start=1)
    )


def _run(summary: Node, raw: Node, experiment: Node, place: str) -> ImportedRun:
    requests = sorted(
        (_request(item) for item in experiment.get("requests").elements()), key=lambda r: r.sent_at_ns or 0
    )
    done = [request for request in requests if request.ok]
    if not done:
        raise incomplete(experiment.where, f"none of {len(requests)} requests has an answer with content")
    origin = origin_ns(requests)
    has_usage = all(item.output_tokens is not None for item in done)
    told = {} if has_usage else _told(summary, ("inter_token_latency",))
    if not has_usage:
        # Only counts of tokens are missing in the single requests; without a summary they are missing at all.
        told = {key: value for key, value in told.items() if key in NEED_TOKENS or key.startswith("tpot")}
    mode = experiment.get("experiment", "mode").text()
    value = experiment.get("experiment", "value").at_least(0)
    return ImportedRun(
        tool="genai-perf",
        tool_version=None,
        place=place,
        model=_model(summary, experiment),
        server=_server(summary, raw),
        load=_load(summary, len(requests), mode, value),
        endpoint=raw.get("endpoint").text(),
        started_unix_ns=origin,
        window_ns=(0, max(end_ns(requests) + 1 - origin, 1)),
        requests=to_table(requests, origin),
        completed=len(done),
        failed=len(requests) - len(done),
        told=told,
        told_wins=frozenset(key for key in ("tpot", *NEED_TOKENS) if not has_usage),
        absent={} if has_usage or told else dict.fromkeys(NEED_TOKENS, NO_TOKENS),
        own=_own(summary),
        notes=(
            "times are perf_analyzer's wall clock: a step of it is a step in them",
            *(() if has_usage else (TOKENIZER_TOKENS,)),
        ),
        versions=_versions(raw),
    )


def _from_summary(node: Node) -> ImportedRun:
    completed = round(node.get("request_count", "avg").at_least(0) or 0)
    throughput = node.get("request_throughput", "avg").at_least(0)
    if not node.get("request_latency").is_object or not throughput:
        raise incomplete(node.where, "it has no request_latency and request_throughput: no request succeeded")
    stimulus = node.get("input_config", "perf_analyzer", "stimulus")
    mode = "request_rate" if not stimulus.get("request_rate").absent else "concurrency"
    return ImportedRun(
        tool="genai-perf",
        tool_version=None,
        model=_model(node, Node({}, node.where)),
        server=_server(node, Node({}, node.where)),
        load=_load(node, completed, mode, stimulus.get(mode).at_least(0)),
        endpoint=node.get("input_config", "endpoint", "type").text(),
        window_ns=(0, max(round(completed / throughput * NS_PER_S), 1)),
        completed=completed,
        failed=None,
        told=_told(node, tuple(STEMS)),
        absent={"itl": NO_GAPS, "zero_gap_pct": NO_GAPS},
        own=_own(node),
        notes=(NO_RAW, TOKENIZER_TOKENS),
    )


def _told(node: Node, names: tuple[str, ...]) -> dict[str, float]:
    told = {}
    for name in names:
        metric = node.get(name)
        unit_ns = UNITS_NS.get(metric.get("unit").text() or "ms")
        if unit_ns is None:
            raise metric.bad(f"has the unit {metric.get('unit').value!r}; known: {', '.join(UNITS_NS)}")
        for level in LEVELS:
            value = metric.get(level).at_least(0)
            if value is not None:
                told[f"{STEMS[name]}_{level}_ms"] = value * unit_ns / NS_PER_MS
    requests, output = (node.get(f"{name}_throughput", "avg").at_least(0) for name in ("request", "output_token"))
    inputs = node.get("input_sequence_length", "avg").at_least(0)
    rates = {"requests_s": requests, "output_tokens_s": output}
    if requests is not None and inputs is not None:
        rates["input_tokens_s"] = requests * inputs
        rates["total_tokens_s"] = None if output is None else requests * inputs + output
    told |= {key: value for key, value in rates.items() if value is not None}
    if told.get("tpot_p50_ms"):
        told["tokens_s_per_user"] = 1000 / told["tpot_p50_ms"]
    return told


def _request(item: Node) -> Request:
    sent_ns = item.get("timestamp").ns()
    stamps = [stamp.ns() or 0 for stamp in item.get("response_timestamps").elements()]
    outputs = item.get("response_outputs").elements()
    if sent_ns is None or len(stamps) != len(outputs) or any(stamp < sent_ns for stamp in stamps):
        raise item.bad("has times that do not fit: a start, and one later time for each response")
    times: list[int] = []
    usage: Json = {}
    error: str | None = None
    for stamp, output in zip(stamps, outputs, strict=True):
        for event in _events(output):
            usage = event["usage"] if isinstance(event.get("usage"), dict) else usage
            error = str(event["error"]) if event.get("error") else error
            # Events that came in one read share its time, as in our own client.
            if _has_content(event):
                times.append(stamp)
    if error is not None or not times:
        return Request(sent_at_ns=sent_ns, error_class="error" if error else "no_content", error=error or "no content")
    counts = Node(usage, item.where)
    return Request(
        sent_at_ns=sent_ns,
        first_ns=times[0] - sent_ns,
        last_ns=max(times) - sent_ns,
        gaps_ns=[max(later - earlier, 0) for earlier, later in pairwise(times)],
        content_events=len(times),
        prompt_tokens=counts.get("prompt_tokens").count(),
        output_tokens=counts.get("completion_tokens").count(),
    )


def _events(output: Node) -> list[dict[str, Any]]:
    """Return the JSON objects in one read: events of a stream, or a whole answer; what is none is left out."""
    text = output.get("response").value
    if not isinstance(text, str):
        # Triton's own protocols give the output tensor by its name.
        named = output.get("text_output").value
        return [{"text_output": named}] if isinstance(named, str) else []
    found = []
    for line in text.splitlines():
        data = line.removeprefix("data:").strip()
        if not data or data == "[DONE]":
            continue
        try:
            value = json.loads(data)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            found.append(value)
    return found


def _has_content(event: Json) -> bool:
    if event.get("text_output") or event.get("generated_text"):
        return True
    choices = event.get("choices")
    for choice in choices if isinstance(choices, list) else []:
        if not isinstance(choice, dict):
            continue
        if choice.get("text"):
            return True
        said = choice.get("delta") or choice.get("message")
        if isinstance(said, dict) and any(
            said.get(key) for key in ("content", "reasoning_content", "reasoning", "tool_calls")
        ):
            return True
    return False


def _own(node: Node) -> Json:
    kept = ("avg", *LEVELS, "min", "max", "std", "unit")
    return {
        name: {key: metric.value[key] for key in kept if isinstance(metric.value.get(key), str | int | float)}
        for name, metric in node.items()
        if metric.is_object and "unit" in metric.value
    }


def _model(summary: Node, experiment: Node) -> str:
    config = summary.get("input_config")
    names = [item.text() for key in ("model_names", "model") for item in _as_list(config.get(key))]
    for request in experiment.get("requests").elements()[:1]:
        payload = request.get("request_inputs", "payload").value
        try:
            names.append(Node(json.loads(payload), request.where).get("model").text())
        except (TypeError, ValueError, RecursionError):
            continue
    return next((name for name in names if name), "unknown")


def _as_list(node: Node) -> list[Node]:
    return [node] if isinstance(node.value, str) else node.elements()


def _server(summary: Node, raw: Node) -> str:
    kind = raw.get("service_kind").text() or summary.get("input_config", "endpoint", "service_kind").text()
    return "triton" if kind is not None and kind.startswith("triton") else "openai"


def _load(summary: Node, requests: int, mode: str | None, value: float | None) -> LoadSpec:
    config = summary.get("input_config", "input")
    isl = config.get("synthetic_tokens", "mean").at_least(0) or summary.get("input_sequence_length", "avg").at_least(0)
    osl = config.get("output_tokens", "mean").at_least(0) or summary.get("output_sequence_length", "avg").at_least(0)
    if mode == "request_rate":
        return LoadSpec(
            mode="constant",
            concurrency=max(requests, 1),
            rate_rps=value,
            isl=round(isl or 0),
            osl=round(osl or 0),
            requests=requests,
        )
    return LoadSpec(
        mode=CLOSED, concurrency=round(value or 1), isl=round(isl or 0), osl=round(osl or 0), requests=requests
    )


def _versions(raw: Node) -> dict[str, str]:
    version = raw.get("version").text()
    return {} if version is None else {"perf_analyzer": version}
