"""ONNX operators that move, cut and pool, in torch's words. See ``torch_ops`` for what a handler may do."""

from __future__ import annotations

import math
from typing import Any

from enginewatch_harness.backends.torch_ops import Handler, Op


def _window(op: Op, kernel: tuple[int, ...]) -> tuple[list[int], list[int], list[int], list[int]]:
    """Return strides, dilations, and padding before and after, per spatial dimension."""
    n = len(kernel)
    strides = list(op.get("strides", [1] * n))
    dilations = list(op.get("dilations", [1] * n))
    auto = op.get("auto_pad", b"NOTSET")
    auto = auto.decode() if isinstance(auto, bytes) else auto
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        before, after = [], []
        for size, length, stride, dilation in zip(op.shape()[2:], kernel, strides, dilations, strict=True):
            total = max((math.ceil(size / stride) - 1) * stride + dilation * (length - 1) + 1 - size, 0)
            small, large = total // 2, total - total // 2
            before.append(small if auto == "SAME_UPPER" else large)
            after.append(large if auto == "SAME_UPPER" else small)
        return strides, dilations, before, after
    pads = list(op.get("pads", [0] * (2 * n))) if auto == "NOTSET" else [0] * (2 * n)
    return strides, dilations, pads[:n], pads[n:]


def _pad_unequal(op: Op, x: Any, before: list[int], after: list[int], value: float) -> tuple[Any, list[int]]:  # noqa: ANN401
    """Return ``x`` padded where its two sides differ, and the padding that is left for the operator."""
    if before == after:
        return x, before
    flat = [size for pair in reversed(list(zip(before, after, strict=True))) for size in pair]
    return op.torch.nn.functional.pad(x, flat, value=value), [0] * len(before)


def _conv(op: Op, x: Any, weight: Any, bias: Any = None) -> Any:  # noqa: ANN401
    spatial = op.shape(1)[2:]
    strides, dilations, before, after = _window(op, spatial)
    x, padding = _pad_unequal(op, x, before, after, 0.0)
    run = getattr(op.torch.nn.functional, f"conv{_dimensions(op, len(spatial))}d")
    return run(x, weight, bias, stride=strides, padding=padding, dilation=dilations, groups=op.get("group", 1))


def _conv_transpose(op: Op, x: Any, weight: Any, bias: Any = None) -> Any:  # noqa: ANN401
    spatial = op.shape(1)[2:]
    strides, dilations, before, after = _window(op, spatial)
    if before != after or op.get("output_shape") is not None:
        raise op.unsupported("with unequal padding")
    run = getattr(op.torch.nn.functional, f"conv_transpose{_dimensions(op, len(spatial))}d")
    extra = list(op.get("output_padding", [0] * len(spatial)))
    return run(x, weight, bias, strides, before, extra, op.get("group", 1), dilations)


def _dimensions(op: Op, n: int) -> int:
    if n not in (1, 2, 3):
        raise op.unsupported(f"in {n} dimensions")
    return n


def _max_pool(op: Op, x: Any) -> Any:  # noqa: ANN401
    kernel = tuple(op.get("kernel_shape"))
    if op.outputs > 1:
        raise op.unsupported("with indices as output")
    strides, dilations, before, after = _window(op, kernel)
    large = any(2 * size > length for size, length in zip(before, kernel, strict=True))
    if large or before != after:
        flat = [size for pair in reversed(list(zip(before, after, strict=True))) for size in pair]
        x, before = op.torch.nn.functional.pad(x, flat, value=-math.inf), [0] * len(kernel)
    run = getattr(op.torch.nn.functional, f"max_pool{_dimensions(op, len(kernel))}d")
    return run(x, kernel, strides, before, dilations, ceil_mode=bool(op.get("ceil_mode", 0)))


def _average_pool(op: Op, x: Any) -> Any:  # noqa: ANN401
    kernel = tuple(op.get("kernel_shape"))
    strides, dilations, before, after = _window(op, kernel)
    if before != after or any(size != 1 for size in dilations):
        raise op.unsupported("with unequal padding or dilation")
    run = getattr(op.torch.nn.functional, f"avg_pool{_dimensions(op, len(kernel))}d")
    counted = bool(op.get("count_include_pad", 0))
    return run(x, kernel, strides, before, ceil_mode=bool(op.get("ceil_mode", 0)), count_include_pad=counted)


def _global(name: str) -> Handler:
    return lambda op, x: getattr(op.torch, name)(x, dim=list(range(2, op.rank())), keepdim=True)


def _reshape(op: Op, x: Any, *_: Any) -> Any:  # noqa: ANN401
    wanted = [int(size) for size in op.values(1)]
    if not op.get("allowzero", 0):
        wanted = [op.shape()[index] if size == 0 else size for index, size in enumerate(wanted)]
    return op.torch.reshape(x, wanted)


def _flatten(op: Op, x: Any) -> Any:  # noqa: ANN401
    axis = op.get("axis", 1)
    axis = axis + op.rank() if axis < 0 else axis
    return op.torch.reshape(x, [math.prod(op.shape()[:axis]), math.prod(op.shape()[axis:])])


def _transpose(op: Op, x: Any) -> Any:  # noqa: ANN401
    return op.torch.permute(x, list(op.get("perm", range(op.rank() - 1, -1, -1))))


def _squeeze(op: Op, x: Any, *_: Any) -> Any:  # noqa: ANN401
    axes = op.axes(1)
    chosen = {axis % op.rank() for axis in axes} if axes else {i for i, size in enumerate(op.shape()) if size == 1}
    return op.torch.reshape(x, [size for index, size in enumerate(op.shape()) if index not in chosen])


def _unsqueeze(op: Op, x: Any, *_: Any) -> Any:  # noqa: ANN401
    axes = op.axes(1) or []
    rank = op.rank() + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        x = op.torch.unsqueeze(x, axis)
    return x


def _gather(op: Op, x: Any, indices: Any) -> Any:  # noqa: ANN401
    axis = op.get("axis", 0) % op.rank()
    size, shape = op.shape()[axis], op.shape()
    if op.constants[1] is not None:
        wanted = [int(index) % size for index in op.values(1)]
        if not op.shape(1):
            return op.torch.select(x, axis, wanted[0])
        taken = op.torch.index_select(x, axis, op.indices(wanted))
        return op.torch.reshape(taken, [*shape[:axis], *op.shape(1), *shape[axis + 1 :]])
    if axis == 0 and op.rank() == 2:
        return op.torch.nn.functional.embedding(indices.long(), x)
    taken = op.torch.index_select(x, axis, op.torch.reshape(indices, [-1]).long())
    return op.torch.reshape(taken, [*shape[:axis], *op.shape(1), *shape[axis + 1 :]])


def _concat(op: Op, *parts: Any) -> Any:  # noqa: ANN401
    return op.torch.cat(parts, dim=op.get("axis"))


def _split(op: Op, x: Any, *_: Any) -> Any:  # noqa: ANN401
    axis = op.get("axis", 0)
    sizes = op.get("split") or ([int(size) for size in op.values(1)] if op.given(1) else None)
    return op.torch.split(x, list(sizes) if sizes else math.ceil(op.shape()[axis] / op.outputs), dim=axis)


def _slice(op: Op, x: Any, *_: Any) -> Any:  # noqa: ANN401
    if op.given(1):
        starts, ends = op.values(1), op.values(2)
        axes = op.values(3) if op.given(3) else list(range(len(starts)))
        steps = op.values(4) if op.given(4) else [1] * len(starts)
    else:
        starts, ends = list(op.get("starts")), list(op.get("ends"))
        axes, steps = list(op.get("axes", range(len(starts)))), [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        where = axis % op.rank()
        size = op.shape()[where]
        first, last, stride = slice(start, None if step < 0 and end < -size else end, step).indices(size)
        if stride < 0:
            x = op.torch.index_select(x, where, op.indices(list(range(first, last, stride))))
        else:
            x = x[(*[slice(None)] * where, slice(first, last, stride))]
    return x


def _expand(op: Op, x: Any, *_: Any) -> Any:  # noqa: ANN401
    return op.torch.broadcast_to(x, _joined(op.shape(), [int(size) for size in op.values(1)]))


def _joined(shape: tuple[int, ...], wanted: list[int]) -> list[int]:
    rank = max(len(shape), len(wanted))
    left, right = [1] * (rank - len(shape)) + list(shape), [1] * (rank - len(wanted)) + wanted
    return [max(a, b) if min(a, b) else 0 for a, b in zip(left, right, strict=True)]


def _pad(op: Op, x: Any, *_: Any) -> Any:  # noqa: ANN401
    mode = op.get("mode", b"constant")
    mode = mode.decode() if isinstance(mode, bytes) else mode
    pads = op.get("pads") or [int(size) for size in op.values(1)]
    if op.given(3):
        raise op.unsupported("with axes")
    n = len(pads) // 2
    flat = [size for pair in reversed(list(zip(pads[:n], pads[n:], strict=True))) for size in pair]
    while len(flat) >= 2 and flat[-1] == 0 and flat[-2] == 0:
        flat = flat[:-2]
    if not flat:
        return x
    if mode != "constant":
        return op.torch.nn.functional.pad(x, flat, mode={"edge": "replicate"}.get(mode, mode))
    value = float(op.values(2)[0]) if op.given(2) else float(op.get("value", 0.0))
    return op.torch.nn.functional.pad(x, flat, value=value)


def _tile(op: Op, x: Any, *_: Any) -> Any:  # noqa: ANN401
    return op.torch.tile(x, [int(count) for count in op.values(1)])


def _resize(op: Op, x: Any, *_: Any) -> Any:  # noqa: ANN401
    mode = op.get("mode", b"nearest")
    mode = mode.decode() if isinstance(mode, bytes) else mode
    how = op.get("coordinate_transformation_mode", b"half_pixel")
    how = how.decode() if isinstance(how, bytes) else how
    if op.given(3):
        size = [int(length) for length in op.values(3)][2:]
    elif op.given(2) and op.values(2):
        size = [int(length * scale) for length, scale in zip(op.shape(), op.values(2), strict=True)][2:]
    else:
        raise op.unsupported("without sizes or scales")
    if mode == "nearest" and all(new % old == 0 for new, old in zip(size, op.shape()[2:], strict=True)):
        return op.torch.nn.functional.interpolate(x, size=size, mode="nearest")
    if mode == "linear" and op.rank() == 4 and how in ("half_pixel", "pytorch_half_pixel", "align_corners"):
        aligned = how == "align_corners"
        return op.torch.nn.functional.interpolate(x, size=size, mode="bilinear", align_corners=aligned)
    raise op.unsupported(f"with mode {mode} and {how}")


def _depth_to_space(op: Op, x: Any) -> Any:  # noqa: ANN401
    if op.get("mode", b"DCR") not in (b"CRD", "CRD"):
        raise op.unsupported("with mode DCR")
    return op.torch.nn.functional.pixel_shuffle(x, op.get("blocksize"))


SHAPE_OPERATORS: dict[str, Handler] = {
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "MaxPool": _max_pool,
    "AveragePool": _average_pool,
    "GlobalAveragePool": _global("mean"),
    "GlobalMaxPool": _global("amax"),
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Transpose": _transpose,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Gather": _gather,
    "Concat": _concat,
    "Split": _split,
    "Slice": _slice,
    "Expand": _expand,
    "Pad": _pad,
    "Tile": _tile,
    "Resize": _resize,
    "DepthToSpace": _depth_to_space,
}
