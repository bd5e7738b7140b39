"""Layers as pages tell them: rows of tables, and sentences about what is known and what is not. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from enginewatch_ci.layers.facts import CONVERSIONS, LayerFacts, layer_facts
from enginewatch_ci.layers.histogram import ConversionCost, PrecisionShare, conversion_cost, precision_histogram
from enginewatch_ci.layers.overhead import without_profiler
from enginewatch_ci.layers.roofline import Bound, Roofline, roofline
from enginewatch_ci.layers.waterfall import LayerDiff, LayerGroup
from enginewatch_dashboards import format as fmt

Row = dict[str, Any]

BOUND_WORDS: dict[Bound, str] = {
    "latency": " (launch, little parallel work or a poor kernel)",
    "unknown": " (see the table for why)",
}
"""Bound → what to add where the word alone does not say it."""
ALIGNED_PCT = 50.0
"""Below this share of matched time, single layers of two engines say less than kinds of work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """All that pages show of an engine's layers.

    Attributes:
        layers: In order of execution, without the profiler's own cost where that can be told.
        profiled: The same as the profiler timed them.
        overhead_ns: What was taken out of each layer's time.
        dtypes: What each layer reads and writes, ``in → out``, in the same order.
        shares: What the engine computes in.
        conversions: What it spends on moving and converting data.
        roof: Its layers under the roofline of the device.
        source: The tool that told them.
    """

    layers: tuple[LayerFacts, ...]
    profiled: tuple[LayerFacts, ...]
    overhead_ns: float
    dtypes: tuple[str, ...]
    shares: tuple[PrecisionShare, ...]
    conversions: ConversionCost
    roof: Roofline
    source: str

    @property
    def sum_ns(self) -> int:
        """Time of all layers in one inference."""
        return sum(layer.time_ns or 0 for layer in self.layers)

    @property
    def timed(self) -> list[LayerFacts]:
        """Layers with a time, the slowest first."""
        return sorted((layer for layer in self.layers if layer.time_ns), key=lambda layer: -(layer.time_ns or 0))


def profile(rows: Sequence[Mapping[str, Any]], device: str | None, total_ns: int | None = None) -> Profile:
    """Return what is known of an engine's layers.

    Args:
        rows: Rows of the table of layers.
        device: Product that they ran on.
        total_ns: Time of one inference without a profiler; ``None``: the layers' times stay as they are.
    """
    # The same order as that of the facts, so that both lists can be read side by side.
    ordered = sorted(rows, key=lambda row: (row["layer_idx"] or 0, str(row["name"])))
    profiled = layer_facts(ordered)
    layers, overhead_ns = without_profiler(profiled, total_ns)
    return Profile(
        layers=layers,
        profiled=profiled,
        overhead_ns=overhead_ns,
        dtypes=tuple(_in_out(row) for row in ordered),
        shares=precision_histogram(layers),
        conversions=conversion_cost(layers),
        roof=roofline(layers, device),
        source=str(next((row["source"] for row in ordered if row["source"]), "unknown")),
    )


def _in_out(row: Mapping[str, Any]) -> str:
    read, written = row["input_dtype"], row["output_dtype"]
    if read and written and read != written:
        return f"{read} → {written}"
    return str(read or written or row["dtype"] or "")


def layer_rows(found: Profile, limit: int) -> list[Row]:
    """Return one row per layer for a table, the slowest first, those without a time last."""
    placed = {item.layer.index: item for item in found.roof.layers}
    whole = found.sum_ns
    rows = []
    for layer in sorted(found.layers, key=lambda layer: (-(layer.time_ns or 0), layer.index))[:limit]:
        roof = placed.get(layer.index)
        rows.append(
            {
                "layer": layer,
                "dtypes": found.dtypes[layer.index],
                "time_us": None if layer.time_ns is None else layer.time_ns / 1e3,
                "share_pct": None if not whole or layer.time_ns is None else 100 * layer.time_ns / whole,
                "bound": None if roof is None else roof.bound,
                "achieved_pct": None if roof is None else roof.achieved_pct,
                "why": None if roof is None else roof.reason,
            }
        )
    return rows


def precision_told(found: Profile) -> str:
    """Return which precisions the engine computes in, by time where there are times, else by number of layers."""
    told = [
        f"{share.dtype or 'unknown'} {share.time_pct:.1f} %"
        if share.time_pct is not None
        else f"{share.dtype or 'unknown'} {fmt.count(share.layers, 'layer')}"
        for share in found.shares
    ]
    return ", ".join(told) or "no layer computes anything"


def conversions_told(found: Profile) -> str:
    """Return what reformats, casts and the like cost."""
    cost = found.conversions
    if not cost.layers:
        return "No layer only moves or converts data."
    if cost.time_ns is None:
        return f"Layers that only move or convert data: {cost.layers}; what they take is not known."
    told = (
        f"Layers that only move or convert data: {cost.layers}, of which {cost.timed_layers} take time: "
        f"{cost.time_ns / 1e3:,.1f} µs, {cost.time_pct or 0:.1f} % of all."
    )
    if cost.constant_ns:
        told += (
            f" {cost.constant_layers} of these convert constants in every inference "
            f"({cost.constant_ns / 1e3:,.1f} µs): fold the constants of the model before the build."
        )
    return told


def unknown_told(found: Profile) -> list[str]:
    """Return what is not known of the layers, in sentences: nothing is drawn as zero."""
    working = [layer for layer in found.layers if not (layer.is_conversion or layer.is_constant)]
    told = []
    untimed = sum(layer.time_ns is None for layer in found.layers)
    if untimed:
        told.append(f"{untimed} of {fmt.count(len(found.layers), 'layer')} have no time in the profile.")
    for name, missing in (
        ("operations", [layer for layer in working if layer.flops is None]),
        ("memory traffic", [layer for layer in working if layer.bytes is None]),
    ):
        if missing:
            spent = 100 * sum(layer.time_ns or 0 for layer in missing) / found.sum_ns if found.sum_ns else 0
            share = f" ({spent:.1f} % of the time)" if found.sum_ns else ""
            told.append(f"The {name} of {len(missing)} of {len(working)} computing layers are not known{share}.")
    return told


def roof_told(found: Profile) -> str:
    """Return what bounds the layers by share of their time, or why there is no roofline."""
    roof = found.roof
    if roof.reason is not None:
        return f"No roofline: {roof.reason}."
    shares = sorted(roof.bound_time_pct.items(), key=lambda item: -item[1])
    return "What bounds the layers, by share of their time: " + "; ".join(
        f"{bound} {share:.1f} %{BOUND_WORDS.get(bound, '')}" for bound, share in shares
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One row of a waterfall.

    Attributes:
        label: What it is.
        base_ns: Time in the baseline; ``None`` where it does not apply.
        cand_ns: Time in the candidate.
        kind: ``total``, ``work``, ``rest``, ``conversions`` or ``residual``.
        layers: Number of layers, ``3 → 2`` where it changed.
        precision: Precisions, ``fp32 → fp16`` where they changed.
        remark: What to know about it.
    """

    label: str
    base_ns: int | None
    cand_ns: int | None
    kind: str = "work"
    layers: str = ""
    precision: str = ""
    remark: str = ""

    @property
    def delta_ns(self) -> int:
        """Change from the baseline to the candidate."""
        return (self.cand_ns or 0) - (self.base_ns or 0)


def steps(diff: LayerDiff, limit: int) -> list[Step]:
    """Return the rows that lead from the baseline's time to the candidate's, which they sum to exactly.

    Args:
        diff: What was found.
        limit: Groups of layers with a row of their own; the others are one row.
    """
    working = [group for group in diff.groups if group.base_ns or group.cand_ns]
    shown, rest = working[:limit], working[limit:]
    found = [_group_step(group) for group in shown]
    if rest:
        base, cand = sum(group.base_ns for group in rest), sum(group.cand_ns for group in rest)
        found.append(Step(label=f"{len(rest)} more", base_ns=base, cand_ns=cand, kind="rest", layers=_counted(rest)))
    base, cand = diff.base_conversions_ns, diff.cand_conversions_ns
    if base or cand:
        found.append(Step(label="conversions", base_ns=base, cand_ns=cand, kind="conversions"))
    if diff.residual_ns is not None:
        base_rest, cand_rest = diff.base_residual_ns, diff.cand_residual_ns
        found.append(Step(label="residual", base_ns=base_rest, cand_ns=cand_rest, kind="residual"))
    return found


def family_steps(diff: LayerDiff) -> list[Step]:
    """Return the same by kind of work: convolutions, matrix products, ...; for engines that share no names."""
    found = [
        Step(label=name, base_ns=base, cand_ns=cand, kind="conversions" if name == CONVERSIONS else "work")
        for name, (base, cand) in diff.by_family().items()
        if base or cand
    ]
    if diff.residual_ns is not None:
        base_rest, cand_rest = diff.base_residual_ns, diff.cand_residual_ns
        found.append(Step(label="residual", base_ns=base_rest, cand_ns=cand_rest, kind="residual"))
    return found


def _group_step(group: LayerGroup) -> Step:
    remark = {"both": "", "base": "baseline only", "cand": "candidate only"}[group.side]
    base, cand = _dtypes(group.base), _dtypes(group.cand)
    return Step(
        label=group.label,
        base_ns=group.base_ns,
        cand_ns=group.cand_ns,
        layers=_counted([group]),
        precision=base if base == cand else f"{base or fmt.ABSENT} → {cand or fmt.ABSENT}",
        remark=remark or ("matched by shape and order" if group.guessed else ""),
    )


def _counted(groups: Sequence[LayerGroup]) -> str:
    base, cand = (sum(_works(layer) for group in groups for layer in getattr(group, side)) for side in ("base", "cand"))
    return str(base) if base == cand else f"{base} → {cand}"


def _works(layer: LayerFacts) -> bool:
    return not (layer.is_conversion or layer.is_constant)


def _dtypes(layers: Sequence[LayerFacts]) -> str:
    return "+".join(sorted({layer.dtype for layer in layers if layer.dtype and _works(layer)}))
