"""Which precisions the active onnxruntime executes: tried with one matrix product each, never assumed."""

from __future__ import annotations

from functools import cache

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

_OPSET = 17
_IR_VERSION = 8


@cache
def working_precisions(provider: str) -> tuple[str, ...]:
    """Return the precisions whose matrix product gets a session on ``provider``.

    A model may still hold an operator that lacks the precision: its build then says which.
    """
    return tuple(name for name, model in _probes().items() if _loads(model, provider))


def _loads(model: onnx.ModelProto, provider: str) -> bool:
    import onnxruntime  # 0.2 s that no other command should pay

    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    try:
        onnxruntime.InferenceSession(model.SerializeToString(), settings, providers=[provider])
    except Exception:  # noqa: BLE001 - the library's whole tree of errors means the same here: it does not run
        return False
    return True


def _probes() -> dict[str, onnx.ModelProto]:
    return {
        "fp32": _product(TensorProto.FLOAT),
        "fp16": _product(TensorProto.FLOAT16),
        "bf16": _product(TensorProto.BFLOAT16),
        "int8": _quantised_product(),
        "int8_dynamic": _integer_product(),
    }


def _product(kind: int) -> onnx.ModelProto:
    weight = helper.make_tensor("w", kind, [2, 2], [1.0, 0.0, 0.0, 1.0])
    return _model([helper.make_node("MatMul", ["x", "w"], ["y"])], kind, kind, [weight])


def _quantised_product() -> onnx.ModelProto:
    constants = [
        numpy_helper.from_array(np.array(0.1, np.float32), "scale"),
        numpy_helper.from_array(np.array(128, np.uint8), "zero"),
        numpy_helper.from_array(np.eye(2, dtype=np.int8), "w"),
        numpy_helper.from_array(np.array(0, np.int8), "w_zero"),
    ]
    node = helper.make_node("QLinearMatMul", ["x", "scale", "zero", "w", "scale", "w_zero", "scale", "zero"], ["y"])
    return _model([node], TensorProto.UINT8, TensorProto.UINT8, constants)


def _integer_product() -> onnx.ModelProto:
    constants = [numpy_helper.from_array(np.eye(2, dtype=np.int8), "w")]
    return _model(
        [helper.make_node("MatMulInteger", ["x", "w"], ["y"])], TensorProto.UINT8, TensorProto.INT32, constants
    )


def _model(
    nodes: list[onnx.NodeProto], kind_in: int, kind_out: int, weights: list[onnx.TensorProto]
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "probe",
        [helper.make_tensor_value_info("x", kind_in, [2, 2])],
        [helper.make_tensor_value_info("y", kind_out, [2, 2])],
        weights,
    )
    return helper.make_model(graph, ir_version=_IR_VERSION, opset_imports=[helper.make_opsetid("", _OPSET)])
