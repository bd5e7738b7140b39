"""A thin builder over ``onnx.helper``: nodes are added one after the other, weights come from one seeded stream."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
"""Oldest operator set with LayerNormalization: read by TensorRT 8.6 and newer, and by every ONNX Runtime in use."""

IR_VERSION = 8
"""The IR version that belongs to operator set 17 (onnx's Versioning.md)."""


class GraphBuilder:
    """Collects the nodes and weights of one model.

    Args:
        name: Name of the graph.
        seed: Seed of the weights, 0 to 2**32 - 1.
    """

    def __init__(self, name: str, seed: int) -> None:
        self._name = name
        # The legacy generator on purpose: its stream never changes, so a model keeps its hash (NEP 19).
        self._random = np.random.RandomState(seed)
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []
        self._count = 0

    def add(self, op: str, *inputs: str, name: str | None = None, **attributes: Any) -> str:  # noqa: ANN401 - ONNX attributes take any type
        """Append a node and return the name of its only output."""
        self._count += 1
        label = name or f"{op}_{self._count}"
        output = f"{label}_out"
        self._nodes.append(helper.make_node(op, list(inputs), [output], name=label, **attributes))
        return output

    def normal(self, label: str, shape: tuple[int, ...], *, scale: float, mean: float = 0.0) -> str:
        """Add a normally distributed fp32 weight and return its name."""
        values = self._random.standard_normal(shape) * scale + mean
        return self.constant(label, values.astype(np.float32))

    def uniform(self, label: str, shape: tuple[int, ...], *, low: float, high: float) -> str:
        """Add a uniformly distributed fp32 weight and return its name."""
        return self.constant(label, self._random.uniform(low, high, shape).astype(np.float32))

    def constant(self, label: str, values: NDArray[Any]) -> str:
        """Add a weight with the given values and return its name."""
        self._weights.append(numpy_helper.from_array(values, name=label))
        return label

    def finish(
        self, inputs: Mapping[str, tuple[int, tuple[int, ...]]], source: str, output: str, dims: tuple[int, ...]
    ) -> onnx.ModelProto:
        """Close the graph; a dynamic batch is put in front of all inputs and of the output.

        Args:
            inputs: Name → element type and dimensions behind the batch.
            source: The result in the graph that becomes the output.
            output: Name of the fp32 output.
            dims: Dimensions of the output behind the batch.

        Raises:
            onnx.checker.ValidationError: The graph is not valid ONNX.
        """
        self._nodes.append(helper.make_node("Identity", [source], [output], name="output"))
        graph = helper.make_graph(
            self._nodes,
            self._name,
            [helper.make_tensor_value_info(name, kind, ["batch", *shape]) for name, (kind, shape) in inputs.items()],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", *dims])],
            self._weights,
        )
        model = helper.make_model(
            graph,
            producer_name="enginewatch",
            ir_version=IR_VERSION,
            opset_imports=[helper.make_opsetid("", OPSET)],
        )
        onnx.checker.check_model(model, full_check=True)
        return model
