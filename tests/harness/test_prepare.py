"""What a model's identity rests on."""

from __future__ import annotations

import onnx

from enginewatch_harness.engine_cache import file_sha256
from enginewatch_harness.models import write_model
from enginewatch_harness.prepare import _content_sha256


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
