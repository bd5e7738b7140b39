"""Words of TensorRT's engine inspector for datatypes and memory formats, and what a tensor takes in memory. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

_DTYPES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), name)
    for pattern, name in (
        (r"\bB(?:F|Float)16\b", "bf16"),
        (r"\b(?:FP16|Half|Float16)\b", "fp16"),
        (r"\b(?:FP8|Float8|E4M3|E5M2)", "fp8"),
        (r"\b(?:FP4|Float4|E2M1)", "fp4"),
        (r"\bE8M0", "e8m0"),
        (r"\b(?:FP32|Float32|Float)\b", "fp32"),
        (r"\b(?:FP64|Float64|Double)\b", "fp64"),
        (r"\bINT8\b", "int8"),
        (r"\bINT4\b", "int4"),
        (r"\bINT32\b", "int32"),
        (r"\bINT64\b", "int64"),
        (r"\bUINT8\b", "uint8"),
        (r"\bBOOL\b", "bool"),
    )
)
"""Words of ``Format/Datatype``: ``Row major linear FP16 format`` in 8.6, ``Half`` and the like in 10."""

_BITS = {
    "fp64": 64,
    "fp32": 32,
    "int32": 32,
    "int64": 64,
    "fp16": 16,
    "bf16": 16,
    "fp8": 8,
    "e8m0": 8,
    "int8": 8,
    "uint8": 8,
    "bool": 8,
    "fp4": 4,
    "int4": 4,
}

_MODULUS = re.compile(r"channel\s*%\s*(\d{1,4})\s*==\s*0", re.IGNORECASE)
_WIDE = re.compile(r"\b(two|four|eight|sixteen|thirty-?two)[ -]wide channel vectori[sz]ed", re.IGNORECASE)
_WIDTHS = {"two": 2, "four": 4, "eight": 8, "sixteen": 16, "thirty-two": 32, "thirtytwo": 32}
_CHANNEL_FORMAT_RANK = 3
"""Channel formats need height and width beside the channels (TensorRT's TensorFormat)."""

MAX_INT64 = 2**63 - 1


def read_dtype(words: str) -> str | None:
    """Return the datatype that the words name, as enginewatch calls it; ``None`` where they name none."""
    return next((name for pattern, name in _DTYPES if pattern.search(words)), None)


def packed_bytes(count: int, dtype: str | None) -> int | None:
    """Return the bytes of ``count`` values; ``None`` for an unknown datatype."""
    bits = _BITS.get(dtype or "")
    return None if bits is None else -(-count * bits // 8)


def tensor_bytes(shape: Sequence[int] | None, words: str) -> int | None:
    """Return what a tensor takes in memory, padded channels included.

    ``None`` where its shape is unknown or dynamic, or its datatype unknown.

    Args:
        shape: Dimensions, outermost first.
        words: ``Format/Datatype`` of the inspector. ``Channel major FP16 format where channel % 8 == 0`` and
            ``Thirty-two wide channel vectorized row major Int8 format`` pad the channels to a multiple.
    """
    if shape is None or any(size < 0 for size in shape):
        return None
    sizes = list(shape)
    if len(sizes) >= _CHANNEL_FORMAT_RANK:
        # NCHW and NCDHW count channels second, an engine with an implicit batch first.
        place = 0 if len(sizes) == _CHANNEL_FORMAT_RANK else 1
        step = _channel_step(words)
        sizes[place] = -(-sizes[place] // step) * step
    return packed_bytes(math.prod(sizes), read_dtype(words))


def _channel_step(words: str) -> int:
    if match := _WIDE.search(words):
        return _WIDTHS[match[1].lower()]
    match = _MODULUS.search(words)
    return max(int(match[1]), 1) if match else 1
