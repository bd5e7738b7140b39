"""Inputs for one inference by trtexec: raw values, little-endian, in the type of the engine's input."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from enginewatch_db.errors import BackendError

if TYPE_CHECKING:
    from numpy.typing import NDArray


def raw_input(values: NDArray[np.generic], dtype: str | None, *, narrow: bool) -> bytes:
    """Return the bytes that ``--loadInputs`` reads.

    Args:
        values: The input.
        dtype: Name of the engine's type for it; ``None``: the array's own.
        narrow: TensorRT before 10 takes 64-bit integers as 32-bit ones; it would read half of a longer file, and say
            nothing.

    Raises:
        BackendError: ``shape_outside_profile``: a value does not fit into 32 bits.
    """
    wanted = _dtype(dtype) if dtype is not None else values.dtype
    if narrow and wanted == np.dtype(np.int64):
        low, high = np.iinfo(np.int32).min, np.iinfo(np.int32).max
        whole: NDArray[Any] = np.asarray(values)
        if whole.size and not (low <= int(whole.min()) and int(whole.max()) <= high):
            raise BackendError(
                "an input has a value of more than 32 bits, which TensorRT before 10 cannot take",
                code="shape_outside_profile",
                remedy="use TensorRT 10 or later, or smaller values",
            )
        wanted = np.dtype(np.int32)
    data = np.ascontiguousarray(np.asarray(values).astype(wanted))
    return data.byteswap().tobytes() if sys.byteorder == "big" else data.tobytes()


def _dtype(name: str) -> np.dtype[Any]:
    try:
        return np.dtype(name)
    except TypeError:
        import ml_dtypes

        found: np.dtype[Any] = np.dtype(getattr(ml_dtypes, name))
        return found
