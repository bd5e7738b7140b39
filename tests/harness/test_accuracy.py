"""Accuracy against the fp32 reference: the reference and its cache, the check, the metrics."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from onnx import TensorProto, helper

from enginewatch_db.errors import BackendError, MeasurementError
from enginewatch_harness.accuracy import reference as reference_module
from enginewatch_harness.accuracy.check import check
from enginewatch_harness.accuracy.compare import ACCURACY_METRICS, accuracy_metrics
from enginewatch_harness.accuracy.reference import reference_of
from enginewatch_harness.backends.base import Context, Job
from enginewatch_harness.models import input_shapes, write_model

KIND = "transformer_tiny"


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return write_model(KIND, tmp_path_factory.mktemp("models") / "net.onnx")


@pytest.fixture
def job(model) -> Job:
    return Job(
        case_key="net/x/fp16/b2",
        workload="net",
        model_path=model,
        model_name="net",
        precision="fp16",
        warmup_s=0.0,
        duration_s=0.0,
        seed=3,
        shapes=input_shapes(KIND, 2),
    )


@pytest.fixture
def context(tmp_path) -> Context:
    return Context(
        work_dir=tmp_path,
        t0_ns=time.monotonic_ns(),
        enter=lambda _: None,
        progress=lambda *_: None,
        cache_dir=tmp_path / "cache",
    )


@pytest.fixture
def computed(monkeypatch) -> list[int]:
    """Count how often the reference is computed and not read."""
    real, calls = reference_module._answers, []

    def counted(session, inputs):
        calls.append(len(inputs))
        return real(session, inputs)

    monkeypatch.setattr(reference_module, "_answers", counted)
    return calls


class Tool:
    """Answers with what a function makes of the reference's own outputs."""

    def __init__(self, job, change):
        self.reference, self.change, self.asked = reference_of(job, None), change, []

    def infer(self, job, engine, engine_path, inputs, context):
        self.asked.append(inputs)
        return self.change({name: item.copy() for name, item in self.reference.batches[0].outputs.items()})


def values(metrics) -> dict[str, float | None]:
    return {metric.metric: metric.value for metric in metrics}


def only_reason(metrics) -> str:
    assert values(metrics) == dict.fromkeys(ACCURACY_METRICS)
    reasons = {metric.absent_reason for metric in metrics}
    assert len(reasons) == 1
    return reasons.pop()


def test_the_reference_is_computed_once_and_kept(job, tmp_path, computed):
    first = reference_of(job, tmp_path)
    again = reference_of(job, tmp_path)
    assert computed == [1]
    assert first.note is None
    for name, item in first.batches[0].outputs.items():
        assert (again.batches[0].outputs[name] == item).all()
    assert (first.batches[0].inputs["hidden_states"] == again.batches[0].inputs["hidden_states"]).all()
    assert [path.suffix for path in (tmp_path / "reference").iterdir()] == [".npz"], "no scratch file stays"


@pytest.mark.parametrize("damage", [b"", b"PK not a zip", None])
def test_a_damaged_reference_is_computed_again(damage, job, tmp_path, computed):
    whole = reference_of(job, tmp_path)
    kept = next((tmp_path / "reference").iterdir())
    kept.write_bytes(kept.read_bytes()[:-40] if damage is None else damage)
    again = reference_of(job, tmp_path)
    assert computed == [1, 1]
    assert (again.batches[0].outputs["logits"] == whole.batches[0].outputs["logits"]).all()
    reference_of(job, tmp_path)
    assert computed == [1, 1], "mended on the disk too"


def test_the_key_holds_seed_shapes_model_and_data(job, tmp_path, computed):
    other = write_model(KIND, tmp_path / "other.onnx", seed=1)
    data = tmp_path / "data.npz"
    np.savez(data, hidden_states=np.ones((4, 8, 32), np.float32))
    with_data = dataclasses.replace(job, options={"accuracy_data": str(data)})
    jobs = [
        job,
        dataclasses.replace(job, seed=4),
        dataclasses.replace(job, shapes=input_shapes(KIND, 3)),
        dataclasses.replace(job, model_path=other),
        with_data,
        dataclasses.replace(with_data, options={**with_data.options, "accuracy_batches": 1}),
    ]
    for item in jobs:
        reference_of(item, tmp_path)
    assert computed == [1, 1, 1, 1, 2, 1]
    np.savez(data, hidden_states=np.zeros((4, 8, 32), np.float32))
    reference_of(with_data, tmp_path)
    assert len(computed) == 7
    for item in (*jobs[:4], with_data):
        reference_of(item, tmp_path)
    assert len(computed) == 7


def test_names_that_numpy_has_itself(tmp_path, computed):
    node = helper.make_node("Relu", ["x"], ["file"])
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])],
        [helper.make_tensor_value_info("file", TensorProto.FLOAT, [2])],
    )
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]), str(path))
    job = Job(
        case_key="k",
        workload="w",
        model_path=path,
        model_name="m",
        precision="fp32",
        warmup_s=0,
        duration_s=0,
        seed=0,
    )
    found = [reference_of(job, tmp_path).batches[0].outputs["file"].tolist() for _ in range(2)]
    assert found[0] == found[1]
    assert computed == [1]


def test_data_of_the_user_is_cut_into_batches_and_named(job, tmp_path, context):
    data = tmp_path / "real.npz"
    given = np.random.default_rng(0).standard_normal((6, 8, 32)).astype(np.float32)
    np.savez(data, hidden_states=given)
    job = dataclasses.replace(job, options={"accuracy_data": str(data), "accuracy_batches": 2})
    tool = Tool(job, lambda outputs: outputs)
    found = check(tool, job, None, None, context)
    assert [(item["hidden_states"] == given[2 * i : 2 * i + 2]).all() for i, item in enumerate(tool.asked)] == [
        True
    ] * 2
    assert found.notes[0].startswith("accuracy on 2 batches of real.npz (sha256 ")
    assert values(found.metrics)["output_rel_l2"] > 0, "each batch has its own answer"


def test_an_exact_engine(job, context):
    found = check(Tool(job, lambda outputs: outputs), job, None, None, context)
    assert values(found.metrics) == {
        "output_rel_l2": 0,
        "output_max_abs": 0,
        "output_cosine": pytest.approx(1),
        "output_top1_agreement_pct": 100,
    }
    assert found.notes == ()


def test_a_missing_output_is_named(job, context):
    tool = Tool(job, lambda outputs: {"logit": outputs["logits"]})
    assert (
        only_reason(check(tool, job, None, None, context).metrics) == "the engine has no output 'logits'; it has logit"
    )


def test_more_outputs_than_the_reference_are_passed_over(job, context):
    tool = Tool(job, lambda outputs: {**outputs, "debug": np.zeros(3)})
    assert values(check(tool, job, None, None, context).metrics)["output_rel_l2"] == 0


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_an_engine_that_is_not_finite_fails(poison, job, context):
    def spoil(outputs):
        outputs["logits"][0, 0] = poison
        return outputs

    with pytest.raises(MeasurementError, match="logits: 1 of 20 values") as caught:
        check(Tool(job, spoil), job, None, None, context)
    assert caught.value.code == "output_not_finite"


def test_bfloat16_outputs_are_compared_as_numbers(job, context):
    tool = Tool(job, lambda outputs: {name: item.astype(ml_dtypes.bfloat16) for name, item in outputs.items()})
    found = values(check(tool, job, None, None, context).metrics)
    assert 0 < found["output_rel_l2"] < 2**-8

    def spoil(outputs):
        outputs["logits"][1, 1] = np.nan
        return {name: item.astype(ml_dtypes.bfloat16) for name, item in outputs.items()}

    with pytest.raises(MeasurementError):
        check(Tool(job, spoil), job, None, None, context)


def test_a_reference_that_is_not_finite_is_no_fault_of_the_engine(tmp_path, context, job):
    graph = helper.make_graph(
        [helper.make_node("Log", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [40])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [40])],
    )
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]), str(path))
    job = dataclasses.replace(job, model_path=path, shapes={})
    why = only_reason(check(Tool(job, lambda outputs: outputs), job, None, None, context).metrics)
    assert "the fp32 reference itself is not finite" in why


def test_an_engine_that_does_not_answer(job, context):
    class Silent:
        def infer(self, *_):
            raise BackendError("no plugin", code="plugin_missing")

    why = only_reason(check(Silent(), job, None, None, context).metrics)
    assert why == "the engine did not answer the reference's inputs: no plugin"


@pytest.mark.parametrize(
    "change",
    [
        {"model_path": Path("/nowhere/none.onnx")},
        {"shapes": {"hidden_states": (2, 8, 5)}},
        {"options": {"accuracy_data": "/nowhere/none.npz"}},
        {"options": {"accuracy_batches": 0}},
    ],
)
def test_a_reference_that_does_not_run(change, job, context):
    tool = Tool(job, lambda outputs: outputs)
    why = only_reason(check(tool, dataclasses.replace(job, **change), None, None, context).metrics)
    assert why.startswith("the fp32 reference did not run: ")
    assert tool.asked == []


rows = arrays.arrays(np.float32, st.tuples(st.integers(1, 6), st.integers(2, 5)), elements=st.floats(-9, 9, width=32))


@settings(max_examples=40)
@given(rows, st.floats(0.125, 8))
def test_top1_ignores_scale_and_counts_rows(logits, factor):
    scaled = values(
        accuracy_metrics({"y": [logits * np.float32(2.0 ** round(np.log2(factor)))]}, {"y": [logits]}).metrics
    )
    assert scaled["output_top1_agreement_pct"] == 100


@settings(max_examples=40)
@given(st.integers(1, 12), st.integers(2, 5), st.data())
def test_top1_is_the_share_of_rows_that_agree(count, width, data):
    wanted = np.eye(width, dtype=np.float32)[
        data.draw(st.lists(st.integers(0, width - 1), min_size=count, max_size=count))
    ]
    wrong = data.draw(st.lists(st.booleans(), min_size=count, max_size=count))
    got = np.where(np.array(wrong)[:, None], np.roll(wanted, 1, axis=1), wanted)
    found = {metric.metric: metric for metric in accuracy_metrics({"y": [got]}, {"y": [wanted]}).metrics}[
        "output_top1_agreement_pct"
    ]
    assert found.value == pytest.approx(100 * (count - sum(wrong)) / count)
    assert found.n == count


def test_outputs_without_rows_have_no_top1():
    flat = {"y": [np.ones(4, np.float32)]}
    found = {metric.metric: metric for metric in accuracy_metrics(flat, flat).metrics}
    assert found["output_top1_agreement_pct"].value is None
    assert "no output has rows" in found["output_top1_agreement_pct"].absent_reason


def test_right_boxes_do_not_hide_wrong_scores():
    rng = np.random.default_rng(0)
    boxes = rng.uniform(0, 640, (1, 840, 4)).astype(np.float32)
    scores = rng.uniform(0, 1, (1, 840, 8)).astype(np.float32) ** 8
    shuffled = rng.permutation(scores.ravel()).reshape(scores.shape)
    found = accuracy_metrics({"boxes": [boxes + 1], "scores": [shuffled]}, {"boxes": [boxes], "scores": [scores]})
    assert values(found.metrics)["output_rel_l2"] > 1
    assert values(found.metrics)["output_cosine"] < 0.5
    assert values(found.metrics)["output_top1_agreement_pct"] < 50
    assert found.notes == (
        "accuracy is of the worst of 2 outputs: 'scores' (output_rel_l2, output_cosine, output_top1_agreement_pct); "
        "'boxes' (output_max_abs)",
    )
    assert {metric.metric: metric.n for metric in found.metrics} == {
        "output_rel_l2": 6720,
        "output_max_abs": 3360,
        "output_cosine": 6720,
        "output_top1_agreement_pct": 840,
    }


def test_indices_have_no_distance_and_are_compared_exactly():
    probabilities, indices = np.array([0.5, 0.25]), np.arange(30_000, dtype=np.int64) * 1000
    other = indices.copy()
    other[7] += 1
    want = {"p": [probabilities], "i": [indices], "keep": [np.array([True, False])]}
    got = {"p": [probabilities[::-1]], "i": [other.astype(np.int32)], "keep": want["keep"]}
    found = accuracy_metrics(got, want)
    assert values(found.metrics)["output_rel_l2"] == pytest.approx(np.sqrt(2) / np.sqrt(5))
    assert values(found.metrics)["output_max_abs"] == 0.25
    assert found.notes == ("output 'i': 99.99 % of 30000 values (int64) equal the fp32 model's",)
    assert only_reason(accuracy_metrics({"i": [other]}, {"i": [indices]}).metrics) == (
        "the model has no floating-point output"
    )


def test_an_output_of_zeros_stands_for_no_other():
    zeros, ones = np.zeros(3), np.ones(3)
    quiet = accuracy_metrics({"a": [zeros], "b": [2 * ones]}, {"a": [zeros], "b": [ones]})
    assert values(quiet.metrics)["output_rel_l2"] == pytest.approx(1)
    assert values(quiet.metrics)["output_cosine"] == pytest.approx(1)
    dead = {
        metric.metric: metric
        for metric in accuracy_metrics({"a": [zeros], "b": [ones]}, {"a": [ones], "b": [ones]}).metrics
    }
    assert dead["output_rel_l2"].value == pytest.approx(1)
    assert dead["output_cosine"].absent_reason == "the engine's output 'a' is all zeros"


@settings(max_examples=30)
@given(st.dictionaries(st.sampled_from("abcd"), st.tuples(rows, st.floats(0, 2)), min_size=1))
def test_several_outputs_are_as_far_as_the_furthest_of_them(made):
    want = {name: [array] for name, (array, _) in made.items()}
    got = {name: [array * factor] for name, (array, factor) in made.items()}
    together = values(accuracy_metrics(got, want).metrics)
    single = [values(accuracy_metrics({name: got[name]}, {name: want[name]}).metrics) for name in made]
    for metric, pick in zip(ACCURACY_METRICS, (max, max, min, min), strict=True):
        known = [item[metric] for item in single if item[metric] is not None]
        assert together[metric] in (None, pick(known, default=None))
