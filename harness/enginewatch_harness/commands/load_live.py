"""Show a load test while it runs: a table that fills on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping

from rich.live import Live
from rich.table import Table

from enginewatch_db.model import RunRecord
from enginewatch_harness import events
from enginewatch_harness.commands.load_cases import level_of
from enginewatch_harness.commands.load_rows import Row, line_of, number, rows_of, table_of
from enginewatch_harness.console import err, say
from enginewatch_harness.load.spec import LoadSpec
from enginewatch_harness.progress import JsonProgress, PlainProgress, clock

REFRESH_HZ = 4


class PlainLoad(PlainProgress):
    """One line a run.

    Args:
        cases: Case key → load; grows while a search goes on.
        with_slo: Whether goodput is shown.
        about: What is tested, for the first line.
    """

    def __init__(self, cases: Mapping[str, LoadSpec], *, with_slo: bool, about: str) -> None:
        self._cases, self._with_slo, self._about = cases, with_slo, about

    def _line(self, event: events.Event) -> str | None:
        match event:
            case events.Started():
                runs = "run" if event.total == 1 else "runs"
                return f"{self._about}; up to {event.total} {runs}, about {clock(event.estimate_s)}"
            case events.RunFinished():
                level = level_of(self._cases[event.record.case_key])
                line = line_of(event.record, with_slo=self._with_slo)
                return f"run {event.number}/{event.total} {level}: {line}, {event.wall_s:.1f} s"
            case _:
                return super()._line(event)


class LiveLoad(PlainLoad):
    """The table, redrawn while runs go; notes and failures stay above it."""

    def __init__(self, cases: Mapping[str, LoadSpec], *, with_slo: bool, about: str) -> None:
        super().__init__(cases, with_slo=with_slo, about=about)
        self._records: list[RunRecord] = []
        self._now: dict[str, str] = {}
        self._run, self._ends_s = "", 0.0
        self._live = Live(console=err, refresh_per_second=REFRESH_HZ, transient=True)

    def __enter__(self) -> LiveLoad:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def __call__(self, event: events.Event) -> None:
        """Take an event and redraw."""
        match event:
            case events.RunStarted():
                self._run = f"run {event.number}/{event.total}"
                self._ends_s = time.monotonic() + event.eta_s
                self._now = {event.case_key: "starting"}
            case events.RunProgress():
                middle = "" if event.median_ms is None else f", E2E {number(event.median_ms, 3)} ms"
                self._now = {event.case_key: f"{event.n} requests{middle} now" if event.n else "warming up"}
            case events.RunFinished():
                self._records.append(event.record)
                self._now = {}
                if event.record.failure is not None:
                    say(self._line(event) or "")
            case _:
                super().__call__(event)
        self._live.update(self._table())

    def _title(self) -> str:
        return f"{self._run}, {clock(max(0.0, self._ends_s - time.monotonic()))} left" if self._run else ""

    def _table(self) -> Table:
        rows = rows_of(self._records, self._cases)
        known = {row.case_key for row in rows}
        for key in self._now:
            if key not in known:
                spec = self._cases[key]
                rows.append(Row(case_key=key, level=level_of(spec), load=0, records=()))
        return table_of(rows, with_slo=self._with_slo, now=self._now, title=self._title(), width=err.width)


def make_live(kind: str, cases: Mapping[str, LoadSpec], *, with_slo: bool, about: str) -> PlainProgress:
    """Return the listener for ``auto``, ``live``, ``plain`` or ``json``."""
    if kind == "json":
        return JsonProgress()
    live = kind == "live" or (kind == "auto" and err.is_terminal)
    return (LiveLoad if live else PlainLoad)(cases, with_slo=with_slo, about=about)
