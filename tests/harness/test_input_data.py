"""A user's own inputs: what is read, how it is cut, and what is said of data that does not fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enginewatch_db.errors import BackendError, PlanError
from enginewatch_harness.backends.option_values import refuse_foreign, refuse_unknown
from enginewatch_harness.backends.ort_inputs import InputSpec
from enginewatch_harness.input_data import data_sha256, read_samples, resolve_data

SPECS = [
    InputSpec(name="ids", kind="tensor(int64)", dims=(None, 3)),
    InputSpec(name="x", kind="tensor(float)", dims=(None, 2)),
]
SHAPES = {"ids": (2, 3), "x": (2, 2)}


def samples(path):
    return list(read_samples(path, SPECS, SHAPES, "calibration_data"))


def fitting(batches: int = 1):
    rng = np.random.default_rng(batches)
    return {"ids": rng.integers(0, 9, (2 * batches, 3)), "x": rng.standard_normal((2 * batches, 2)).astype(np.float32)}


def test_one_file_is_cut_by_the_batch(tmp_path):
    given = fitting(3)
    np.savez(tmp_path / "d.npz", **given)
    found = samples(tmp_path / "d.npz")
    assert len(found) == 3
    for name, values in given.items():
        assert (np.concatenate([item[name] for item in found]) == values).all()
    assert found[0]["x"].dtype == np.float32


def test_a_folder_of_npz_brings_each_files_samples(tmp_path):
    np.savez(tmp_path / "b.npz", **fitting(2))
    np.savez(tmp_path / "a.npz", **fitting(1))
    found = samples(tmp_path)
    assert len(found) == 3
    assert (found[0]["ids"] == fitting(1)["ids"]).all(), "in the order of their names"


def test_a_folder_of_npy_has_one_file_an_input(tmp_path):
    for name, values in fitting(2).items():
        np.save(tmp_path / f"{name}.npy", values)
    (tmp_path / "README").write_text("not data")
    assert len(samples(tmp_path)) == 2


@settings(max_examples=20, deadline=None)
@given(batch=st.integers(1, 4), count=st.integers(1, 5), width=st.integers(1, 3))
def test_cutting_loses_and_invents_nothing(batch, count, width, tmp_path_factory):
    path = tmp_path_factory.mktemp("d") / "d.npz"
    values = np.arange(batch * count * width, dtype=np.float32).reshape(batch * count, width)
    np.savez(path, x=values)
    found = list(read_samples(path, SPECS[1:], {"x": (batch, width)}, "accuracy_data"))
    assert [item["x"].shape for item in found] == [(batch, width)] * count
    assert (np.concatenate([item["x"] for item in found]) == values).all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"x": None}, "lacks the input 'x'; it holds ids"),
        ({"y": np.zeros(2)}, "holds 'y', which is no input; inputs: ids, x"),
        ({"x": np.zeros((2, 5), np.float32)}, "has shape 2x5, the case takes 2x2 or whole multiples"),
        ({"x": np.zeros((3, 2), np.float32)}, "has shape 3x2"),
        ({"x": np.zeros((0, 2), np.float32)}, "has shape 0x2"),
        ({"x": np.zeros(2, np.float32)}, "has shape 2,"),
        ({"x": np.float32(1)}, "has shape "),
        ({"x": np.zeros((4, 2), np.float32)}, r"different numbers of samples \(ids: 1, x: 2\)"),
        ({"x": np.zeros((2, 2), np.int64)}, r"has type int64, the input takes tensor\(float\)"),
        ({"ids": np.zeros((2, 3))}, r"has type float64, the input takes tensor\(int64\)"),
        ({"x": np.full((2, 2), np.nan, np.float32)}, "holds NaN or infinity"),
    ],
)
def test_data_that_does_not_fit(change, words, tmp_path):
    given = {name: values for name, values in {**fitting(), **change}.items() if values is not None}
    np.savez(tmp_path / "d.npz", **given)
    with pytest.raises(BackendError, match=words) as caught:
        samples(tmp_path / "d.npz")
    assert caught.value.code == "shape_outside_profile"
    assert "calibration_data" in caught.value.remedy


@pytest.mark.parametrize("content", [b"", b"no zip", "objects", "cut"])
def test_files_that_cannot_be_read(content, tmp_path):
    path = tmp_path / "d.npz"
    if content == "objects":
        np.savez(path, x=np.array([{"a": 1}], dtype=object))
    elif content == "cut":
        np.savez(path, **fitting())
        path.write_bytes(path.read_bytes()[:-60])
    else:
        path.write_bytes(content)
    with pytest.raises(BackendError, match=r"d\.npz cannot be read") as caught:
        samples(path)
    assert caught.value.code == "model_corrupt"


def test_paths_are_those_of_the_plan(tmp_path):
    np.savez(tmp_path / "d.npz", **fitting())
    options = {"threads": 2, "accuracy_data": "d.npz"}
    assert resolve_data(options, tmp_path) == {"threads": 2, "accuracy_data": str(tmp_path / "d.npz")}
    assert options["accuracy_data"] == "d.npz"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("none.npz", "does not exist"),
        (3, "must be a path"),
        ("", "must be a path"),
        ("folder", "holds no .npz or .npy file"),
        ("text.csv", "is no .npz file"),
    ],
)
def test_paths_that_are_wrong(value, words, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "text.csv").write_text("1,2")
    with pytest.raises(PlanError, match=words) as caught:
        resolve_data({"calibration_data": value}, tmp_path)
    assert "calibration_data" in caught.value.message


def test_integers_are_not_cut_off(tmp_path):
    specs = [InputSpec(name="ids", kind="tensor(int32)", dims=(None,))]
    np.savez(tmp_path / "d.npz", ids=np.array([1, 2]))
    assert next(read_samples(tmp_path / "d.npz", specs, {"ids": (2,)}, "o"))["ids"].dtype == np.int32
    np.savez(tmp_path / "d.npz", ids=np.array([1, 2**40]))
    with pytest.raises(BackendError, match="holds values that int32 cannot"):
        list(read_samples(tmp_path / "d.npz", specs, {"ids": (2,)}, "o"))


def test_no_batches_at_all():
    with pytest.raises(PlanError, match="accuracy_batches = 0 must be"):
        resolve_data({"accuracy_batches": 0}, Path())


@pytest.mark.parametrize("backend", ["onnxruntime", "trtexec", "tensorrt", "torch"])
def test_every_backend_takes_data_for_the_accuracy(backend):
    refuse_unknown({"accuracy_data": "x", "accuracy_batches": 2, "calibration_data": "y"}, backend)
    refuse_foreign({"accuracy_data": "x", "accuracy_batches": 2}, backend)


def test_the_hash_is_of_names_and_contents(tmp_path):
    folders = [tmp_path / name for name in "abc"]
    for folder, file in zip(folders, ("1.npy", "1.npy", "2.npy"), strict=True):
        folder.mkdir()
        np.save(folder / file, np.zeros(3))
    first, second, third = (data_sha256(folder, "o") for folder in folders)
    assert first == second != third
    np.save(folders[0] / "1.npy", np.ones(3))
    assert data_sha256(folders[0], "o") != first
