"""From plan text to cases and their order."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginewatch_db.errors import PlanError
from enginewatch_harness.matrix import estimate_s, expand, order
from enginewatch_harness.plan_file import parse_plan
from enginewatch_harness.plan_text import Machine, plan_text

BACKENDS = ("llamacpp", "onnxruntime", "trtexec")

PLAN = """
name = "p"
repeats = 3
[[model]]
name = "m"
generate = "convnet"
[[workload]]
name = "w"
model = "m"
backends = ["onnxruntime", "trtexec"]
precisions = ["fp32", "int8"]
batches = [1, 8]
"""


def cases_of(text: str):
    return expand(parse_plan(text.encode(), "plan.toml"), BACKENDS)


def test_the_matrix_is_the_product():
    keys = [case.key for case in cases_of(PLAN)]
    assert len(keys) == len(set(keys)) == 8
    assert keys[0] == "w/onnxruntime/fp32/b1"


def test_excluding_takes_out_what_matches_every_key():
    keys = [case.key for case in cases_of(PLAN + '[[exclude]]\nprecision = "int8"\nbatch = 8\n')]
    assert len(keys) == 6
    assert not any(key.endswith("int8/b8") for key in keys)


SERVER = """
name = "p"
[[model]]
name = "m"
generate = "random-llama"
[[workload]]
name = "chat"
model = "m"
backends = ["llamacpp"]
precisions = ["fp16"]
[[workload.load]]
concurrency = [1, 4]
[[workload.load]]
mode = "poisson"
rate_rps = [2.5]
"""


def test_a_server_workload_spans_its_loads():
    cases = cases_of(SERVER)
    assert [case.key.rsplit("/", 1)[1] for case in cases] == ["c1", "c4", "poisson2.5rps"]
    assert cases[2].load is not None
    assert cases[2].load.rate_rps == 2.5
    assert cases[0].batch is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('precisions = ["fp32", "int8"]', 'precisons = ["fp32"]'), "did you mean 'precisions'"),
        (('backends = ["onnxruntime", "trtexec"]', 'backends = ["onnx"]'), "onnxruntime"),
        (('"int8"]', '"int9"]'), "did you mean 'int8'"),
        (("batches = [1, 8]", "batches = [0]"), r"workload\[0\].batches\[0\]"),
        (("batches = [1, 8]", ""), "give batches"),
        (('model = "m"', 'model = "n"'), "known: m"),
        (('generate = "convnet"', ""), "give either path or generate"),
        (("repeats = 3", "repeats = 0"), "'repeats'"),
        (("repeats = 3", "repeats = many"), "is not TOML"),
        (('name = "p"', 'name = "p/q"'), "'name'"),
        (('name = "w"', ""), "is missing"),
    ],
)
def test_bad_plans_name_the_value_the_place_and_the_nearest(change, message):
    with pytest.raises(PlanError, match=message) as caught:
        cases_of(PLAN.replace(*change))
    assert "\n" not in caught.value.message or "TOML" in caught.value.message


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ('[[exclude]]\nworkload = "w"\n', "no case left"),
        ('[[exclude]]\nprecision = "fp16"\n', "matches no case"),
        ('[[model]]\nname = "m"\ngenerate = "convnet"\n', "given 2 times"),
    ],
)
def test_impossible_matrices_are_refused(extra, message):
    with pytest.raises(PlanError, match=message):
        cases_of(PLAN + extra)


@given(st.integers(1, 12), st.integers(0, 2**31))
def test_every_repeat_runs_every_case_once(repeats, seed):
    cases = cases_of(PLAN)
    turns = order(cases, repeats, seed)
    assert [turn.order_idx for turn in turns] == list(range(len(turns)))
    for repeat in range(repeats):
        block = [turn.case.key for turn in turns if turn.repeat == repeat]
        assert sorted(block) == sorted(case.key for case in cases)
    assert turns == order(cases, repeats, seed)


def test_the_order_differs_between_repeats_and_seeds():
    cases = cases_of(PLAN)
    turns = order(cases, 5, 1)
    blocks = [tuple(turn.case.key for turn in turns if turn.repeat == repeat) for repeat in range(5)]
    assert len(set(blocks)) > 1
    firsts = Counter(order(cases, 1, seed)[0].case.key for seed in range(200))
    assert len(firsts) == len(cases)


def test_the_estimate_grows_with_the_repeats():
    cases = cases_of(PLAN)
    assert estimate_s(cases, 6) == pytest.approx(2 * estimate_s(cases, 3))


@pytest.mark.parametrize("llamacpp", [True, False])
@pytest.mark.parametrize("gpus", [(), ("NVIDIA H200",)])
@pytest.mark.parametrize("trtexec", [None, "10.16.1"])
def test_the_written_plan_is_valid_for_every_machine(gpus, trtexec, llamacpp):
    machine = Machine(gpus=gpus, trtexec=trtexec, onnx_precisions=("fp32", "int8", "fp16"), llamacpp=llamacpp, cores=2)
    text = plan_text(machine, file_name="enginewatch.toml")
    cases = cases_of(text)
    used = {case.backend for case in cases}
    assert ("trtexec" in used) == (trtexec is not None)
    assert ("llamacpp" in used) == llamacpp
    assert "onnxruntime" in used
