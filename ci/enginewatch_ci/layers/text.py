"""The difference of two engines on a terminal: a sentence, a table, what is left over. Pure: returns text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from enginewatch_ci import phrasing
from enginewatch_ci.layers.facts import CONVERSIONS, LayerFacts
from enginewatch_ci.layers.histogram import conversion_cost, dominant_dtype, precision_histogram
from enginewatch_ci.layers.waterfall import LayerDiff, LayerGroup
from enginewatch_db.text_columns import fits, fitting, text_width, widths, wrapped

ABSENT = "–"
SEPARATOR = "  "
NAME_CHARS = 48
NARROW_CHARS, FEWEST_CHARS = 32, 24
"""Characters of the cells of work where the window is too narrow for ``NAME_CHARS``, and where for those too."""

HEADING_CHARS = 12
"""Above it, the name of an engine makes a column wider than its numbers do: A and B then stand for the two."""

ALIGNED_PCT = 50.0
"""Below this share of matched time the table is by kind of work: most layers would be in one engine only."""

SAME_PCT = 0.5
"""A change below this is called none: profiles repeat to about half a percent (docs/layers.md)."""

FIRST_TO_GO = ("Layers", "Precision", "Share")
_LEFT = frozenset(("Work", "Precision"))
_FAMILIES_TOLD = 3
_TOTAL = "total"
"""Side of a row of the footer."""

_TELLABLE_NS = 50
"""Less is 0.0 µs."""


class _Row(NamedTuple):
    work: str
    base_ns: int | None
    cand_ns: int | None
    layers: str = ""
    precision: str = ""
    side: str = "both"


def render_layer_diff(
    diff: LayerDiff,
    *,
    base_name: str = "baseline",
    cand_name: str = "candidate",
    rows: int = 12,
    width: int | None = 120,
    measured_as: str = "measured",
    by: str | None = None,
) -> str:
    """Return the difference as text: what explains it, the largest rows, conversions, residual and totals.

    Args:
        diff: What was found.
        base_name: What the baseline is called, for example ``fp16``.
        cand_name: What the candidate is called.
        rows: Rows of work to show; the rest is one row, so that the table always sums to its totals.
        width: Columns of the window; ``None`` is unlimited.
        measured_as: What the measured times are, for the row that has them.
        by: ``layer`` or ``kind``; ``None``: by layer where at least ``ALIGNED_PCT`` of the time is matched.
    """
    by_kind = by == "kind" or (by is None and (diff.aligned_pct or 0.0) < ALIGNED_PCT)
    told = [explain(diff, base_name=base_name, cand_name=cand_name), *_remarks(diff, base_name, cand_name)]
    if not (diff.base_layers_ns or diff.cand_layers_ns):
        return "\n".join(wrapped(line, width) for line in told) + "\n"
    if by is None and by_kind:
        told.append("so the table is by kind of work: --by layer shows the layers")
    found = _kind_rows(diff, rows) if by_kind else _group_rows(diff, rows)
    if diff.base_conversions_ns or diff.cand_conversions_ns:
        found.append(_Row("conversions (reformats, casts)", diff.base_conversions_ns, diff.cand_conversions_ns))
    table = _table(found, diff, (base_name, cand_name, measured_as), width)
    return "\n".join([wrapped(told[0], width), "", *table, "", *(wrapped(line, width) for line in told[1:])]) + "\n"


def explain(diff: LayerDiff, *, base_name: str = "baseline", cand_name: str = "candidate") -> str:
    """Return one sentence: how much faster or slower the candidate is, which work says why, what did not convert."""
    base_ns, cand_ns = _compared(diff)
    if not base_ns:
        return f"no layer of {base_name} has a time: measure it with profile = true"
    if not cand_ns:
        return f"no layer of {cand_name} has a time: measure it with profile = true"
    change = 100 * (cand_ns - base_ns) / base_ns
    measured = "" if diff.total_delta_ns is not None else ", by the sum of its layers"
    if abs(change) < SAME_PCT:
        head = f"{cand_name} takes as long as {base_name}{measured}"
    else:
        word = "less" if change < 0 else "more"
        head = f"{cand_name} takes {abs(change):.3g} % {word} time than {base_name}{measured}"
    parts = [f"{name} {_signed(cand - base)}" for name, (base, cand) in diff.by_family().items() if _tells(base, cand)]
    stayed = _stayed(diff)
    reasons = parts[:_FAMILIES_TOLD] + ([stayed] if stayed else [])
    return f"{head}: {'; '.join(reasons)}" if reasons else head


def _compared(diff: LayerDiff) -> tuple[int, int]:
    if diff.base_total_ns is not None and diff.cand_total_ns is not None:
        return diff.base_total_ns, diff.cand_total_ns
    return diff.base_layers_ns, diff.cand_layers_ns


def _tells(base_ns: int, cand_ns: int) -> bool:
    return abs(cand_ns - base_ns) >= _TELLABLE_NS


def _stayed(diff: LayerDiff) -> str | None:
    """Return how many layers kept the baseline's precision where the candidate's is another."""
    base = dominant_dtype([layer for group in diff.groups for layer in group.base])
    cand = dominant_dtype([layer for group in diff.groups for layer in group.cand])
    if base is None or cand is None or base == cand:
        return None
    kept = sum(
        layer.dtype == base and bool(layer.flops or layer.time_ns)
        for group in diff.groups
        for layer in group.cand
        if not (layer.is_conversion or layer.is_constant)
    )
    return f"{phrasing.count(kept, 'layer')} stayed in {base}" if kept else None


def _remarks(diff: LayerDiff, base_name: str, cand_name: str) -> list[str]:
    lines = []
    for name, side, untimed in ((base_name, "base", diff.base_untimed), (cand_name, "cand", diff.cand_untimed)):
        layers: list[LayerFacts] = [layer for group in diff.groups for layer in getattr(group, side)]
        shares = [_share_told(item.dtype, item.time_pct) for item in precision_histogram(layers) if item.time_pct]
        cost = conversion_cost(layers)
        if shares:
            told = f", {phrasing.count(cost.timed_layers, 'conversion')} {cost.time_pct or 0:.1f} % of all"
            lines.append(f"{name}: computing time {phrasing.listed(shares)}{told}")
        if cost.constant_ns:
            lines.append(
                f"{name}: {cost.constant_layers} of these convert constants in every inference, "
                f"{_microseconds(cost.constant_ns)}: fold the constants of the model before the build"
            )
        if untimed and layers and untimed < len(layers):
            lines.append(f"{name}: {phrasing.count(untimed, 'layer')} without a time in the profile")
    if diff.residual_ns is not None and (diff.base_layers_ns or diff.cand_layers_ns):
        overhead = overhead_told(diff, base_name, cand_name)
        lines += [overhead] if overhead else []
        lines.append("residual: measured time less the sum of the layers: gaps between launches, overlap, clocks")
    if diff.aligned_pct is not None and diff.groups:
        guessed = f"; {diff.guessed_pct:.1f} % is matched by its shape and order only" if diff.guessed_pct else ""
        lines.append(f"{diff.aligned_pct:.1f} % of the layers' time is in work that both engines have{guessed}")
    return lines


def overhead_told(diff: LayerDiff, base_name: str, cand_name: str) -> str | None:
    """Return what the profiler itself cost, and whether that is taken out; ``None`` where nothing tells it."""
    if not (diff.base_overhead_ns or diff.cand_overhead_ns) or diff.total_delta_ns is None:
        return None
    base, cand = (f"{cost / 1000:.1f} µs" for cost in (diff.base_overhead_ns, diff.cand_overhead_ns))
    if not diff.is_corrected:
        return (
            f"by the measured times the profiler would have cost each layer {base} in {base_name} and {cand} in "
            f"{cand_name}: one of the profiles does not fit its measured time, and all times are as profiled"
        )
    sums = f"{_microseconds(diff.base_profile_ns)} and {_microseconds(diff.cand_profile_ns)}"
    return (
        f"the profiler's own cost of each layer is taken out: {base} in {base_name}, {cand} in {cand_name}, so that "
        f"the layers sum to the measured time; as profiled they sum to {sums}, with a residual of "
        f"{_signed(diff.profile_residual_ns or 0)}"
    )


def _share_told(dtype: str | None, share_pct: float | None) -> str:
    return f"{dtype or 'unknown'} {share_pct or 0:.1f} %"


def _group_rows(diff: LayerDiff, limit: int) -> list[_Row]:
    working = [group for group in diff.groups if group.base_ns or group.cand_ns]
    shown, rest = working[:limit], working[limit:]
    rows = [_group_row(group) for group in shown]
    if rest:
        base, cand = sum(group.base_ns for group in rest), sum(group.cand_ns for group in rest)
        rows.append(_Row(f"{len(rest)} more", base, cand, _counted(rest)))
    return rows


def _kind_rows(diff: LayerDiff, limit: int) -> list[_Row]:
    working = [
        (name, base, cand) for name, (base, cand) in diff.by_family().items() if name != CONVERSIONS and (base or cand)
    ]
    shown, rest = working[:limit], working[limit:]
    rows = [_Row(name, base, cand) for name, base, cand in shown]
    if rest:
        rows.append(_Row(f"{len(rest)} more", sum(row[1] for row in rest), sum(row[2] for row in rest)))
    return rows


def _group_row(group: LayerGroup) -> _Row:
    base, cand = ([layer for layer in side if not layer.is_conversion] for side in (group.base, group.cand))
    precision = _changed(_dtypes(base), _dtypes(cand))
    return _Row(group.label, group.base_ns, group.cand_ns, _counted([group]), precision, group.side)


def _counted(groups: Iterable[LayerGroup]) -> str:
    counts = [0, 0]
    for group in groups:
        for side, layers in enumerate((group.base, group.cand)):
            counts[side] += sum(not (layer.is_conversion or layer.is_constant) for layer in layers)
    return str(counts[0]) if counts[0] == counts[1] else f"{counts[0]} → {counts[1]}"


def _dtypes(layers: Sequence[LayerFacts]) -> str:
    return "+".join(sorted({layer.dtype for layer in layers if layer.dtype and not layer.is_constant})) or ABSENT


def _changed(base: str, cand: str) -> str:
    return base if base == cand else f"{base} → {cand}"


def _table(rows: list[_Row], diff: LayerDiff, names: tuple[str, str, str], width: int | None) -> list[str]:
    base_name, cand_name, measured_as = names
    total = diff.total_delta_ns if diff.total_delta_ns is not None else diff.layers_delta_ns
    footer = [_Row("sum of the layers", diff.base_layers_ns, diff.cand_layers_ns, side=_TOTAL)]
    if diff.residual_ns is not None:
        footer.append(_Row("residual", diff.base_residual_ns, diff.cand_residual_ns, side=_TOTAL))
        footer.append(_Row(measured_as, diff.base_total_ns, diff.cand_total_ns, side=_TOTAL))
    every = [*rows, *footer]
    columns = _columns(every, total, (base_name, cand_name))
    legend: list[str] = []
    if not fits(columns, list(columns), width, separator=len(SEPARATOR)):
        if max(map(text_width, (base_name, cand_name))) > HEADING_CHARS:
            legend = [wrapped(f"A: {base_name}", width), wrapped(f"B: {cand_name}", width), ""]
            base_name, cand_name = "A", "B"
        columns = _columns(every, total, (base_name, cand_name), chars=NARROW_CHARS)
    chosen = fitting(columns, width, first_to_go=FIRST_TO_GO, separator=len(SEPARATOR))
    if not fits(columns, chosen, width, separator=len(SEPARATOR)):
        columns = _columns(every, total, (base_name, cand_name), chars=FEWEST_CHARS)
    found = widths(columns)
    lines = []
    for place in range(len(every) + 1):
        cells = [_padded(columns[name][place], found[name], left=name in _LEFT) for name in chosen]
        lines.append(SEPARATOR.join(cells).rstrip())
    rule = "─" * max(map(text_width, lines))
    return [*legend, lines[0], rule, *lines[1 : len(rows) + 1], rule, *lines[len(rows) + 1 :]]


def _columns(
    every: Sequence[_Row], total_ns: int, names: tuple[str, str], *, chars: int = NAME_CHARS
) -> dict[str, list[str]]:
    marks = {"both": "", "base": " (baseline only)", "cand": " (candidate only)"}
    if names == ("A", "B"):
        marks |= {"base": " (A only)", "cand": " (B only)"}
    return {
        "Work": [
            "Work",
            *(row.work if row.side == _TOTAL else _short(row.work, chars) + marks[row.side] for row in every),
        ],
        "Layers": ["Layers", *(row.layers for row in every)],
        "Precision": ["Precision", *(row.precision for row in every)],
        "base": [names[0], *(_microseconds(row.base_ns) for row in every)],
        "cand": [names[1], *(_microseconds(row.cand_ns) for row in every)],
        "Change": ["Change", *(_change(row) for row in every)],
        "Share": ["Share", *(_share(row, total_ns) for row in every)],
    }


def _padded(text: str, width: int, *, left: bool) -> str:
    blanks = " " * (width - text_width(text))
    return text + blanks if left else blanks + text


def _change(row: _Row) -> str:
    return ABSENT if row.base_ns is None or row.cand_ns is None else _signed(row.cand_ns - row.base_ns)


def _share(row: _Row, total_ns: int) -> str:
    if not total_ns or row.base_ns is None or row.cand_ns is None:
        return ABSENT
    return _told(100 * (row.cand_ns - row.base_ns) / total_ns, "%")


def _microseconds(value_ns: int | None) -> str:
    return ABSENT if value_ns is None else _told(value_ns / 1000, "µs")


def _told(value: float, unit: str) -> str:
    """Return a number with one digit; one that rounds to nothing has no sign."""
    told = f"{value:,.1f} {unit}"
    return told.removeprefix("-") if told == f"-0.0 {unit}" else told.replace("-", "−")


def _signed(value_ns: int) -> str:
    text = f"{value_ns / 1000:+,.1f}"
    return "0 µs" if float(text.replace(",", "")) == 0 else f"{text} µs".replace("-", "−")


def _short(name: str, chars: int) -> str:
    if len(name) <= chars:
        return name
    half = (chars - 1) // 2
    return f"{name[:half]}…{name[-half:]}"
