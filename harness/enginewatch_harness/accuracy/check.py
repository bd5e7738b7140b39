"""Compare one engine with its reference, after the measurement."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from enginewatch_db.errors import BackendError, EnginewatchError
from enginewatch_db.metrics import MetricValue
from enginewatch_db.model import EngineRecord
from enginewatch_harness.accuracy.compare import absent_accuracy, accuracy_metrics, not_finite, refuse_not_finite
from enginewatch_harness.accuracy.reference import Reference, reference_of
from enginewatch_harness.backends.base import Context, Infers, Job
from enginewatch_harness.input_data import Arrays

ELSEWHERE = "checked once for each engine of a session, in its first run"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """The accuracy metrics, and what the provenance should say of them."""

    metrics: tuple[MetricValue, ...]
    notes: tuple[str, ...] = ()


def check(tool: Infers, job: Job, engine: EngineRecord | None, engine_path: Path | None, context: Context) -> Checked:
    """Return the accuracy metrics of an engine; absent with the reason where they cannot be had.

    Raises:
        MeasurementError: ``output_not_finite``: the engine wrote NaN or infinity where the reference did not.
    """
    try:
        reference = reference_of(job, context.cache_dir)
    except EnginewatchError as error:
        return Checked(metrics=absent_accuracy(f"the fp32 reference did not run: {error.message}"))
    notes = () if reference.note is None else (reference.note,)
    try:
        found = [tool.infer(job, engine, engine_path, batch.inputs, context) for batch in reference.batches]
    except BackendError as error:
        if error.code == "output_not_finite":
            raise
        return Checked(metrics=absent_accuracy(f"the engine did not answer the reference's inputs: {error.message}"))
    return Checked(metrics=_compare(job, reference, found), notes=notes)


def _compare(job: Job, reference: Reference, found: list[Arrays]) -> tuple[MetricValue, ...]:
    names = sorted(reference.batches[0].outputs)
    missing = [name for name in names if name not in found[0]]
    if missing:
        return absent_accuracy(f"the engine has no output {missing[0]!r}; it has {', '.join(sorted(found[0]))}")
    pairs = list(zip(reference.batches, found, strict=True))
    labels = [name for _ in pairs for name in names]
    wanted = [batch.outputs[name] for batch, _ in pairs for name in names]
    outputs = [_plain(answer[name]) for _, answer in pairs for name in names]
    if bad := not_finite(labels, wanted):
        return absent_accuracy(f"the fp32 reference itself is not finite ({bad[0]})")
    refuse_not_finite(job.case_key, labels, outputs)
    return accuracy_metrics(outputs, wanted)


def _plain(values: NDArray[Any]) -> NDArray[Any]:
    """Return formats that NumPy itself lacks (bfloat16, FP8) as fp32."""
    return values.astype(np.float32) if values.dtype.kind == "V" else values
