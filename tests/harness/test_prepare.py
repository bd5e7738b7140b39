"""What a model's identity rests on."""

from __future__ import annotations

from pathlib import Path

import onnx

from enginewatch_db.workspace import Workspace
from enginewatch_harness import registry
from enginewatch_harness.assemble import identity_of
from enginewatch_harness.engine_cache import file_sha256
from enginewatch_harness.matrix import expand
from enginewatch_harness.models import write_model
from enginewatch_harness.plan_file import PlanFile
from enginewatch_harness.prepare import Prepared, _content_sha256, prepare


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
