"""What `enginewatch run` says of speed-ups, the plan's key for their reference, and models that only torch reads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from enginewatch_db.errors import PlanError
from enginewatch_harness.plan_file import parse_plan
from enginewatch_harness.prepare import _shapes
from enginewatch_harness.report import session_speedups, speedup_lines

PLAN = """
name = "p"
[speedup]
reference = "{reference}"
[[model]]
name = "m"
generate = "convnet"
[[workload]]
name = "w"
model = "m"
backends = ["torch", "trtexec"]
precisions = ["fp32", "fp16"]
batches = [1]
"""


@pytest.fixture
def records(make_run, make_identity):
    return [
        make_run(
            case_key=f"encoder/{backend}/{precision}/b8",
            repeat=repeat,
            latency_ms=latency_ms,
            seed=repeat,
            identity=make_identity(backend=backend, precision=precision),
        )[0]
        for repeat in range(3)
        for backend, precision, latency_ms in (("torch", "fp32", 8.0), ("trtexec", "fp16", 2.0))
    ]


def test_a_line_says_how_many_times_faster(records):
    [line] = speedup_lines(records)
    assert line.startswith("encoder/trtexec/fp16/b8: 4x [")
    assert line.endswith("the speed of encoder/torch/fp32/b8 (latency_p50_ms)")


def test_the_session_names_the_reference(records):
    named = [replace(item, session={**item.session, "speedup_reference": "trtexec/fp16"}) for item in records]
    found = {(item.case_key, item.metric): item.speedup for item in session_speedups(named)}
    assert found["encoder/torch/fp32/b8", "latency_p50_ms"] == pytest.approx(0.25, rel=0.01)


def test_without_a_reference_nothing_is_said(records):
    alone = [item for item in records if item.identity.backend == "trtexec"]
    assert speedup_lines(alone) == []


def test_the_reference_of_a_plan_is_one_of_its_cases():
    plan = parse_plan(PLAN.format(reference="torch/fp32").encode(), "plan.toml")
    assert plan.speedup.reference == "torch/fp32"
    with pytest.raises(PlanError, match="is no case of any workload"):
        parse_plan(PLAN.format(reference="torch/int8").encode(), "plan.toml")
    with pytest.raises(PlanError, match=r"speedup\.reference"):
        parse_plan(PLAN.format(reference="torch").encode(), "plan.toml")


def test_a_model_that_only_torch_reads_takes_the_plans_shapes():
    case = SimpleNamespace(workload="w", batch=4, shapes={"input": (3, 32, 32)})
    assert _shapes(case, Path("m.pt2")) == {"input": (4, 3, 32, 32)}
    with pytest.raises(PlanError, match="gives no shapes"):
        _shapes(SimpleNamespace(workload="w", batch=4, shapes={}), Path("m.pt"))
