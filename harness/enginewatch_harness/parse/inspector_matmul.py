"""Operations of a matrix product whose transpositions the inspector does not tell. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from enginewatch_harness.parse.inspector_tensors import Tensor

_MATRIX = 2


def matmul_flops(inputs: Sequence[Tensor], result: Tensor, weights: int | None = None) -> int | None:
    """Return 2·M·N·K over all batches; ``None`` where the inner dimension cannot be told from the shapes.

    Args:
        inputs: What the layer reads; beside the two matrices there may be a bias and other operands.
        result: Its first output, whose last two dimensions are M and N.
        weights: Number of weights that the layer itself holds, where one matrix is constant.
    """
    matrices = [tensor.shape for tensor in inputs if tensor.shape and len(tensor.shape) >= _MATRIX]
    if not result.shape or len(result.shape) < _MATRIX or not result.elements:
        return None
    columns = result.shape[-1]
    inner: int | None = None
    for place, left in enumerate(matrices):
        for right in matrices[place + 1 :]:
            inner = inner or _inner(left, right, result.shape) or _inner(right, left, result.shape)
    if inner is None and len(matrices) == 1 and weights and columns > 0 and weights % columns == 0:
        size = weights // columns
        inner = size if size in matrices[0] else None
    return 2 * result.elements * inner if inner else None


def _inner(left: Sequence[int], right: Sequence[int], result: Sequence[int]) -> int | None:
    """Return the dimension that both matrices have beside the one that the result has."""
    rows, columns = result[-2:]
    ours, theirs = Counter(left[-2:]) - Counter((rows,)), Counter(right[-2:]) - Counter((columns,))
    if ours.total() == theirs.total() == 1 and ours == theirs:
        return next(iter(ours))
    # Rows may be spread over several dimensions: 8x128x768 times 768x3072 is 1024x3072.
    inner = left[-1]
    fits = theirs.total() == 1 and inner in theirs and math.prod(left) * columns == math.prod(result) * inner
    return inner if fits else None
