"""A figure in the making: parts are collected as plain dictionaries and checked by Plotly once, at the end.

Each ``add_trace``, ``add_vline`` or ``update_layout`` checks and copies the whole figure again; a Run page built that
way took 170 to 230 ms a rerun, with ``Sketch`` it takes a third of that.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import plotly.graph_objects as go

from enginewatch_dashboards.figures.style import SMALL_SIZE, TEXT_SIZE, TITLE_SIZE

Part = dict[str, Any]
"""A part of Plotly's JSON."""


@dataclass(slots=True, kw_only=True)
class Sketch:
    """The parts of one figure in the house style.

    Attributes:
        title: Heading; may be empty.
        revision: While it stays equal, zoom and hidden traces survive a rerun.
        height: Pixels.
        top_px: Margin above the plot, for the title, the legend and words.
        right_px: Margin beside the plot, for words.
        axes: Axis name (``xaxis``, ``yaxis2``) → its settings.
        layout: What else belongs to the layout.
    """

    title: str = ""
    revision: str
    height: int = 360
    top_px: int = 64
    right_px: int = 12
    axes: dict[str, Part] = field(default_factory=dict)
    layout: Part = field(default_factory=dict)
    _traces: list[Part] = field(default_factory=list)
    _shapes: list[Part] = field(default_factory=list)
    _notes: list[Part] = field(default_factory=list)

    def trace(self, kind: str, **parts: Any) -> None:  # noqa: ANN401 (Plotly's JSON)
        """Add a trace of a kind (``scatter``, ``bar``, ``heatmap``)."""
        self._traces.append({"type": kind, **parts})

    def axis(self, name: str, title: str = "", **parts: Any) -> None:  # noqa: ANN401 (Plotly's JSON)
        """Set an axis; settings of several calls add up."""
        if title:
            parts["title"] = {"text": title}
        self.axes.setdefault(name, {}).update(parts)

    def rule(
        self, *, x: object = None, y: float | None = None, yref: str = "y", colour: str, dash: str = "dash",
        width: float = 1.5, opacity: float = 1.0,
    ) -> None:  # fmt: skip
        """Add a line across the whole plot: vertical at ``x``, or horizontal at ``y`` on the axis ``yref``."""
        line = {"color": colour, "dash": dash, "width": width}
        ends = (
            {"x0": 0, "x1": 1, "xref": "paper", "y0": y, "y1": y, "yref": yref}
            if x is None
            else {"x0": x, "x1": x, "xref": "x", "y0": 0, "y1": 1, "yref": "paper"}
        )
        self._shapes.append({"type": "line", "line": line, "opacity": opacity, **ends})

    def band(self, colour: str, **ends: Any) -> None:  # noqa: ANN401 (Plotly's JSON)
        """Add a shaded rectangle below the data; ``ends`` are its corners and their axes."""
        self._shapes.append({"type": "rect", "layer": "below", "fillcolor": colour, "line": {"width": 0}, **ends})

    def note(self, text: str, colour: str | None = None, **parts: Any) -> None:  # noqa: ANN401 (Plotly's JSON)
        """Add words without an arrow."""
        font = {"size": SMALL_SIZE} | ({"color": colour} if colour else {})
        self._notes.append({"text": text, "showarrow": False, "font": font, **parts})

    def figure(self) -> go.Figure:
        """Return the figure, checked."""
        axes: dict[str, Part] = {"xaxis": {}, "yaxis": {}} | self.axes
        layout: Part = {
            "title": {"text": self.title, "font": {"size": TITLE_SIZE}, "x": 0, "xanchor": "left", "y": 0.99,
                      "yanchor": "top"},
            "height": self.height,
            "margin": {"l": 8, "r": self.right_px, "t": self.top_px, "b": 8},
            "font": {"size": TEXT_SIZE},
            "hovermode": "closest",
            "uirevision": self.revision,
            "legend": {"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0, "xanchor": "left",
                       "font": {"size": SMALL_SIZE}},
            "hoverlabel": {"align": "left"},
            "shapes": self._shapes,
            "annotations": self._notes,
            **{name: {"automargin": True, **parts} for name, parts in axes.items()},
        }  # fmt: skip
        for name, part in self.layout.items():
            layout[name] = {**layout[name], **part} if isinstance(part, dict) and name in layout else part
        return go.Figure(data=self._traces, layout=layout)
