"""What lies in a model's or an engine's folder, and whether a case can run it."""

from __future__ import annotations

from pathlib import Path

from enginewatch_db import ids
from enginewatch_db.errors import BackendError, MeasurementError, PlanError
from enginewatch_db.model import EngineRecord
from enginewatch_harness.backends.base import Job
from enginewatch_harness.backends.trtllm_find import BUILD, TrtllmTool
from enginewatch_harness.backends.trtllm_options import TrtllmOptions
from enginewatch_harness.backends.trtllm_results import read_optional
from enginewatch_harness.engine_cache import file_sha256, size_of
from enginewatch_harness.parse.trtllm_build import parse_build
from enginewatch_harness.parse.trtllm_config import CONFIG, HF_QUANT, ModelConfig, parse_config, parse_hf_quant
from enginewatch_harness.parse.trtllm_failures import failure, last_words
from enginewatch_harness.parse.trtllm_quant import Quantisation, unrealised
from enginewatch_harness.process import ToolResult


def is_engine(path: Path) -> bool:
    """Return whether a folder holds a built engine."""
    config = path / CONFIG
    return config.is_file() and any(path.glob("rank*.engine"))


def read_model(path: Path) -> ModelConfig | None:
    """Return what a local folder says; ``None`` for a model that is only named.

    Raises:
        BackendError: There is a folder without a readable ``config.json``.
    """
    if not path.is_dir():
        return None
    text = read_optional(path / CONFIG)
    if text is None:
        raise BackendError(f"{path} has no {CONFIG}", code="model_missing", remedy="check the model's path in the plan")
    return parse_config(text, str(path / CONFIG))


def _quantisation(path: Path, config: ModelConfig) -> Quantisation:
    beside = read_optional(path / HF_QUANT) if config.kind == "hf" else None
    return (parse_hf_quant(beside, config.quantisation) if beside else None) or config.quantisation


def require_precision(job: Job, config: ModelConfig | None) -> None:
    """Refuse a checkpoint of another precision before hours are spent on it.

    Raises:
        BackendError: ``unsupported_precision``.
    """
    if config is None:
        return
    found = config.quantisation if config.kind == "engine" else _quantisation(job.model_path, config)
    differs = unrealised(job.precision, None, found)
    if differs is not None:
        raise BackendError(
            f"{job.model_name}: {differs}",
            code="unsupported_precision",
            remedy=f'quantise the checkpoint to {job.precision}, or set precisions = ["best"] to measure it as it is',
        )


def check_engine(job: Job, options: TrtllmOptions, config: ModelConfig | None, tool: TrtllmTool) -> None:
    """Refuse what cannot be run as the options say.

    Raises:
        BackendError: There is no engine, it is another version's (``version_mismatch``), or cut for other GPUs.
        PlanError: A checkpoint for engines, and the options ask for none.
    """
    if not options.builds:
        if config is not None and config.kind != "hf":
            raise PlanError(
                f"model {job.model_name!r} is a TensorRT-LLM {config.kind}, which {options.engine!r} cannot load",
                remedy='set options.engine = "tensorrt", or give the Hugging Face folder',
            )
        return
    if config is None or config.kind != "engine":
        raise BackendError(
            f"{job.case_key}: there is no engine to run", code="model_missing", remedy="build it, or correct the path"
        )
    if config.version is not None and tool.version is not None and config.version != tool.version:
        raise BackendError(
            f"the engine was built by TensorRT-LLM {config.version}, and {tool.version} is here",
            code="version_mismatch",
            remedy="build it again with this version, or use the one that built it",
        )
    if config.world_size != options.tp * options.pp:
        raise BackendError(
            f"the engine is cut for {config.world_size} GPUs, and options say tp = {options.tp}, pp = {options.pp}",
            code="shape_outside_profile",
            remedy="correct tp and pp in the plan's options",
        )


def engine_record(
    folder: Path, target: Path, log: str, result: ToolResult, tool: TrtllmTool, what: str
) -> EngineRecord:
    """Describe a new engine.

    Args:
        folder: Where it lies, under its temporary name.
        target: Its final place.
        log: What the build said.
        result: How it ended.
        tool: What built it.
        what: The build's name, for messages.

    Raises:
        BackendError: There is no whole engine; with the code that the log stands for, or ``build_failed``.
    """
    ranks = sorted(folder.glob("rank*.engine"))
    text = read_optional(folder / CONFIG)
    told = parse_build(log)
    if not ranks or text is None or (result.returncode != 0 and told.total_s is None):
        raise failure(log, result.returncode, what=what, tool=BUILD, otherwise="build_failed")
    config = parse_config(text, f"{what}: {CONFIG}")
    if len(ranks) != config.world_size or any(rank.stat().st_size == 0 for rank in ranks):
        raise MeasurementError(
            f"{what}: {BUILD} wrote {len(ranks)} engines for {config.world_size} GPUs, or an empty one",
            code="build_failed",
            remedy="read its log in the run's folder",
        )
    crash = f"status {result.returncode} after the engine was saved: {last_words(log)}"
    reasons = [] if result.returncode == 0 else [{"code": "teardown_crash", "detail": crash}]
    found = config.quantisation
    return EngineRecord(
        engine_key=target.name,
        engine_sha256=file_sha256(folder),
        path=target.name,
        size_bytes=size_of(folder),
        cached=False,
        build_time_s=result.duration_s,
        realised_precision=found.said,
        fingerprint=ids.content_id(
            {"architecture": config.architecture, "build": config.build, "plugins": config.plugins}
            | {"quantisation": [found.algo, found.kv_cache, found.dtype], "mapping": config.mapping},
            "trtllm-engine/v1",
        ),
        tool_version=config.version or told.version or tool.version,
        compute_capability=told.compute_capability,
        peak_host_mem_mib=told.peak_host_mem_mib,
        details={
            "quant_algo": found.algo,
            "kv_cache": found.kv_cache,
            "dtype": found.dtype,
            "architecture": config.architecture,
            "world_size": config.world_size,
            "build_config": config.build,
            "plugins": config.plugins,
            "log": told.details(),
            "ranks_bytes": [rank.stat().st_size for rank in ranks],
            "reasons": reasons,
        },
    )
