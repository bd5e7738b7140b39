"""A store of engines: recorded TensorRT layers of a ResNet-50 in two precisions, and engines on the CPU.

Loaded by ``conftest.py``; no test imports it. The layers are those that trtexec 8.6 exported on an H200
(``tests/data/harness/trtexec``); the samples beside them are random.
"""

from __future__ import annotations

import dataclasses
import gzip
from pathlib import Path

import numpy as np
import pyarrow as pa

from enginewatch_db import model
from enginewatch_db.bundle import write
from enginewatch_db.metrics import MetricValue
from enginewatch_db.workspace import Workspace
from enginewatch_harness.parse.trtexec_json import parse_profile
from enginewatch_harness.parse.trtexec_layers import layers_table, parse_layers

TRTEXEC = Path(__file__).parents[1] / "data" / "harness" / "trtexec"
FP32, FP16 = "aaaa1111" * 8, "aaaa2222" * 8
ORT_FP32, ORT_INT8 = "bbbb" * 16, "cccc" * 16
ABSENT = "checked once for each engine of a session, in its first run"
CPU = "AMD EPYC 9654 (16 cores)"

# fmt: off
CASES = (
    # case, engine, build number, GPU time ms, layers, relative L2
    ("resnet50/trtexec/fp32/b8", FP32, 0, 2.653, "resnet50-fp32-b8", None),
    ("resnet50/trtexec/fp32/b32", FP32, 0, 8.301, "resnet50-fp32-b32", None),
    ("resnet50/trtexec/fp16/b8", FP16, 1, 0.671, "resnet50-fp16-b8", 0.0004),
    ("resnet50/trtexec/fp16/b32", FP16, 1, 1.377, "resnet50-fp16-b32", None),
    ("convnet/onnxruntime/fp32/b1", ORT_FP32, 0, None, "ort", 2.6e-7),
    ("convnet/onnxruntime/int8/b1", ORT_INT8, 0, None, "untimed", 0.21),
)
# fmt: on
KERNELS = pa.table(
    {
        "kernel_idx": pa.array([0, 1], pa.int32()),
        "name": ["sm90_xmma_fprop_implicit_gemm", "cudnn_pooling"],
        "calls": [53, 1],
        "total_ns": [530_000, 7_000],
        "mean_ns": [10_000, 7_000],
        "time_pct": [98.7, 1.3],
        "source": ["nsys", "nsys"],
    }
)


def recorded(name: str) -> pa.Table:
    """Return the layers of a recording."""

    def text(kind: str) -> str:
        return gzip.decompress((TRTEXEC / f"{name}.{kind}.json.gz").read_bytes()).decode()

    return layers_table(parse_profile(text("profile")), parse_layers(text("layers")))


def on_cpu(*, timed: bool) -> pa.Table:
    """Return layers as ONNX Runtime tells them; of one the operations are not known."""
    return pa.table(
        {
            "layer_idx": pa.array([0, 1, 2], pa.int32()),
            "name": ["conv_1", "conv_1_reorder", "fused_2"],
            "layer_type": ["Conv", "ReorderOutput", "SkipLayerThing"],
            "dtype": ["fp32", "fp32", "fp32"],
            "calls": [50, 50, 50],
            "mean_ns": pa.array([700_000, 100_000, 200_000] if timed else [None] * 3, pa.int64()),
            "bytes": [4_000, 8_000, 8_000],
            "flops": pa.array([1_000_000, None, None], pa.int64()),
            "source": ["onnxruntime"] * 3,
        }
    )


def _layers(name: str) -> pa.Table:
    return on_cpu(timed=name == "ort") if name in ("ort", "untimed") else recorded(name)


def _accuracy(rel_l2: float | None) -> tuple[MetricValue, ...]:
    if rel_l2 is None:
        return (MetricValue(metric="output_rel_l2", value=None, absent_reason=ABSENT),)
    return (
        MetricValue(metric="output_rel_l2", value=rel_l2, n=4),
        MetricValue(metric="output_max_abs", value=3 * rel_l2, n=4),
        MetricValue(metric="output_cosine", value=0.9999, n=4),
    )


def write_engines(seed, workspace: Workspace, number: int = 1) -> None:
    """Write one session: of each case a run with layers and accuracy, and a second one without."""
    session = seed.session_facts(number)
    for order, (key, sha256, build, gpu_ms, layers, rel_l2) in enumerate(CASES):
        precision = key.split("/")[2]
        on_gpu = gpu_ms is not None
        spec = seed.Spec(key=key, model=key.split("/")[0], device=seed.GPU if on_gpu else CPU,
                         latency_ms=1.1 * (gpu_ms or 3.0), sm=40.0 if on_gpu else 0.0)  # fmt: skip
        for repeat in (0, 1):
            place = 2 * order + repeat
            record, tables = seed.finished(
                spec, session=session, number=number, repeat=repeat, order=place, scale=1.0, seed=place
            )
            gpu = (MetricValue(metric="gpu_time_p50_ms", value=gpu_ms, n=100),) if on_gpu else ()
            record = dataclasses.replace(
                record,
                metrics=(*record.metrics, *gpu, *_accuracy(rel_l2 if repeat == 0 else None)),
                engine=_engine(sha256, spec, precision, build),
            )
            if repeat == 0:
                tables["layers"] = _layers(layers)
                if key == "resnet50/trtexec/fp16/b8":
                    tables["kernels"] = KERNELS
            write(workspace.spool, record, tables)


def _engine(sha256: str, spec, precision: str, build: int) -> model.EngineRecord:
    return model.EngineRecord(
        engine_key=f"key-{spec.model}-{precision}", engine_sha256=sha256, path=f"engines/{precision}/engine",
        size_bytes=53_687_091, cached=False, build_time_s=57.1, realised_precision=precision, model=spec.model,
        backend=spec.key.split("/")[1], tool_version="8.6.0", device=spec.device, precision=precision,
        build_number=build, details={"key_options": {"opt_level": 3}, "command": "trtexec --onnx=resnet50.onnx"},
    )  # fmt: skip


def accuracy_finding(session_id: str, key: str, *, value: float, limit: float) -> model.Finding:
    """Return what the judge says of a case's accuracy."""
    breached = value > limit
    told = (
        f"outputs are wrong: output_rel_l2 {value:g} > {limit:g}" if breached else f"outputs within {value:g} of fp32"
    )
    return model.Finding(
        kind=model.FindingKind.THRESHOLD,
        severity=model.Severity.CRITICAL if breached else model.Severity.INFO,
        title=f"{key}: {told}",
        session_id=session_id,
        detector="limit.accuracy",
        case_key=key,
        metric="output_rel_l2",
        value=value,
        evidence={
            "state": "breached" if breached else "met",
            "output_rel_l2": value,
            "limit_output_rel_l2": limit,
            "limit_output_cosine": 0.99,
        },
    )


def random_layers(rng: np.random.Generator, n: int) -> list[dict[str, object]]:
    """Return rows of layers for figures."""
    kinds = ("CaskConvolution", "Reformat", "PointWise", "Constant")
    return [
        {
            "layer_idx": place,
            "name": f"layer_{place}",
            "layer_type": kinds[int(rng.integers(len(kinds)))],
            "dtype": ("fp16", "int8", None)[int(rng.integers(3))],
            "input_dtype": "fp16",
            "output_dtype": "int8" if place % 2 else "fp16",
            "calls": 10,
            "mean_ns": None if rng.random() < 0.2 else int(rng.integers(1, 50_000)),
            "bytes": None if rng.random() < 0.2 else int(rng.integers(1, 10**8)),
            "flops": None if rng.random() < 0.2 else int(rng.integers(1, 10**10)),
            "source": "trtexec",
        }
        for place in range(n)
    ]
