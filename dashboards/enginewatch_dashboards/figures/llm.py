"""The requests of one load phase on a time axis: waiting for the first token, then decoding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from enginewatch_dashboards.figures.phases import add_phases
from enginewatch_dashboards.figures.sketch import Sketch
from enginewatch_dashboards.figures.style import text_array
from enginewatch_dashboards.theme import BLUE, CRIMSON, ORANGE

if TYPE_CHECKING:
    import plotly.graph_objects as go

Columns = Mapping[str, NDArray[Any]]


def requests(rows: Columns, phases: Sequence[Mapping[str, Any]], *, revision: str) -> go.Figure:
    """Return one line per request, from its send time to its last token.

    Args:
        rows: ``place``, ``n``, ``status``, ``sent_s``, ``first_s``, ``end_s``, ``ttft_ms``, ``e2e_ms``,
            ``output_tokens``, ``error_class``.
        phases: ``phase``, ``start_s``, ``end_s``, drawn as bands.
        revision: See ``Sketch``.
    """
    sketch = Sketch(title="Requests: waiting for the first token, then decoding", revision=revision, height=380)
    ok = rows["status"] == "ok"
    sent, first, end = (np.asarray(rows[name], dtype=np.float64) for name in ("sent_s", "first_s", "end_s"))
    place = np.asarray(rows["place"], dtype=np.float64)
    for name, begin, stop, colour in (("to first token", sent, first, ORANGE), ("decoding", first, end, BLUE)):
        x, y = segments(begin[ok], stop[ok], place[ok])
        sketch.trace("scatter", x=x, y=y, mode="lines", name=name, line={"color": colour, "width": 2}, hoverinfo="skip")
    told = [_told(rows, int(index)) for index in np.flatnonzero(ok)]
    _points(sketch, first[ok], place[ok], told, marker={"size": 5, "color": BLUE, "opacity": 0.01}, showlegend=False)
    if not ok.all():
        told = [f"request failed: {rows['error_class'][index]}" for index in np.flatnonzero(~ok)]
        _points(sketch, sent[~ok], place[~ok], told, marker={"symbol": "x", "size": 9, "color": CRIMSON}, name="failed")
    add_phases(sketch, phases, words_shift_px=-20)
    n = int(rows["n"][0])
    drawn = f" ({place.size:,} of {n:,} drawn, the slowest and the failed among them)" if place.size < n else ""
    sketch.axis("xaxis", f"seconds since the run began{drawn}", showgrid=False)
    sketch.axis("yaxis", "request, in the order of sending")
    return sketch.figure()


def _points(
    sketch: Sketch,
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    told: list[str],
    **parts: Any,  # noqa: ANN401
) -> None:
    sketch.trace(
        "scatter", x=x, y=y, mode="markers", hovertext=text_array(told), hovertemplate="%{hovertext}<extra></extra>",
        **parts,
    )  # fmt: skip


def segments(
    begin: NDArray[np.float64], stop: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return many separate horizontal lines as one trace: NaN between them."""
    xs = np.column_stack([begin, stop, np.full(begin.size, np.nan)]).ravel()
    ys = np.column_stack([y, y, np.full(y.size, np.nan)]).ravel()
    return xs, ys


def _told(rows: Columns, index: int) -> str:
    return (
        f"TTFT {float(rows['ttft_ms'][index]):.1f} ms<br>E2E {float(rows['e2e_ms'][index]):.1f} ms"
        f"<br>{rows['output_tokens'][index]:.0f} tokens"
    )
