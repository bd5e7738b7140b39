"""Shapes of the optimisation profile and of what is measured, and how trtexec spells them. Pure.

The profile's range is the same for every backend that builds with TensorRT.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from enginewatch_db.errors import BackendError
from enginewatch_harness.backends.option_values import Shapes

Declared = Mapping[str, tuple[int | str, ...]]
"""Input → dimensions as the model declares them; one that is open is a string."""


class ProfileOptions(Protocol):
    """The options of a backend that set the optimisation profile."""

    @property
    def min_shapes(self) -> Shapes:
        """Input → smallest dimensions."""

    @property
    def max_shapes(self) -> Shapes:
        """Input → largest dimensions."""

    @property
    def max_batch(self) -> int | None:
        """Largest batch."""

    @property
    def opt_batch(self) -> int | None:
        """Batch that the profile is tuned for."""


def shapes_spec(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Return shapes as trtexec spells them: ``input:8x3x224x224``; a name with a colon is put in single quotes."""
    return ",".join(f"{quoted(name)}:{'x'.join(str(dim) for dim in dims)}" for name, dims in sorted(shapes.items()))


def quoted(name: str) -> str:
    """Return an input's name as a specification spells it.

    Raises:
        BackendError: ``shape_outside_profile``: trtexec cannot spell it.
    """
    if "," in name or "'" in name:
        raise BackendError(
            f"trtexec cannot take the input name {name!r}: commas and quotes part its lists",
            code="shape_outside_profile",
            remedy="rename the input when the model is exported, or use the backend tensorrt",
        )
    return f"'{name}'" if ":" in name else name


def tuned_for(
    shapes: Mapping[str, tuple[int, ...]], options: ProfileOptions, declared: Declared | None = None
) -> Shapes:
    """Return the shapes that the optimisation profile is tuned for: the case's, or those of ``opt_batch``."""
    if options.opt_batch is None:
        return dict(shapes)
    return {
        name: (options.opt_batch, *dims[1:]) if dims and _open_batch(name, declared) else dims
        for name, dims in shapes.items()
    }


def _open_batch(name: str, declared: Declared | None) -> bool:
    return declared is None or not isinstance((declared.get(name) or ("?",))[0], int)


def profile_range(
    shapes: Mapping[str, tuple[int, ...]], options: ProfileOptions, declared: Declared | None = None
) -> tuple[Shapes, Shapes]:
    """Return the smallest and the largest shapes of the optimisation profile.

    Raises:
        BackendError: ``shape_outside_profile``: ``min_shapes`` or ``max_shapes`` name no dynamic input, or do not
            enclose the case's shapes.
    """
    low, high = dict(shapes), dict(shapes)
    for name, dims in shapes.items():
        if options.max_batch is not None and dims and _open_batch(name, declared):
            low[name] = (1, *dims[1:])
            # One engine for all batches has one range, whichever case builds it.
            batch = options.max_batch if options.opt_batch is not None else max(options.max_batch, dims[0])
            high[name] = (batch, *dims[1:])
    for key, given, target in (("min_shapes", options.min_shapes, low), ("max_shapes", options.max_shapes, high)):
        for name, dims in given.items():
            if name not in shapes:
                raise BackendError(
                    f"option {key} names {name!r}, which is no dynamic input of the model",
                    code="shape_outside_profile",
                    remedy=f"it has {', '.join(sorted(shapes)) or 'none'}",
                )
            target[name] = dims
    for name, dims in shapes.items():
        smallest, largest = low[name], high[name]
        if not len(smallest) == len(dims) == len(largest) or not all(
            a <= b <= c for a, b, c in zip(smallest, dims, largest, strict=False)
        ):
            raise BackendError(
                f"input {name!r}: the case's shape {dims} is not from {smallest} to {largest}",
                code="shape_outside_profile",
                remedy="correct min_shapes, max_shapes or max_batch in the plan",
            )
    return low, high


def profile_shapes(
    shapes: Mapping[str, tuple[int, ...]], options: ProfileOptions, declared: Declared | None
) -> list[str]:
    """Return the flags of the optimisation profile; none for a static model.

    Raises:
        BackendError: As ``profile_range``.
    """
    low, high = profile_range(shapes, options, declared)
    if not shapes:
        return []
    return [
        f"--minShapes={shapes_spec(low)}",
        f"--optShapes={shapes_spec(tuned_for(shapes, options, declared))}",
        f"--maxShapes={shapes_spec(high)}",
    ]


def inference_shapes(shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
    """Return the flag of the shapes that are measured; none for a static model."""
    return [f"--shapes={shapes_spec(shapes)}"] if shapes else []
