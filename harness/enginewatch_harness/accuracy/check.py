"""Compare one engine with its reference, after the measurement."""

from __future__ import annotations

from pathlib import Path

from enginewatch_db.errors import BackendError, MeasurementError
from enginewatch_db.metrics import MetricValue
from enginewatch_db.model import EngineRecord
from enginewatch_harness.accuracy.compare import absent_accuracy, accuracy_metrics, not_finite
from enginewatch_harness.accuracy.reference import reference_of
from enginewatch_harness.backends.base import Context, Infers, Job

ELSEWHERE = "checked once for each engine of a session, in its first run"


def check(
    tool: Infers, job: Job, engine: EngineRecord | None, engine_path: Path | None, context: Context
) -> tuple[MetricValue, ...]:
    """Return the accuracy metrics of an engine; absent with the reason where they cannot be had.

    Raises:
        MeasurementError: ``output_not_finite``: the engine wrote NaN or infinity where the reference did not.
    """
    try:
        inputs, wanted = reference_of(job, context.cache_dir)
    except BackendError as error:
        return absent_accuracy(f"the fp32 reference did not run: {error.message}")
    try:
        found = tool.infer(job, engine, engine_path, inputs, context)
    except BackendError as error:
        if error.code == "output_not_finite":
            raise
        return absent_accuracy(f"the engine did not answer the reference's inputs: {error.message}")
    missing = sorted(set(wanted) - set(found))
    if missing:
        return absent_accuracy(f"the engine has no output {missing[0]!r}; it has {', '.join(sorted(found))}")
    names = sorted(wanted)
    outputs, reference = [found[name] for name in names], [wanted[name] for name in names]
    bad = not_finite(names, outputs)
    if bad and not not_finite(names, reference):
        raise MeasurementError(
            f"{job.case_key}: the output is not finite ({'; '.join(bad)})",
            code="output_not_finite",
            remedy="check the precision and the weights",
        )
    return accuracy_metrics(outputs, reference)
