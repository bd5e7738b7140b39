"""From what ``trtllm-bench`` wrote to a measurement. The report is parsed by ``importers.trtllm``."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from enginewatch_db.errors import BackendError, EnginewatchError, MeasurementError
from enginewatch_db.metrics import MetricValue
from enginewatch_db.model import Json, Phase
from enginewatch_db.validity import Reason
from enginewatch_harness.importers import registry, trtllm
from enginewatch_harness.importers.facts import Document, ImportedRun
from enginewatch_harness.importers.metrics import judge_import
from enginewatch_harness.importers.rows import Request, to_table
from enginewatch_harness.load.judgement import Judgement
from enginewatch_harness.load.spec import LoadSpec
from enginewatch_harness.parse.trtllm_iterations import Iterations, parse_lines, parse_printed
from enginewatch_harness.parse.trtllm_quant import Quantisation, quantisation
from enginewatch_harness.parse.trtllm_requests import parse_requests
from enginewatch_harness.targets import trtllm_stats
from enginewatch_harness.targets.samples import Seen
from enginewatch_harness.targets.watch import ServerSide, server_side

if TYPE_CHECKING:
    import pyarrow as pa

REPORT = "trtllm-bench.report.json"
LOG = "trtllm-bench's log"
RATE_TOLERANCE = 0.01
"""Rates from single requests and from the report are of the same stamps; more than rounding lies between them: one of
the two files is another run's."""

_EFFECTIVE = ("tp_size", "pp_size", "ep_size", "max_batch_size", "max_num_tokens", "scheduling_policy")


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What the report says.

    Attributes:
        run: As an import of it.
        quantisation: Precision that ran.
        backend: ``pytorch``, ``trt``, ``_autodeploy``.
        effective: Limits and parallelism as they were.
    """

    run: ImportedRun
    quantisation: Quantisation
    backend: str | None
    effective: Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """One run of the tool.

    Attributes:
        report: What it reported.
        requests: Its requests; empty where the tool keeps none.
        window_ns: First start and last end on the monotonic clock.
        judgement: Metrics and validity.
        table: ``llm_requests``; ``None`` without requests.
        notes: What a reader needs to know.
    """

    report: Report
    requests: tuple[Request, ...]
    window_ns: tuple[int, int]
    judgement: Judgement
    table: pa.Table | None
    notes: tuple[str, ...]


def read_report(json_text: str | None, log: str) -> Report:
    """Return the report: the file's, else the one in the log.

    Raises:
        MeasurementError: There is none, it is cut, or a value in it cannot be (``load_failed``).
    """
    # The last line may be cut in the middle of a number.
    text, name = (json_text, REPORT) if json_text is not None else (log[: log.rfind("\n") + 1], LOG)
    try:
        opened = registry.open_document(Document(name=name, text=text, sha256="", modified_at=""))
        if not trtllm.recognises(opened):
            raise MeasurementError(
                f"{name} is no report", code="load_failed", remedy="read the log in the run's folder"
            )
        run = trtllm.parse(opened)[0]
    except BackendError:
        raise
    except EnginewatchError as error:
        raise MeasurementError(error.message, code="load_failed", remedy="measure again") from error
    value = opened.value if isinstance(opened.value, dict) else _from_log(text, name)
    engine, world = _block(value, "engine"), _block(value, "world_info")
    return Report(
        run=run,
        quantisation=quantisation(engine.get("quantization"), engine.get("kv_cache_dtype"), engine.get("dtype")),
        backend=str(engine["backend"]).lower() if isinstance(engine.get("backend"), str) else None,
        effective=_effective(world),
    )


def _from_log(text: str, name: str) -> Json:
    from enginewatch_harness.importers.trtllm_text import report_of

    return report_of(text, name)


def _block(value: Json, key: str) -> Json:
    found = value.get(key)
    return found if isinstance(found, dict) else {}


def _effective(world: Json) -> Json:
    """Return what ran, without ``issue_rate``: it is the time in which a loop filled a queue."""
    found = {key: world[key] for key in _EFFECTIVE if isinstance(world.get(key), int | str) and world[key] != "None"}
    share = world.get("kv_cache_percentage")
    if isinstance(share, int | float) and 0 < share <= 1:
        found["kv_cache_share"] = float(share)
    return found


def read_bench(
    report: Report, requests_text: str | None, load: LoadSpec, *, ended_ns: int, began_ns: int, t0_ns: int
) -> Bench:
    """Return metrics and rows of one run.

    Args:
        report: What it reported.
        requests_text: The file of ``--request_json``; ``None`` where the tool wrote none.
        load: What was asked for.
        ended_ns: When the process ended, monotonic.
        began_ns: When it began.
        t0_ns: Origin of the run.

    Raises:
        MeasurementError: The requests cannot be read, or contradict the report.
    """
    if requests_text is None:
        length_ns = report.run.window_ns[1]
        window_ns = (max(began_ns, ended_ns - length_ns), ended_ns)
        # Rates come from the report itself; only telemetry is placed by this window.
        run = dataclasses.replace(report.run, load=load)
        note = "this command keeps no single requests: its measuring phase is taken to end when the process ended"
        return Bench(
            report=report,
            requests=(),
            window_ns=window_ns,
            judgement=judge_import(run),
            table=None,
            notes=(note,),
        )
    requests = parse_requests(requests_text, "trtllm-bench's request file")
    _agree(report.run, requests)
    shift, notes = _clock_shift(requests, began_ns=began_ns, ended_ns=ended_ns)
    begin = min(item.sent_at_ns for item in requests if item.sent_at_ns is not None) + shift
    ends = [item.sent_at_ns + item.last_ns for item in requests if item.sent_at_ns is not None and item.last_ns]
    end = max(ends) + shift
    table = to_table(requests, t0_ns - shift)
    run = dataclasses.replace(
        report.run,
        load=load,
        requests=table,
        window_ns=(begin - t0_ns, end - t0_ns),
        completed=sum(item.ok for item in requests),
        failed=sum(not item.ok for item in requests),
    )
    return Bench(
        report=report,
        requests=requests,
        window_ns=(begin, end),
        judgement=judge_import(run),
        table=table,
        notes=notes,
    )


def _agree(run: ImportedRun, requests: tuple[Request, ...]) -> None:
    done = [item for item in requests if item.ok and item.last_ns]
    if not done:
        raise MeasurementError("no request of trtllm-bench came to its end", code="load_failed", remedy="read its log")
    if len(requests) != run.completed:
        raise MeasurementError(
            f"trtllm-bench reports {run.completed} requests and lists {len(requests)}",
            code="load_failed",
            remedy="measure again",
        )
    length_ns = max(_end(item) for item in done) - min(item.sent_at_ns or 0 for item in requests)
    if len(done) == len(requests) and not math.isclose(length_ns, run.window_ns[1], rel_tol=RATE_TOLERANCE):
        raise MeasurementError(
            f"trtllm-bench reports a load of {run.window_ns[1] / 1e9:.3f} s, and its requests took "
            f"{length_ns / 1e9:.3f} s",
            code="load_failed",
            remedy="measure again",
        )


def _end(item: Request) -> int:
    return (item.sent_at_ns or 0) + (item.last_ns or 0)


def _clock_shift(requests: tuple[Request, ...], *, began_ns: int, ended_ns: int) -> tuple[int, tuple[str, ...]]:
    """Return what turns the tool's times into ours: nothing, where they lie within the process's life."""
    first = min(item.sent_at_ns or 0 for item in requests)
    last = max(_end(item) for item in requests)
    if began_ns <= first and last <= ended_ns:
        return 0, ()
    note = "the tool's clock is not this host's: its last request is taken to end when the process ended"
    return ended_ns - last, (note,)


def read_iterations(
    lines: str | None, log: str, bench: Bench, *, t0_ns: int, phases: tuple[tuple[Phase, int], ...]
) -> ServerSide:
    """Return the scheduler's iterations as ``server_samples``, with the metrics of them.

    Args:
        lines: The file of ``--iteration_log``; ``None`` where there is none.
        log: The tool's output: ``print_iter_log`` writes into it.
        bench: When the requests ran: the last iteration is taken to end with the last request.
        t0_ns: Origin of the run.
        phases: When the phases began, monotonic.
    """
    found, source = (parse_lines(lines), "the iteration log") if lines else (Iterations(items=()), "no iteration log")
    if not found.items:
        printed = parse_printed(log)
        found, source = (printed, "print_iter_log") if printed.items else (found, source)
    rows = trtllm_stats.rows([trtllm_stats.Drained(t_ns=bench.window_ns[1], iterations=tuple(found.items))])
    notes = []
    if found.items:
        notes.append(f"{len(found.items)} iterations by {source}, whose last one is taken to end with the last request")
    if found.lost:
        notes.append(f"{found.lost} lines of {source} could not be read")
    if found.others:
        notes.append(f"{found.others} iterations of other ranks are left out")
    seen = Seen(
        source="trtllm",
        rows=rows,
        absent=None if rows else f"trtllm-bench wrote {source}",
        notes=tuple(notes),
    )
    return server_side(seen, t0_ns=t0_ns, began=phases, window_ns=bench.window_ns)


def metrics_of(bench: Bench, server: ServerSide) -> tuple[MetricValue, ...]:
    """Return all metrics of a run."""
    absent = "trtllm-bench loads, warms up and measures in one process, and times only the last"
    load_time = MetricValue(metric="load_time_s", value=None, absent_reason=absent)
    return (*bench.judgement.metrics, *server.metrics, load_time)


def reasons_of(bench: Bench, extra: tuple[Reason, ...]) -> tuple[Reason, ...]:
    """Return the validity reasons: those of an import less that it was one."""
    return (*extra, *(reason for reason in bench.judgement.reasons if reason.code != "imported"))


def read_optional(path: Path) -> str | None:
    """Return a file's text; ``None`` where it is absent or empty."""
    try:
        text = path.read_bytes().decode("utf-8", errors="replace")
    except FileNotFoundError:
        return None
    return text if text.strip() else None
