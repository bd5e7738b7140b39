"""Small ONNX models with random weights, so that a plan runs without a download (``generate = "convnet"``).

Bytes depend on kind and seed alone: the weights come from NumPy's legacy ``RandomState``, whose stream is frozen
(NEP 19), and no version or time is written into the file. One fp32 inference at batch 1 of the full-sized models
costs 3 to 10 ms on one core of a server CPU.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from enginewatch_db.errors import PlanError
from enginewatch_harness.models_convnet import ConvnetConfig, build_convnet
from enginewatch_harness.models_transformer import TransformerConfig, build_transformer

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True, slots=True, kw_only=True)
class Generator:
    """One kind of generated model.

    Attributes:
        build: Makes the model from a seed.
        inputs: Input name → dimensions without the batch, which comes first and is dynamic.
        description: One line for ``enginewatch init`` and the documentation.
    """

    build: Callable[[int], onnx.ModelProto]
    inputs: dict[str, tuple[int, ...]]
    description: str


def _convnet(config: ConvnetConfig, description: str) -> Generator:
    return Generator(build=partial(build_convnet, config), inputs=config.inputs(), description=description)


def _transformer(config: TransformerConfig, description: str) -> Generator:
    return Generator(build=partial(build_transformer, config), inputs=config.inputs(), description=description)


GENERATORS: dict[str, Generator] = {
    "convnet": _convnet(ConvnetConfig(), "Residual convolution network, batch norm folded by the backend."),
    "convnet_folded": _convnet(ConvnetConfig(batch_norm=False), "The same network with batch norm already folded."),
    "convnet_tiny": _convnet(
        ConvnetConfig(image=32, widths=(8, 16), blocks=1, classes=10), "Residual network of 20 KB, for tests."
    ),
    "transformer": _transformer(TransformerConfig(), "Transformer encoder over float hidden states."),
    "transformer_ids": _transformer(TransformerConfig(vocabulary=2048), "The same encoder over token ids."),
    "transformer_tiny": _transformer(
        TransformerConfig(layers=1, hidden=32, heads=2, feed_forward=64, sequence=8, classes=10),
        "Transformer encoder of 40 KB, for tests.",
    ),
}
"""Kinds that ``write_model`` and ``generate`` in a plan know."""


def find_generator(kind: str) -> Generator:
    """Return the generator of ``kind``.

    Raises:
        PlanError: No such kind; names the nearest known one.
    """
    try:
        return GENERATORS[kind]
    except KeyError:
        near = difflib.get_close_matches(kind, GENERATORS, n=1, cutoff=0.0)
        raise PlanError(
            f"unknown model generator {kind!r}; known: {', '.join(sorted(GENERATORS))}",
            remedy=f'did you mean generate = "{near[0]}"?',
        ) from None


def input_shapes(kind: str, batch: int = 1) -> dict[str, tuple[int, ...]]:
    """Return the input shapes of a generated model with ``batch`` in front.

    Raises:
        PlanError: No such kind.
    """
    return {name: (batch, *dims) for name, dims in find_generator(kind).inputs.items()}


def write_model(kind: str, path: Path, *, seed: int = 0) -> Path:
    """Write a generated model: all of it under ``path``, or nothing.

    Args:
        kind: A key of ``GENERATORS``.
        path: File to write; its folder is made.
        seed: Seed of the weights, 0 to 2**32 - 1.

    Raises:
        PlanError: No such kind.
        OSError: The file cannot be written.
    """
    content = find_generator(kind).build(seed).SerializeToString(deterministic=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path
