"""An ONNX graph → a torch module for one set of input shapes, recorded with ``torch.fx``.

Why not onnx2torch: its last release is of 2024, it needs torchvision, and it works out shapes while the model runs,
which makes eager slower and breaks the graph of ``torch.compile``: a comparison with it would flatter everything else.
Here shapes are settled at conversion, so the module is the plain sequence of torch functions that a person would write.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from enginewatch_db.errors import BackendError
from enginewatch_harness.backends.torch_ops import OPERATORS, Op
from enginewatch_harness.backends.torch_ops_shape import SHAPE_OPERATORS

if TYPE_CHECKING:
    import onnx

_OWN_DOMAINS = ("", "ai.onnx")
_HANDLERS = OPERATORS | SHAPE_OPERATORS


@dataclass(slots=True, kw_only=True)
class _Value:
    """A tensor of the graph: without storage for its shape, and as a constant or as a proxy of what records."""

    meta: Any
    constant: Any = None
    proxy: Any = None


@dataclass(slots=True, kw_only=True)
class _Recorder:
    torch: Any
    float_type: Any
    opset: int
    graph: Any
    tracer: Any
    values: dict[str, _Value] = field(default_factory=dict)
    weights: dict[str, Any] = field(default_factory=dict)

    def known(self, name: str, constant: Any) -> None:  # noqa: ANN401 - torch.Tensor
        self.values[name] = _Value(meta=self._meta(constant), constant=constant)

    def placeholder(self, name: str, shape: tuple[int, ...], dtype: Any) -> None:  # noqa: ANN401 - torch.dtype
        node = self.graph.placeholder(_identifier(name))
        meta = self.torch.empty(shape, dtype=dtype, device="meta")
        self.values[name] = _Value(meta=meta, proxy=self.torch.fx.Proxy(node, self.tracer))

    def _meta(self, constant: Any) -> Any:  # noqa: ANN401
        return self._typed(constant).to("meta")

    def _typed(self, constant: Any) -> Any:  # noqa: ANN401
        return constant.to(self.float_type) if constant.dtype == self.torch.float32 else constant

    def proxy_of(self, value: _Value) -> Any:  # noqa: ANN401
        """Return what stands for a value while recording; a constant becomes a weight of the module once."""
        if value.proxy is None:
            value.proxy = self._weight(self._typed(value.constant))
        return value.proxy

    def _weight(self, tensor: Any) -> Any:  # noqa: ANN401
        name = f"weight_{len(self.weights)}"
        floating = tensor.is_floating_point()
        self.weights[name] = self.torch.nn.Parameter(tensor, requires_grad=False) if floating else tensor
        return self.torch.fx.Proxy(self.graph.get_attr(name), self.tracer)

    def node(self, node: onnx.NodeProto) -> None:
        names = [name or None for name in node.input]
        inputs = [None if name is None else self._input(node, name) for name in names]
        op = self._op(node, inputs)
        settled = _settled(op, inputs)
        if settled is not None:
            self._constants(node, [settled])
            return
        handler = _HANDLERS.get(op.kind)
        if handler is None:
            raise op.unsupported()
        given = [value for value in inputs if value is not None]
        if given and all(value.constant is not None for value in given):
            op.float_type, op.keep = self.torch.float32, self.torch.tensor
            found = handler(op, *[None if value is None else value.constant for value in inputs])
            self._constants(node, list(found) if isinstance(found, tuple | list) else [found])
            return
        op.keep = lambda values: self.torch.tensor(values, device="meta")
        shapes = handler(op, *[None if value is None else value.meta for value in inputs])
        op.keep = lambda values: self._weight(self.torch.tensor(values))
        proxy = handler(op, *[None if value is None else self.proxy_of(value) for value in inputs])
        if isinstance(shapes, tuple | list):
            for index, (name, meta) in enumerate(zip(node.output, shapes, strict=False)):
                self.values[name] = _Value(meta=meta, proxy=proxy[index])
        else:
            self.values[node.output[0]] = _Value(meta=shapes, proxy=proxy)

    def _input(self, node: onnx.NodeProto, name: str) -> _Value:
        if name not in self.values:
            raise BackendError(
                f"the node {node.name!r} ({node.op_type}) needs {name!r}, which no node before it writes",
                code="unsupported_operator",
                remedy="give the model as a torch.export file (.pt2)",
            )
        return self.values[name]

    def _op(self, node: onnx.NodeProto, inputs: list[_Value | None]) -> Op:
        return Op(
            torch=self.torch,
            kind=node.op_type if node.domain in _OWN_DOMAINS else f"{node.domain}.{node.op_type}",
            name=node.name,
            attributes=_attributes(node),
            shapes=[None if value is None else tuple(value.meta.shape) for value in inputs],
            constants=[None if value is None else value.constant for value in inputs],
            floating=[value is not None and value.meta.is_floating_point() for value in inputs],
            outputs=len([name for name in node.output if name]),
            opset=self.opset,
            float_type=self.float_type,
        )

    def _constants(self, node: onnx.NodeProto, tensors: list[Any]) -> None:
        for name, tensor in zip(node.output, tensors, strict=False):
            self.known(name, tensor)


def convert_graph(
    torch: Any,  # noqa: ANN401 - the module: nothing here imports it
    model: onnx.ModelProto,
    shapes: dict[str, tuple[int, ...]],
    float_type: Any,  # noqa: ANN401 - torch.dtype
) -> tuple[Any, tuple[str, ...], tuple[str, ...]]:
    """Return the module and the names of its inputs and outputs, in the order of its arguments and results.

    Args:
        torch: The module ``torch``.
        model: The graph, weights included.
        shapes: A complete shape for every input.
        float_type: Torch type that stands for fp32: weights and inputs of that type are converted to it.

    Raises:
        BackendError: ``unsupported_operator``, naming the operator.
    """
    from onnx import numpy_helper

    graph = torch.fx.Graph()
    recorder = _Recorder(
        torch=torch,
        float_type=float_type,
        opset=next((item.version for item in model.opset_import if item.domain in _OWN_DOMAINS), 1),
        graph=graph,
        tracer=torch.fx.proxy.GraphAppendingTracer(graph),
    )
    for weight in model.graph.initializer:
        recorder.known(weight.name, _tensor(torch, numpy_helper.to_array(weight)))
    inputs = [item for item in model.graph.input if item.name not in recorder.values]
    by_type = Op(torch=torch, kind="input", name="", float_type=float_type)
    for item in inputs:
        recorder.placeholder(item.name, shapes[item.name], by_type.dtype(item.type.tensor_type.elem_type))
    with torch.no_grad():
        for node in model.graph.node:
            recorder.node(node)
    outputs = [item.name for item in model.graph.output]
    graph.output(tuple(recorder.proxy_of(recorder.values[name]).node for name in outputs))
    graph.eliminate_dead_code()
    graph.lint()
    module = torch.fx.GraphModule(recorder.weights, graph, class_name="OnnxModule")
    return module.eval(), tuple(item.name for item in inputs), tuple(outputs)


def _settled(op: Op, inputs: list[_Value | None]) -> Any:  # noqa: ANN401 - torch.Tensor or None
    """Return the value of a node that shapes and attributes settle; ``None`` where they do not."""
    torch = op.torch
    if op.kind == "Constant":
        for name in ("value", "value_float", "value_int", "value_floats", "value_ints"):
            if name in op.attributes:
                found = op.attributes[name]
                return torch.tensor(found) if name != "value" else _tensor(torch, found)
        raise op.unsupported("without a numeric value")
    if op.kind == "Shape":
        return torch.tensor(list(op.shape()[op.get("start", 0) : op.get("end")]), dtype=torch.int64)
    if op.kind == "Size":
        return torch.tensor(torch.Size(op.shape()).numel(), dtype=torch.int64)
    if op.kind == "ConstantOfShape":
        fill = op.get("value")
        value = torch.zeros(1) if fill is None else _tensor(torch, fill)
        return value.reshape(-1)[0].expand([int(size) for size in op.values(0)]).clone()
    if op.kind == "Range":
        start, limit, delta = (op.values(index)[0] for index in range(3))
        return torch.arange(start, limit, delta, dtype=op.constants[0].dtype)
    return None


def _tensor(torch: Any, array: Any) -> Any:  # noqa: ANN401
    """Return a tensor that owns its memory; bfloat16 has no numpy type of its own."""
    import numpy as np

    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.astype(np.float32)).to(torch.bfloat16)
    return torch.from_numpy(np.array(array, copy=True))


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    import onnx
    from onnx import numpy_helper

    found: dict[str, Any] = {}
    for attribute in node.attribute:
        value = onnx.helper.get_attribute_value(attribute)
        found[attribute.name] = numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value
    return found


def _identifier(name: str) -> str:
    return "".join(character if character.isalnum() else "_" for character in f"in_{name}")
