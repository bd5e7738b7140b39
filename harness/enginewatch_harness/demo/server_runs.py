"""Plan ``h200-llama7b-vllm``: a 7-billion-parameter Llama behind vLLM 0.20, from 1 to 256 requests at a time."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from enginewatch_db.metrics import MetricValue
from enginewatch_db.model import Json, Phase, PhaseMark
from enginewatch_db.quantile import TAIL_MIN_SAMPLES
from enginewatch_db.validity import Reason
from enginewatch_harness.assemble import Stamp, finished_run
from enginewatch_harness.backends.base import Availability, Measurement
from enginewatch_harness.demo import files, placing, stamps
from enginewatch_harness.demo.catalogue import LLAMA_PLAN, SERVER_RUNS
from enginewatch_harness.load.metrics import load_metrics, totals
from enginewatch_harness.load.spec import LoadSpec
from enginewatch_harness.load.verdicts import failures
from enginewatch_harness.matrix import Case
from enginewatch_harness.parse.vllm_bench import BenchFacts, BenchResult, parse_results
from enginewatch_harness.plan_file import ModelTable
from enginewatch_harness.prepare import Prepared

if TYPE_CHECKING:
    import pyarrow as pa

LEAD_NS = 2_000_000_000
"""Telemetry before a load that is kept: the client took 20 s to start, with an idle GPU."""

NOT_TOLD = "vllm bench serve does not record it"
CLIENT_METRICS = ("send_lateness_p99_ms", "loop_lateness_p99_ms", "client_cpu_pct")

WEIGHTS = "random bf16 weights of the shape of Llama 7B: the times are real, the words are noise"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedLoad:
    """One load with its telemetry, on the wall clock."""

    name: str
    result: BenchResult
    rows: pa.Table
    start_ns: int
    offset: placing.ClockOffset

    @property
    def window_ns(self) -> tuple[int, int]:
        """The load, wall clock."""
        begin, end = self.result.window_ns
        return self.start_ns + begin, self.start_ns + end


def planned() -> list[stamps.Planned]:
    """Return the runs in the order in which they were measured."""
    loads = _loads()
    session = stamps.Session(
        plan=LLAMA_PLAN,
        label="one-to-256-at-a-time",
        started_ns=loads[0].start_ns - LEAD_NS,
        repeats=1,
        environment=stamps.environment(vllm=_version()),
        notes=(WEIGHTS,),
    )
    return [_plan_run(session, load, order_idx) for order_idx, load in enumerate(loads)]


def _version() -> str:
    return str(files.read_json("vllm/version.json")["version"])


def _loads() -> list[PlacedLoad]:
    """Read the loads and place them: all clients ran on one host, so one offset of its clocks holds for all."""
    telemetry = files.read_telemetry("vllm")
    results, rows, busy_ns, sent_ns = [], [], [], []
    for run in SERVER_RUNS:
        name = f"vllm/{run.name}.json.gz"
        (result,) = parse_results(files.read_text(name), name)
        mine = placing.rows_of(telemetry, run.name)
        results.append(result)
        rows.append(mine)
        active = mine.column("sm_active_pct").to_numpy()
        busy_ns.append(placing.busy_from_ns(mine.column("t_ns").to_numpy(), active))
        sent_ns.append(_origin_ns(result) + int(result.requests.column("sent_at_ns").to_numpy().min()))
    offset = placing.clock_offset(busy_ns, sent_ns)
    return [
        PlacedLoad(
            name=run.name, result=result, rows=mine, start_ns=_origin_ns(result) + offset.value_ns, offset=offset
        )
        for run, result, mine in zip(SERVER_RUNS, results, rows, strict=True)
    ]


def _origin_ns(result: BenchResult) -> int:
    return round(result.facts.origin_s * 1e9)


def _plan_run(session: stamps.Session, load: PlacedLoad, order_idx: int) -> stamps.Planned:
    stamp = session.stamp(name=load.name, started_ns=load.start_ns - LEAD_NS, repeat=0, order_idx=order_idx)
    return stamps.Planned(stamp=stamp, make=lambda: _make(stamp, load))


def _make(stamp: Stamp, load: PlacedLoad) -> stamps.Parts:
    begin_ns, end_ns = load.window_ns
    t0_ns = begin_ns - LEAD_NS
    rows = placing.between(load.rows, t0_ns, int(load.rows.column("t_ns")[-1].as_py()))
    last_ns = max(end_ns, int(rows.column("t_ns")[-1].as_py()) + 1)
    measurement = _measurement(load, t0_ns)
    record, tables = finished_run(
        stamp,
        _prepared(load.result.facts),
        measurement,
        ended_at=stamps.iso(last_ns),
        t0_ns=t0_ns,
        phases=(
            PhaseMark(name=Phase.PREFLIGHT, start_ns=t0_ns, end_ns=begin_ns),
            PhaseMark(name=Phase.MEASURE, start_ns=begin_ns, end_ns=end_ns),
            PhaseMark(name=Phase.DRAIN, start_ns=end_ns, end_ns=last_ns),
        ),
        engine=None,
        sentinel_ns=(),
        telemetry=stamps.telemetry_of(rows),
        preflight=(),
    )
    # The load ends with its last request: it has no duration that was asked for.
    options = {key: value for key, value in record.identity.options.items() if key != "duration_ms"}
    record = dataclasses.replace(record, identity=dataclasses.replace(record.identity, options=options))
    return stamps.as_recorded(record, _origin(load)), tables


def _origin(load: PlacedLoad) -> Json:
    facts = load.result.facts
    return {
        "name": load.name,
        "client": f"vllm bench serve {_version()}",
        "reported": facts.reported,
        "telemetry": f"placed to about 0.2 s by one clock offset for {load.offset.n} loads; "
        f"single estimates differ from it by up to {load.offset.spread_ns / 1e6:.0f} ms",
        "client_start": "its 20 s of starting up are left out",
    }


def _measurement(load: PlacedLoad, t0_ns: int) -> Measurement:
    result, facts = load.result, load.result.facts
    counted = totals(result.requests, result.window_ns)
    metrics = [item for item in load_metrics(result.requests, counted) if item.metric not in CLIENT_METRICS]
    metrics += [MetricValue(metric=metric, value=None, absent_reason=NOT_TOLD) for metric in CLIENT_METRICS]
    failed = failures(result.requests)
    notes = [WEIGHTS, "latencies count from when the client began to send: it does not record when a request was due"]
    return Measurement(
        tables={"llm_requests": _shifted(result.requests, load.start_ns - t0_ns)},
        window_ns=load.window_ns,
        metrics=tuple(metrics),
        reasons=(*((failed,) if failed else ()), *_tail(facts.completed)),
        realised_precision="bf16",
        versions={"vllm": _version()},
        command=_command(facts),
        counts={"output_tokens": counted.output_tokens, "requests": float(facts.completed)},
        notes=tuple(notes),
    )


def _tail(completed: int) -> tuple[Reason, ...]:
    if completed >= TAIL_MIN_SAMPLES:
        return ()
    return (Reason(code="tail_undersampled", detail=f"{completed} requests"),)


def _shifted(requests: pa.Table, by_ns: int) -> pa.Table:
    """Return the requests with their times moved to the run's origin."""
    import pyarrow.compute as pc

    index = requests.schema.get_field_index("sent_at_ns")
    return requests.set_column(index, requests.schema.field(index), pc.add(requests.column("sent_at_ns"), by_ns))


def _prepared(facts: BenchFacts) -> Prepared:
    load = LoadSpec(
        mode=facts.mode,
        concurrency=facts.concurrency,
        rate_rps=facts.rate_rps,
        isl=round(facts.input_tokens / facts.completed),
        osl=round(facts.output_tokens / facts.completed),
        requests=facts.completed + facts.failed,
    )
    suffix = f"c{load.concurrency}" if load.rate_rps is None else f"{load.mode}{load.rate_rps:g}rps"
    case = Case(
        key=f"llama7b/openai/bf16/{suffix}",
        workload="llama7b",
        model=ModelTable(name="llama7b-random", path="models/m7b"),
        backend="openai",
        precision="bf16",
        warmup_s=0.0,
        duration_s=0.0,
        load=load,
        options={
            "server": "vllm",
            "endpoint": "completions",
            "requests": load.requests,
            "max_num_seqs": files.read_json("vllm/server-arguments.json")["max_num_seqs"],
        },
    )
    device = str(stamps.device_facts()["name"])
    found = Availability(available=True, version=_version(), device=device)
    return Prepared(case=case, availability=found, device=device, model_sha256=None)


def _command(facts: BenchFacts) -> str:
    server = files.read_json("vllm/server-arguments.json")
    served = server["served_model_name"][0]
    rate = "" if facts.rate_rps is None else f" --request-rate {facts.rate_rps:g}"
    return (
        f"vllm serve {server['model']} --load-format {server['load_format']} --served-model-name {served} "
        f"--max-model-len {server['max_model_len']} --max-num-seqs {server['max_num_seqs']} "
        f"--gpu-memory-utilization {server['gpu_memory_utilization']}; "
        f"vllm bench serve --backend openai --model {served} --tokenizer {server['model']} --dataset-name random "
        f"--random-input-len 512 --random-output-len 128 --num-prompts {facts.completed + facts.failed} "
        f"--max-concurrency {facts.concurrency}{rate} --ignore-eos --save-result --save-detailed"
    )
