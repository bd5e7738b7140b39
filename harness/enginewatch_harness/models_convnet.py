"""A residual convolution network in the manner of ResNet (He et al. 2015, arXiv:1512.03385) with random weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from onnx import TensorProto

from enginewatch_harness.models_graph import GraphBuilder

if TYPE_CHECKING:
    import onnx

_BRANCH_GAIN = 0.5
"""Scale of a residual branch: eight of them raise the variance by (1 + 0.5²)^8 = 6, so nothing overflows in fp16."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvnetConfig:
    """Size of the network.

    Attributes:
        image: Height and width of the input in pixels; the stem halves it, and so does each stage but the first.
        widths: Channels of each stage.
        blocks: Residual blocks per stage.
        classes: Length of the output.
        batch_norm: Write BatchNormalization nodes; else their effect is folded into the convolutions.
    """

    image: int = 96
    widths: tuple[int, ...] = (32, 64, 128, 256)
    blocks: int = 2
    classes: int = 1000
    batch_norm: bool = True

    def inputs(self) -> dict[str, tuple[int, ...]]:
        """Return input name → dimensions without the batch."""
        return {"input": (3, self.image, self.image)}


def build_convnet(config: ConvnetConfig, seed: int) -> onnx.ModelProto:
    """Build the network: stem, stages of residual blocks, global average pool, one fully connected layer.

    Args:
        config: Its size.
        seed: Seed of the weights.
    """
    graph = GraphBuilder("convnet", seed)
    width = config.widths[0]
    x = _convolve(graph, config, "input", "stem", 3, width, kernel=7, stride=2)
    x = graph.add("Relu", x, name="stem_relu")
    channels = width
    for stage, width in enumerate(config.widths):
        for block in range(config.blocks):
            stride = 2 if stage and not block else 1
            x = _residual(graph, config, x, f"stage{stage}_block{block}", channels, width, stride)
            channels = width
    x = graph.add("GlobalAveragePool", x, name="pool")
    x = graph.add("Flatten", x, name="flatten", axis=1)
    weight = graph.normal("head_weight", (config.classes, channels), scale=1 / math.sqrt(channels))
    bias = graph.normal("head_bias", (config.classes,), scale=0.1)
    x = graph.add("Gemm", x, weight, bias, name="head", transB=1)
    inputs = {name: (TensorProto.FLOAT, dims) for name, dims in config.inputs().items()}
    return graph.finish(inputs, x, "logits", (config.classes,))


def _residual(
    graph: GraphBuilder, config: ConvnetConfig, x: str, label: str, channels: int, width: int, stride: int
) -> str:
    y = _convolve(graph, config, x, f"{label}_conv1", channels, width, kernel=3, stride=stride)
    y = graph.add("Relu", y, name=f"{label}_relu1")
    y = _convolve(graph, config, y, f"{label}_conv2", width, width, kernel=3, stride=1, gain=_BRANCH_GAIN)
    if stride != 1 or channels != width:
        x = _convolve(graph, config, x, f"{label}_project", channels, width, kernel=1, stride=stride)
    return graph.add("Relu", graph.add("Add", y, x, name=f"{label}_add"), name=f"{label}_relu2")


def _convolve(
    graph: GraphBuilder,
    config: ConvnetConfig,
    x: str,
    label: str,
    channels: int,
    width: int,
    *,
    kernel: int,
    stride: int,
    gain: float = 1.0,
) -> str:
    """Add a convolution and its batch norm, which carries ``gain``; folded, the convolution carries it."""
    folded = 1.0 if config.batch_norm else gain
    # Variance 2 / fan-in keeps the variance of activations through ReLU (He et al. 2015, arXiv:1502.01852).
    scale = folded * math.sqrt(2 / (channels * kernel * kernel))
    inputs = [x, graph.normal(f"{label}_weight", (width, channels, kernel, kernel), scale=scale)]
    if not config.batch_norm:
        inputs.append(graph.normal(f"{label}_bias", (width,), scale=0.1))
    attributes = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [kernel // 2] * 4}
    y = graph.add("Conv", *inputs, name=label, **attributes)
    if not config.batch_norm:
        return y
    statistics = [
        graph.uniform(f"{label}_bn_scale", (width,), low=0.9 * gain, high=1.1 * gain),
        graph.normal(f"{label}_bn_bias", (width,), scale=0.1),
        graph.normal(f"{label}_bn_mean", (width,), scale=0.1),
        graph.uniform(f"{label}_bn_var", (width,), low=0.8, high=1.2),
    ]
    return graph.add("BatchNormalization", y, *statistics, name=f"{label}_bn")
