"""Find the inferences in a recording: the end of it, where the same kernels come again and again. Pure.

A profiler records everything from the start of the process: uploading weights, allocating, the first inference that
captures a CUDA graph. None of that belongs to an inference, and no clock is shared with the measuring tool. But the
kernels of an inference are known by their counts: all are multiples of the number of inferences.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from enginewatch_harness.nsys.events import GRAPH, KERNEL, GpuWork

EXTRA_INFERENCES = 20
"""Inferences before the counted ones that are thought possible: a first one, one to capture, a short warm-up."""

EVEN_SHARE = 0.9
"""Share of all launches that must come in multiples of one number, for that number to be the inferences'."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The part of a recording that is looked at.

    Attributes:
        start_ns: Start of its first work.
        end_ns: End of its last work.
        inferences: Inferences in it; ``None`` where they could not be told apart.
        kernels_per_inference: Launches of one inference; ``None`` where unknown.
        why: Why these are unknown.
    """

    start_ns: int
    end_ns: int
    inferences: int | None = None
    kernels_per_inference: int | None = None
    why: str | None = None


def find_window(work: Sequence[GpuWork], inferences: int | None) -> Window | None:
    """Return the last ``inferences`` of a recording, or all of its GPU work where they cannot be told apart.

    Args:
        work: What the GPU did, in order of start.
        inferences: How many were done at least, one after the other; ``None``: unknown.

    Returns:
        ``None`` where no kernel and no graph ran.
    """
    graphs = [item for item in work if item.kind == GRAPH]
    kernels = [item for item in work if item.kind == KERNEL]
    if graphs:
        # Kernels inside the graphs have no rows; those that have one prepared something.
        chosen = graphs if inferences is None else graphs[-inferences:]
        counted = inferences if inferences is not None and len(graphs) >= inferences else None
        return _around(chosen, counted, None, "CUDA graphs were traced as a whole, so their kernels are unknown")
    if not kernels:
        return None
    if inferences is None:
        return _around(kernels, None, None, "the number of inferences is unknown")
    times = repetitions(Counter(map(_identity, kernels)), inferences)
    if times is None:
        return _around(kernels, None, None, f"the kernels do not come in equal numbers for {inferences} inferences")
    counts = Counter(map(_identity, kernels))
    even = {key for key, count in counts.items() if count % times == 0}
    per_inference = sum(counts[key] // times for key in even)
    ours = [item for item in kernels if _identity(item) in even]
    return _around(ours[-inferences * per_inference :], inferences, per_inference, None)


def _identity(item: GpuWork) -> tuple[str, str | None, str | None]:
    return item.name, item.grid, item.block


def _around(chosen: Sequence[GpuWork], inferences: int | None, kernels: int | None, why: str | None) -> Window:
    return Window(
        start_ns=min(item.start_ns for item in chosen),
        end_ns=max(item.end_ns for item in chosen),
        inferences=inferences,
        kernels_per_inference=kernels,
        why=why,
    )


def repetitions(counts: Counter[tuple[str, str | None, str | None]], at_least: int) -> int | None:
    """Return how often an inference ran, from how often each kernel did.

    It is the number from ``at_least`` on that divides the counts of the most launches, the smallest of several.

    Args:
        counts: Kernel → launches.
        at_least: Inferences that were asked for.

    Returns:
        ``None`` where no number divides the counts of nine launches in ten.
    """
    total = sum(counts.values())
    best, best_share = None, 0.0
    for times in range(max(1, at_least), at_least + EXTRA_INFERENCES + 1):
        share = sum(count for count in counts.values() if count % times == 0) / total if total else 0.0
        if share > best_share:
            best, best_share = times, share
    return best if best_share >= EVEN_SHARE else None
