"""Inputs for trtexec as raw bytes."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginewatch_db.errors import BackendError
from enginewatch_harness.backends.trtexec_infer import raw_input
from enginewatch_harness.onnx_inputs import input_dtypes


@given(st.lists(st.floats(-1000, 1000, width=16), min_size=1, max_size=8), st.sampled_from(["float16", "float32"]))
def test_values_round_trip_in_the_engines_type(values, dtype):
    raw = raw_input(np.array(values, np.float64), dtype, narrow=True)
    np.testing.assert_array_equal(np.frombuffer(raw, np.dtype(dtype).newbyteorder("<")), np.array(values))


def test_rows_come_one_after_the_other():
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert raw_input(array.T, None, narrow=False) == np.float32([0, 3, 1, 4, 2, 5]).tobytes()


def test_tensorrt_before_10_takes_integers_of_32_bits():
    """It reads a file of twice the size without a word, and so half of the values, each of them torn in two."""
    ids = np.array([1, 2, 3], np.int64)
    assert raw_input(ids, "int64", narrow=True) == np.int32([1, 2, 3]).tobytes()
    assert raw_input(ids, "int64", narrow=False) == ids.tobytes()
    with pytest.raises(BackendError, match="more than 32 bits"):
        raw_input(np.array([1 << 40]), "int64", narrow=True)


def test_bf16_and_bool():
    assert (
        raw_input(np.float32([1.0, -2.0]), "bfloat16", narrow=False)
        == np.array([1.0, -2.0], ml_dtypes.bfloat16).tobytes()
    )
    assert raw_input(np.array([True, False]), "bool", narrow=False) == b"\x01\x00"


def test_types_come_from_the_model(tmp_path):
    make, kinds = onnx.helper, onnx.TensorProto
    inputs = [
        make.make_tensor_value_info("ids", kinds.INT64, ["n", 4]),
        make.make_tensor_value_info("x", kinds.BFLOAT16, ["n"]),
        make.make_tensor_value_info("w", kinds.FLOAT, [1]),
    ]
    weight = onnx.numpy_helper.from_array(np.zeros(1, np.float32), "w")
    graph = make.make_graph([make.make_node("Identity", ["x"], ["y"])], "g", inputs, [], [weight])
    onnx.save(make.make_model(graph), tmp_path / "m.onnx")
    assert input_dtypes(tmp_path / "m.onnx") == {"ids": "int64", "x": "bfloat16"}
    (tmp_path / "bad.onnx").write_bytes(b"\xff\xff\xff")
    for name, code in (("bad.onnx", "model_corrupt"), ("none.onnx", "model_missing")):
        with pytest.raises(BackendError) as caught:
            input_dtypes(tmp_path / name)
        assert caught.value.code == code
