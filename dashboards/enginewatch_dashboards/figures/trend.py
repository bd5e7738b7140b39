"""One metric of one series over its sessions: locations with intervals, single runs, and what changed when."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from enginewatch_dashboards import format as fmt
from enginewatch_dashboards.figures.sketch import Part, Sketch
from enginewatch_dashboards.figures.style import float_array, hover, text_array
from enginewatch_dashboards.theme import BLUE, CRIMSON, GREY, PURPLE, VERDICTS, Look
from enginewatch_dashboards.trends import Change, SessionPoint, unlabelled
from enginewatch_db.model import Verdict

if TYPE_CHECKING:
    import plotly.graph_objects as go

Row = dict[str, Any]

NOT_JUDGED_LOOK = Look(word="not judged", symbol="●", icon="", badge="blue", colour=BLUE, marker="circle")
MAX_TICKS, LABEL_CHARS = 12, 20
JITTER = 0.07
"""Distance of two runs of one session on the order axis; a session is 1 wide."""
BASELINE_TINT = "rgba(31, 122, 192, 0.08)"
STRIP = 0.09
"""Share of the height at the bottom for what has no value."""


def trend(
    points: Sequence[SessionPoint],
    runs: Sequence[Row],
    changes: Sequence[Change],
    metric: str,
    *,
    axis: str = "order",
    zero: bool = False,
    dots: bool = True,
    revision: str = "",
) -> go.Figure:
    """Return the trend of one metric.

    Args:
        points: Sessions, oldest first.
        runs: Their runs, oldest first: ``run_id``, ``session_id``, ``started_at``, ``status``, ``valid``, ``value``,
            ``ci_low``, ``ci_high``, ``n``, ``reason_codes``, ``failure_message``, ``repeat``.
        changes: Where the environment changed.
        metric: Key of the metric.
        axis: ``order`` (sessions equally far apart) or ``time``.
        zero: Whether the value axis begins at zero.
        dots: Whether single runs are drawn.
        revision: See ``Sketch``.
    """
    sketch = Sketch(revision=revision, height=460, top_px=40)
    placed = _place_runs(points, runs, axis)
    if dots:
        _add_runs(sketch, placed, metric)
    _add_baseline(sketch, points, _x(points, axis))
    _add_sessions(sketch, points, metric, axis)
    _add_strip(sketch, placed)
    _add_changes(sketch, changes, axis)
    sketch.axis("xaxis", anchor="y2", **_x_axis(points, axis))
    sketch.axis("yaxis", fmt.axis_title(metric), domain=[STRIP + 0.03, 1], zeroline=False,
                rangemode="tozero" if zero else "normal")  # fmt: skip
    sketch.axis("yaxis2", domain=[0, STRIP], range=[-0.7, 1.7], fixedrange=True, visible=False, anchor="x")
    return sketch.figure()


def _x_axis(points: Sequence[SessionPoint], axis: str) -> dict[str, Any]:
    if axis == "time":
        return {"title": "begin of the run (UTC)", "type": "date"}
    step = max(1, -(-len(points) // MAX_TICKS))
    shown = list(points)[::-step][::-1]
    return {
        "title": "session, oldest left",
        "tickvals": np.array([point.place for point in shown]),
        "ticktext": text_array([_tick(point) for point in shown]),
        "range": [-0.6, len(points) - 0.4],
        "tickangle": 0,
        "showgrid": False,
    }


def _tick(point: SessionPoint) -> str:
    if point.label == unlabelled(point.started_at):
        return f"{point.started_at:%H:%M}<br>{point.started_at:%b %d}"
    label = point.label if len(point.label) <= LABEL_CHARS else f"{point.label[: LABEL_CHARS - 1]}…"
    return f"{label}<br>{point.started_at:%b %d}"


def _x(points: Sequence[SessionPoint], axis: str) -> NDArray[Any]:
    if axis == "time":
        return np.array([point.started_at.replace(tzinfo=None) for point in points], dtype="datetime64[ms]")
    return np.array([point.place for point in points], dtype=np.float64)


def _place_runs(points: Sequence[SessionPoint], runs: Sequence[Row], axis: str) -> list[tuple[Any, Row]]:
    if axis == "time":
        return [(np.datetime64(run["started_at"].replace(tzinfo=None), "ms"), run) for run in runs]
    places = {point.session_id: point.place for point in points}
    groups: dict[str, list[Row]] = {}
    for run in runs:
        groups.setdefault(run["session_id"], []).append(run)
    return [
        (places[session] + (index - (len(members) - 1) / 2) * min(JITTER, 0.6 / len(members)), run)
        for session, members in groups.items()
        for index, run in enumerate(members)
    ]


def _xs(placed: Sequence[tuple[Any, Row]]) -> NDArray[Any]:
    return np.array([x for x, _ in placed])


def _add_runs(sketch: Sketch, placed: list[tuple[Any, Row]], metric: str) -> None:
    with_value = [(x, run) for x, run in placed if run["value"] is not None]
    for valid, name, marker in (
        (True, "run", {"size": 7, "color": BLUE, "opacity": 0.6}),
        (False, "run that does not count", {"size": 8, "color": GREY, "symbol": "x-thin-open", "line": {"width": 2}}),
    ):
        chosen = [(x, run) for x, run in with_value if bool(run["valid"]) is valid]
        if chosen:
            sketch.trace(
                "scatter",
                x=_xs(chosen),
                y=float_array([run["value"] for _, run in chosen]),
                name=name,
                marker=marker,
                **_points([run["run_id"] for _, run in chosen], [run_hover(run, metric) for _, run in chosen]),
            )


def _points(run_ids: Sequence[str], told: Sequence[str]) -> Part:
    """Return what makes points clickable: run ids as custom data, and the hover text."""
    return {
        "mode": "markers",
        "customdata": text_array(run_ids),
        "hovertext": text_array(told),
        "hovertemplate": "%{hovertext}<extra></extra>",
    }


def run_hover(run: Row, metric: str) -> str:
    """Return what is shown over a single run."""
    codes = ", ".join(run["reason_codes"] or ())
    own = fmt.interval(run["ci_low"], run["ci_high"])
    return hover(
        [
            f"<b>{fmt.quantity(metric, run['value'])}</b> {own}",
            f"run {run['repeat'] + 1} of {run['label'] or fmt.short(run['session_id'])}",
            f"{run['n']:,} samples" if run["n"] else None,
            f"host {run['hostname']}",
            f"commit {run['git_commit'][:10]}" if run["git_commit"] else None,
            f"{fmt.when(run['started_at'])} UTC",
            f"does not count: {codes}" if not run["valid"] and codes else f"with care: {codes}" if codes else None,
            "click to open",
        ]
    )


def _add_sessions(sketch: Sketch, points: Sequence[SessionPoint], metric: str, axis: str) -> None:
    x, values = _x(points, axis), float_array([point.value for point in points])
    sketch.trace("scatter", x=x, y=values, mode="lines", line={"color": BLUE, "width": 1.5}, hoverinfo="skip",
                 showlegend=False)  # fmt: skip
    for verdict in (None, *Verdict):
        chosen = [index for index, p in enumerate(points) if p.verdict is verdict and p.value is not None]
        if chosen:
            look = VERDICTS[verdict] if verdict else NOT_JUDGED_LOOK
            sketch.trace("scatter", x=x[chosen], **_session_trace([points[index] for index in chosen], look, metric))


def _session_trace(points: list[SessionPoint], look: Look, metric: str) -> Part:
    values = float_array([point.value for point in points])
    return {
        "y": values,
        "name": f"session: {look.word}",
        "marker": {"size": 12, "symbol": look.marker, "color": look.colour, "line": {"width": 2, "color": look.colour}},
        "error_y": {
            "type": "data",
            "symmetric": False,
            "array": np.nan_to_num(float_array([point.high for point in points]) - values),
            "arrayminus": np.nan_to_num(values - float_array([point.low for point in points])),
            "color": look.colour,
            "thickness": 1.5,
            "width": 5,
        },
        **_points([point.run_id for point in points], [session_hover(point, metric) for point in points]),
    }


def session_hover(point: SessionPoint, metric: str) -> str:
    """Return what is shown over a session's location."""
    ends = fmt.interval(point.low, point.high)
    return hover(
        [
            f"<b>{fmt.quantity(metric, point.value)}</b> {ends}",
            f"session {point.label}{', baseline' if point.is_baseline else ''}",
            f"{point.n_valid} of {fmt.count(point.n_runs, 'run')} count",
            f"host {point.host}",
            f"commit {point.commit[:10]}" if point.commit else None,
            f"{fmt.when(point.started_at)} UTC",
            f"{VERDICTS[point.verdict].text}: {point.why}" if point.verdict else "not judged",
            "click to open its middle run",
        ]
    )


def _add_baseline(sketch: Sketch, points: Sequence[SessionPoint], x: NDArray[Any]) -> None:
    point = next((point for point in points if point.is_baseline and point.value is not None), None)
    if point is None:
        return
    if point.low is not None and point.high is not None:
        sketch.band(BASELINE_TINT, x0=0, x1=1, xref="paper", y0=point.low, y1=point.high, yref="y")
    sketch.rule(y=point.value, colour=BLUE, width=1)
    # The rule spans the plot; the trace between the first and the last session names it in the legend.
    ends, level = x[[0, -1]], np.array([point.value, point.value])
    line = {"color": BLUE, "dash": "dash", "width": 1}
    sketch.trace("scatter", x=ends, y=level, mode="lines", name=f"baseline {point.label}", line=line, hoverinfo="skip")


def _add_strip(sketch: Sketch, placed: list[tuple[Any, Row]]) -> None:
    """Draw what has no value in a strip of its own below the values."""
    for status, name, symbol, colour in (
        ("failed", "failed run", "x", CRIMSON),
        ("not_available", "not available", "circle-x-open", GREY),
    ):
        chosen = [(x, run) for x, run in placed if run["status"] == status]
        if chosen:
            told = [hover([f"<b>{name}</b>", run["failure_message"], "click to open"]) for _, run in chosen]
            sketch.trace(
                "scatter",
                x=_xs(chosen),
                y=np.zeros(len(chosen)),
                yaxis="y2",
                name=name,
                marker={"symbol": symbol, "size": 10, "color": colour},
                **_points([run["run_id"] for _, run in chosen], told),
            )


def _add_changes(sketch: Sketch, changes: Sequence[Change], axis: str) -> None:
    if not changes:
        return
    name, places = "environment changed", [_change_x(change, axis) for change in changes]
    for place, change in zip(places, changes, strict=True):
        sketch.rule(x=place, colour=PURPLE, dash="dot")
        sketch.note(change.title, PURPLE, x=place, y=1, yref="paper", xanchor="left", yanchor="top", xshift=4)
    sketch.trace(
        "scatter",
        x=np.array(places),
        y=np.ones(len(places)),
        yaxis="y2",
        mode="markers",
        name=name,
        marker={"symbol": "triangle-up", "size": 10, "color": PURPLE},
        hovertext=text_array(
            [hover(["<b>environment changed</b>", *change.sentence.split("; ")]) for change in changes]
        ),
        hovertemplate="%{hovertext}<extra></extra>",
    )


def _change_x(change: Change, axis: str) -> Any:  # noqa: ANN401 (a place or a moment)
    if axis == "time":
        # Plotly's vertical rules take a moment as text.
        return change.started_at.replace(tzinfo=None).isoformat(sep=" ", timespec="seconds")
    return change.place - 0.5
