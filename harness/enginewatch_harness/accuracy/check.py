"""Compare one engine with its reference, after the measurement."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from enginewatch_db.errors import BackendError, EnginewatchError
from enginewatch_db.model import EngineRecord
from enginewatch_harness.accuracy.compare import (
    Checked,
    absent_accuracy,
    accuracy_metrics,
    not_finite,
    refuse_not_finite,
)
from enginewatch_harness.accuracy.reference import Reference, reference_of
from enginewatch_harness.backends.base import Context, Infers, Job
from enginewatch_harness.input_data import Arrays

SWITCHED_OFF = "switched off by the option accuracy = false"
ELSEWHERE = "checked once for each engine of a session, in its first run"


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
    compared = _compare(job, reference, found)
    return replace(compared, notes=(*notes, *compared.notes))


def _compare(job: Job, reference: Reference, found: list[Arrays]) -> Checked:
    names = sorted(reference.batches[0].outputs)
    missing = [name for name in names if name not in found[0]]
    if missing:
        why = f"the engine has no output {missing[0]!r}; it has {', '.join(sorted(found[0]))}"
        return Checked(metrics=absent_accuracy(why))
    wanted = {name: [batch.outputs[name] for batch in reference.batches] for name in names}
    outputs = {name: [_plain(answer[name]) for answer in found] for name in names}
    labels = [name for name in names for _ in found]
    if bad := not_finite(labels, [item for name in names for item in wanted[name]]):
        return Checked(metrics=absent_accuracy(f"the fp32 reference itself is not finite ({bad[0]})"))
    refuse_not_finite(job.case_key, labels, [item for name in names for item in outputs[name]])
    return accuracy_metrics(outputs, wanted)


def _plain(values: NDArray[Any]) -> NDArray[Any]:
    """Return formats that NumPy itself lacks (bfloat16, FP8) as fp32."""
    return values.astype(np.float32) if values.dtype.kind == "V" else values
