"""Describe an engine that was just built."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from enginewatch_db.errors import BackendError
from enginewatch_db.model import EngineRecord, Json
from enginewatch_harness.backends.tensorrt_build import Built
from enginewatch_harness.backends.tensorrt_cuda import CudaDevice
from enginewatch_harness.backends.tensorrt_layers import layers_from_log
from enginewatch_harness.backends.tensorrt_log import logger
from enginewatch_harness.backends.tensorrt_module import member
from enginewatch_harness.graph_precision import GraphModel
from enginewatch_harness.parse.inspector import Layer, parse_layers
from enginewatch_harness.parse.trtexec_layers import fingerprint, realised_precision


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEngine:
    """What is known of a new engine besides its file.

    Attributes:
        built: What the builder brought.
        layers: Its layers; empty where nobody tells them.
        build_time_s: From reading the model to the serialised engine.
        device: The GPU that it was built on; ``None``: on none.
        graph: The model that it was built from.
    """

    built: Built
    layers: Sequence[Layer]
    build_time_s: float
    device: CudaDevice | None
    graph: GraphModel


def new_layers(module: ModuleType, built: Built, *, load: bool) -> tuple[Layer, ...]:
    """Return the layers of a new engine: from the inspector where it can be loaded, else from the build's log."""
    log, keeper = logger(module)
    listed = layers_from_log(keeper.since(built.mark))
    engine = module.Runtime(log).deserialize_cuda_engine(built.plan) if load else None
    if engine is None:
        return listed
    try:
        told = engine.create_engine_inspector().get_engine_information(member(module, "LayerInformationFormat", "JSON"))
        return parse_layers(str(told)) or listed
    except BackendError:  # it explains an engine and is none
        return listed


def engine_record(module: ModuleType, file: Path, target: Path, new: NewEngine) -> EngineRecord:
    """Return the record of an engine whose file is complete under a temporary name."""
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    facts = new.built.facts
    return EngineRecord(
        engine_key=target.stem,
        engine_sha256=digest,
        path=target.name,
        size_bytes=file.stat().st_size,
        build_time_s=new.build_time_s,
        cached=False,
        realised_precision=realised_precision(new.layers),
        fingerprint=fingerprint(new.layers),
        details=new.built.details() | _provenance(module, new),
        tool_version=str(module.__version__),
        compute_capability=new.device.compute_capability if new.device else None,
        peak_gpu_mem_mib=facts.peak_gpu_mib,
        peak_host_mem_mib=facts.peak_cpu_mib,
    )


def _provenance(module: ModuleType, new: NewEngine) -> Json:
    skipped = new.built.facts.tactics_skipped
    reasons = [{"code": "tactics_skipped_for_memory", "detail": f"{skipped} tactics skipped"}] if skipped else []
    return {
        "versions": {module.__name__: str(module.__version__)},
        "graph": {"tool": new.graph.tool, "tool_version": new.graph.tool_version, "sha256": new.graph.sha256},
        "layers": len(new.layers),
        "reasons": reasons,
        "notes": list(new.graph.notes),
    }
