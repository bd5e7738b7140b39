"""The worker: a fresh process that builds one engine or does one run. ``python -m enginewatch_harness.worker DIR``."""

from __future__ import annotations

import errno
import json
import sys
import time
import traceback
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
from enginewatch_harness.wire import (
    EVENTS,
    LOOK_S,
    NOT_YET,
    WorkOrder,
    WorkResult,
    discard_result,
    read_order,
    write_result,
)


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
    return _look_inside(order, WorkResult(measurement=measurement, sentinel_ns=tuple(before + after)), context)


def _look_inside(order: WorkOrder, result: WorkResult, context: Context) -> WorkResult:
    """Add the profile and the accuracy, after everything that is timed.

    What is known is written before each step: a library that takes the process with it, or the time limit, costs
    that step and no measurement.
    """
    tool, measurement = backend(order.backend), _measured(result)
    order = _with_time_to_look(order, context)
    if order.profile and isinstance(tool, Profiles):
        _save_early(order, tool, result, measurement, context)
        context.enter(Phase.PROFILE)
        measurement = _with_profile(order, tool, measurement, context)
    if asked_for(order):
        _save_early(order, tool, result, measurement, context)
        context.enter(Phase.PROFILE)
        measurement = _with_diagnosis(diagnose(tool, order, context), measurement)
    if isinstance(tool, Infers):
        if order.accuracy:
            _save_early(order, tool, result, measurement, context)
        measurement = _with_accuracy(measurement, _accuracy(order, tool, context))
    return replace(result, measurement=measurement)


def _measured(result: WorkResult) -> Measurement:
    if result.measurement is None:
        raise BackendError("there is no measurement to look into", code="no_samples")
    return result.measurement


def _with_time_to_look(order: WorkOrder, context: Context) -> WorkOrder:
    # As the one who follows this worker reckons: see run_worker.
    if order.timeout_s is None:
        return order
    return replace(order, timeout_s=max(order.timeout_s, (time.monotonic_ns() - context.t0_ns) / 1e9 + LOOK_S))


def _save_early(order: WorkOrder, tool: object, result: WorkResult, measurement: Measurement, context: Context) -> None:
    if isinstance(tool, Infers):
        why = NOT_YET if order.accuracy else order.no_accuracy
        measurement = _with_accuracy(measurement, Checked(metrics=absent_accuracy(why)))
    _save(context.work_dir, replace(result, measurement=measurement, early=True))


def _with_accuracy(measurement: Measurement, found: Checked) -> Measurement:
    return replace(
        measurement,
        metrics=(*measurement.metrics, *found.metrics),
        notes=(*measurement.notes, *found.notes),
    )


def _with_profile(order: WorkOrder, tool: Profiles, measurement: Measurement, context: Context) -> Measurement:
    try:
        found = tool.profile(order.job, order.engine, order.engine_path, context)
    except BackendError as error:
        # It explains a result and is none: the measurement stands without it.
        return replace(measurement, notes=(*measurement.notes, f"no profile: {error.message}"))
    except Exception as error:  # noqa: BLE001 (a fault of a profiler must not cost what was measured)
        return replace(measurement, notes=(*measurement.notes, f"no profile: {_words(error)}"))
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
    try:
        return check(tool, order.job, order.engine, order.engine_path, context)
    except BackendError:
        # The outputs are wrong: that is a result.
        raise
    except Exception as error:  # noqa: BLE001 (a fault of the check must not cost what was measured)
        return Checked(metrics=absent_accuracy(f"the accuracy check failed: {_words(error)}"))


def _words(error: Exception) -> str:
    """Return an unforeseen error in one line; the log has the rest."""
    traceback.print_exception(error)
    return f"{type(error).__name__}: {error}"


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
        result = WorkResult(
            failure=Failure(code="crashed", message=_words(error), remedy=f"read {folder}/worker.stderr.log")
        )
    try:
        _save(folder, result)
    except BackendError as error:
        full = Failure(code=error.code, message=error.message, remedy=error.remedy)
        write_result(folder, WorkResult(failure=full))
    return 0


def _save(folder: Path, result: WorkResult) -> None:
    """Write the result.

    Raises:
        BackendError: ``disk_full``; nothing of it, and of an earlier one, is left.
    """
    try:
        write_result(folder, result)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        discard_result(folder)
        raise BackendError(
            f"no space left while a worker wrote its result into {folder}",
            code="disk_full",
            remedy="free some space, then `enginewatch run PLAN --resume`",
        ) from error


if __name__ == "__main__":
    leave_out_pandas()
    sys.exit(main())
