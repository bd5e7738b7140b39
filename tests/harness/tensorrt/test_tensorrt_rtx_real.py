"""Engines built by the real TensorRT-RTX, which needs no GPU for it; skipped where the package is absent."""

from __future__ import annotations

import warnings
from dataclasses import replace

import pytest

from enginewatch_db.errors import BackendError
from enginewatch_harness.backends.tensorrt_api import TensorrtRtxBackend

pytest.importorskip("tensorrt_rtx", reason="pip install 'enginewatch[tensorrt-rtx]'")


@pytest.mark.parametrize(("precision", "realised"), [("fp32", "fp32"), ("fp16", "fp16"), ("int8", "int8")])
def test_an_engine_is_built_ahead_of_time_and_tells_its_layers(precision, realised, job, context, tmp_path):
    options = {"compute_capabilities": ["8.6", "8.9"], "max_batch": 8}
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a deprecated call would warn
        record = TensorrtRtxBackend().build(job(precision, **options), tmp_path / "e.plan", context)
    assert (tmp_path / "e.plan").stat().st_size == record.size_bytes > 100_000
    assert realised in str(record.realised_precision).split("+")
    assert record.fingerprint is not None
    assert record.details["layers"] > 3
    assert record.peak_host_mem_mib is not None
    phases = {phase["name"]: phase for phase in record.details["phases"]}
    assert 0 < phases["Building engine"]["duration_ms"] / 1000 <= record.build_time_s
    assert all(phase["parent"] in phases for phase in phases.values() if phase["parent"])
    assert "Layers:" in (context.work_dir / "tensorrt_rtx-build.log").read_text()


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"build_timeout_s": 0}, "timeout"),
        ({"compute_capabilities": ["9.0"]}, "build_failed"),
        ({"max_shapes": {"input": [1, 3, 32, 32]}}, "shape_outside_profile"),
        ({"precision_by": "flags"}, "unsupported_precision"),
    ],
)
def test_a_build_that_cannot_be_has_its_code(options, code, job, context, tmp_path):
    with pytest.raises(BackendError) as error:
        TensorrtRtxBackend().build(job("fp16", **options), tmp_path / "e.plan", context)
    assert error.value.code == code
    assert not (tmp_path / "e.plan").exists()


def test_a_model_that_is_cut_off_is_corrupt(job, tiny_model, context, tmp_path):
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(tiny_model.read_bytes()[:5000])
    with pytest.raises(BackendError) as error:
        TensorrtRtxBackend().build(replace(job(), model_path=cut), tmp_path / "e.plan", context)
    assert error.value.code == "model_corrupt"
