"""The table of a load test: one row a level, over its runs. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from rich.markup import escape
from rich.table import Table

from enginewatch_db.model import RunRecord, RunStatus
from enginewatch_db.text_columns import fitting, longest_word
from enginewatch_harness.commands.load_cases import level_of, value_of
from enginewatch_harness.load.frontier import Located, Operating
from enginewatch_harness.load.spec import LoadSpec
from enginewatch_harness.report import by_case, spread

PAIRS = {
    "TTFT ms p50/p99": ("ttft_p50_ms", "ttft_p99_ms"),
    "ITL ms p50/p99": ("itl_p50_ms", "itl_p99_ms"),
    "E2E ms p50/p99": ("e2e_p50_ms", "e2e_p99_ms"),
}
RATES = {"req/s": "requests_s", "out tok/s": "output_tokens_s", "tok/s/user": "tokens_s_per_user"}

FIRST_TO_GO = ("runs", "req/s", "E2E ms p50/p99", "failed %", "ITL ms p50/p99", "tok/s/user")
"""Columns that a narrow window does without: the state tells of failures, and the store has all."""

STATE_WIDTH = 14
SEPARATOR = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One level.

    Attributes:
        case_key: Its case.
        level: Streams or requests per second, as shown.
        load: The number to sort by.
        records: Its runs.
    """

    case_key: str
    level: str
    load: float
    records: tuple[RunRecord, ...]

    @property
    def counted(self) -> tuple[RunRecord, ...]:
        """Valid runs, else all that brought numbers."""
        valid = tuple(record for record in self.records if record.valid)
        return valid or tuple(record for record in self.records if record.status is RunStatus.OK)

    def middle(self, metric: str) -> float | None:
        """Return the median of a metric over the counted runs."""
        values = [value for record in self.counted if (value := value_of(record, metric)) is not None]
        return median(values) if values else None

    def located(self, metric: str) -> Located | None:
        """Return location and 95 % interval of a metric over the valid runs."""
        found = spread(self.records, metric)
        return None if found is None else Located(value=found[0], low=found[1], high=found[2])


def rows_of(records: Sequence[RunRecord], cases: Mapping[str, LoadSpec]) -> list[Row]:
    """Return the rows, ascending by level."""
    found = []
    for case_key, runs in by_case(records).items():
        spec = cases[case_key]
        load = float(spec.concurrency) if spec.rate_rps is None else spec.rate_rps
        found.append(Row(case_key=case_key, level=level_of(spec), load=load, records=tuple(runs)))
    return sorted(found, key=lambda row: row.load)


def operating_points(rows: Sequence[Row]) -> list[Operating]:
    """Return the points of the frontier: levels with a valid run that has both numbers."""
    found = []
    for row in rows:
        throughput, interactivity = row.located("output_tokens_s"), row.located("tokens_s_per_user")
        if throughput is not None and interactivity is not None:
            valid = sum(record.valid for record in row.records)
            found.append(Operating(level=row.load, throughput=throughput, interactivity=interactivity, runs=valid))
    return found


def number(value: float | None, digits: int = 4) -> str:
    """Return a number with so many significant digits, without an exponent; a dash where there is none."""
    if value is None:
        return "–"
    if value == 0:
        return "0"
    places = digits - 1 - math.floor(math.log10(abs(value)))
    return f"{round(value, places):,.{max(0, min(places, 3))}f}"


def state_of(row: Row) -> str:
    """Return how many runs count, and why others do not or count with care."""
    failed = [record.failure.code for record in row.records if record.failure is not None]
    codes = [reason.code for record in row.records for reason in record.reasons if reason.code != "run_failed"]
    valid, total = sum(record.valid for record in row.records), len(row.records)
    head = "ok" if valid == total else f"{valid} of {total} valid"
    why = ", ".join(dict.fromkeys([*failed, *codes]))
    return f"{head}: {why}" if why else head


def table_of(
    rows: Sequence[Row],
    *,
    with_slo: bool,
    now: Mapping[str, str] | None = None,
    title: str | None = None,
    width: int | None = None,
) -> Table:
    """Return the table.

    Args:
        rows: One a level.
        with_slo: Whether goodput is shown.
        now: What runs at a level at this moment, by case key.
        title: Above it.
        width: Characters of the window: columns that do not fit are left out, ``FIRST_TO_GO`` first, so that no
            number is cut; ``None`` for all.
    """
    shown = Table(show_edge=False, pad_edge=False, title=title, title_justify="left")
    columns = columns_of(rows, with_slo=with_slo)
    texts = {name: [_heading(name), *cells] for name, cells in columns.items()}
    states = [(now or {}).get(row.case_key) or state_of(row) for row in rows]
    state_width = max(STATE_WIDTH, longest_word(states))
    # Of an offered rate, what was achieved of it is the point.
    offered = any(row.level.endswith("req/s") for row in rows)
    leaving = [name for name in FIRST_TO_GO if not (offered and name == "req/s")]
    chosen = fitting(texts, width, first_to_go=leaving, separator=SEPARATOR, reserved=state_width + SEPARATOR)
    for name in chosen:
        shown.add_column(_heading(name), justify="left" if name == "load" else "right", no_wrap=True)
    shown.add_column("state", overflow="fold")
    for idx, state in enumerate(states):
        shown.add_row(*(columns[name][idx] for name in chosen), escape(state))
    return shown


def columns_of(rows: Sequence[Row], *, with_slo: bool) -> dict[str, list[str]]:
    """Return the cells by column, their state left out."""
    found = {"load": [row.level for row in rows], "runs": [str(len(row.records)) for row in rows]}
    found |= {name: [number(row.middle(metric)) for row in rows] for name, metric in RATES.items()}
    for name, metrics in PAIRS.items():
        pairs = ["/".join(number(row.middle(metric), 3) for metric in metrics) for row in rows]
        found[name] = ["–" if pair == "–/–" else pair for pair in pairs]
    if with_slo:
        found["goodput %"] = [number(row.middle("goodput_pct"), 3) for row in rows]
    found["failed %"] = [number(row.middle("requests_failed_pct"), 3) for row in rows]
    return found


def _heading(name: str) -> str:
    """Return a column's name in two lines, so that it is no wider than its numbers."""
    for cut in (" ms ", "/user", " "):
        before, found, after = name.rpartition(cut)
        if found:
            return f"{before}{' ms' if cut == ' ms ' else ''}\n{'/user' if cut == '/user' else after}"
    return name


def line_of(record: RunRecord, *, with_slo: bool) -> str:
    """Return one run in one line, for logs and pipes."""
    if record.failure is not None:
        return f"failed ({record.failure.code}): {record.failure.message}"
    row = Row(case_key=record.case_key, level="", load=0, records=(record,))
    parts = [
        f"{number(value_of(record, metric))} {name}"
        for name, metric in RATES.items()
        if value_of(record, metric) is not None
    ]
    for name, metrics in PAIRS.items():
        stem = name.split(" ", maxsplit=1)[0]
        if value_of(record, metrics[0]) is not None:
            parts.append(f"{stem} {'/'.join(number(value_of(record, metric), 3) for metric in metrics)} ms")
    if with_slo and value_of(record, "goodput_pct") is not None:
        parts.append(f"goodput {number(value_of(record, 'goodput_pct'), 3)} %")
    if failed := value_of(record, "requests_failed_pct"):
        parts.append(f"failed {number(failed, 3)} %")
    return f"{', '.join(parts) or 'nothing completed'} ({state_of(row)})"
