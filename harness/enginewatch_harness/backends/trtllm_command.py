"""Command lines and files for ``trtllm-bench`` and ``trtllm-build``. Pure.

Flags as ``tensorrt_llm/bench/benchmark/{throughput,low_latency}.py`` and ``tensorrt_llm/commands/{bench,build}.py``
declare them from 1.0 to 1.2. All of them understand ``--extra_llm_api_options``; newer ones call it ``--config`` too.
The latency command has neither ``--request_json`` nor ``--streaming`` (it always streams), and no batch size but 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from enginewatch_db.errors import PlanError
from enginewatch_db.model import Json
from enginewatch_harness.backends.trtllm_options import TrtllmOptions
from enginewatch_harness.load.spec import CLOSED, LoadSpec

LATENCY_CONFIG_SINCE = (1, 1)
"""The latency command of 1.0 takes no configuration file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchFiles:
    """Files of one run of ``trtllm-bench``.

    Attributes:
        dataset: Requests, one JSON object a line.
        report: ``--report_json``.
        requests: ``--request_json``; only of the throughput command.
        iterations: ``--iteration_log``.
        config: Arguments of the LLM API.
        workspace: Folder for what the tool itself writes.
    """

    dataset: Path
    report: Path
    requests: Path
    iterations: Path
    config: Path
    workspace: Path


def check_load(load: LoadSpec, options: TrtllmOptions) -> None:
    """Refuse a load that ``trtllm-bench`` cannot put on an engine.

    Raises:
        PlanError: Names what it cannot do.
    """
    if load.mode != CLOSED:
        raise _cannot(f"the arrivals of mode {load.mode!r}: it has a closed loop only")
    if load.turns > 1:
        raise _cannot("sessions of several turns")
    if load.think_time_s > 0:
        raise _cannot("a think time")
    if options.command == "latency" and load.concurrency > 1:
        raise PlanError(
            f"trtllm-bench latency runs a batch of 1, and the load has {load.concurrency} streams",
            remedy='set concurrency = [1], or options.command = "throughput"',
        )


def _cannot(what: str) -> PlanError:
    return PlanError(
        f"trtllm-bench cannot make {what}", remedy='use backends = ["openai"] with options.profile = "trtllm"'
    )


def llm_config(options: TrtllmOptions) -> Json:
    """Return the arguments of the LLM API: what the command line has no flag for, then the plan's own."""
    config: dict[str, Any] = {}
    if options.iteration_log and not options.builds:
        config["enable_iter_perf_stats"] = True
    if options.kv_cache_dtype is not None:
        # The table replaces the tool's own: the share of memory must be said again, and reuse stays off as in the tool.
        config["kv_cache_config"] = {
            "dtype": options.kv_cache_dtype,
            "free_gpu_memory_fraction": options.kv_cache_free_gpu_mem_fraction,
            "enable_block_reuse": False,
        }
    return config | options.llm_args


def bench_command(
    tool: str,
    options: TrtllmOptions,
    *,
    model: str,
    model_path: Path | None,
    engine_dir: Path | None,
    load: LoadSpec,
    requests: int,
    files: BenchFiles,
    config: Mapping[str, Any],
    version: str | None,
) -> list[str]:
    """Return the command line of one benchmark."""
    found = [tool, "--model", model]
    if model_path is not None:
        found += ["--model_path", str(model_path)]
    found += ["--workspace", str(files.workspace), options.command, "--backend", options.engine]
    if engine_dir is not None:
        found += ["--engine_dir", str(engine_dir)]
    found += ["--dataset", str(files.dataset), "--num_requests", str(requests)]
    found += ["--concurrency", str(load.concurrency), "--warmup", str(options.warmup(load.concurrency))]
    found += ["--tp", str(options.tp), "--pp", str(options.pp)]
    if options.ep is not None:
        found += ["--ep", str(options.ep)]
    found += ["--kv_cache_free_gpu_mem_fraction", f"{options.kv_cache_free_gpu_mem_fraction:g}"]
    if options.max_seq_len is not None and not options.builds:
        found += ["--max_seq_len", str(options.max_seq_len)]
    if options.command == "throughput":
        found += _throughput(options, files, version)
    found += ["--report_json", str(files.report)]
    if options.iteration_log:
        found += ["--iteration_log", str(files.iterations)]
    if config and (options.command == "throughput" or not _older(version, LATENCY_CONFIG_SINCE)):
        found += ["--extra_llm_api_options", str(files.config)]
    return [*found, *options.bench_args]


def _throughput(options: TrtllmOptions, files: BenchFiles, version: str | None) -> list[str]:
    found = ["--scheduler_policy", options.scheduler_policy, "--eos_id", str(options.eos_id)]
    for name in ("max_batch_size", "max_num_tokens"):
        value = getattr(options, name)
        if value is not None:
            found += [f"--{name}", str(value)]
    if options.streaming:
        found.append("--streaming")
    if options.chunked_context is not None:
        # Before 1.1 the flag could only switch on, and off was the default.
        if options.chunked_context:
            found.append("--enable_chunked_context")
        elif not _older(version, LATENCY_CONFIG_SINCE):
            found.append("--disable_chunked_context")
    return [*found, "--request_json", str(files.requests)]


def _older(version: str | None, than: tuple[int, int]) -> bool:
    """Return whether a version is older; one that is not known is not."""
    parts = (version or "").split(".")
    if len(parts) < 2 or not (parts[0].isdigit() and parts[1].isdigit()):
        return False
    return (int(parts[0]), int(parts[1])) < than


def build_command(tool: str, options: TrtllmOptions, *, checkpoint: Path, output: Path, tokens: int) -> list[str]:
    """Return the command line of a build.

    Args:
        tool: ``trtllm-build``.
        options: Of the plan.
        checkpoint: Folder with ``config.json`` and ``rankN.safetensors``.
        output: Folder for the engine.
        tokens: Tokens of the longest request, which the engine must take.
    """
    found = [tool, "--checkpoint_dir", str(checkpoint), "--output_dir", str(output)]
    found += ["--max_seq_len", str(options.max_seq_len or tokens), "--workers", str(options.build_workers)]
    for name in ("max_batch_size", "max_num_tokens", "max_input_len", "gemm_plugin"):
        value = getattr(options, name)
        if value is not None:
            found += [f"--{name}", str(value)]
    return [*found, *options.build_args]
