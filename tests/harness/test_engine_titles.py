"""Two runs of one engine are called by different names."""

from __future__ import annotations

from dataclasses import replace

from enginewatch_harness.engine_sides import Side, _told_apart


def test_two_runs_of_one_engine_are_told_apart():
    one = Side(name="net/trtexec/fp16/b8 3f9c1d2a", source="run 01a1", layers=(), total_ns=None)
    names = [side.name for side in _told_apart(one, replace(one, source="run 01a2"))]
    assert names == ["net/trtexec/fp16/b8 3f9c1d2a (run 01a1)", "net/trtexec/fp16/b8 3f9c1d2a (run 01a2)"]
    other = replace(one, name="net/trtexec/int8/b8 88e0b1c4", source="run 01a2")
    assert _told_apart(one, other) == (one, other), "where the names tell them apart, they stay short"
