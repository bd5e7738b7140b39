"""The worker: a fresh process that builds one engine or does one run. ``python -m enginewatch_harness.worker DIR``."""

from __future__ import annotations

import errno
import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from enginewatch_db.errors import BackendError, EnginewatchError
from enginewatch_db.model import Failure, Phase
from enginewatch_harness import sentinel
from enginewatch_harness.accuracy.check import check
from enginewatch_harness.accuracy.compare import Checked, absent_accuracy
from enginewatch_harness.backends.base import Context, Infers, Measurement, Profiled, Profiles
from enginewatch_harness.lean import leave_out_pandas
from enginewatch_harness.nsys.diagnose import asked_for, diagnose
from enginewatch_harness.process import die_with_parent
from enginewatch_harness.registry import backend
from enginewatch_harness.wire import EVENTS, WorkOrder, WorkResult, read_order, write_result


def work(folder: Path) -> WorkResult:
    """Do what the order in ``folder`` says."""
    order = read_order(folder)
    with (folder / EVENTS).open("a", encoding="utf-8") as stream:

        def emit(**event: object) -> None:
            stream.write(json.dumps({"t_ns": time.monotonic_ns(), **event}) + "\n")
            stream.flush()

        context = Context(
            work_dir=folder,
            t0_ns=time.monotonic_ns(),
            enter=lambda phase: emit(phase=phase),
            progress=lambda n, median_ms: emit(n=n, median_ms=median_ms),
            cache_dir=order.cache_dir,
        )
        emit(t0_ns=context.t0_ns)
        try:
            return _build(order, context) if order.action == "build" else _measure(order, context, emit)
        finally:
            emit(end=True)


def _build(order: WorkOrder, context: Context) -> WorkResult:
    if order.engine_path is None:
        raise BackendError("a build order needs a target", code="build_failed")
    context.enter(Phase.BUILD)
    return WorkResult(engine=backend(order.backend).build(order.job, order.engine_path, context))


def _measure(order: WorkOrder, context: Context, emit: Callable[..., None]) -> WorkResult:
    # The control brackets the measurement: half before, half after, in the same process.
    before = sentinel.sample()
    context.enter(Phase.LOAD)
    measurement = backend(order.backend).measure(order.job, order.engine, order.engine_path, context)
    emit(phase=Phase.DRAIN)
    after = sentinel.sample()
    return WorkResult(measurement=_look_inside(order, measurement, context), sentinel_ns=tuple(before + after))


def _look_inside(order: WorkOrder, measurement: Measurement, context: Context) -> Measurement:
    """Add the profile and the accuracy, after everything that is timed."""
    tool = backend(order.backend)
    if order.profile and isinstance(tool, Profiles):
        context.enter(Phase.PROFILE)
        measurement = _with_profile(order, tool, measurement, context)
    if asked_for(order):
        context.enter(Phase.PROFILE)
        measurement = _with_diagnosis(diagnose(tool, order, context), measurement)
    if isinstance(tool, Infers):
        found = _accuracy(order, tool, context)
        measurement = replace(
            measurement,
            metrics=(*measurement.metrics, *found.metrics),
            notes=(*measurement.notes, *found.notes),
        )
    return measurement


def _with_profile(order: WorkOrder, tool: Profiles, measurement: Measurement, context: Context) -> Measurement:
    try:
        found = tool.profile(order.job, order.engine, order.engine_path, context)
    except BackendError as error:
        # It explains a result and is none: the measurement stands without it.
        return replace(measurement, notes=(*measurement.notes, f"no profile: {error.message}"))
    return replace(
        measurement,
        tables={**measurement.tables, **found.tables},
        metrics=(*measurement.metrics, *found.metrics),
        realised_precision=found.realised_precision or measurement.realised_precision,
        notes=(*measurement.notes, *found.notes),
    )


def _with_diagnosis(found: Profiled, measurement: Measurement) -> Measurement:
    # A backend's own table of kernels knows the layers better.
    return replace(
        measurement,
        tables={**found.tables, **measurement.tables},
        metrics=(*measurement.metrics, *found.metrics),
        notes=(*measurement.notes, *found.notes),
    )


def _accuracy(order: WorkOrder, tool: Infers, context: Context) -> Checked:
    if not order.accuracy:
        return Checked(metrics=absent_accuracy(order.no_accuracy))
    context.enter(Phase.ACCURACY)
    return check(tool, order.job, order.engine, order.engine_path, context)


def main() -> int:
    """Run the order in the folder that the command line names; the exit status is 0 when a result was written."""
    folder = Path(sys.argv[1])
    die_with_parent()
    try:
        result = work(folder)
    except BackendError as error:
        result = WorkResult(failure=Failure(code=error.code, message=error.message, remedy=error.remedy))
    except EnginewatchError as error:
        result = WorkResult(failure=Failure(code="crashed", message=error.message, remedy=error.remedy))
    except MemoryError:
        result = WorkResult(
            failure=Failure(code="out_of_memory", message="host memory ran out", remedy="use a smaller batch or model")
        )
    except Exception as error:  # noqa: BLE001 (process boundary: a backend's fault becomes a failed run with its log)
        import traceback

        traceback.print_exc()
        result = WorkResult(
            failure=Failure(
                code="crashed", message=f"{type(error).__name__}: {error}", remedy=f"read {folder}/worker.stderr.log"
            )
        )
    try:
        write_result(folder, result)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        for table in folder.glob("*.parquet"):
            table.unlink()
        message = f"no space left while a worker wrote its result into {folder}"
        remedy = "free some space, then `enginewatch run PLAN --resume`"
        write_result(folder, WorkResult(failure=Failure(code="disk_full", message=message, remedy=remedy)))
    return 0


if __name__ == "__main__":
    leave_out_pandas()
    sys.exit(main())
