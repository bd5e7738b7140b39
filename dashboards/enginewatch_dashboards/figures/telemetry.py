"""Telemetry of one run on one time axis, under the phases that it went through."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from enginewatch_dashboards.figures.phases import add_phases
from enginewatch_dashboards.figures.sketch import Part, Sketch
from enginewatch_dashboards.figures.style import with_gaps
from enginewatch_dashboards.theme import BLUE, GREY, ORANGE, PURPLE, TEAL

if TYPE_CHECKING:
    import plotly.graph_objects as go

Columns = Mapping[str, NDArray[Any]]
Readings = Mapping[tuple[str, str], tuple[NDArray[np.float64], NDArray[np.float64]]]
"""(device, name) → times in s and values."""

ROW_PX, GAP_PX, TOP_PX, BOTTOM_PX = 108, 30, 84, 48
WORDS_PX = 20
"""Distance of the phases' names from the topmost panel, above that panel's own words."""
BUCKETS = 500
"""Buckets that the query ``telemetry`` is asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One column of the telemetry, and how it is drawn.

    Attributes:
        column: Its name in the readings.
        name: The words for it.
        colour: Its colour.
        dash: Its dash.
        device: Whose reading it is; ``None`` for the device that the figure is about.
        steps: Whether a value holds until the next one: then a long time without a change is no gap.
    """

    column: str
    name: str
    colour: str
    dash: str = "solid"
    device: str | None = None
    steps: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One row of the figure.

    Attributes:
        title: What the axis shows, with its unit.
        lines: What is drawn; those without readings are left out.
        is_share: Whether the axis goes from 0 to 100 %.
        limit: Device fact drawn as a line, and the factor to the axis's unit.
        limit_name: The words at that line.
        from_zero: Whether the axis begins at zero.
    """

    title: str
    lines: tuple[Line, ...]
    is_share: bool = False
    limit: tuple[str, float] | None = None
    limit_name: str = ""
    from_zero: bool = False


GPU_PANELS = (
    Panel(
        title="%",
        is_share=True,
        lines=(
            Line(column="gpu_busy_time_pct", name="GPU busy time (utilisation rate)", colour=ORANGE, dash="dot"),
            Line(column="sm_active_pct", name="SM active (GPM)", colour=BLUE),
        ),
    ),
    Panel(
        title="%",
        is_share=True,
        lines=(
            Line(column="dram_bw_pct_of_peak", name="DRAM bandwidth of its peak", colour=TEAL),
            Line(column="tensor_active_pct", name="tensor pipes active", colour=PURPLE),
        ),
    ),
    Panel(
        title="W",
        lines=(Line(column="power_w", name="board power", colour=ORANGE),),
        limit=("power_limit_mw", 1e-3),
        limit_name="power limit",
        from_zero=True,
    ),
    Panel(
        title="MHz",
        lines=(Line(column="sm_clock_mhz", name="SM clock", colour=BLUE),),
        limit=("max_sm_clock_mhz", 1.0),
        limit_name="highest SM clock",
    ),
    Panel(title="°C", lines=(Line(column="temp_c", name="GPU temperature", colour=GREY),)),
)
HOST_PANEL = Panel(
    title="%", is_share=True, lines=(Line(column="cpu_util_pct", name="CPU, mean over its cores", colour=BLUE),)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Above:
    """What is drawn above a device's own panels, on the same time axis.

    Attributes:
        title: Heading of the whole figure.
        panels: The panels, the topmost first.
        readings: What they show.
        x_range: The part of the run that is shown first.
    """

    title: str
    panels: tuple[Panel, ...]
    readings: Readings
    x_range: tuple[float, float] | None = None


def split(telemetry: Columns) -> dict[tuple[str, str], tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Return (device, name) → times in s and values, from the long form of the query ``telemetry``."""
    device, name = telemetry["device"], telemetry["name"]
    if device.size == 0:
        return {}
    t, value = np.asarray(telemetry["t_s"], dtype=np.float64), np.asarray(telemetry["value"], dtype=np.float64)
    starts = np.flatnonzero(np.r_[True, (device[1:] != device[:-1]) | (name[1:] != name[:-1])])
    ends = np.r_[starts[1:], device.size]
    return {(device[a], name[a]): (t[a:b], value[a:b]) for a, b in zip(starts, ends, strict=True)}


def gpus(telemetry: Columns) -> list[str]:
    """Return the GPUs that have readings, in their order."""
    return sorted({str(device) for device in np.unique(telemetry["device"]) if device != "host"})


def gpu_timeline(
    telemetry: Columns,
    phases: Sequence[Mapping[str, Any]],
    facts: Mapping[str, Any],
    *,
    gpu: str,
    above: Above | None = None,
    revision: str,
) -> go.Figure:
    """Return the timeline of one GPU.

    Args:
        telemetry: Long form: ``device``, ``name``, ``t_s``, ``value``, in this order.
        phases: ``phase``, ``start_s``, ``end_s``.
        facts: Facts of the device: ``power_limit_mw``, ``max_sm_clock_mhz``.
        gpu: Which device.
        above: What is drawn above it.
        revision: See ``Sketch``.
    """
    readings = {**split(telemetry), **(above.readings if above else {})}
    panels = _with_readings((*(above.panels if above else ()), *GPU_PANELS), readings, gpu)
    stack = Stack.of(len(panels), above.title if above else f"{gpu}: what its units did", revision)
    for row, panel in enumerate(panels):
        _add_panel(stack, row, panel, readings, gpu, facts)
    return stack.finish(phases, above.x_range if above else None)


def _with_readings(panels: Sequence[Panel], readings: Readings, device: str) -> list[Panel]:
    return [p for p in panels if any((line.device or device, line.column) in readings for line in p.lines)]


def host_timeline(
    telemetry: Columns,
    cores: Columns,
    phases: Sequence[Mapping[str, Any]],
    *,
    above: Above | None = None,
    revision: str,
) -> go.Figure:
    """Return the timeline of the host: mean CPU utilisation, and each core as a row of a heat map.

    Args:
        telemetry: As in ``gpu_timeline``.
        cores: ``core``, ``slot``, ``value``, ``low_s``, ``high_s``.
        phases: As in ``gpu_timeline``.
        above: As in ``gpu_timeline``.
        revision: See ``Sketch``.
    """
    readings = {**split(telemetry), **(above.readings if above else {})}
    panels = _with_readings((*(above.panels if above else ()), HOST_PANEL), readings, "host")
    has_cores = cores["core"].size > 0
    stack = Stack.of(len(panels) + has_cores, above.title if above else "Host", revision)
    for row, panel in enumerate(panels):
        _add_panel(stack, row, panel, readings, "host", {})
    if has_cores:
        row = len(panels)
        stack.sketch.trace("heatmap", yaxis=stack.y(row), **_heat_map(cores))
        stack.axis(row, "core", dtick=max(1, int(cores["core"].max() + 1) // 4))
        stack.label(row, "■ each core, its busiest moment in a slot", GREY)
    return stack.finish(phases, above.x_range if above else None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """Panels above each other on one time axis.

    Attributes:
        sketch: The figure.
        domains: Lower and upper end of each panel, as shares of the plot, the topmost first.
    """

    sketch: Sketch
    domains: tuple[tuple[float, float], ...]

    @classmethod
    def of(cls, rows: int, title: str, revision: str) -> Stack:
        """Return an empty stack of ``rows`` panels (at least one)."""
        rows = max(rows, 1)
        inside = ROW_PX * rows + GAP_PX * (rows - 1)
        tops = [1 - row * (ROW_PX + GAP_PX) / inside for row in range(rows)]
        sketch = Sketch(title=title, revision=revision, height=TOP_PX + inside + BOTTOM_PX, top_px=TOP_PX)
        sketch.layout = {"showlegend": False, "hovermode": "x", "margin": {"b": BOTTOM_PX}}
        return cls(sketch=sketch, domains=tuple((max(0.0, top - ROW_PX / inside), top) for top in tops))

    @staticmethod
    def y(row: int) -> str:
        """Return Plotly's name of a panel's value axis."""
        return "y" if row == 0 else f"y{row + 1}"

    def axis(self, row: int, title: str, **parts: Any) -> None:  # noqa: ANN401 (Plotly's JSON)
        """Set a panel's value axis."""
        self.sketch.axis(f"yaxis{self.y(row)[1:]}", title, domain=list(self.domains[row]), anchor="x", **parts)

    def label(self, row: int, text: str, colour: str | None = None) -> None:
        """Write words above a panel: its legend."""
        self.sketch.note(text, colour, x=0, xref="paper", y=self.domains[row][1], yref="paper", xanchor="left",
                         yanchor="bottom")  # fmt: skip

    def finish(self, phases: Sequence[Mapping[str, Any]], x_range: tuple[float, float] | None = None) -> go.Figure:
        """Add the phases and the time axis, and return the figure."""
        add_phases(self.sketch, phases, words_shift_px=WORDS_PX, x_range=x_range)
        if x_range is not None:
            self.sketch.axis("xaxis", range=list(x_range))
        lowest = self.y(len(self.domains) - 1)
        self.sketch.axis("xaxis", "seconds since the run began", showgrid=False, anchor=lowest)
        return self.sketch.figure()


def _add_panel(
    stack: Stack,
    row: int,
    panel: Panel,
    readings: Readings,
    device: str,
    facts: Mapping[str, Any],
) -> None:
    words, seen = [], []
    for line in panel.lines:
        found = readings.get((line.device or device, line.column))
        if found is None:
            continue
        t, value = found if line.steps else with_gaps(*found, bucket=_bucket(found[0]))
        stack.sketch.trace(
            "scatter",
            x=t,
            y=value,
            yaxis=stack.y(row),
            mode="lines",
            name=line.name,
            line={"color": line.colour, "width": 2, "dash": line.dash, "shape": "hv" if line.steps else "linear"},
            hovertemplate=f"{line.name}: %{{y:.4g}} {panel.title}<extra></extra>",
        )
        seen += [float(found[1].min()), float(found[1].max())]
        words.append(f'<span style="color:{line.colour}">■ {line.name}</span>')
    limit = _limit(panel, facts)
    if limit is not None:
        seen.append(limit)
        words.append(f'<span style="color:{GREY}">┅ {panel.limit_name} {limit:.0f} {panel.title}</span>')
        stack.sketch.rule(y=limit, yref=stack.y(row), colour=GREY)
    stack.label(row, "    ".join(words))
    stack.axis(row, panel.title, **_scale(panel, seen))


def _limit(panel: Panel, facts: Mapping[str, Any]) -> float | None:
    if panel.limit is None or not facts.get(panel.limit[0]):
        return None
    return float(facts[panel.limit[0]]) * panel.limit[1]


def _scale(panel: Panel, seen: Sequence[float]) -> Part:
    """Return the axis of a panel: shares whole, the rest wide enough that a quiet line looks quiet."""
    if panel.is_share:
        return {"range": [0, 105], "tickvals": [0, 50, 100]}
    low, high = min(seen), max(seen)
    if panel.from_zero:
        return {"range": [0, high * 1.08 or 1.0], "nticks": 4}
    pad = max(0.1 * (high - low), 0.04 * high)
    return {"range": [low - pad, high + pad], "nticks": 4}


def _bucket(t: NDArray[np.float64]) -> float:
    """Return the width of a decimation bucket; zero where the readings were few enough to come whole."""
    return float(t[-1] - t[0]) / BUCKETS if t.size > BUCKETS else 0.0


def _heat_map(cores: Columns) -> Part:
    core, slot = np.asarray(cores["core"], dtype=np.int64), np.asarray(cores["slot"], dtype=np.int64)
    low, high = float(cores["low_s"][0]), float(cores["high_s"][0])
    used = np.unique(slot)
    grid = np.full((int(core.max()) + 1, used.size), np.nan)
    grid[core, np.searchsorted(used, slot)] = np.asarray(cores["value"], dtype=np.float64)
    span = max(int(used[-1]), 1)
    return {
        "z": grid.astype(np.float32),
        "x": low + used / span * (high - low),
        "y": np.arange(grid.shape[0]),
        "zmin": 0,
        "zmax": 100,
        "colorscale": "Cividis",
        "colorbar": {"title": {"text": "%", "side": "top"}, "thickness": 10, "len": 0.45, "y": 0, "yanchor": "bottom"},
        "hovertemplate": "core %{y}: %{z:.0f} % at %{x:.1f} s<extra></extra>",
    }
