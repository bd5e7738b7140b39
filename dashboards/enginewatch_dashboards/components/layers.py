"""The layers of an engine, for the Run page and the Engine page: charts, sentences, table."""

from __future__ import annotations

import streamlit as st

from enginewatch_dashboards import format as fmt
from enginewatch_dashboards.components.chart import chart
from enginewatch_dashboards.components.tables import Pick, as_table
from enginewatch_dashboards.figures.layers import layers as layers_figure
from enginewatch_dashboards.figures.layers import precisions
from enginewatch_dashboards.figures.roofline import drawn, rooflines
from enginewatch_dashboards.layer_rows import (
    Profile,
    Row,
    conversions_told,
    layer_rows,
    precision_told,
    roof_told,
    unknown_told,
)

MAX_ROWS = 1_000
"""Rows of the table of layers: more would not fit a rerun's megabyte."""


def layers_section(found: Profile, *, revision: str, measured_ms: float | None, measured_as: str) -> None:
    """Draw all that is known of the layers.

    Args:
        found: The layers.
        revision: What the charts belong to, see ``Sketch``.
        measured_ms: Time of one inference without a profiler.
        measured_as: What that time is, for example ``mean end to end``.
    """
    st.caption(_head(found, measured_ms, measured_as))
    if found.timed:
        left, right = st.columns([3, 2], gap="medium")
        with left:
            slowest = found.timed[0]
            alt = f"The slowest of {fmt.count(len(found.layers), 'layer')}; the slowest is {slowest.name}"
            chart(layers_figure(found.timed, revision=f"{revision}/layers"), key="layers", alt=alt)
        with right:
            figure = precisions(found.shares, found.conversions, revision=f"{revision}/precisions")
            chart(figure, key="precisions", alt=f"Share of the computing time by precision: {precision_told(found)}")
            _told(found)
    else:
        st.info("The tool told the layers and no times: measure with `profile = true`.", icon=":material/timer_off:")
        _told(found)
    _roofline(found, revision)
    _table(found)


def _head(found: Profile, measured_ms: float | None, measured_as: str) -> str:
    told = fmt.count(len(found.layers), "layer")
    sum_ms = found.sum_ns / 1e6
    if sum_ms:
        told += f", together {fmt.number(sum_ms)} ms"
    if sum_ms and measured_ms:
        told += f" against {fmt.number(measured_ms)} ms {measured_as}"
        if found.overhead_ns:
            told += f"; the profiler's own cost is taken out, {found.overhead_ns / 1e3:.1f} µs of each layer"
        elif sum_ms > measured_ms:
            told += ": profiling adds time to every layer"
    return f"{told}. Orange: layers that only move or convert data. Source: {fmt.plain(found.source)}."


def _told(found: Profile) -> None:
    st.markdown(f"**Computes in** {fmt.plain(precision_told(found))}. {conversions_told(found)}")
    for sentence in unknown_told(found):
        st.caption(sentence)


def _roofline(found: Profile, revision: str) -> None:
    st.markdown(f"**{roof_told(found)}**" if found.roof.reason is None else roof_told(found))
    figure = rooflines(found.roof, revision=f"{revision}/roofline")
    if figure is None or found.roof.gpu is None:
        return
    points = drawn(found.roof)
    alt = f"Roofline of {found.roof.gpu.name}: {fmt.count(len(points), 'layer')} by intensity and rate reached"
    chart(figure, key="roofline", alt=alt)
    left_out = len(found.roof.layers) - len(points)
    told = "Area: share of the time; the smallest are drawn larger, to be seen. Peaks are dense, without sparsity"
    if left_out:
        told += f"; {left_out} timed layers have no place here: they only move data, or their operations are not known"
    if found.roof.gpu.unsourced:
        told += f". Of the peaks, no source states: {found.roof.gpu.unsourced}"
    st.caption(f"{fmt.plain(told)}.")


def _table(found: Profile) -> None:
    rows = layer_rows(found, MAX_ROWS)
    has_roof = bool(found.roof.layers)
    number = st.column_config.NumberColumn
    columns: dict[str, Pick] = {
        "Layer": lambda row: row["layer"].name,
        "Time (µs)": "time_us",
        "Share (%)": "share_pct",
        "Type": lambda row: row["layer"].layer_type,
        "Precision": "dtypes",
        **({"Bound by": "bound", "Of attainable (%)": "achieved_pct"} if has_roof else {}),
        "Input": lambda row: row["layer"].input_shapes,
        "Output": lambda row: row["layer"].output_shapes,
        "Bytes": lambda row: row["layer"].bytes,
        "Operations": lambda row: row["layer"].flops,
        "Format": lambda row: row["layer"].format,
        "Tactic": lambda row: row["layer"].tactic,
        **({"Not known": _why} if has_roof else {}),
    }
    if len(found.layers) > MAX_ROWS:
        st.caption(f"The slowest {MAX_ROWS:,} of {len(found.layers):,} layers; all of them are under SQL.")
    st.dataframe(
        as_table(rows, columns),
        hide_index=True,
        height=420 if len(rows) > 11 else "auto",
        placeholder=fmt.ABSENT,
        key="layer_table",
        alt=f"All {fmt.count(len(rows), 'layer')}, slowest first",
        column_config={
            "Layer": st.column_config.TextColumn(width=280, pinned=True),
            "Time (µs)": number(format="%.2f", width=90),
            "Share (%)": number(format="%.1f", width=90),
            "Precision": st.column_config.TextColumn(width=110, help="Reads → writes"),
            "Bytes": number(format="localized", help="Least memory traffic of one call"),
            "Operations": number(format="localized", help="Of one call; a multiply-add is two"),
            "Of attainable (%)": number(format="%.0f", help="Over 100: its data stayed in the cache"),
            **{name: st.column_config.TextColumn(width=160) for name in ("Input", "Output", "Format", "Tactic")},
        },
    )


def _why(row: Row) -> str | None:
    why: str | None = row["why"]
    return why
