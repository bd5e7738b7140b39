"""What a model's identity rests on."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from enginewatch_db.errors import PlanError
from enginewatch_db.workspace import Workspace
from enginewatch_harness import registry
from enginewatch_harness.assemble import identity_of
from enginewatch_harness.engine_cache import file_sha256
from enginewatch_harness.matrix import Case, expand
from enginewatch_harness.models import write_model
from enginewatch_harness.plan_file import PlanFile
from enginewatch_harness.prepare import Prepared, _content_sha256, prepare
from enginewatch_harness.session_request import SessionRequest, plan_cases


def test_weights_beside_the_model_are_part_of_its_hash(tmp_path):
    whole = write_model("convnet_tiny", tmp_path / "whole.onnx")
    assert _content_sha256(whole) == file_sha256(whole)
    path = tmp_path / "apart.onnx"
    onnx.save(onnx.load(whole), path, save_as_external_data=True, location="apart.data", size_threshold=0)
    before = _content_sha256(path)
    weights = bytearray((tmp_path / "apart.data").read_bytes())
    weights[0] ^= 1
    (tmp_path / "apart.data").write_bytes(weights)
    assert _content_sha256(path) != before, "a new export with the same graph must not find the old engine"


def test_what_cannot_be_read_has_the_hash_of_its_bytes(tmp_path):
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    assert _content_sha256(broken) == file_sha256(broken)


def trtexec(folder: Path, banner: str) -> Path:
    """Write a tool that says nothing but its version."""
    path = folder / "trtexec"
    folder.mkdir()
    path.write_text(f"#!/bin/sh\necho '&&&& RUNNING TensorRT.trtexec [TensorRT {banner}] # trtexec --help'\n")
    path.chmod(0o755)
    return path


def prepared(tmp_path: Path, **options: object) -> Prepared:
    """Prepare the one case of a plan that gives trtexec these options."""
    workload = {"name": "w", "model": "m", "backends": ["trtexec"], "precisions": ["fp16"], "batches": [1]}
    table = {
        "name": "p",
        "model": [{"name": "m", "generate": "convnet_tiny"}],
        "workload": [{**workload, "backend_options": {"trtexec": options}}],
    }
    plan = PlanFile.model_validate(table)
    return prepare(expand(plan, ("trtexec",))[0], plan=plan, folder=tmp_path, workspace=Workspace(tmp_path))


def test_the_tool_that_the_plan_names_is_in_the_key_and_in_the_series(tmp_path, monkeypatch):
    ten = trtexec(tmp_path / "ten", "v100300")
    monkeypatch.setenv("TRTEXEC", str(trtexec(tmp_path / "eight", "v8601")))
    registry.availability.cache_clear()
    usual, named = prepared(tmp_path), prepared(tmp_path, trtexec=str(ten))
    assert (usual.failure, named.failure) == (None, None)
    assert (usual.availability.version, named.availability.version) == ("8.6.1", "10.3.0")
    assert usual.engine_key != named.engine_key
    assert (identity_of(usual).tool_major, identity_of(named).tool_major) == ("8", "10")
    monkeypatch.setenv("TRTEXEC", str(tmp_path / "none"))
    registry.availability.cache_clear()
    assert prepared(tmp_path, trtexec=str(ten)).engine_key == named.engine_key, "the named tool is enough"
    absent = prepared(tmp_path).failure
    assert absent is not None
    assert absent.code == "not_available"
    registry.availability.cache_clear()


def cases(backends: list[str], **workload: object) -> tuple[Case, ...]:
    """Return what a plan with these options asks for on this host, whose tools may be absent."""
    given = {"name": "w", "model": "m", "backends": backends, "precisions": ["fp16"], "batches": [1], **workload}
    table = {"name": "p", "model": [{"name": "m", "generate": "convnet_tiny"}], "workload": [given]}
    plan = PlanFile.model_validate(table)
    return plan_cases(SessionRequest(plan=plan, plan_path=Path("plan.toml"), plan_sha256=""))


@pytest.mark.parametrize("name", ["trtexec", "tensorrt", "tensorrt_rtx", "torch", "torch_compile", "torch_tensorrt"])
def test_a_slip_in_the_options_of_a_tool_that_is_not_here_is_told_here(name, monkeypatch):
    monkeypatch.setenv("TRTEXEC", "/nowhere")
    assert [case.backend for case in cases([name], options={"accuracy": False})] == [name]
    with pytest.raises(PlanError, match=f"unknown {name} option 'acuracy' → did you mean 'accuracy'"):
        cases([name], options={"acuracy": False})
    with pytest.raises(PlanError, match="option profile = 'yes' must be true or false"):
        cases([name], options={"profile": "yes"})


@pytest.mark.parametrize(("name", "key", "near"), [("trtllm", "num_request", "num_requests"), ("openai", "ur", "url")])
def test_a_slip_in_the_options_of_a_server_is_told_here(name, key, near):
    load = [{"mode": "closed", "concurrency": [1]}]
    with pytest.raises(PlanError, match=f"unknown {name} option '{key}' → did you mean '{near}'"):
        cases([name], batches=[], load=load, options={key: 3})


@pytest.mark.parametrize(("key", "value"), [("protocol", "quiett"), ("precision_by", "grap")])
def test_a_value_that_an_absent_tool_does_not_take_is_told_here(key, value):
    with pytest.raises(PlanError, match=f"option {key} = '{value}' must be one of"):
        cases(["trtexec"], options={key: value})


def test_the_nearest_option_is_of_any_backend_of_the_workload():
    for backends in (["trtexec", "onnxruntime"], ["onnxruntime", "trtexec"]):
        with pytest.raises(PlanError, match=r"unknown option 'max_batchh' → did you mean 'max_batch' \(trtexec\)\?"):
            cases(backends, options={"max_batchh": 8})
    with pytest.raises(PlanError, match=r"unknown option 'thread' → did you mean 'threads' \(onnxruntime\)\?"):
        cases(["trtexec", "onnxruntime"], options={"thread": 8})


def test_options_of_a_prepared_case_are_checked_before_its_tool_is_looked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("TRTEXEC", str(tmp_path / "none"))
    with pytest.raises(PlanError, match="did you mean 'max_batch'"):
        prepared(tmp_path, max_batchh=8)
    with pytest.raises(PlanError, match=r"calibration_data = .* does not exist"):
        prepared(tmp_path, calibration_data="none.npz")
