"""The load levels as a table: the same numbers as the charts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import streamlit as st

from enginewatch_dashboards import format as fmt
from enginewatch_dashboards.components.tables import Pick, as_table
from enginewatch_dashboards.figures.serving import MAX_NAMED, STANDING_WORDS
from enginewatch_dashboards.pareto import Estimate
from enginewatch_dashboards.serving import Configuration, Level, meets
from enginewatch_dashboards.state import RunsState, RunState, href

Row = tuple[Configuration, Level]

MEETS = {True: "✓ meets", False: "✖ misses", None: "? across it"}


def draw(
    lines: Sequence[Configuration], *, metric: str, limit: float | None, throughput: str, interactivity: str
) -> None:
    """Draw the table, one row per load level."""
    rows = [(line, level) for line in lines for level in line.levels]
    headings = _headings(metric, limit, throughput, interactivity)
    columns: dict[str, Pick] = {
        "Runs": lambda row: _href(row[1]),
        **({"Line": lambda row: row[0].place + 1} if len(lines) > MAX_NAMED else {}),
        "Configuration": lambda row: row[0].name,
        "Load": lambda row: row[1].word,
        "Count": lambda row: f"{row[1].n_valid} of {row[1].n_runs}",
    }
    for heading, name in headings.items():
        columns[heading] = partial(_value, name)
        columns[f"{heading} 95 %"] = partial(_interval, name)
    if limit is not None:
        columns["Limit"] = lambda row: MEETS[meets(row[1].metric, limit)] if row[1].metric else fmt.ABSENT
    columns |= {
        "Frontier": lambda row: STANDING_WORDS[row[1].standing] if row[1].standing else fmt.ABSENT,
        "Does not count": lambda row: ", ".join(row[1].codes),
        "Session": lambda row: row[1].session,
        "Device": lambda row: row[0].device,
    }
    st.dataframe(
        as_table(rows, columns),
        hide_index=True,
        placeholder=fmt.ABSENT,
        alt="Load levels with the values of the charts",
        column_config={
            "Runs": st.column_config.LinkColumn("Runs", display_text="open", width=55, pinned=True),
            "Line": st.column_config.NumberColumn(width=50, pinned=True),
            "Configuration": st.column_config.TextColumn(pinned=True),
            **{heading: st.column_config.NumberColumn(format="%.4g") for heading in headings},
            **{f"{heading} 95 %": st.column_config.TextColumn("95 % interval", width=130) for heading in headings},
        },
    )


def _heading(metric: str) -> str:
    unit = fmt.metric_unit(metric)
    return fmt.metric_label(metric) + (f" ({unit})" if unit else "")


def _headings(metric: str, limit: float | None, throughput: str, interactivity: str) -> dict[str, str]:
    """Return heading → attribute of the level."""
    return {
        _heading(throughput): "throughput",
        _heading(interactivity): "interactivity",
        _heading(metric): "metric",
        "Goodput (%)" if limit is None else "Met the limit (%)": "goodput_pct",
    }


def _estimate(name: str, row: Row) -> Estimate | None:
    found: Estimate | None = getattr(row[1], name)
    return found


def _value(name: str, row: Row) -> float | None:
    value = _estimate(name, row)
    return None if value is None else value.value


def _interval(name: str, row: Row) -> str:
    value = _estimate(name, row)
    if value is None:
        return fmt.ABSENT
    return fmt.interval(value.low, value.high, 3) or ("one run" if row[1].single else fmt.ABSENT)


def _href(level: Level) -> str:
    if level.n_runs == 1:
        return f"/{href(RunState(id=level.run_ids[0]))}"
    return f"/{href(RunsState(case=level.case_key, session=level.session_id))}"
