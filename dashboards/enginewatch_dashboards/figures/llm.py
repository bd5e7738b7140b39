"""The requests of one load phase on a time axis: late or connecting, waiting for the first token, then decoding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from enginewatch_dashboards import format as fmt
from enginewatch_dashboards.figures.phases import add_phases
from enginewatch_dashboards.figures.sketch import Sketch
from enginewatch_dashboards.figures.style import Floats, hover, text_array
from enginewatch_dashboards.theme import BLUE, CRIMSON, GREY, ORANGE, PURPLE

if TYPE_CHECKING:
    import plotly.graph_objects as go

Columns = Mapping[str, NDArray[Any]]

HEIGHT, TOP_PX, BOTTOM_PX = 400, 64, 48
PLOT_PX = HEIGHT - TOP_PX - BOTTOM_PX
BAR_SHARE = 0.8
"""Share of a row that its bar fills, where there is room."""
THINNEST_PX, THICKEST_PX = 1.2, 9.0
PARTS = (
    ("late or connecting", "start_s", "sent_s", PURPLE),
    ("to first token", "sent_s", "first_s", ORANGE),
    ("decoding", "first_s", "end_s", BLUE),
)
"""What a bar consists of: words, the columns of its ends, colour."""
FAILED_SYMBOLS = ("x", "cross", "triangle-up", "star", "diamond")
"""One symbol an error class; the last one is for all further classes."""
CUT_OFF = "cancelled"
"""Class of requests that were still running when the run ended: no failure of the server."""
LATE_SHOWN_MS = 0.5
"""Lateness that is drawn at all: less could not be seen."""


def requests(
    rows: Columns,
    phases: Sequence[Mapping[str, Any]],
    *,
    x_range: tuple[float, float] | None = None,
    revision: str,
) -> go.Figure:
    """Return one bar per request, from when it was due to its last token.

    Args:
        rows: Columns of the query ``requests``.
        phases: ``phase``, ``start_s``, ``end_s``, drawn as bands.
        x_range: The part of the run that is shown first.
        revision: See ``Sketch``.
    """
    sketch = Sketch(title="Requests: waiting for the first token, then decoding", revision=revision, height=HEIGHT,
                    top_px=TOP_PX)  # fmt: skip
    sketch.layout = {"margin": {"b": BOTTOM_PX}}
    ok = rows["status"] == "ok"
    place = np.asarray(rows["place"], dtype=np.float64)
    width = float(np.clip(BAR_SHARE * PLOT_PX / max(place.size, 1), THINNEST_PX, THICKEST_PX))
    for name, begins, ends, colour in PARTS:
        begin, end = (np.asarray(rows[column], dtype=np.float64)[ok] for column in (begins, ends))
        seen = end - begin > (LATE_SHOWN_MS / 1e3 if begins == "start_s" else 0)
        if seen.any():
            x, y = segments(begin[seen], end[seen], place[ok][seen])
            line = {"color": colour, "width": width}
            sketch.trace("scatter", x=x, y=y, mode="lines", name=name, line=line, hoverinfo="skip")
    _add_hover(sketch, rows, ok, place)
    _add_failed(sketch, rows, ~ok, place)
    add_phases(sketch, phases, words_shift_px=-18, x_range=x_range)
    n = int(rows["n"][0])
    drawn = f" ({place.size:,} of {n:,} drawn, the slowest and the failed among them)" if place.size < n else ""
    sketch.axis("xaxis", f"seconds since the run began{drawn}", showgrid=False)
    if x_range is not None:
        sketch.axis("xaxis", range=list(x_range))
    sketch.axis("yaxis", "request, in the order of starting")
    return sketch.figure()


def _add_hover(sketch: Sketch, rows: Columns, ok: NDArray[np.bool_], place: Floats) -> None:
    """Add points that are not seen and tell a request's story: a line between two of them has no hover of its own."""
    xs, ys, told = [], [], []
    for index in np.flatnonzero(ok):
        story = _told(rows, int(index))
        for column in ("first_s", "end_s"):
            xs.append(rows[column][index])
            ys.append(place[index])
            told.append(story)
    _points(sketch, np.array(xs, dtype=np.float64), np.array(ys), told, showlegend=False,
            marker={"size": 5, "color": BLUE, "opacity": 0.01})  # fmt: skip


def _add_failed(sketch: Sketch, rows: Columns, failed: NDArray[np.bool_], place: Floats) -> None:
    classes = np.array([str(name or "error") for name in rows["error_class"]], dtype=object)
    names, counts = np.unique(classes[failed].astype(str), return_counts=True)
    for rank, which in enumerate(np.argsort(-counts, kind="stable")):
        mine = failed & (classes == names[which])
        told = [_told_failed(rows, int(index)) for index in np.flatnonzero(mine)]
        symbol = FAILED_SYMBOLS[min(rank, len(FAILED_SYMBOLS) - 1)]
        cut = names[which] == CUT_OFF
        _points(sketch, np.asarray(rows["sent_s"], dtype=np.float64)[mine], place[mine], told,
                marker={"symbol": symbol, "size": 9, "color": GREY if cut else CRIMSON},
                name="cut off at the end" if cut else f"failed: {names[which]}")  # fmt: skip


def _points(sketch: Sketch, x: Floats, y: Floats, told: Sequence[str], **parts: Any) -> None:  # noqa: ANN401
    sketch.trace(
        "scatter", x=x, y=y, mode="markers", hovertext=text_array(told), hovertemplate="%{hovertext}<extra></extra>",
        **parts,
    )  # fmt: skip


def segments(begin: Floats, stop: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Return many separate horizontal lines as one trace: NaN between them."""
    xs = np.column_stack([begin, stop, np.full(begin.size, np.nan)]).ravel()
    ys = np.column_stack([y, y, np.full(y.size, np.nan)]).ravel()
    return xs, ys


def _value(rows: Columns, column: str, index: int) -> float | None:
    value = rows[column][index] if column in rows else None
    return None if value is None or not np.isfinite(float(value)) else float(value)


def _who(rows: Columns, index: int) -> str:
    parts = [f"request {rows['request_idx'][index]}", str(rows["phase"][index])]
    for column, word in (("stream", "stream"), ("session", "session"), ("turn", "turn"), ("process", "client process")):
        value = _value(rows, column, index)
        if value is not None:
            parts.append(f"{word} {value:.0f}")
    return ", ".join(parts)


def _told(rows: Columns, index: int) -> str:
    prompt, cached = _value(rows, "prompt_tokens", index), _value(rows, "cached_prompt_tokens", index)
    output, late = _value(rows, "output_tokens", index), _value(rows, "late_ms", index)
    tokens = " → ".join(filter(None, (
        None if prompt is None else f"{prompt:.0f}" + (f" ({cached:.0f} cached)" if cached else ""),
        "? tokens" if output is None else f"{output:.0f} tokens",
    )))  # fmt: skip
    return hover(
        [
            f"<b>{_who(rows, index)}</b>",
            f"started at {_value(rows, 'start_s', index) or 0:.3f} s",
            f"sent {fmt.number(late, 3)} ms late" if late is not None and late > LATE_SHOWN_MS else None,
            *(f"{name} {fmt.number(_value(rows, column, index))} ms" for name, column in
              (("TTFT", "ttft_ms"), ("TPOT", "tpot_ms"), ("E2E", "e2e_ms"))),
            tokens,
        ]
    )  # fmt: skip


def _told_failed(rows: Columns, index: int) -> str:
    status = _value(rows, "http_status", index)
    return hover(
        [
            f"<b>{_who(rows, index)}</b>",
            f"failed: {rows['error_class'][index]}" + (f", HTTP {status:.0f}" if status else ""),
            f"started at {_value(rows, 'start_s', index) or 0:.3f} s",
        ]
    )
