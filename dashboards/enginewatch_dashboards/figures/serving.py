"""Load levels of configurations: throughput against interactivity, and a metric against the load."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from enginewatch_dashboards import format as fmt
from enginewatch_dashboards.figures.sketch import Part, Sketch
from enginewatch_dashboards.figures.style import SMALL_SIZE, float_array, hover, log_axis, text_array
from enginewatch_dashboards.pareto import Estimate, Standing
from enginewatch_dashboards.serving import Configuration, Level
from enginewatch_dashboards.theme import CRIMSON, SERIES

if TYPE_CHECKING:
    import plotly.graph_objects as go

Pick = Callable[[Level], Estimate | None]

MAX_LINES = 10
"""Configurations that are drawn; more cannot be told apart by five hues and two dashes."""
HUES = SERIES[:4]
"""Grey is left to the frontier."""
FAINT = 0.35
"""Opacity of a line none of whose levels counts."""
DASHES = ("solid", "dash", "dot")
FRONTIER_COLOUR = "rgba(125, 133, 144, 0.45)"
LEGEND_ROW_PX, LEGEND_NAMES = 20, 3
"""Height of a row of the legend, and about how many names fit one."""
WORD_PLACES = ("top right", "bottom left")
"""Where the loads stand in turn: off a falling line, and not on a neighbour's."""
WIDE = 15.0
"""Largest over smallest value from which an axis is logarithmic."""
STANDING_WORDS = {
    Standing.FRONTIER: "on the frontier",
    Standing.NEAR: "beaten, within its interval",
    Standing.BEATEN: "beaten in both directions",
}


def frontier(lines: Sequence[Configuration], *, throughput: str, interactivity: str, revision: str) -> go.Figure:
    """Return throughput against interactivity with the Pareto frontier; each point carries its place as custom data.

    Args:
        lines: At most ``MAX_LINES`` are drawn.
        throughput: Key of the metric upward.
        interactivity: Key of the metric to the right.
        revision: See ``Sketch``.
    """
    sketch = _sketch("Throughput against interactivity", lines, revision, height=460)
    _add_frontier(sketch, lines)
    for place, line in enumerate(lines[:MAX_LINES]):
        shown = [level for level in line.levels if level.throughput is not None and level.interactivity is not None]
        told = [_told(line, level, interactivity, throughput) for level in shown]
        _add_line(
            sketch, place, line, shown, told, x=lambda level: level.interactivity, y=lambda level: level.throughput
        )
    sketch.axis("xaxis", fmt.axis_title(interactivity).replace("↑", "→"), rangemode="tozero")
    sketch.axis("yaxis", fmt.axis_title(throughput), rangemode="tozero")
    return sketch.figure()


def against_load(
    lines: Sequence[Configuration], metric: str, pick: Pick, *, title: str, limit: float | None = None, revision: str
) -> go.Figure:
    """Return one value of each level against the load.

    Args:
        lines: Of one kind: all closed, or none.
        metric: Key of the metric, for its name and unit.
        pick: The value of a level.
        title: Heading.
        limit: Drawn as a line, in the unit of the metric.
        revision: See ``Sketch``.
    """
    sketch = _sketch(title, lines, revision, height=380)
    seen, loads = [], set()
    for place, line in enumerate(lines[:MAX_LINES]):
        shown = [level for level in line.levels if pick(level) is not None and level.load is not None]
        told = [_told_one(line, level, metric, pick(level)) for level in shown]
        _add_line(sketch, place, line, shown, told, x=_load, y=pick, words=False)
        seen += [found.value for level in shown if (found := pick(level)) is not None]
        loads |= {float(level.load) for level in shown if level.load is not None}
    if limit is not None:
        sketch.rule(y=limit, colour=CRIMSON, dash="dash")
        wide = _is_wide([*seen, limit])  # then the words are placed by the logarithm, the line is not
        sketch.note(f"limit {limit:g} {fmt.metric_unit(metric)}", CRIMSON, x=0, xref="paper", xanchor="left",
                    y=np.log10(limit) if wide else limit, yanchor="bottom")  # fmt: skip
    kind = "concurrency (streams)" if not lines or lines[0].closed else "offered requests per second"
    sketch.axis("xaxis", f"{kind}, logarithmic", **_load_axis(sorted(loads)))
    values = [*seen, *([] if limit is None else [limit])]
    scale = {"range": [0, 104]} if fmt.metric_unit(metric) == "%" else _scale(values)
    sketch.axis("yaxis", fmt.axis_title(metric), **scale)
    return sketch.figure()


def _sketch(title: str, lines: Sequence[Configuration], revision: str, *, height: int) -> Sketch:
    rows = -(-(min(len(lines), MAX_LINES) + 1) // LEGEND_NAMES)
    top_px = 40 + LEGEND_ROW_PX * rows
    return Sketch(title=title, revision=revision, height=height + LEGEND_ROW_PX * rows, top_px=top_px, right_px=24)


def _load(level: Level) -> Estimate | None:
    return None if level.load is None else Estimate(value=level.load)


def _is_wide(values: Sequence[float]) -> bool:
    return bool(values) and min(values) > 0 and max(values) > WIDE * min(values)


def _scale(values: Sequence[float]) -> Part:
    return log_axis(min(values), max(values)) if _is_wide(values) else {"rangemode": "tozero"}


def _load_axis(loads: Sequence[float]) -> Part:
    axis: Part = {"type": "log", "tickvals": np.array(loads), "ticktext": text_array([f"{load:g}" for load in loads])}
    if loads:
        axis["range"] = [float(np.log10(loads[0])) - 0.12, float(np.log10(loads[-1])) + 0.12]
    return axis


def _add_frontier(sketch: Sketch, lines: Sequence[Configuration]) -> None:
    on = [
        (level.interactivity.value, level.throughput.value)
        for line in lines
        for level in line.levels
        if level.standing is Standing.FRONTIER and level.interactivity is not None and level.throughput is not None
    ]
    if len(on) < 2:
        return
    on.sort()
    sketch.trace(
        "scatter",
        x=np.array([x for x, _ in on]),
        y=np.array([y for _, y in on]),
        mode="lines",
        name="Pareto frontier",
        line={"color": FRONTIER_COLOUR, "width": 9},
        hoverinfo="skip",
    )


def _add_line(
    sketch: Sketch, place: int, line: Configuration, levels: Sequence[Level], told: Sequence[str], *, x: Pick, y: Pick,
    words: bool = True,
) -> None:  # fmt: skip
    """Draw one configuration: its line, the points with intervals, single runs, and what does not count."""
    colour, dash = HUES[place % len(HUES)], DASHES[place // len(HUES) % len(DASHES)]
    xs = float_array([found.value if (found := x(level)) else None for level in levels])
    ys = float_array([found.value if (found := y(level)) else None for level in levels])
    counted = np.array([level.counts for level in levels], dtype=bool)
    joined = counted if counted.any() else ~counted
    sketch.trace("scatter", x=xs[joined], y=ys[joined], mode="lines", name=line.name, legendgroup=line.name,
                 line={"color": colour, "width": 1.8, "dash": dash}, opacity=1.0 if counted.any() else FAINT,
                 hoverinfo="skip")  # fmt: skip
    kinds = (
        ([level.counts and not level.single for level in levels], {"symbol": "circle", "size": 9, "color": colour}),
        ([level.counts and level.single for level in levels],
         {"symbol": "circle-open", "size": 10, "color": colour, "line": {"width": 2}}),
        ([not level.counts for level in levels],
         {"symbol": "x-thin-open", "size": 9, "color": colour, "line": {"width": 2}}),
    )  # fmt: skip
    for mask, marker in kinds:
        chosen = [index for index, wanted in enumerate(mask) if wanted]
        if not chosen:
            continue
        mine = [levels[index] for index in chosen]
        sketch.trace(
            "scatter",
            x=xs[chosen],
            y=ys[chosen],
            mode="markers+text" if words else "markers",
            text=text_array([level.word for level in mine]) if words else None,
            textposition=[WORD_PLACES[index % len(WORD_PLACES)] for index in chosen],
            textfont={"size": SMALL_SIZE, "color": colour},
            cliponaxis=False,
            marker=marker,
            error_x=_bars([x(level) if level.counts else None for level in mine], colour),
            error_y=_bars([y(level) if level.counts else None for level in mine], colour),
            legendgroup=line.name,
            showlegend=False,
            customdata=text_array([level.run_ids[0] for level in mine]),
            hovertext=text_array([told[index] for index in chosen]),
            hovertemplate="%{hovertext}<extra></extra>",
        )


def _bars(values: Sequence[Estimate | None], colour: str) -> Part:
    highs = float_array([None if v is None or v.high is None else v.high - v.value for v in values])
    lows = float_array([None if v is None or v.low is None else v.value - v.low for v in values])
    return {
        "type": "data",
        "symmetric": False,
        "array": np.nan_to_num(highs),
        "arrayminus": np.nan_to_num(lows),
        "color": colour,
        "thickness": 1.4,
        "width": 4,
        "visible": bool(np.isfinite(highs).any() or np.isfinite(lows).any()),
    }


def _told(line: Configuration, level: Level, interactivity: str, throughput: str) -> str:
    stands = STANDING_WORDS[level.standing] if level.standing else None
    return hover(
        [
            f"<b>{line.name}</b>",
            load_words(line, level),
            value_words(throughput, level.throughput),
            value_words(interactivity, level.interactivity),
            stands,
            *_about(level),
        ]
    )


def _told_one(line: Configuration, level: Level, metric: str, value: Estimate | None) -> str:
    return hover([f"<b>{line.name}</b>", load_words(line, level), value_words(metric, value), *_about(level)])


def _about(level: Level) -> list[str | None]:
    runs = fmt.count(level.n_runs, "run")
    counted = f"{level.n_valid} of {runs} count" if level.counts else f"{runs}, none counts: {', '.join(level.codes)}"
    return [
        counted,
        "a single run has no interval" if level.single else None,
        f"session {level.session}",
        "click to open it" if level.n_runs == 1 else "click to list its runs",
    ]


def load_words(line: Configuration, level: Level) -> str:
    """Return a level's load in words."""
    return f"concurrency {level.word}" if line.closed else f"offered {level.word}"


def value_words(metric: str, value: Estimate | None) -> str:
    """Return a metric's name, value and interval."""
    if value is None:
        return f"{fmt.metric_label(metric)}: absent"
    ends = fmt.interval(value.low, value.high)
    return f"{fmt.metric_label(metric)}: {fmt.quantity(metric, value.value)} {ends}".rstrip()
