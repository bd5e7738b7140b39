"""``vllm bench serve`` and its relatives: SGLang's ``bench_serving``, TensorRT-LLM's ``benchmark_serving``. Pure.

All three write one flat JSON object, or append it as a line. With ``--save-detailed`` (SGLang: ``--output-details``)
it has a list per request. vLLM of February 2026 and newer also writes ``start_times``, so that ``parse.vllm_bench``
can place every token; older files and the relatives give latencies and gaps without a time line.

What differs: SGLang's request latency ends with the usage event, so E2E and TPOT are taken from the gaps or not at
all; TensorRT-LLM's client takes the role event of a chat as the first token and opens a connection per request.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime

from enginewatch_db.model import Json
from enginewatch_db.validity import Reason
from enginewatch_harness.importers.facts import ImportedRun, Opened, incomplete
from enginewatch_harness.importers.nodes import NS_PER_S, Node
from enginewatch_harness.importers.rows import Request, to_table
from enginewatch_harness.load.spec import CLOSED, LoadSpec
from enginewatch_harness.parse.vllm_bench import BenchResult, error_class, parse_result

LEVELS = {"p50": ("p50", "median"), "p90": ("p90",), "p95": ("p95",), "p99": ("p99",)}
RATES = {
    "request_throughput": "requests_s",
    "output_throughput": "output_tokens_s",
    "total_token_throughput": "total_tokens_s",
    "total_throughput": "total_tokens_s",
    "input_throughput": "input_tokens_s",
}
DETAILS = ("ttfts", "itls", "input_lens", "output_lens", "errors")
HIDDEN = (*DETAILS, "start_times", "generated_texts", "server_info", "e2els", "cached_tokens", "cached_tokens_details")
ROLE_EVENT = "TensorRT-LLM's benchmark_serving takes the role event of a chat as the first token"
USAGE_EVENT = "SGLang's latency ends with the usage event, not with the last content"
NO_QUANTILE = "the summary lacks this percentile: give --metric-percentiles 50,90,95,99 and --percentile-metrics"
NO_START = "the file has no start times of requests: they are in no order on a time line, rates are the tool's"
_FORMAT = "%Y%m%d-%H%M%S"


def recognises(opened: Opened) -> bool:
    """Return whether this is a result of vLLM's, SGLang's or TensorRT-LLM's serving benchmark."""
    if opened.kind == "lines":
        return bool(opened.value) and _is_result(opened.value[0][0])
    return opened.kind == "json" and _is_result(opened.value)


def _is_result(found: object) -> bool:
    return isinstance(found, dict) and {"completed", "duration", "request_throughput"} <= set(found)


def parse(opened: Opened) -> tuple[ImportedRun, ...]:
    """Parse a result file: one run for each object in it.

    Raises:
        UsageError: It is no such file, or a value in it cannot be.
        MeasurementError: Nothing in it succeeded.
    """
    if opened.kind == "json":
        return (_run(Node(opened.value, opened.document.name), ""),)
    objects = opened.value
    return tuple(
        _run(Node(value, where), f"line {number}" if len(objects) > 1 else "")
        for number, (value, where) in enumerate(objects, start=1)
    )


def _tool(node: Node) -> str:
    found = node.value
    if "user_throughput" in found or "avg_decoded_tokens_per_iter" in found:
        return "trtllm-serve"
    if "server_info" in found or "median_e2e_latency_ms" in found or "total_output_tokens_retokenized" in found:
        return "sglang"
    return "vllm"


def _run(node: Node, place: str) -> ImportedRun:
    tool = _tool(node)
    completed = node.get("completed").count() or 0
    asked = node.get("num_prompts").count()
    failed = node.get("failed").count()
    if failed is None and asked is not None:
        failed = max(asked - completed, 0)
    if not completed:
        raise incomplete(
            node.where,
            f"none of {asked if asked is not None else 'its'} requests succeeded: {_error(node)}; the zeros in it are "
            "no latencies",
            "read the server's log, and measure again",
        )
    detailed = _detailed(node) if tool == "vllm" else None
    requests = None if detailed is not None else _requests(node, tool)
    told, absent = _told(node, tool, has_gaps=requests is not None)
    duration_ns = node.get("duration").ns(NS_PER_S)
    if not duration_ns:
        raise node.bad(f"is {node.get('duration').value!r}, not a time above 0", "duration")
    return ImportedRun(
        tool=tool,
        tool_version=None,
        place=place,
        model=node.get("model_id").text() or node.get("server_info", "model_path").text() or "unknown",
        server=_server(node, tool),
        server_version=node.get("server_info", "version").text(),
        load=_load(node, completed + (failed or 0), completed),
        endpoint=node.get("endpoint_type").text() or node.get("backend").text(),
        started_unix_ns=_start_ns(node, duration_ns),
        window_ns=detailed.window_ns if detailed is not None else (0, duration_ns),
        requests=detailed.requests if detailed is not None else _table(requests),
        completed=completed,
        failed=failed,
        told=told,
        absent=absent,
        own=_own(node),
        reasons=_reasons(node, completed, failed, has_rows=detailed is not None or requests is not None),
        notes=_notes(tool, has_starts=detailed is not None, has_rows=requests is not None),
    )


def _detailed(node: Node) -> BenchResult | None:
    if not isinstance(node.value.get("start_times"), list):
        return None
    _check(node)
    return parse_result(node.value, node.where)


def _check(node: Node) -> None:
    """Refuse values of the wrong kind; ``parse.vllm_bench`` refuses those that do not fit each other."""
    for name in ("ttfts", "start_times"):
        for item in node.get(name).elements():
            item.need()
            item.at_least(0)
    for name in ("input_lens", "output_lens"):
        for item in node.get(name).elements():
            if item.count() is None:
                raise item.bad("is absent")
    for gaps in node.get("itls").elements():
        if gaps.absent:
            raise gaps.bad("is absent")
        for gap in gaps.elements():
            gap.need()
    for item in (*node.get("errors").elements(), node.get("date"), node.get("label"), node.get("model_id")):
        item.text()
    node.get("max_concurrency").count()


def _requests(node: Node, tool: str) -> list[Request] | None:
    if not all(isinstance(node.value.get(name), list) for name in DETAILS):
        return None
    columns = {name: node.get(name).elements() for name in DETAILS}
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise node.bad(f"has lists of different lengths: {', '.join(f'{key} {n}' for key, n in lengths.items())}")
    role_event = tool == "trtllm-serve" and _is_chat(node)
    return [
        _request(*(columns[name][number] for name in DETAILS), role_event=role_event)
        for number in range(lengths["ttfts"])
    ]


def _request(ttft: Node, gaps: Node, isl: Node, osl: Node, error: Node, *, role_event: bool) -> Request:
    text = error.value if isinstance(error.value, str) else None
    tokens = osl.count()
    if text or not tokens:
        return Request(sent_at_ns=None, error_class=error_class(text), error=text or "no output and no error text")
    first_ns = ttft.ns(NS_PER_S)
    gaps_ns = [gap.ns(NS_PER_S) or 0 for gap in gaps.elements()]
    if not first_ns:
        raise ttft.bad("is 0 for a request that succeeded: it was not streamed")
    last_ns = first_ns + sum(gaps_ns)
    if role_event:
        # The first gap begins at the role event, so it is no gap between tokens.
        first_ns, gaps_ns = None, gaps_ns[1:]
    return Request(
        sent_at_ns=None,
        first_ns=first_ns,
        last_ns=last_ns,
        gaps_ns=gaps_ns,
        content_events=len(gaps_ns) + 1,
        prompt_tokens=isl.count(),
        output_tokens=tokens,
    )


def _table(requests: list[Request] | None) -> object:
    return None if requests is None else to_table(requests, 0)


def _is_chat(node: Node) -> bool:
    return "chat" in str(node.get("backend").value or node.get("endpoint_type").value or "")


def _told(node: Node, tool: str, *, has_gaps: bool) -> tuple[dict[str, float], dict[str, str]]:
    stems = {"ttft": "ttft", "tpot": "tpot", "itl": "itl", "e2el": "e2e"}
    absent: dict[str, str] = {}
    if tool == "sglang":
        stems = {"ttft": "ttft", "itl": "itl"}
        absent |= {} if has_gaps else {"tpot": USAGE_EVENT, "e2e": USAGE_EVENT, "tokens_s_per_user": USAGE_EVENT}
    elif tool == "trtllm-serve" and _is_chat(node):
        stems = {"e2el": "e2e"}
        absent |= dict.fromkeys(("ttft", "tpot", "tokens_s_per_user"), ROLE_EVENT)
        absent |= {} if has_gaps else {"itl": ROLE_EVENT}
    told = _quantiles(node, stems)
    for name, metric in RATES.items():
        value = node.get(name).at_least(0)
        if value is not None:
            told[metric] = value
    duration, inputs = node.get("duration").at_least(0), node.get("total_input_tokens").at_least(0)
    if duration and inputs is not None:
        told.setdefault("input_tokens_s", inputs / duration)
    if "tpot_p50_ms" in told and told["tpot_p50_ms"] > 0:
        told["tokens_s_per_user"] = 1000 / told["tpot_p50_ms"]
    return told, absent


def _quantiles(node: Node, stems: dict[str, str]) -> dict[str, float]:
    told = {}
    for theirs, ours in stems.items():
        for level, names in LEVELS.items():
            values = [node.get(f"{name}_{theirs}_ms").at_least(0) for name in names]
            value = next((item for item in values if item is not None), None)
            # Zeros stand for "not measured" in these files.
            if value:
                told[f"{ours}_{level}_ms"] = value
    return told


def _server(node: Node, tool: str) -> str:
    if tool == "trtllm-serve":
        return "tensorrt-llm"
    backend = str(node.get("backend").value or "")
    if tool == "sglang":
        return backend.split("-")[0] if backend.split("-")[0] in ("sglang", "vllm", "lmdeploy") else "openai"
    return backend if backend in ("sglang", "lmdeploy", "tensorrt-llm") else "openai"


def _rate(node: Node) -> float | None:
    value = node.get("request_rate").value
    if value in (None, "inf", "trace") or (isinstance(value, float) and math.isinf(value)):
        return None
    rate = node.get("request_rate").at_least(0)
    if not rate:
        raise node.bad(f"is {value!r}, not a rate", "request_rate")
    return rate


def _load(node: Node, requests: int, completed: int) -> LoadSpec:
    rate = _rate(node)
    burstiness = node.get("burstiness").value
    mode = CLOSED if rate is None else "poisson"
    if node.get("request_rate").value == "trace":
        mode = "trace"
    elif rate is not None and isinstance(burstiness, int | float) and not isinstance(burstiness, bool):
        mode = "constant" if math.isinf(burstiness) else ("poisson" if burstiness == 1 else "gamma")
    return LoadSpec(
        mode=mode,
        # Without a limit every request of an unlimited rate is in flight at once.
        concurrency=node.get("max_concurrency").count() or requests,
        rate_rps=rate,
        isl=round((node.get("total_input_tokens").at_least(0) or 0) / completed),
        osl=round((node.get("total_output_tokens").at_least(0) or 0) / completed),
        requests=requests,
    )


def _start_ns(node: Node, duration_ns: int) -> int | None:
    text = node.get("date").text()
    if text is None:
        return None
    try:
        written = datetime.strptime(text, _FORMAT).replace(tzinfo=UTC)
    except ValueError as error:
        raise node.get("date").bad(f"is no time: {text!r}") from error
    return max(round(written.timestamp()) * NS_PER_S - duration_ns, 0)


def _error(node: Node) -> str:
    for error in node.value.get("errors") or () if isinstance(node.value.get("errors"), list) else ():
        if isinstance(error, str) and error.strip():
            return error.strip().splitlines()[-1][:200]
    return "it names no error"


def _own(node: Node) -> Json:
    kept = {}
    for key, value in node.value.items():
        is_plain = value is None or isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value))
        if key not in HIDDEN and is_plain:
            kept[key] = value
    return kept


def _reasons(node: Node, completed: int, failed: int | None, *, has_rows: bool) -> tuple[Reason, ...]:
    if not failed or has_rows:
        return ()
    return (Reason(code="requests_failed", detail=f"{failed} of {completed + failed} requests: {_error(node)}"),)


def _notes(tool: str, *, has_starts: bool, has_rows: bool) -> tuple[str, ...]:
    notes = []
    if has_starts:
        notes.append("latencies count from when the client began to send: it does not record when a request was due")
    elif has_rows:
        notes.append(NO_START)
    else:
        notes.append("no single requests: the file was written without --save-detailed")
    if tool == "trtllm-serve":
        notes.append("a new connection per request is inside every latency")
    if tool != "sglang":
        notes.append("the start is the client's local time less the duration, read as UTC: the file names no zone")
    return tuple(notes)
