"""Weights in blocks that share a scale: INT4, and FP4 as NVFP4 has it. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from enginewatch_harness.graph_precision.fp8 import E4M3_MAX

INT4_MAX = 7.0
"""Symmetric: -8 stays unused, as the largest magnitude maps to 7."""

E2M1_MAX = 6.0
"""Largest E2M1 value (OCP Microscaling Formats MX v1.0, section 5.3.3)."""

NVFP4_BLOCK = 16
"""Weights that share a scale in NVFP4, by its definition (TensorRT, "Working with quantized types")."""

Weight = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Int4Blocks:
    """INT4 weights: ``values · scale``, one fp32 scale for each block along the axis."""

    values: NDArray[np.generic]
    scales: Weight


@dataclass(frozen=True, slots=True, kw_only=True)
class Fp4Blocks:
    """NVFP4 weights: ``values · (scale · tensor_scale)``, one E4M3 scale for each block, one fp32 scale for all."""

    values: NDArray[np.generic]
    scales: NDArray[np.generic]
    tensor_scale: np.float32


def quantize_int4(weight: Weight, *, axis: int, block_size: int) -> Int4Blocks:
    """Round to nearest, with the largest magnitude of each block at 7.

    Args:
        weight: At least one block along ``axis``, and whole blocks only.
        axis: The dimension that a matrix product sums over.
        block_size: Weights in a block.
    """
    scales = np.where((amax := _amax(weight, axis, block_size)) > 0, amax / INT4_MAX, 1).astype(np.float32)
    values = np.clip(np.rint(weight / np.repeat(scales, block_size, axis)), -INT4_MAX, INT4_MAX)
    return Int4Blocks(values=values.astype(ml_dtypes.int4), scales=scales)


def quantize_fp4(weight: Weight, *, axis: int) -> Fp4Blocks:
    """Round to nearest even, with the largest magnitude of each block at about 6 and the largest scale at 448.

    Args:
        weight: Whole blocks of 16 along ``axis``.
        axis: The dimension that a matrix product sums over.
    """
    wanted = _amax(weight, axis, NVFP4_BLOCK) / E2M1_MAX
    tensor_scale = np.float32(wanted.max() / E4M3_MAX) if wanted.max() > 0 else np.float32(1)
    # A block of zeros, or one so small that its scale rounds to 0, is kept as zeros.
    scales = (wanted / tensor_scale).astype(ml_dtypes.float8_e4m3fn)
    steps = np.repeat(scales.astype(np.float32) * tensor_scale, NVFP4_BLOCK, axis)
    ratio = np.divide(weight, steps, out=np.zeros_like(weight), where=steps > 0)
    values = np.clip(ratio, -E2M1_MAX, E2M1_MAX).astype(ml_dtypes.float4_e2m1fn)
    return Fp4Blocks(values=values, scales=scales, tensor_scale=tensor_scale)


def _amax(weight: Weight, axis: int, block_size: int) -> Weight:
    """Return the largest magnitude of each block: ``weight``'s shape with ``axis`` divided by the block size."""
    axis %= weight.ndim
    shape = (*weight.shape[:axis], weight.shape[axis] // block_size, block_size, *weight.shape[axis + 1 :])
    largest: Weight = np.abs(weight.reshape(shape)).max(axis + 1)
    return largest
