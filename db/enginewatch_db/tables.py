"""Arrow schemas of the tables inside a bundle. Integers in fixed units; the column name carries the unit.

All ``*_ns`` columns named ``start_ns`` or ``t_ns`` or ``*_at_ns`` are relative to the run's ``t0_ns``.
"""

from __future__ import annotations

import pyarrow as pa

LATENCY_SAMPLES = pa.schema(
    [
        pa.field("start_ns", pa.int64(), nullable=False),
        pa.field("latency_ns", pa.int64(), nullable=False),
        pa.field("gpu_ns", pa.int64()),
        pa.field("h2d_ns", pa.int64()),
        pa.field("d2h_ns", pa.int64()),
        pa.field("stream", pa.int16()),
    ]
)

LLM_REQUESTS = pa.schema(
    [
        pa.field("request_idx", pa.int32(), nullable=False),
        pa.field("stream", pa.int32()),
        pa.field("phase", pa.string(), nullable=False),  # warmup | measure | drain
        pa.field("status", pa.string(), nullable=False),  # ok | error
        pa.field("error_class", pa.string()),
        pa.field("error", pa.string()),
        pa.field("http_status", pa.int16()),
        pa.field("finish_reason", pa.string()),
        pa.field("new_connection", pa.bool_()),
        pa.field("intended_at_ns", pa.int64()),
        pa.field("sent_at_ns", pa.int64()),
        pa.field("first_byte_at_ns", pa.int64()),
        pa.field("ttft_ns", pa.int64()),
        pa.field("e2e_ns", pa.int64()),
        pa.field("tpot_ns", pa.int64()),
        pa.field("connect_ns", pa.int64()),
        pa.field("prompt_tokens", pa.int32()),
        pa.field("output_tokens", pa.int32()),
        pa.field("content_events", pa.int32()),
        pa.field("itl_ns", pa.list_(pa.int64())),
        pa.field("process", pa.int16()),  # client process that sent it
        pa.field("session", pa.int32()),  # multi-turn session
        pa.field("turn", pa.int16()),
        pa.field("prefix_group", pa.int32()),
        pa.field("ttfo_ns", pa.int64()),  # first content that is not reasoning
        pa.field("asked_prompt_tokens", pa.int32()),
        pa.field("asked_output_tokens", pa.int32()),
        pa.field("tokenizer_prompt_tokens", pa.int32()),
        pa.field("tokenizer_output_tokens", pa.int32()),
        pa.field("cached_prompt_tokens", pa.int32()),  # server's prefix cache, by its usage block
    ]
)

SERVER_SAMPLES = pa.schema(
    [
        pa.field("t_ns", pa.int64(), nullable=False),
        pa.field("source", pa.string(), nullable=False),  # vllm | sglang | triton | trtllm | llamacpp | ...
        pa.field("phase", pa.string()),
        pa.field("requests_running", pa.float32()),
        pa.field("requests_waiting", pa.float32()),
        pa.field("kv_cache_used_pct", pa.float32()),
        # cumulative counters of the server, as it reports them
        pa.field("preemptions", pa.int64()),
        pa.field("prefix_query_tokens", pa.int64()),
        pa.field("prefix_hit_tokens", pa.int64()),
        pa.field("queue_time_ns", pa.int64()),
        pa.field("queue_count", pa.int64()),
        pa.field("prompt_tokens", pa.int64()),
        pa.field("output_tokens", pa.int64()),
        pa.field("requests_done", pa.int64()),
        # of the server itself, where it tells: one iteration of its scheduler
        pa.field("iteration_ns", pa.int64()),
        pa.field("batch_size", pa.float32()),
        pa.field("scrape_ns", pa.int64()),  # how long the scrape took
    ]
)

TELEMETRY = pa.schema(
    [
        pa.field("t_ns", pa.int64(), nullable=False),
        pa.field("source", pa.string(), nullable=False),  # host | nvml | replay | ...
        pa.field("device", pa.string(), nullable=False),  # host | gpu0 | ...
        pa.field("phase", pa.string()),
        # host
        pa.field("cpu_util_pct", pa.float32()),
        pa.field("cpu_util_core_pct", pa.list_(pa.float32())),
        pa.field("cpu_freq_mhz", pa.float32()),
        pa.field("host_mem_used_mib", pa.int32()),
        pa.field("host_load_1m", pa.float32()),
        pa.field("cpu_steal_pct", pa.float32()),
        # GPM (Hopper and newer): activity of the hardware units
        pa.field("graphics_active_pct", pa.float32()),
        pa.field("sm_active_pct", pa.float32()),
        pa.field("sm_occupancy_pct", pa.float32()),
        pa.field("tensor_active_pct", pa.float32()),
        pa.field("dram_bw_pct_of_peak", pa.float32()),
        pa.field("fp32_active_pct", pa.float32()),
        pa.field("fp16_active_pct", pa.float32()),
        pa.field("pcie_tx_mib_s", pa.float32()),
        pa.field("pcie_rx_mib_s", pa.float32()),
        # NVML utilisation rates: time shares, never called SM utilisation or bandwidth
        pa.field("gpu_busy_time_pct", pa.float32()),
        pa.field("mem_ctrl_busy_time_pct", pa.float32()),
        # NVML
        pa.field("power_mw", pa.int32()),
        pa.field("energy_mj", pa.int64()),
        pa.field("sm_clock_mhz", pa.int32()),
        pa.field("mem_clock_mhz", pa.int32()),
        pa.field("temp_c", pa.int16()),
        pa.field("mem_temp_c", pa.int16()),
        pa.field("clock_event_reasons", pa.uint64()),
        pa.field("gpu_mem_used_mib", pa.int32()),
        pa.field("power_capped_ns", pa.int64()),  # cumulative counter
        pa.field("thermal_throttle_ns", pa.int64()),  # cumulative counter
    ]
)

LAYERS = pa.schema(
    [
        pa.field("layer_idx", pa.int32(), nullable=False),
        pa.field("name", pa.string(), nullable=False),
        pa.field("layer_type", pa.string()),
        pa.field("tactic", pa.string()),
        pa.field("dtype", pa.string()),
        pa.field("calls", pa.int64()),
        pa.field("mean_ns", pa.int64()),
        pa.field("median_ns", pa.int64()),
        pa.field("time_pct", pa.float64()),
        pa.field("source", pa.string()),  # trtexec | onnxruntime | ...
        pa.field("input_dtype", pa.string()),
        pa.field("output_dtype", pa.string()),
        pa.field("format", pa.string()),  # memory formats, "in → out", as the tool words them
        pa.field("input_shapes", pa.string()),  # "8x64x56x56, 64x64x3x3"
        pa.field("output_shapes", pa.string()),
        pa.field("input_tensors", pa.list_(pa.string())),
        pa.field("output_tensors", pa.list_(pa.string())),
        pa.field("origin", pa.list_(pa.string())),  # nodes of the source model that were fused into it
        pa.field("weight_bytes", pa.int64()),
        pa.field("bytes", pa.int64()),  # least memory traffic of one call: inputs, outputs and weights once
        pa.field("flops", pa.int64()),  # of one call; a multiply-add is two
    ]
)

KERNELS = pa.schema(
    [
        pa.field("kernel_idx", pa.int32(), nullable=False),
        pa.field("name", pa.string(), nullable=False),
        pa.field("layer", pa.string()),  # layer that launched it, where NVTX tells
        pa.field("calls", pa.int64()),
        pa.field("total_ns", pa.int64()),
        pa.field("mean_ns", pa.int64()),
        pa.field("median_ns", pa.int64()),
        pa.field("min_ns", pa.int64()),
        pa.field("max_ns", pa.int64()),
        pa.field("time_pct", pa.float64()),
        pa.field("grid", pa.string()),
        pa.field("block", pa.string()),
        pa.field("source", pa.string()),  # nsys | cupti | torch | ...
    ]
)

SCHEMAS: dict[str, pa.Schema] = {
    "latency_samples": LATENCY_SAMPLES,
    "llm_requests": LLM_REQUESTS,
    "server_samples": SERVER_SAMPLES,
    "telemetry": TELEMETRY,
    "layers": LAYERS,
    "kernels": KERNELS,
}
"""Table name in the bundle and in the store → its columns there (the store adds ``run_id`` in front)."""


def conform(name: str, table: pa.Table) -> pa.Table:
    """Return ``table`` with exactly the columns of ``SCHEMAS[name]``: missing ones null, types cast.

    Raises:
        ValueError: ``table`` has a column that the schema does not know, or a value that cannot be cast.
    """
    schema = SCHEMAS[name]
    unknown = sorted(set(table.column_names) - set(schema.names))
    if unknown:
        raise ValueError(f"table {name!r} has unknown columns {unknown}; declare them in enginewatch_db.tables")
    columns = [
        table.column(field.name).cast(field.type)
        if field.name in table.column_names
        else pa.nulls(table.num_rows, field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)
