"""Which layers of two engines do the same work, although they were fused differently. Pure.

Layers are brought together by what they were made from (nodes of the source model), then by name, then by the tensors
of the model that they write. Conversions belong to the layer that they serve.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from enginewatch_ci.layers.facts import LayerFacts

_SERVES = re.compile(r"^Reformatting CopyNode for (?:Input|Output) Tensor \d+ to (?P<layer>.+)$", re.DOTALL)
_INTERNAL = re.compile(r"^\(Unnamed Layer\*|^Reformatted (?:In|Out)put Tensor \d+ to |^_+my[el]|^_myl|_myl\d+_\d+$")
"""Names of tensors that the builder made up: another build may give the same name to something else."""

_WEAK_NODE = re.compile(
    r"(?:Quant|Dequant)izeLinear|(?:^|[/_.])Cast(?:_\d+)?$|InsertedPrecisionFreeCast|_cast\d*$|^[A-Z][A-Za-z]*_\d+$"
)
"""Nodes that another precision has or lacks, and those that an exporter only counted (``Conv_12``).

Two layers that share nothing else do not need to do the same work: a quantised graph is counted anew.
"""

_BUILD_NUMBER = re.compile(r"_myl\d+_\d+$")

Base, Candidate = 0, 1
Item = tuple[int, LayerFacts]
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, slots=True, kw_only=True)
class Aligned:
    """Layers of two engines that do the same work; one side is empty where the other has no counterpart.

    Attributes:
        base: Layers of the baseline, in order of execution.
        cand: Layers of the candidate.
        guessed: Whether no name links the two sides, only their operations, shape and order.
    """

    base: tuple[LayerFacts, ...]
    cand: tuple[LayerFacts, ...]
    guessed: bool = False


def align(base: Sequence[LayerFacts], cand: Sequence[LayerFacts]) -> tuple[Aligned, ...]:
    """Partition the layers of two engines: each layer is in exactly one group, in the order of the baseline.

    Layers with the same set of source nodes are one group; the rest is joined where source nodes are shared, as many
    to many as the fusions need; what has none of it is matched by name, then by the tensors it writes, last by the
    operations that it does, where both engines have as many layers with the same: exporters number nodes anew when a
    graph is quantised.
    """
    ordered = [sorted(layers, key=lambda layer: layer.index) for layers in (base, cand)]
    served = {side: _served(layers) for side, layers in enumerate(ordered)}
    items: list[Item] = [(side, layer) for side, layers in enumerate(ordered) for layer in layers]
    joined = _Groups(items)
    free = [item for item in items if item[1].index not in served[item[0]]]
    _join_by_origin(joined, [item for item in free if _nodes(item[1])])
    _join_lone(joined, free, lambda layer: [layer.name])
    _join_lone(joined, free, lambda layer: [_BUILD_NUMBER.sub("", layer.name)])
    _join_lone(joined, free, lambda layer: [name for name in layer.outputs if not _INTERNAL.search(name)])
    guessed = _join_by_work(joined, free)
    for side, owners in served.items():
        for index, owner in owners.items():
            joined.join((side, index), (side, owner))
    return tuple(sorted((_aligned(group, guessed) for group in joined.groups()), key=_order))


def _aligned(items: Sequence[Item], guessed: set[tuple[int, int]]) -> Aligned:
    return Aligned(
        base=tuple(layer for side, layer in items if side == Base),
        cand=tuple(layer for side, layer in items if side == Candidate),
        guessed=any(_key(item) in guessed for item in items),
    )


def _order(group: Aligned) -> tuple[float, float]:
    first = min((layer.index for layer in group.base), default=float("inf"))
    return first, min((layer.index for layer in group.cand), default=float("inf"))


def _nodes(layer: LayerFacts) -> frozenset[str]:
    """Return the source nodes that say what a layer does; weak ones where it has nothing else."""
    every = frozenset(layer.origin)
    return frozenset(name for name in every if not _WEAK_NODE.search(name)) or every


def _join_by_origin(joined: _Groups, items: Sequence[Item]) -> None:
    """Join equal sets of nodes first, so that a node which many layers mention does not draw them all together."""
    sets: dict[frozenset[str], set[int]] = defaultdict(set)
    for side, layer in items:
        sets[_nodes(layer)].add(side)
    exact = {nodes for nodes, sides in sets.items() if len(sides) == len((Base, Candidate))}
    first: dict[frozenset[str], Item] = {}
    holders: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        nodes = _nodes(item[1])
        if nodes in exact:
            joined.join(_key(first.setdefault(nodes, item)), _key(item))
        else:
            for node in nodes:
                holders[node].append(item)
    for sharing in holders.values():
        for item in sharing[1:]:
            joined.join(_key(sharing[0]), _key(item))
    _join_leftovers(joined, [item for item in items if _nodes(item[1]) not in exact], first)


def _join_leftovers(joined: _Groups, items: Sequence[Item], exact: dict[frozenset[str], Item]) -> None:
    """Join what still stands on one side to the exact group that it shares most nodes with."""
    by_node: dict[str, list[frozenset[str]]] = defaultdict(list)
    for nodes in exact:
        for node in nodes:
            by_node[node].append(nodes)
    for item in items:
        if len(joined.sides(_key(item))) > 1:
            continue
        mine = _nodes(item[1])
        near = {nodes for node in mine for nodes in by_node.get(node, ())}
        if near:
            best = min(near, key=lambda nodes: (-len(nodes & mine), len(nodes), sorted(nodes)))
            joined.join(_key(exact[best]), _key(item))


def _join_lone(joined: _Groups, items: Sequence[Item], keys: Callable[[LayerFacts], list[str]]) -> None:
    """Join groups of one side that share a key, first with first and second with second."""
    lone: dict[str, tuple[list[Item], list[Item]]] = defaultdict(lambda: ([], []))
    for side, layer in items:
        if len(joined.sides((side, layer.index))) == 1:
            for key in keys(layer):
                lone[key][side].append((side, layer))
    for _, (ours, theirs) in sorted(lone.items()):
        for mine, other in zip(ours, theirs, strict=False):
            if len(joined.sides(_key(mine))) == len(joined.sides(_key(other))) == 1:
                joined.join(_key(mine), _key(other))


def _join_by_work(joined: _Groups, items: Sequence[Item]) -> set[tuple[int, int]]:
    """Join what no name links by family, operations and output shape, in order; return the layers joined so."""
    lone: dict[tuple[str, int, str | None], tuple[list[Item], list[Item]]] = defaultdict(lambda: ([], []))
    for side, layer in items:
        if layer.flops and len(joined.sides((side, layer.index))) == 1:
            lone[layer.family, layer.flops, layer.output_shapes][side].append((side, layer))
    guessed: set[tuple[int, int]] = set()
    for ours, theirs in lone.values():
        if len(ours) != len(theirs):
            continue
        for mine, other in zip(ours, theirs, strict=True):
            if len(joined.sides(_key(mine))) == len(joined.sides(_key(other))) == 1:
                joined.join(_key(mine), _key(other))
                guessed |= {_key(mine), _key(other)}
    return guessed


def _served(layers: Sequence[LayerFacts]) -> dict[int, int]:
    """Return, for each conversion, the layer that it converts for: its reader, else its writer, through chains.

    Layers that hold constants belong to their reader likewise.
    """
    places = {layer.name: layer.index for layer in reversed(layers)}
    readers: dict[str, list[int]] = defaultdict(list)
    writers: dict[str, list[int]] = defaultdict(list)
    for layer in layers:
        for name in layer.inputs:
            readers[name].append(layer.index)
        for name in layer.outputs:
            writers[name].append(layer.index)
    next_to: dict[int, list[int]] = {}
    for layer in layers:
        if layer.is_conversion or layer.is_constant:
            named = _SERVES.match(layer.name)
            near = [places[named["layer"]]] if named and named["layer"] in places else []
            near += [index for name in layer.outputs for index in readers[name]]
            near += [index for name in layer.inputs for index in writers[name]]
            next_to[layer.index] = [index for index in near if index != layer.index]
    owners = {index: _owner(index, next_to) for index in next_to}
    return {index: owner for index, owner in owners.items() if owner is not None}


def _owner(start: int, next_to: dict[int, list[int]]) -> int | None:
    """Return the nearest layer that computes, over conversions only; those read further on come first."""
    seen, wave = {start}, [start]
    while wave:
        following: list[int] = []
        for index in wave:
            for other in next_to[index]:
                if other not in next_to:
                    return other
                if other not in seen:
                    seen.add(other)
                    following.append(other)
        wave = following
    return None


def _key(item: Item) -> tuple[int, int]:
    return item[0], item[1].index


class _Groups:
    """Disjoint sets of layers (union-find with path halving)."""

    def __init__(self, items: Iterable[Item]) -> None:
        self._items = {_key(item): item for item in items}
        self._parents = {key: key for key in self._items}
        self._sides = {key: {key[0]} for key in self._items}

    def _root(self, key: tuple[int, int]) -> tuple[int, int]:
        while self._parents[key] != key:
            self._parents[key] = self._parents[self._parents[key]]
            key = self._parents[key]
        return key

    def join(self, one: tuple[int, int], other: tuple[int, int]) -> None:
        """Make one set of two."""
        low, high = sorted((self._root(one), self._root(other)))
        if low != high:
            self._parents[high] = low
            self._sides[low] |= self._sides.pop(high)

    def sides(self, key: tuple[int, int]) -> set[int]:
        """Return the engines that the set of a layer has layers of."""
        return self._sides[self._root(key)]

    def groups(self) -> Iterable[list[Item]]:
        """Return the sets, each in order of execution."""
        found: dict[tuple[int, int], list[Item]] = defaultdict(list)
        for key in sorted(self._items):
            found[self._root(key)].append(self._items[key])
        return found.values()
