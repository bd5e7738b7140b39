"""A pre-norm transformer encoder (Vaswani et al. 2017, arXiv:1706.03762; Xiong et al. 2020, arXiv:2002.04745)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto

from enginewatch_harness.models_graph import GraphBuilder

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformerConfig:
    """Size of the encoder.

    Attributes:
        layers: Encoder layers.
        hidden: Width of the hidden states.
        heads: Attention heads; divides ``hidden``.
        feed_forward: Width of the feed-forward layer.
        sequence: Tokens per sequence: fixed.
        classes: Length of the output.
        vocabulary: Size of the embedding table for token ids; ``None``: the input is hidden states.
    """

    layers: int = 4
    hidden: int = 256
    heads: int = 4
    feed_forward: int = 1024
    sequence: int = 64
    classes: int = 256
    vocabulary: int | None = None

    def inputs(self) -> dict[str, tuple[int, ...]]:
        """Return input name → dimensions without the batch."""
        if self.vocabulary is None:
            return {"hidden_states": (self.sequence, self.hidden)}
        return {"input_ids": (self.sequence,)}


def build_transformer(config: TransformerConfig, seed: int) -> onnx.ModelProto:
    """Build the encoder: embedding where asked for, layers, mean over the sequence, one fully connected layer.

    Args:
        config: Its size.
        seed: Seed of the weights.
    """
    graph = GraphBuilder("transformer", seed)
    head_width = config.hidden // config.heads
    graph.constant("shape_split", np.array([0, config.sequence, config.heads, head_width], np.int64))
    graph.constant("shape_merge", np.array([0, config.sequence, config.hidden], np.int64))
    graph.constant("attention_scale", np.array(1 / math.sqrt(head_width), np.float32))
    for label, value in (("half", 0.5), ("one", 1.0), ("sqrt_two", math.sqrt(2))):
        graph.constant(label, np.array(value, np.float32))
    x = _embed(graph, config)
    for layer in range(config.layers):
        label = f"layer{layer}"
        attended = _attend(graph, config, _normalise(graph, config, x, f"{label}_norm1"), label)
        x = graph.add("Add", x, attended, name=f"{label}_add1")
        fed = _feed_forward(graph, config, _normalise(graph, config, x, f"{label}_norm2"), label)
        x = graph.add("Add", x, fed, name=f"{label}_add2")
    x = _normalise(graph, config, x, "final_norm")
    x = graph.add("ReduceMean", x, name="pool", axes=[1], keepdims=0)
    x = _linear(graph, x, "head", config.hidden, config.classes)
    kind = TensorProto.FLOAT if config.vocabulary is None else TensorProto.INT64
    inputs = {name: (kind, dims) for name, dims in config.inputs().items()}
    return graph.finish(inputs, x, "logits", (config.classes,))


def _embed(graph: GraphBuilder, config: TransformerConfig) -> str:
    positions = graph.normal("position_table", (config.sequence, config.hidden), scale=0.1)
    if config.vocabulary is None:
        return graph.add("Add", "hidden_states", positions, name="embed")
    table = graph.normal("token_table", (config.vocabulary, config.hidden), scale=1.0)
    return graph.add("Add", graph.add("Gather", table, "input_ids", name="tokens"), positions, name="embed")


def _normalise(graph: GraphBuilder, config: TransformerConfig, x: str, label: str) -> str:
    scale = graph.uniform(f"{label}_scale", (config.hidden,), low=0.9, high=1.1)
    bias = graph.normal(f"{label}_bias", (config.hidden,), scale=0.05)
    return graph.add("LayerNormalization", x, scale, bias, name=label, axis=-1, epsilon=1e-5)


def _linear(graph: GraphBuilder, x: str, label: str, width_in: int, width_out: int) -> str:
    weight = graph.normal(f"{label}_weight", (width_in, width_out), scale=1 / math.sqrt(width_in))
    bias = graph.normal(f"{label}_bias", (width_out,), scale=0.02)
    return graph.add("Add", graph.add("MatMul", x, weight, name=label), bias, name=f"{label}_add")


def _attend(graph: GraphBuilder, config: TransformerConfig, x: str, label: str) -> str:
    def project(which: str, order: list[int]) -> str:
        y = _linear(graph, x, f"{label}_{which}", config.hidden, config.hidden)
        y = graph.add("Reshape", y, "shape_split", name=f"{label}_{which}_split")
        return graph.add("Transpose", y, name=f"{label}_{which}_heads", perm=order)

    query = project("query", [0, 2, 1, 3])
    key = project("key", [0, 2, 3, 1])
    value = project("value", [0, 2, 1, 3])
    scores = graph.add("MatMul", query, key, name=f"{label}_scores")
    scores = graph.add("Mul", scores, "attention_scale", name=f"{label}_scale")
    weights = graph.add("Softmax", scores, name=f"{label}_softmax", axis=-1)
    y = graph.add("MatMul", weights, value, name=f"{label}_context")
    y = graph.add("Transpose", y, name=f"{label}_merge", perm=[0, 2, 1, 3])
    y = graph.add("Reshape", y, "shape_merge", name=f"{label}_flatten")
    return _linear(graph, y, f"{label}_output", config.hidden, config.hidden)


def _feed_forward(graph: GraphBuilder, config: TransformerConfig, x: str, label: str) -> str:
    y = _linear(graph, x, f"{label}_up", config.hidden, config.feed_forward)
    # GELU is spelled out, x/2 · (1 + erf(x/√2)) (Hendrycks and Gimpel, arXiv:1606.08415): operator set 17 has no Gelu.
    error = graph.add("Erf", graph.add("Div", y, "sqrt_two", name=f"{label}_div"), name=f"{label}_erf")
    gate = graph.add("Add", error, "one", name=f"{label}_gate")
    y = graph.add("Mul", graph.add("Mul", y, gate, name=f"{label}_gated"), "half", name=f"{label}_gelu")
    return _linear(graph, y, f"{label}_down", config.feed_forward, config.hidden)
