"""The waterfall from one engine's time to another's: which layers, conversions and what is left over."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np

from enginewatch_dashboards import format as fmt
from enginewatch_dashboards.figures.layers import short_name
from enginewatch_dashboards.figures.sketch import Sketch
from enginewatch_dashboards.figures.style import hover, text_array
from enginewatch_dashboards.layer_rows import Step
from enginewatch_dashboards.theme import BLUE, GREY, ORANGE

if TYPE_CHECKING:
    import plotly.graph_objects as go

NAME_CHARS = 34
CUT_BELOW = 0.4
"""Where all changes together reach over less than this share of the axis, it does not begin at zero."""
ROOM = 0.12
US = 1e3


def waterfall(
    steps: Sequence[Step], *, base_ns: int, cand_ns: int, base_name: str, cand_name: str, what: str, revision: str
) -> go.Figure:
    """Return the steps as bars, each beginning where the one above it ended.

    Args:
        steps: What changed; they sum to ``cand_ns - base_ns``.
        base_ns: Time of the baseline.
        cand_ns: Time of the candidate.
        base_name: What the baseline is called.
        cand_name: What the candidate is called.
        what: What the two times are, for example ``measured median GPU time``.
        revision: See ``Sketch``.
    """
    ends = [*accumulate((step.delta_ns for step in steps), initial=base_ns)]
    low, high = _span([*ends, cand_ns])
    starts = [low, *ends[:-1], low]
    lengths = [base_ns - low, *(step.delta_ns for step in steps), cand_ns - low]
    labels = [base_name, *(f"{place + 1}. {_label(step)}" for place, step in enumerate(steps)), cand_name]
    texts = [_us(base_ns), *(_signed(step.delta_ns) for step in steps), _us(cand_ns)]
    colours = [GREY, *(_colour(step) for step in steps), GREY]
    told = [f"<b>{base_name}</b>: {_us(base_ns)}", *(_hover(step) for step in steps), f"<b>{cand_name}</b>: {_us(cand_ns)}"]  # fmt: skip  # noqa: E501
    sketch = Sketch(revision=revision, height=110 + 26 * len(labels), top_px=34, right_px=64,
                    title=f"From {base_name} to {cand_name}, {what}")  # fmt: skip
    sketch.trace(
        "bar",
        x=np.array(lengths, dtype=np.float64) / US,
        base=np.array(starts, dtype=np.float64) / US,
        y=text_array(labels),
        orientation="h",
        marker={"color": colours, "pattern": {"shape": text_array(["", *(_pattern(step) for step in steps), ""])}},
        hovertext=text_array(told),
        hovertemplate="%{hovertext}<extra></extra>",
        showlegend=False,
    )
    for label, start, length, text in zip(labels, starts, lengths, texts, strict=True):
        # Beside the end that is further right: a text of the bar itself would lie within long ones.
        sketch.note(text, x=max(start, start + length) / US, y=label, xanchor="left", xshift=4)
    cut = "" if low == 0 else ", does not begin at 0"
    sketch.axis("xaxis", f"µs of one inference{cut}", range=[low / US, (high + ROOM * (high - low)) / US])
    sketch.axis("yaxis", autorange="reversed", type="category")
    return sketch.figure()


def _span(ends: Sequence[int]) -> tuple[float, float]:
    low, high = min(ends), max(ends)
    if low <= 0 or high - low >= CUT_BELOW * high:
        return min(0.0, low), float(max(high, 1))
    return max(0.0, low - 0.5 * max(high - low, 0.02 * high)), float(high)


def _label(step: Step) -> str:
    return short_name(step.label, NAME_CHARS) + (f" ({step.remark})" if step.remark.endswith("only") else "")


def _colour(step: Step) -> str:
    return BLUE if step.delta_ns <= 0 else ORANGE


def _pattern(step: Step) -> str:
    """Return the hatching that tells what is no work of a layer from what is."""
    return {"conversions": "/", "residual": "x"}.get(step.kind, "")


def _us(value_ns: float) -> str:
    return f"{value_ns / US:,.1f} µs"


def _signed(value_ns: int) -> str:
    return f"{value_ns / US:+,.1f}".replace("-", fmt.MINUS)


def _hover(step: Step) -> str:
    before, after = ("–" if value is None else _us(value) for value in (step.base_ns, step.cand_ns))
    return hover(
        [
            f"<b>{short_name(step.label, 100)}</b>",
            f"{before} → {after}: <b>{_signed(step.delta_ns)} µs</b>".replace("-", fmt.MINUS),
            f"layers {step.layers}" if step.layers else None,
            step.precision or None,
            step.remark or None,
        ]
    )
