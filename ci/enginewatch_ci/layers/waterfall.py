"""What each piece of work adds to the change between two engines; with the residual it sums to the total. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from enginewatch_ci.layers.align import Aligned, align
from enginewatch_ci.layers.facts import CONVERSIONS, LayerFacts
from enginewatch_ci.layers.overhead import agree, without_profiler

Side = Literal["both", "base", "cand"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerGroup:
    """Layers of both engines that do the same work, and the conversions that serve them.

    Attributes:
        label: Name of the layer that takes most of the time in the candidate, else in the baseline.
        family: What that layer does, as in ``LayerFacts``.
        side: Whether both engines have it, or only one.
        base: Layers of the baseline, conversions included, in order of execution.
        cand: Layers of the candidate, likewise.
        guessed: Whether the two sides share no name, only operations, shape and order.
    """

    label: str
    family: str
    side: Side
    base: tuple[LayerFacts, ...]
    cand: tuple[LayerFacts, ...]
    guessed: bool = False

    @property
    def base_ns(self) -> int:
        """Time of the baseline's layers without conversions."""
        return _work_ns(self.base)

    @property
    def cand_ns(self) -> int:
        """Time of the candidate's layers without conversions."""
        return _work_ns(self.cand)

    @property
    def delta_ns(self) -> int:
        """Change without conversions."""
        return self.cand_ns - self.base_ns

    @property
    def base_conversions_ns(self) -> int:
        """Time of the baseline's conversions that serve it."""
        return _conversions_ns(self.base)

    @property
    def cand_conversions_ns(self) -> int:
        """Time of the candidate's conversions that serve it."""
        return _conversions_ns(self.cand)

    @property
    def conversions_delta_ns(self) -> int:
        """Change of the conversions that serve it."""
        return self.cand_conversions_ns - self.base_conversions_ns


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerDiff:
    """Where the time went between two engines.

    ``delta_ns`` of all groups and ``conversions_delta_ns`` sum to ``layers_delta_ns``; ``residual_ns`` is what is
    missing to the change that was measured without a profiler.

    Attributes:
        groups: Largest change first.
        base_layers_ns: Sum over all layers of the baseline, without the profiler's own cost where ``is_corrected``.
        cand_layers_ns: The same of the candidate.
        base_total_ns: Time of one inference as measured without a profiler; ``None`` where it is not given.
        cand_total_ns: The same of the candidate.
        base_untimed: Layers of the baseline that the profile has no time of.
        cand_untimed: The same of the candidate.
        base_profile_ns: Sum over all layers of the baseline as the profiler timed them.
        cand_profile_ns: The same of the candidate.
        base_overhead_ns: What the profiler cost each layer of the baseline, by its measured time (``overhead``).
        cand_overhead_ns: The same of the candidate.
        is_corrected: Whether these costs are taken out of the layers' times: where both engines were measured, and
            one tool can have cost both.
    """

    groups: tuple[LayerGroup, ...]
    base_layers_ns: int
    cand_layers_ns: int
    base_total_ns: int | None
    cand_total_ns: int | None
    base_untimed: int
    cand_untimed: int
    base_profile_ns: int = 0
    cand_profile_ns: int = 0
    base_overhead_ns: float = 0.0
    cand_overhead_ns: float = 0.0
    is_corrected: bool = False

    @property
    def layers_delta_ns(self) -> int:
        """Change of the sum over all layers."""
        return self.cand_layers_ns - self.base_layers_ns

    @property
    def total_delta_ns(self) -> int | None:
        """Change as measured without a profiler; ``None`` where one of the two was not measured."""
        if self.base_total_ns is None or self.cand_total_ns is None:
            return None
        return self.cand_total_ns - self.base_total_ns

    @property
    def residual_ns(self) -> int | None:
        """Measured change less that of the layers: gaps between launches, overlap, what no profile tells."""
        return None if self.total_delta_ns is None else self.total_delta_ns - self.layers_delta_ns

    @property
    def profile_residual_ns(self) -> int | None:
        """The residual that there would be without taking the profiler's cost out."""
        if self.total_delta_ns is None:
            return None
        return self.total_delta_ns - (self.cand_profile_ns - self.base_profile_ns)

    @property
    def base_residual_ns(self) -> int | None:
        """Measured time of the baseline less the sum over its layers."""
        return None if self.base_total_ns is None else self.base_total_ns - self.base_layers_ns

    @property
    def cand_residual_ns(self) -> int | None:
        """Measured time of the candidate less the sum over its layers."""
        return None if self.cand_total_ns is None else self.cand_total_ns - self.cand_layers_ns

    @property
    def base_conversions_ns(self) -> int:
        """Time of all conversions of the baseline."""
        return sum(group.base_conversions_ns for group in self.groups)

    @property
    def cand_conversions_ns(self) -> int:
        """Time of all conversions of the candidate."""
        return sum(group.cand_conversions_ns for group in self.groups)

    @property
    def conversions_delta_ns(self) -> int:
        """Change of all conversions."""
        return self.cand_conversions_ns - self.base_conversions_ns

    @property
    def aligned_pct(self) -> float | None:
        """Share of both engines' layer time in groups that both have; ``None`` without times."""
        return self._share_pct([group for group in self.groups if group.side == "both"])

    @property
    def guessed_pct(self) -> float | None:
        """Share of both engines' layer time in groups that were matched by shape and order only."""
        return self._share_pct([group for group in self.groups if group.guessed])

    def _share_pct(self, groups: Sequence[LayerGroup]) -> float | None:
        whole = self.base_layers_ns + self.cand_layers_ns
        found = sum(_layers_ns(group.base) + _layers_ns(group.cand) for group in groups)
        return 100 * found / whole if whole else None

    def by_family(self) -> dict[str, tuple[int, int]]:
        """Return family → time in baseline and candidate, conversions as a family, the largest change first."""
        found: dict[str, list[int]] = {}
        for group in self.groups:
            for side, layers in enumerate((group.base, group.cand)):
                for layer in layers:
                    name = CONVERSIONS if layer.is_conversion else group.family
                    found.setdefault(name, [0, 0])[side] += layer.time_ns or 0
        order = sorted(found, key=lambda name: (-abs(found[name][1] - found[name][0]), name))
        return {name: (found[name][0], found[name][1]) for name in order}


def diff_layers(
    base: Sequence[LayerFacts],
    cand: Sequence[LayerFacts],
    *,
    base_total_ns: int | None = None,
    cand_total_ns: int | None = None,
) -> LayerDiff:
    """Return what each piece of work adds to the change from one engine to another.

    Args:
        base: Layers of the baseline.
        cand: Layers of the candidate.
        base_total_ns: Mean time of one inference of the baseline, measured without a profiler.
        cand_total_ns: The same of the candidate.
    """
    profiles = _layers_ns(base), _layers_ns(cand)
    base_freed, base_overhead_ns = without_profiler(base, base_total_ns)
    cand_freed, cand_overhead_ns = without_profiler(cand, cand_total_ns)
    # An engine that was not measured has a cost of 0, which agrees with no other.
    corrected = base_overhead_ns > 0 and agree(base_overhead_ns, cand_overhead_ns)
    if corrected:
        base, cand = base_freed, cand_freed
    groups = [_group(pair) for pair in align(base, cand)]
    order = sorted(
        groups,
        key=lambda item: (-abs(item.delta_ns), -abs(item.conversions_delta_ns), -item.cand_ns, item.label),
    )
    return LayerDiff(
        groups=tuple(order),
        base_layers_ns=_layers_ns(base),
        cand_layers_ns=_layers_ns(cand),
        base_total_ns=base_total_ns,
        cand_total_ns=cand_total_ns,
        base_untimed=sum(layer.time_ns is None for layer in base),
        cand_untimed=sum(layer.time_ns is None for layer in cand),
        base_profile_ns=profiles[0],
        cand_profile_ns=profiles[1],
        base_overhead_ns=base_overhead_ns,
        cand_overhead_ns=cand_overhead_ns,
        is_corrected=corrected,
    )


def _group(pair: Aligned) -> LayerGroup:
    lead = _lead(pair.cand) or _lead(pair.base) or (*pair.cand, *pair.base)[0]
    side: Side = "both" if pair.base and pair.cand else "base" if pair.base else "cand"
    return LayerGroup(
        label=lead.name, family=lead.family, side=side, base=pair.base, cand=pair.cand, guessed=pair.guessed
    )


def _lead(layers: Iterable[LayerFacts]) -> LayerFacts | None:
    working = [layer for layer in layers if not (layer.is_conversion or layer.is_constant)]
    return max(working, key=lambda layer: (layer.time_ns or 0, layer.name), default=None)


def _layers_ns(layers: Iterable[LayerFacts]) -> int:
    return sum(layer.time_ns or 0 for layer in layers)


def _work_ns(layers: Iterable[LayerFacts]) -> int:
    return sum(layer.time_ns or 0 for layer in layers if not layer.is_conversion)


def _conversions_ns(layers: Iterable[LayerFacts]) -> int:
    return sum(layer.time_ns or 0 for layer in layers if layer.is_conversion)
