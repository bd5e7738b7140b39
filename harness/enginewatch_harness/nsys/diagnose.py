"""Look at a few inferences with a profiler, after the measurement and apart from it; the run stands whatever happens.

Nsight Systems runs around a process of its own; without it, CUPTI records inside this one, where the backend works
here. Where neither can be had, the metrics say why. No time of the run is ever taken from it.
"""

from __future__ import annotations

import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path

from enginewatch_db.errors import BackendError, MeasurementError, NotAvailableError
from enginewatch_harness.backends.base import Backend, Context, Profiled, Repeats, Wrapped
from enginewatch_harness.nsys.command import Nsys, export_command, profile_command
from enginewatch_harness.nsys.cupti import CuptiRecorder, load_cupti
from enginewatch_harness.nsys.events import Recording
from enginewatch_harness.nsys.find import find_nsys
from enginewatch_harness.nsys.profiled import absent, profiled
from enginewatch_harness.nsys.scrub import Scrubber, local_words, private_words
from enginewatch_harness.nsys.sqlite import open_report, read_recording
from enginewatch_harness.nsys.told import ask_nsys
from enginewatch_harness.process import ToolResult, run_tool, tail
from enginewatch_harness.wire import WorkOrder, write_order

OPTION = "nsys"
INFERENCES = 50
LONGEST_S = 900.0
SHORTEST_S = 10.0
"""Less time is not worth beginning: nsys alone takes seconds to start and to write."""

_SHARE = 0.5
"""Of the time that the worker has left: accuracy comes after, and nothing here may cost the run its result."""

_SUFFIXES = (".nsys-rep", ".qdrep")
"""Of a report; the second one until 2021.3."""

_RAW = ".qdstrm"
_COMPLETE = "install the whole of Nsight Systems (package nsight-systems-cli)"
_LAST_WORDS = 300


def asked_for(order: WorkOrder) -> bool:
    """Return whether the plan asks for a diagnosis, and this run is the one to get it."""
    return order.profile and order.job.options.get(OPTION) is True


def diagnose(tool: Backend, order: WorkOrder, context: Context) -> Profiled:
    """Return the table of kernels and the diagnostic metrics, or these metrics with why they are absent."""
    if not isinstance(tool, Wrapped | Repeats):
        return absent(f"the backend {order.backend} has no process of its own on a GPU to look at")
    try:
        try:
            nsys = find_nsys()
        except NotAvailableError as missing:
            return _by_cupti(tool, order, context, missing)
        return _by_nsys(nsys, tool, order, context)
    except BackendError as error:
        words = Scrubber(local_words()).message(" → ".join(filter(None, (error.message, error.remedy))))
        return absent(words, notes=(f"no diagnosis: {words}",))


def _by_cupti(tool: Wrapped | Repeats, order: WorkOrder, context: Context, missing: NotAvailableError) -> Profiled:
    if not isinstance(tool, Repeats):
        raise missing
    try:
        recorder = CuptiRecorder(load_cupti())
        tool.repeat(order.job, order.engine, order.engine_path, context, inferences=INFERENCES, watch=recorder)
    except NotAvailableError as error:
        raise NotAvailableError(f"{missing.message}; {error.message}", remedy=error.remedy) from error
    return profiled(recorder.recording(), INFERENCES, Scrubber(local_words()))


def _by_nsys(nsys: Nsys, tool: Wrapped | Repeats, order: WorkOrder, context: Context) -> Profiled:
    left_s = _left_s(order, context)
    folder = context.work_dir.absolute() / "nsys"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        if isinstance(tool, Wrapped):
            command = tool.trace_command(order.job, order.engine, order.engine_path, context, INFERENCES)
        else:
            command = _replay_command(folder, order)
        planned = profile_command(nsys, command, output=folder / "report")
        ended = _run(planned.argv, context, folder / "profile", left_s)
        exported = _export(nsys, _report(nsys, folder, ended), folder, context, _left_s(order, context))
        with open_report(exported) as tables:
            scrubber = Scrubber(private_words(tables) | local_words())
        recording = read_recording(exported)
        found = profiled(replace(recording, version=recording.version or nsys.dotted), INFERENCES, scrubber)
        failed = (f"nsys: the command ended with status {ended.returncode}",) if ended.returncode else ()
        told = map(scrubber.message, _told(nsys, exported, recording, order, context))
        return replace(found, notes=(*found.notes, *told, *failed, *planned.notes))
    finally:
        # The report holds the environment, host and user: it does not outlive its reading.
        shutil.rmtree(folder, ignore_errors=True)


def _told(nsys: Nsys, exported: Path, recording: Recording, order: WorkOrder, context: Context) -> tuple[str, ...]:
    """Return what nsys itself says, where time is left for it: it adds to the diagnosis and never ends it."""
    try:
        # Two commands come: each has half of what this step may take.
        left_s = _left_s(order, context) * _SHARE
        return ask_nsys(nsys, exported, recording, exported.parent / "told", timeout_s=left_s)
    except (OSError, MeasurementError) as error:
        return (f"nsys was not asked for its own statistics: {error}",)


def _left_s(order: WorkOrder, context: Context) -> float:
    """Return how long something may take so that the worker is not stopped over it."""
    if order.timeout_s is None:
        return LONGEST_S
    left_s = order.timeout_s - (time.monotonic_ns() - context.t0_ns) / 1e9
    if left_s * _SHARE < SHORTEST_S:
        raise MeasurementError(
            f"only {max(0.0, left_s):.0f} s of the run's {order.timeout_s:g} s are left, too few for nsys",
            code="timeout",
            remedy="raise measure.timeout_s in the plan",
        )
    return min(LONGEST_S, left_s * _SHARE)


def _replay_command(folder: Path, order: WorkOrder) -> list[str]:
    write_order(folder, order)
    return [sys.executable, "-m", "enginewatch_harness.nsys.replay", str(folder), str(INFERENCES)]


def _run(argv: tuple[str, ...], context: Context, log: Path, timeout_s: float) -> ToolResult:
    try:
        return run_tool(argv, cwd=context.work_dir, timeout_s=timeout_s, log_prefix=log)
    except OSError as error:
        raise NotAvailableError(f"nsys cannot be started: {error}", remedy=_COMPLETE) from error


def _report(nsys: Nsys, folder: Path, ended: ToolResult) -> Path:
    for suffix in _SUFFIXES:
        if (folder / f"report{suffix}").is_file():
            return folder / f"report{suffix}"
    if any(path.suffix == _RAW for path in folder.iterdir()):
        raise NotAvailableError(
            f"this nsys {nsys.dotted} can only record: it wrote raw events ({_RAW}) and has no importer for them",
            remedy=_COMPLETE,
        )
    words = _last_words(folder / "profile.stderr.log") or _last_words(folder / "profile.stdout.log")
    raise MeasurementError(
        f"nsys {nsys.dotted} wrote no report (status {ended.returncode}): {words or 'it said nothing'}",
        code="no_samples",
    )


def _export(nsys: Nsys, report: Path, folder: Path, context: Context, left_s: float) -> Path:
    exported = folder / "report.sqlite"
    ended = _run(export_command(nsys, report, output=exported), context, folder / "export", left_s)
    if ended.returncode == 0 and exported.is_file():
        return exported
    words = _last_words(folder / "export.stderr.log") or _last_words(folder / "export.stdout.log")
    raise NotAvailableError(
        f"nsys {nsys.dotted} could not export its report (status {ended.returncode}): {words or 'it said nothing'}",
        remedy=_COMPLETE,
    )


def _last_words(log: Path) -> str:
    return " ".join(tail(log, _LAST_WORDS).split())
