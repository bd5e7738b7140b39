"""Load levels of an LLM server: two precisions, five concurrencies, three repeats, with the server's own metrics.

Loaded by ``conftest.py``; no test imports it. The server is a simple one: a step takes longer with more requests in
its batch, a batch holds 64, and the rest waits.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from enginewatch_db import ids, model
from enginewatch_db.bundle import write
from enginewatch_db.metrics import MetricValue
from enginewatch_db.quantile import estimate
from enginewatch_db.tables import LLM_REQUESTS
from enginewatch_db.validity import Reason
from enginewatch_db.workspace import Workspace

MS, SECOND = 1_000_000, 1_000_000_000
SESSION = "01930000-0000-7000-8000-0000000000aa"
LEVELS = (1, 4, 16, 64, 256)
SLOTS, TOKENS, PROMPT = 64, 32, 512
STEP_MS = {"bf16": (4.6, 0.12), "fp8": (3.1, 0.075)}
PREFILL_MS = 16.0
GPU = "NVIDIA H200"
WARMUP_NS, MEASURE_NS, END_NS = 1 * SECOND, 2 * SECOND, 8 * SECOND
MAX_REQUESTS = 900
SLO_MS = 400.0


def identity(precision: str, concurrency: int, *, mode: str = "closed") -> model.Identity:
    load = {"mode": mode, "isl": PROMPT, "osl": TOKENS}
    load |= {"concurrency": concurrency} if mode == "closed" else {"rate_mrps": concurrency * 1000}
    return model.Identity(
        workload="chat", model="llama-8b", model_sha256=None, backend="openai", precision=precision, device=GPU,
        load=load, options={"server": "vllm", "parallel": concurrency, "requests": 10 * concurrency,
                            "slo_us": {"ttft_ms": int(SLO_MS * 1000)}}, tool_major="0",
    )  # fmt: skip


def requests(precision: str, concurrency: int, seed: int) -> pa.Table:
    rng = np.random.default_rng(seed)
    base, slope = STEP_MS[precision]
    running = min(concurrency, SLOTS)
    itl_ms, wait = base + slope * running, max(0.0, concurrency / SLOTS - 1)
    rows = []
    noise = float(np.exp(rng.normal(0, 0.012)))
    for stream in range(concurrency):
        now = WARMUP_NS + int(rng.integers(0, 40)) * MS
        while now < END_NS and len(rows) < MAX_REQUESTS:
            queued_ms = wait * TOKENS * itl_ms * rng.uniform(0.9, 1.3)
            ttft = int((PREFILL_MS + 1.4 * running + queued_ms) * noise * MS * np.exp(rng.normal(0, 0.15)))
            gaps = (itl_ms * noise * MS * np.exp(rng.normal(0, 0.09, TOKENS - 1))).astype(np.int64)
            rows.append(_row(len(rows), stream, now, ttft, gaps, rng, concurrency))
            now += (ttft + int(gaps.sum()) if rows[-1]["status"] == "ok" else 30 * MS) + MS
    return pa.Table.from_pylist(rows, schema=LLM_REQUESTS)


def _row(index, stream, now, ttft, gaps, rng, concurrency):
    late = int(abs(rng.normal(0, 0.1)) * MS) if rng.random() > 0.03 else 40 * MS
    broken = concurrency > 16 and rng.random() < 0.01
    phase = "warmup" if now < MEASURE_NS else "measure" if now < END_NS - SECOND // 2 else "drain"
    row = {
        "request_idx": index, "stream": stream, "process": stream % 2, "session": stream, "turn": index % 3,
        "phase": phase, "new_connection": index < concurrency, "connect_ns": late, "sent_at_ns": now + late,
        "first_byte_at_ns": now + late + ttft, "prompt_tokens": PROMPT,
    }  # fmt: skip
    if broken:
        class_, status = ("http_503", 503) if index % 2 else ("reset", None)
        return row | {"status": "error", "error_class": class_, "http_status": status, "connect_ns": late}
    e2e = ttft + int(gaps.sum())
    return row | {
        "status": "ok", "ttft_ns": late + ttft, "e2e_ns": late + e2e, "tpot_ns": int(gaps.mean()),
        "itl_ns": gaps.tolist(), "output_tokens": TOKENS, "cached_prompt_tokens": 128 * (index % 3),
    }  # fmt: skip


def server_samples(concurrency: int, seed: int, *, preempt: bool) -> pa.Table:
    rng = np.random.default_rng(seed)
    t = np.arange(0, END_NS + SECOND, SECOND // 4)
    busy = (t > WARMUP_NS) & (t < END_NS)
    running = np.where(busy, min(concurrency, SLOTS) - rng.integers(0, 2, t.size), 0).clip(0)
    waiting = np.where(busy, max(0, concurrency - SLOTS) + rng.integers(-3, 4, t.size), 0).clip(0)
    asked = np.cumsum(np.where(busy, 4 * PROMPT * running, 0))
    return pa.table(
        {
            "t_ns": t,
            "source": ["vllm"] * t.size,
            "requests_running": running.astype(np.float32),
            "requests_waiting": waiting.astype(np.float32) * (concurrency > SLOTS),
            "kv_cache_used_pct": np.where(busy, np.minimum(97, 2 + running * 1.35), 0).astype(np.float32),
            "preemptions": np.cumsum(np.where(busy, rng.integers(0, 3, t.size), 0) * preempt),
            "prefix_query_tokens": asked,
            "prefix_hit_tokens": (asked * 0.24).astype(np.int64),
            "queue_time_ns": np.cumsum(np.where(busy, waiting * 3 * MS, 0)).astype(np.int64),
            "queue_count": np.cumsum(np.where(busy, running, 0)).astype(np.int64),
        }
    )


def metrics(table: pa.Table, precision: str, concurrency: int) -> list[MetricValue]:
    good = [row for row in table.to_pylist() if row["status"] == "ok" and row["phase"] == "measure"]
    seconds = (END_NS - MEASURE_NS) / SECOND
    found = []
    for stem, values in (
        ("ttft", [row["ttft_ns"] / MS for row in good]),
        ("itl", [gap / MS for row in good for gap in row["itl_ns"]]),
        ("e2e", [row["e2e_ns"] / MS for row in good]),
        ("tpot", [row["tpot_ns"] / MS for row in good]),
    ):
        for level, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99)):
            q = estimate(np.array(values), share)
            key = f"{stem}_{level}_ms"
            found.append(MetricValue(metric=key, value=q.value, ci_low=q.ci_low, ci_high=q.ci_high, n=q.n))
    tpot = float(np.median([row["tpot_ns"] / MS for row in good]))
    met = sum(row["ttft_ns"] <= SLO_MS * MS for row in good) / max(len(good), 1)
    scale = concurrency / max(len({row["stream"] for row in good}), 1)
    tokens_s = len(good) * TOKENS / seconds * scale
    one = {
        "output_tokens_s": tokens_s, "output_tokens_s_per_gpu": tokens_s, "tokens_s_per_user": 1000 / tpot,
        "requests_s": len(good) / seconds, "goodput_pct": met * 100, "goodput_requests_s": met * len(good) / seconds,
        "requests_in_flight": float(concurrency), "little_law_ratio": 1.01, "load_drift_pct": 0.4,
        "loop_lateness_p99_ms": 0.21, "client_cpu_pct": 12.0 + concurrency / 8, "client_processes": 2.0,
        "server_preemptions": 3.0, "sm_active_mean_pct": 70.0, "power_mean_w": 520.0,
    }  # fmt: skip
    found += [MetricValue(metric=key, value=value, n=len(good)) for key, value in one.items()]
    found.append(MetricValue(metric="send_lateness_p99_ms", value=None,
                             absent_reason="a closed loop has no intended send times"))  # fmt: skip
    return found


def telemetry(concurrency: int, seed: int) -> pa.Table:
    rng = np.random.default_rng(seed)
    t = np.arange(0, END_NS + SECOND // 2, SECOND // 10)
    busy = (t > WARMUP_NS) & (t < END_NS)
    share = min(1.0, 0.55 + concurrency / 256)
    return pa.table(
        {
            "t_ns": t, "source": ["nvml"] * t.size, "device": ["gpu0"] * t.size,
            "sm_active_pct": np.where(busy, 90 * share + rng.normal(0, 1.5, t.size), 0.0),
            "gpu_busy_time_pct": np.where(busy, 97.0, 0.0),
            "dram_bw_pct_of_peak": np.where(busy, 62 - 20 * share + rng.normal(0, 1, t.size), 0.0),
            "tensor_active_pct": np.where(busy, 55 * share**2, 0.0),
            "power_mw": np.where(busy, 690_000 * share, 118_000).astype(int),
            "sm_clock_mhz": np.full(t.size, 1980), "temp_c": np.where(busy, 52, 38),
        }
    )  # fmt: skip


def _record(precision: str, concurrency: int, repeat: int, order: int, table: pa.Table, *, mode="closed"):
    reasons = []
    if precision == "fp8" and concurrency == LEVELS[-1]:
        reasons.append(Reason(code="client_bound", detail="a process was busy for 97 % of a core"))
    t0 = 5 * SECOND
    marks = (("load", 0, WARMUP_NS), ("warmup", WARMUP_NS, MEASURE_NS), ("measure", MEASURE_NS, END_NS),
             ("drain", END_NS, END_NS + SECOND // 2))  # fmt: skip
    feed = f"c{concurrency}" if mode == "closed" else f"{mode}{concurrency}rps"
    return model.RunRecord(
        run_id=ids.new_run_id(), session_id=SESSION, plan_name="ladder", case_key=f"chat/openai/{precision}/{feed}",
        repeat=repeat, order_idx=order, identity=identity(precision, concurrency, mode=mode),
        status=model.RunStatus.OK, t0_ns=t0, environment={"os": "Linux", "vllm": "0.20.0"},
        host={"hostname": "bench-02", "cpu_model": "AMD EPYC 9654"},
        phases=tuple(model.PhaseMark(name=model.Phase(n), start_ns=t0 + a, end_ns=t0 + b) for n, a, b in marks),
        metrics=tuple(metrics(table, precision, concurrency)), reasons=tuple(reasons), realised_precision=precision,
        devices=({"device": "gpu0", "name": GPU, "power_limit_mw": 700_000, "max_sm_clock_mhz": 1980},),
        provenance={"command": "vllm serve llama-8b", "versions": {"vllm": "0.20.0"}},
        session={"started_at": "2026-11-20T09:00:00+00:00", "label": "ladder", "repeats": 3, "trigger": "cli"},
        quality={"rate_hz": 10.0, "achieved_hz": 10.0, "ticks_made": 85, "late_ticks": 0, "gaps": 0},
        started_at=f"2026-11-20T09:{order % 60:02d}:00+00:00", ended_at=f"2026-11-20T09:{order % 60:02d}:20+00:00",
    )  # fmt: skip


def write_ladder(
    workspace: Workspace, *, precisions=("bf16", "fp8"), levels=LEVELS, repeats=3, rates=(), with_server=True
) -> None:
    order = 0
    for repeat in range(repeats):
        for precision in precisions:
            for mode, load in (*(("closed", level) for level in levels), *(("poisson", rate) for rate in rates)):
                order += 1
                table = requests(precision, load, seed=order)
                tables = {"llm_requests": table, "telemetry": telemetry(load, order)}
                if with_server:
                    tables["server_samples"] = server_samples(load, order, preempt=load > SLOTS)
                record = _record(precision, load, repeat, order, table, mode=mode)
                write(workspace.spool, record, tables)
