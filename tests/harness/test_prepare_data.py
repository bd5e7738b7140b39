"""Data of a plan's own, when a case is made ready: checked at once, and in the series by content."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from enginewatch_db.workspace import Workspace
from enginewatch_harness.assemble import identity_of
from enginewatch_harness.backends.ort_inputs import input_specs
from enginewatch_harness.backends.ort_options import OrtOptions
from enginewatch_harness.backends.ort_session import open_session
from enginewatch_harness.engine_cache import file_sha256
from enginewatch_harness.matrix import expand
from enginewatch_harness.models import write_model
from enginewatch_harness.onnx_inputs import declared_inputs
from enginewatch_harness.plan_file import PlanFile
from enginewatch_harness.prepare import Prepared, prepare


def on_the_cpu(tmp_path: Path, **options: object) -> list[Prepared]:
    """Prepare a plan's cases of batch 8 with these options."""
    workload = {"name": "w", "model": "m", "backends": ["onnxruntime"], "precisions": ["fp32"], "batches": [8]}
    table = {
        "name": "p",
        "model": [{"name": "m", "generate": "convnet_tiny"}],
        "workload": [{**workload, "options": options}],
    }
    plan = PlanFile.model_validate(table)
    cases = expand(plan, ("onnxruntime",))
    return [prepare(case, plan=plan, folder=tmp_path, workspace=Workspace(tmp_path)) for case in cases]


@pytest.mark.parametrize(
    ("shape", "told"),
    [((9, 3, 32, 32), "9x3x32x32"), ((8, 3, 16, 16), "8x3x16x16"), ((8, 3, 32), "8x3x32")],
)
def test_accuracy_data_that_does_not_fit_fails_the_case_before_it_is_measured(tmp_path, shape, told):
    np.savez(tmp_path / "real.npz", input=np.zeros(shape, np.float32))
    (item,) = on_the_cpu(tmp_path, accuracy_data="real.npz")
    assert item.job is None
    assert item.failure.code == "shape_outside_profile"
    where = f"{tmp_path / 'real.npz'}, array 'input' has shape {told}, the case takes 8x3x32x32"
    assert item.failure.message.startswith(where)
    assert "accuracy_data" in item.failure.remedy
    (unused,) = on_the_cpu(tmp_path, accuracy_data="real.npz", accuracy=False)
    assert unused.failure is None


def test_accuracy_data_that_fits_is_no_part_of_the_series(tmp_path):
    np.savez(tmp_path / "real.npz", input=np.zeros((16, 3, 32, 32), np.float32))
    (given,) = on_the_cpu(tmp_path, accuracy_data="real.npz", accuracy_batches=2)
    (plain,) = on_the_cpu(tmp_path)
    assert given.failure is None
    assert identity_of(given) == identity_of(plain), "it cannot change the speed"


def test_calibration_data_is_in_the_series_by_content(tmp_path):
    np.savez(tmp_path / "a.npz", input=np.zeros((4, 3, 32, 32), np.float32))
    shutil.copy(tmp_path / "a.npz", tmp_path / "copy.npz")
    (first,), (copy,) = (on_the_cpu(tmp_path, calibration_data=name) for name in ("a.npz", "copy.npz"))
    assert identity_of(first) == identity_of(copy)
    assert identity_of(first).options["calibration_data"] == file_sha256(tmp_path / "a.npz")[:16]
    np.savez(tmp_path / "a.npz", input=np.ones((4, 3, 32, 32), np.float32))
    (other,) = on_the_cpu(tmp_path, calibration_data="a.npz")
    assert identity_of(other) != identity_of(first)


@pytest.mark.parametrize("kind", ["convnet_tiny", "transformer_ids"])
def test_inputs_are_declared_as_onnxruntime_tells_them(tmp_path, kind):
    path = write_model(kind, tmp_path / "m.onnx")
    assert declared_inputs(path) == input_specs(
        open_session(path, OrtOptions(), precision="fp32", optimization="disable")
    )
