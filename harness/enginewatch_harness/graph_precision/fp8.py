"""FP8 (E4M3) from calibrated int8: the same QDQ pairs with another type and another step. Pure."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

E4M3_MAX = 448.0
"""Largest finite E4M3 value (Micikevicius et al. 2022, arXiv:2209.05433, table 1)."""

INT8_MAX = 127.0
"""Largest symmetric int8 value: the int8 step is the largest magnitude over this."""

FP8_OPS = ("Conv", "Gemm", "MatMul")
"""Where TensorRT has FP8 kernels; the pooling between has none."""


def int8_to_fp8(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy in which symmetric int8 QDQ pairs are FP8 ones with the same largest magnitude.

    The int8 step is ``amax / 127``, so the FP8 step is ``step · 127 / 448``.
    """
    converted = onnx.ModelProto()
    converted.CopyFrom(model)
    graph = converted.graph
    pairs = [node for node in graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    scales = {node.input[1] for node in pairs}
    zeros = {node.input[2] for node in pairs}
    between = {node.output[0] for node in pairs if node.op_type == "QuantizeLinear"}
    for tensor in graph.initializer:
        if tensor.name in scales:
            step = numpy_helper.to_array(tensor)
            tensor.CopyFrom(numpy_helper.from_array((step * (INT8_MAX / E4M3_MAX)).astype(step.dtype), tensor.name))
        elif tensor.name in zeros:
            count = int(np.prod(tensor.dims, dtype=np.int64))
            raw = bytes(count)  # zero in E4M3 is the byte 0
            tensor.CopyFrom(helper.make_tensor(tensor.name, TensorProto.FLOAT8E4M3FN, tensor.dims, raw, raw=True))
    for item in graph.value_info:
        if item.name in between:
            item.type.tensor_type.elem_type = TensorProto.FLOAT8E4M3FN
    return converted
