"""ONNX operators in torch's words: tensors in, tensors out, for traced and for real tensors alike.

A handler must not look into the tensors that it is given: shapes and the values of constants come from ``Op``.
It is called once with tensors without storage (for shapes) and once with ``torch.fx`` proxies (to record).
Definitions: https://onnx.ai/onnx/operators.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from enginewatch_db.errors import BackendError

Handler = Callable[..., Any]

_SOFTMAX_PER_AXIS = 13
"""Operator set from which Softmax works along one axis; before, along all from ``axis`` on."""


@dataclass(slots=True, kw_only=True)
class Op:
    """One node at work.

    Attributes:
        torch: The module ``torch``: imported by whoever converts, so that this file is importable without it.
        kind: Operator type.
        name: Name of the node.
        attributes: Its attributes; tensors as numpy arrays.
        shapes: Shape of each input; ``None`` for one that is left out.
        constants: Value of each input that is known at conversion, as a real tensor.
        floating: Whether each input holds floating-point numbers.
        outputs: How many outputs it has.
        opset: Version of the operator set.
        float_type: Torch type that stands for the model's fp32.
        keep: Makes a constant of whole numbers fit to stand beside the inputs.
    """

    torch: Any
    kind: str
    name: str
    attributes: dict[str, Any] = field(default_factory=dict)
    shapes: list[tuple[int, ...] | None] = field(default_factory=list)
    constants: list[Any] = field(default_factory=list)
    floating: list[bool] = field(default_factory=list)
    outputs: int = 1
    opset: int = 17
    float_type: Any = None
    keep: Callable[[list[int]], Any] | None = None

    def get(self, name: str, default: Any = None) -> Any:  # noqa: ANN401 - ONNX attributes have any type
        """Return an attribute."""
        return self.attributes.get(name, default)

    def rank(self, index: int = 0) -> int:
        """Return the number of dimensions of an input."""
        return len(self.shape(index))

    def shape(self, index: int = 0) -> tuple[int, ...]:
        """Return the shape of an input."""
        found = self.shapes[index]
        if found is None:
            raise self.unsupported(f"without its input {index}")
        return found

    def given(self, index: int) -> bool:
        """Return whether an optional input is there."""
        return index < len(self.shapes) and self.shapes[index] is not None

    def values(self, index: int) -> list[Any]:
        """Return a constant input as a list of numbers.

        Raises:
            BackendError: ``unsupported_operator``: its value is only known when the model runs.
        """
        if self.constants[index] is None:
            raise self.unsupported(f"whose input {index} is only known at run time")
        values: list[Any] = self.constants[index].reshape(-1).tolist()
        return values

    def indices(self, values: list[int]) -> Any:  # noqa: ANN401 - a tensor or its proxy
        """Return a constant index vector."""
        if self.keep is None:
            raise self.unsupported("with constant indices")
        return self.keep(values)

    def axes(self, index: int, name: str = "axes") -> list[int] | None:
        """Return axes from the attribute (older operator sets) or the input (newer ones)."""
        if name in self.attributes:
            return [int(axis) for axis in self.attributes[name]]
        return [int(axis) for axis in self.values(index)] if self.given(index) else None

    def dtype(self, kind: int) -> Any:  # noqa: ANN401 - torch.dtype
        """Return the torch type for an ONNX element type; fp32 is what stands for it here."""
        import onnx

        name = onnx.TensorProto.DataType.Name(kind).lower()
        names = {"float": None, "double": "float64", "bool": "bool"}
        return self.float_type if name == "float" else getattr(self.torch, names.get(name) or name)

    def unsupported(self, what: str = "") -> BackendError:
        """Return the error that names the operator."""
        return BackendError(
            f"the operator {self.kind} of node {self.name!r} {what or 'is not known'}: no conversion to torch".strip(),
            code="unsupported_operator",
            remedy="give the model as a torch.export file (.pt2), or leave this backend out of the workload",
        )


def _unary(name: str) -> Handler:
    return lambda op, x: getattr(op.torch, name)(x)


def _binary(name: str) -> Handler:
    return lambda op, a, b: getattr(op.torch, name)(a, b)


def _variadic(name: str) -> Handler:
    def fold(op: Op, first: Any, *rest: Any) -> Any:  # noqa: ANN401
        for other in rest:
            first = getattr(op.torch, name)(first, other)
        return first

    return fold


def _identity(op: Op, x: Any, *_: Any) -> Any:  # noqa: ANN401
    return x


def _div(op: Op, a: Any, b: Any) -> Any:  # noqa: ANN401
    return op.torch.div(a, b) if op.floating[0] else op.torch.div(a, b, rounding_mode="trunc")


def _cast(op: Op, x: Any) -> Any:  # noqa: ANN401
    return x.to(op.dtype(op.get("to")))


def _gelu(op: Op, x: Any) -> Any:  # noqa: ANN401
    return op.torch.nn.functional.gelu(x, approximate=_text(op.get("approximate", "none")))


def _leaky_relu(op: Op, x: Any) -> Any:  # noqa: ANN401
    return op.torch.nn.functional.leaky_relu(x, op.get("alpha", 0.01))


def _hard_sigmoid(op: Op, x: Any) -> Any:  # noqa: ANN401
    return op.torch.clamp(x * op.get("alpha", 0.2) + op.get("beta", 0.5), 0.0, 1.0)


def _clip(op: Op, x: Any, *_: Any) -> Any:  # noqa: ANN401
    low = op.values(1)[0] if op.given(1) else op.get("min")
    high = op.values(2)[0] if op.given(2) else op.get("max")
    return x if low is None and high is None else op.torch.clamp(x, low, high)


def _softmax(name: str) -> Handler:
    def normalise(op: Op, x: Any) -> Any:  # noqa: ANN401
        axis = op.get("axis", -1 if op.opset >= _SOFTMAX_PER_AXIS else 1)
        if op.opset < _SOFTMAX_PER_AXIS and axis % op.rank() != op.rank() - 1:
            raise op.unsupported(f"of operator set {op.opset} over several axes")
        return getattr(op.torch.nn.functional, name)(x, dim=axis)

    return normalise


def _layer_norm(op: Op, x: Any, scale: Any, bias: Any = None) -> Any:  # noqa: ANN401
    axis = op.get("axis", -1) % op.rank()
    if op.outputs > 1:
        raise op.unsupported("with mean and deviation as outputs")
    return op.torch.nn.functional.layer_norm(x, op.shape()[axis:], scale, bias, op.get("epsilon", 1e-5))


def _batch_norm(op: Op, x: Any, scale: Any, bias: Any, mean: Any, variance: Any) -> Any:  # noqa: ANN401
    norm = op.torch.nn.functional.batch_norm
    return norm(x, mean, variance, scale, bias, training=False, eps=op.get("epsilon", 1e-5))


def _group_norm(op: Op, x: Any, scale: Any, bias: Any) -> Any:  # noqa: ANN401
    return op.torch.nn.functional.group_norm(x, op.get("num_groups"), scale, bias, op.get("epsilon", 1e-5))


def _instance_norm(op: Op, x: Any, scale: Any, bias: Any) -> Any:  # noqa: ANN401
    return op.torch.nn.functional.instance_norm(x, weight=scale, bias=bias, eps=op.get("epsilon", 1e-5))


def _gemm(op: Op, a: Any, b: Any, c: Any = None) -> Any:  # noqa: ANN401
    first = a.transpose(0, 1) if op.get("transA") else a
    alpha, beta = op.get("alpha", 1.0), op.get("beta", 1.0)
    if alpha == 1.0 and beta == 1.0 and op.get("transB") and c is not None and len(op.shape(2)) == 1:
        return op.torch.nn.functional.linear(first, b, c)
    product = op.torch.matmul(first, b.transpose(0, 1) if op.get("transB") else b)
    product = product if alpha == 1.0 else product * alpha
    if c is None:
        return product
    return product + (c if beta == 1.0 else c * beta)


def _einsum(op: Op, *terms: Any) -> Any:  # noqa: ANN401
    return op.torch.einsum(_text(op.get("equation")), *terms)


def _reduce(name: str) -> Handler:
    def reduce(op: Op, x: Any, *_: Any) -> Any:  # noqa: ANN401
        axes = op.axes(1)
        if axes is None and op.get("noop_with_empty_axes"):
            return x
        return getattr(op.torch, name)(x, dim=axes or list(range(op.rank())), keepdim=bool(op.get("keepdims", 1)))

    return reduce


def _arg(name: str) -> Handler:
    def best(op: Op, x: Any) -> Any:  # noqa: ANN401
        return getattr(op.torch, name)(x, dim=op.get("axis", 0), keepdim=bool(op.get("keepdims", 1)))

    return best


def _where(op: Op, condition: Any, a: Any, b: Any) -> Any:  # noqa: ANN401
    return op.torch.where(condition, a, b)


def _text(value: Any) -> str:  # noqa: ANN401
    return value.decode() if isinstance(value, bytes) else str(value)


_UNARY = {
    "Relu": "relu",
    "Sigmoid": "sigmoid",
    "Tanh": "tanh",
    "Erf": "erf",
    "Exp": "exp",
    "Log": "log",
    "Sqrt": "sqrt",
    "Reciprocal": "reciprocal",
    "Neg": "neg",
    "Abs": "abs",
    "Floor": "floor",
    "Ceil": "ceil",
    "Round": "round",
    "Sin": "sin",
    "Cos": "cos",
    "Sign": "sign",
    "Not": "logical_not",
}
_BINARY = {
    "Add": "add",
    "Sub": "sub",
    "Mul": "mul",
    "Pow": "pow",
    "MatMul": "matmul",
    "Equal": "eq",
    "Greater": "gt",
    "GreaterOrEqual": "ge",
    "Less": "lt",
    "LessOrEqual": "le",
    "And": "logical_and",
    "Or": "logical_or",
}

OPERATORS: dict[str, Handler] = {
    **{kind: _unary(name) for kind, name in _UNARY.items()},
    **{kind: _binary(name) for kind, name in _BINARY.items()},
    "Div": _div,
    "Sum": _variadic("add"),
    "Max": _variadic("maximum"),
    "Min": _variadic("minimum"),
    "Identity": _identity,
    "Dropout": _identity,
    "Cast": _cast,
    "Gelu": _gelu,
    "LeakyRelu": _leaky_relu,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": lambda op, x: op.torch.nn.functional.hardswish(x),
    "Mish": lambda op, x: op.torch.nn.functional.mish(x),
    "Softplus": lambda op, x: op.torch.nn.functional.softplus(x),
    "Elu": lambda op, x: op.torch.nn.functional.elu(x, op.get("alpha", 1.0)),
    "Clip": _clip,
    "Softmax": _softmax("softmax"),
    "LogSoftmax": _softmax("log_softmax"),
    "LayerNormalization": _layer_norm,
    "BatchNormalization": _batch_norm,
    "GroupNormalization": _group_norm,
    "InstanceNormalization": _instance_norm,
    "Gemm": _gemm,
    "Einsum": _einsum,
    "ReduceMean": _reduce("mean"),
    "ReduceSum": _reduce("sum"),
    "ReduceMax": _reduce("amax"),
    "ReduceMin": _reduce("amin"),
    "ArgMax": _arg("argmax"),
    "ArgMin": _arg("argmin"),
    "Where": _where,
}
