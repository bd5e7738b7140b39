"""Show a session while it runs: a live bar with ETA and running median on a terminal, plain lines elsewhere."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import assert_never

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Column

from enginewatch_ci.phrasing import count
from enginewatch_db.model import RunRecord, RunStatus
from enginewatch_harness import events
from enginewatch_harness.console import err, say

HEADLINE = ("latency_p50_ms", "ttft_p50_ms")


WIDE = 100
"""Columns of a window that has room for the elapsed time and a long bar beside the name of a case."""


def clock(seconds: float) -> str:
    """Return seconds as ``m:ss``."""
    whole = max(0, round(seconds))
    return f"{whole // 60}:{whole % 60:02d}"


def headline(record: RunRecord) -> str:
    """Return the one number of a run that a person wants to see, or why there is none."""
    if record.failure is not None:
        word = "not available" if record.status is RunStatus.NOT_AVAILABLE else f"failed ({record.failure.code})"
        return f"{word}: {record.failure.message}"
    for metric in record.metrics:
        if metric.metric in HEADLINE and metric.value is not None:
            name = metric.metric.removesuffix("_ms").replace("_", " ")
            marks = ", ".join(reason.code for reason in record.reasons)
            return f"{name} {metric.value:.3f} ms (n={metric.n})" + (f" [{marks}]" if marks else "")
    return "measured"


def which_build(event: events.Building | events.Built) -> str:
    """Return which of a case's builds this is, where a plan asks for more than one."""
    return f" (build {event.build} of {event.builds})" if event.builds > 1 else ""


class PlainProgress:
    """One line per event, for logs and CI; what is not available is said once, the closing table lists its cases."""

    def __init__(self) -> None:
        self._absent: set[str] = set()

    def __call__(self, event: events.Event) -> None:
        """Write the event's line; running progress is left out."""
        text = self._line(event)
        if text:
            say(text)

    def _line(self, event: events.Event) -> str | None:
        match event:
            case events.Started():
                size = f"{count(event.cases, 'case')}, {count(event.total, 'run')}"
                return (
                    f"session {event.session_id} of plan {event.plan_name}: {size}"
                    f"{f', {event.done} done already' if event.done else ''}, about {clock(event.estimate_s)}"
                )
            case events.Building():
                return f"build {event.number}/{event.total} {event.case_key}{which_build(event)}"
            case events.Built():
                took = "from the cache" if event.build_time_s is None else f"{event.build_time_s:.2f} s"
                return f"built {event.case_key}{which_build(event)}: {took}"
            case events.RunStarted() | events.RunProgress():
                return None
            case events.RunFinished(record=RunRecord(status=RunStatus.NOT_AVAILABLE)):
                return self._not_available(event.record)
            case events.RunFinished():
                place = f"run {event.number}/{event.total} {event.record.case_key} #{event.record.repeat}"
                return f"{place}: {headline(event.record)}, {event.wall_s:.1f} s"
            case events.Note():
                return event.text
            case _:
                assert_never(event)

    def _not_available(self, record: RunRecord) -> str | None:
        text = headline(record)
        if text in self._absent:
            return None
        self._absent.add(text)
        return text

    def __enter__(self) -> PlainProgress:
        return self

    def __exit__(self, *_: object) -> None:
        return


def columns(width: int) -> list[ProgressColumn]:
    """Return what stands in the bar's line: where the window is too narrow for all, the case's name is cut.

    Args:
        width: Columns of the window.
    """
    wide = width >= WIDE

    def whole() -> Column:
        return Column(no_wrap=True)

    rest = Column(no_wrap=True, overflow="ellipsis", ratio=1)
    found: list[ProgressColumn] = [
        BarColumn(bar_width=24 if wide else 10, table_column=whole()),
        MofNCompleteColumn(table_column=whole()),
        TextColumn("ETA {task.fields[eta]}", table_column=whole()),
        TextColumn("{task.fields[now]}", markup=False, table_column=rest),
    ]
    if wide:
        found.insert(0, TextColumn("[bold]{task.description}", table_column=whole()))
        found.append(TimeElapsedColumn(table_column=whole()))
    return found


class LiveProgress(PlainProgress):
    """A bar on the terminal; failures and notes stay above it."""

    def __init__(self) -> None:
        super().__init__()
        self._bar = Progress(*columns(err.width), console=err, transient=True, expand=True)
        self._task: TaskID | None = None

    def __enter__(self) -> LiveProgress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def __call__(self, event: events.Event) -> None:
        """Update the bar."""
        match event:
            case events.Started():
                super().__call__(event)
                self._task = self._bar.add_task(
                    "measure", total=event.total, completed=event.done, eta=clock(event.estimate_s), now=""
                )
            case events.Building():
                self._update(now=f"build {event.number}/{event.total} {event.case_key}{which_build(event)}")
            case events.RunStarted():
                self._update(completed=event.number - 1, eta=clock(event.eta_s), now=event.case_key)
            case events.RunProgress():
                median = "" if event.median_ms is None else f" median {event.median_ms:.3f} ms"
                self._update(now=f"n={event.n}{median} {event.case_key}")
            case events.RunFinished():
                self._update(completed=event.number)
                if event.record.failure is not None:
                    super().__call__(event)
            case events.Built() | events.Note():
                super().__call__(event)
            case _:
                assert_never(event)

    def _update(self, **fields: object) -> None:
        if self._task is not None:
            self._bar.update(self._task, **fields)  # type: ignore[arg-type]


class JsonProgress(PlainProgress):
    """One JSON object per event, for machines; a finished run is given by its facts, not its samples."""

    def __call__(self, event: events.Event) -> None:
        """Write the event as JSON."""
        if isinstance(event, events.RunFinished):
            record = event.record
            body: dict[str, object] = {
                "run_id": record.run_id,
                "case_key": record.case_key,
                "repeat": record.repeat,
                "status": record.status,
                "headline": headline(record),
                "number": event.number,
                "total": event.total,
                "wall_s": event.wall_s,
            }
        else:
            body = asdict(event)
        say(json.dumps({"event": type(event).__name__, **body}), wrap=False)


def make_progress(kind: str) -> PlainProgress:
    """Return the listener for ``auto``, ``live``, ``plain`` or ``json``."""
    if kind == "json":
        return JsonProgress()
    if kind == "live" or (kind == "auto" and err.is_terminal):
        return LiveProgress()
    return PlainProgress()
