"""Load levels of configurations: throughput against interactivity, and a metric against the load."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

import numpy as np

from enginewatch_dashboards import format as fmt
from enginewatch_dashboards.figures import spread
from enginewatch_dashboards.figures.sketch import Part, Sketch
from enginewatch_dashboards.figures.style import SMALL_SIZE, float_array, hover, text_array
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
MAX_NAMED = 5
"""Lines that the legend names; of more it has the numbers, and a list has the names."""
LEGEND_ROW_PX, LEGEND_CHARS = 20, 70
"""Height of a row of the legend, and characters of a name that fit one on a narrow page."""
MAX_WORDS = 30
"""Points above which none has its load beside it: the text over it and the table have it."""
WORD_PLACES = ("top right", "bottom left")
"""Where the loads stand in turn: off a falling line, and not on a neighbour's."""
STANDING_WORDS = {
    Standing.FRONTIER: "on the frontier",
    Standing.NEAR: "beaten, within its interval",
    Standing.BEATEN: "beaten in both directions",
}


def frontier(lines: Sequence[Configuration], *, throughput: str, interactivity: str, revision: str) -> go.Figure:
    """Return throughput against interactivity with the Pareto frontier; each point carries its place as custom data.

    Args:
        lines: At most ``MAX_LINES`` are drawn; more than ``MAX_NAMED`` have numbers.
        throughput: Key of the metric upward.
        interactivity: Key of the metric to the right.
        revision: See ``Sketch``.
    """
    drawn = lines[:MAX_LINES]
    sketch = _sketch("Throughput against interactivity", drawn, revision, height=460)
    _add_frontier(sketch, lines)
    shown = [(line, [level for level in line.levels if _is_placed(level)]) for line in drawn]
    xs = [_bar(level, level.interactivity) for _, levels in shown for level in levels if level.interactivity]
    ys = [_bar(level, level.throughput) for _, levels in shown for level in levels if level.throughput]
    (x_axis, x_cut), (y_axis, y_cut) = spread.axis(xs, log=False), spread.axis(ys, log=False)
    named = _named([level for _, levels in shown for level in levels], xs, ys, x_axis, y_axis)
    for line, levels in shown:
        told = [_told(line, level, interactivity, throughput) for level in levels]
        _add_line(
            sketch, line, levels, told, x=lambda level: level.interactivity, y=lambda level: level.throughput,
            words=named, numbered=len(drawn) > MAX_NAMED,
        )  # fmt: skip
    sketch.axis("xaxis", fmt.axis_title(interactivity).replace("↑", "→"), **x_axis)
    sketch.axis("yaxis", fmt.axis_title(throughput), **y_axis)
    if x_cut or y_cut:
        _say_cut(sketch)
    return sketch.figure()


def against_load(
    lines: Sequence[Configuration], metric: str, pick: Pick, *, title: str, limit: float | None = None, revision: str,
    numbered: bool = False,
) -> go.Figure:  # fmt: skip
    """Return one value of each level against the load.

    Args:
        lines: Of one kind: all closed, or none.
        metric: Key of the metric, for its name and unit.
        pick: The value of a level.
        title: Heading.
        limit: Drawn as a line, in the unit of the metric.
        revision: See ``Sketch``.
        numbered: Whether the lines have numbers, since other charts of the page have more of them.
    """
    drawn = lines[:MAX_LINES]
    sketch = _sketch(title, drawn, revision, height=360, numbered=numbered)
    seen, loads = [], set()
    for line in drawn:
        shown = [level for level in line.levels if pick(level) is not None and level.load is not None]
        told = [_told_one(line, level, metric, pick(level)) for level in shown]
        _add_line(sketch, line, shown, told, x=_load, y=pick, numbered=numbered or len(drawn) > MAX_NAMED)
        seen += [_bar(level, found) for level in shown if (found := pick(level)) is not None]
        loads |= {float(level.load) for level in shown if level.load is not None}
    scale, cut = spread.axis(seen, limit=limit)
    if limit is not None:
        sketch.rule(y=limit, colour=CRIMSON, dash="dash")
        wide = scale.get("type") == "log"  # then the words are placed by the logarithm, the line is not
        sketch.note(f"limit {limit:g} {fmt.metric_unit(metric)}", CRIMSON, x=0, xref="paper", xanchor="left",
                    y=np.log10(limit) if wide else limit, yanchor="bottom")  # fmt: skip
    kind = "concurrency (streams)" if not lines or lines[0].closed else "offered requests per second"
    sketch.axis("xaxis", f"{kind}, logarithmic", **_load_axis(sorted(loads)))
    share = fmt.metric_unit(metric) == "%"
    sketch.axis("yaxis", fmt.axis_title(metric), **({"range": [0, 104]} if share else scale))
    if cut and not share:
        _say_cut(sketch)
    return sketch.figure()


def _sketch(
    title: str, lines: Sequence[Configuration], revision: str, *, height: int, numbered: bool = False
) -> Sketch:
    """Return a figure whose legend stands below the axis titles, where it pushes neither title nor plot."""
    rows = 1 if numbered or len(lines) > MAX_NAMED else sum(legend_name(line).count("<br>") + 1 for line in lines)
    sketch = Sketch(title=title, revision=revision, height=height + LEGEND_ROW_PX * rows, top_px=56, right_px=24)
    sketch.layout["legend"] = {"yref": "container", "y": 0, "yanchor": "bottom"}
    return sketch


def legend_name(line: Configuration) -> str:
    """Return a name in rows that fit a narrow page."""
    return "<br>".join(textwrap.wrap(line.name, LEGEND_CHARS))


def _say_cut(sketch: Sketch) -> None:
    sketch.note("an interval runs off the axis: its ends are in the table", x=1, xref="paper", xanchor="right", y=1,
                yref="paper", yanchor="bottom", yshift=4)  # fmt: skip


def _is_placed(level: Level) -> bool:
    return level.throughput is not None and level.interactivity is not None


def _bar(level: Level, found: Estimate) -> Estimate:
    """Return what is drawn of a value: what does not count has no interval."""
    return found if level.counts else Estimate(value=found.value)


def _named(
    levels: Sequence[Level], xs: Sequence[Estimate], ys: Sequence[Estimate], x_axis: Part, y_axis: Part
) -> frozenset[str]:
    """Return the first runs of the levels that have room for their load beside them."""
    if not levels or len(levels) > MAX_WORDS:
        return frozenset()
    places = [one.value for one in xs], [one.value for one in ys]
    chosen = spread.with_room(*places, x_axis["range"], y_axis["range"])
    return frozenset(levels[index].run_ids[0] for index in chosen)


def _load(level: Level) -> Estimate | None:
    return None if level.load is None else Estimate(value=level.load)


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
    sketch: Sketch, line: Configuration, levels: Sequence[Level], told: Sequence[str], *, x: Pick, y: Pick,
    words: Collection[str] = (), numbered: bool = False,
) -> None:  # fmt: skip
    """Draw one configuration: its line, the points with intervals, single runs, and what does not count."""
    place, name = line.place, str(line.place + 1) if numbered else legend_name(line)
    colour, dash = HUES[place % len(HUES)], DASHES[place // len(HUES) % len(DASHES)]
    xs = float_array([found.value if (found := x(level)) else None for level in levels])
    ys = float_array([found.value if (found := y(level)) else None for level in levels])
    counted = np.array([level.counts for level in levels], dtype=bool)
    joined = counted if counted.any() else ~counted
    sketch.trace("scatter", x=xs[joined], y=ys[joined], mode="lines", name=name, legendgroup=line.name,
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
            text=text_array([level.word if level.run_ids[0] in words else "" for level in mine]) if words else None,
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
