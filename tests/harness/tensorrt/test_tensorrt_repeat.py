"""Some inferences for a profiler to watch: set up as for measuring, and exactly so many inside the watch."""

from __future__ import annotations

from contextlib import contextmanager

import pytest

from enginewatch_harness.backends.tensorrt_api import TensorrtBackend


@pytest.mark.parametrize(("protocol", "launched"), [("quiet", "cudaGraphLaunch"), ("classic", "cudaMemcpyAsync")])
def test_the_inferences_run_inside_the_watch(protocol, launched, fake_tensorrt, cuda, job, context, tmp_path):
    fake_tensorrt("10.16.2.5")
    tool, path = TensorrtBackend(), tmp_path / "engine.plan"
    asked = job(protocol=protocol)
    record = tool.build(asked, path, context)
    seen: dict[str, list[str]] = {}

    @contextmanager
    def watch():
        before = len(cuda.calls)
        yield
        seen["calls"] = cuda.calls[before:]

    tool.repeat(asked, record, path, context, inferences=7, watch=watch())
    per_inference = 1 if protocol == "quiet" else 2  # one input up, one output down
    assert seen["calls"].count(launched) == 7 * per_inference
    assert seen["calls"][-1] == "cudaEventSynchronize"
    assert "cudaEventElapsedTime" not in seen["calls"]
