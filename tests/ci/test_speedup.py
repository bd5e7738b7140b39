"""Speed-ups over the reference case: which case it is, what the number is, and that it is kept."""

from __future__ import annotations

import dataclasses
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enginewatch_ci.judge import judge
from enginewatch_ci.speedup import Measured, Speedup, reference_of, speedups
from enginewatch_db.connect import Reader
from enginewatch_db.metrics import MetricValue


def run(backend, precision, value, *, repeat=0, batch=1, device="NVIDIA H200", metric="latency_p50_ms", **options):
    identity = {
        "workload": "convnet",
        "model": "convnet",
        "backend": backend,
        "precision": precision,
        "device": device,
        "device_count": 1,
        "shapes": {"input": [batch, 3, 32, 32]},
        "load": {},
        "options": options,
    }
    return Measured(
        case_key=f"convnet/{backend}/{precision}/b{batch}{''.join(options)}",
        repeat=repeat,
        identity=identity,
        metrics={metric: MetricValue(metric=metric, value=value)},
    )


def only(found: tuple[Speedup, ...]) -> Speedup:
    assert len(found) == 1, found
    return found[0]


def test_a_case_that_takes_half_the_time_is_twice_as_fast():
    found = only(speedups([run("torch", "fp32", 4.0), run("trtexec", "fp16", 2.0)]))
    assert found.case_key == "convnet/trtexec/fp16/b1"
    assert found.reference_case_key == "convnet/torch/fp32/b1"
    assert found.speedup == pytest.approx(2.0)
    assert (found.ci_low, found.ci_high, found.n) == (None, None, 1)


def test_more_throughput_is_faster_too():
    runs = [
        run("torch", "fp32", 100.0, metric="throughput_qps"),
        run("trtexec", "fp16", 250.0, metric="throughput_qps"),
    ]
    assert only(speedups(runs)).speedup == pytest.approx(2.5)


def test_runs_are_paired_by_repeat_so_drift_drops_out():
    drift = (1.0, 1.5, 0.7, 2.2)
    runs = [run("torch", "fp32", 4.0 * factor, repeat=r) for r, factor in enumerate(drift)]
    runs += [run("trtexec", "fp16", 2.0 * factor, repeat=r) for r, factor in enumerate(drift)]
    found = only(speedups(runs))
    assert found.speedup == pytest.approx(2.0)
    assert found.n == 4
    assert found.ci_high / found.ci_low < 1.01  # without pairing, the drift alone would make it wider than 2


def test_a_repeat_that_only_one_of_the_two_has_is_left_out():
    runs = [run("torch", "fp32", 4.0, repeat=0), run("torch", "fp32", 400.0, repeat=1)]
    runs += [run("trtexec", "fp16", 2.0, repeat=0), run("trtexec", "fp16", 2.0, repeat=7)]
    found = only(speedups(runs))
    assert (found.speedup, found.n) == (pytest.approx(2.0), 1)
    assert speedups([run("torch", "fp32", 4.0, repeat=0), run("trtexec", "fp16", 2.0, repeat=1)]) == ()


@pytest.mark.parametrize("change", [{"batch": 8}, {"device": "NVIDIA L4"}])
def test_another_batch_or_device_has_no_reference_here(change):
    assert speedups([run("torch", "fp32", 4.0), run("trtexec", "fp16", 2.0, **change)]) == ()


def test_without_torch_the_own_fp32_is_the_reference():
    runs = [run("onnxruntime", "fp32", 4.0), run("onnxruntime", "int8", 1.0), run("trtexec", "fp16", 2.0)]
    found = only(speedups(runs))
    assert (found.case_key, found.speedup) == ("convnet/onnxruntime/int8/b1", pytest.approx(4.0))


def test_torch_goes_before_the_own_fp32():
    runs = [run("torch", "fp32", 8.0), run("onnxruntime", "fp32", 4.0), run("onnxruntime", "int8", 1.0)]
    assert {item.reference_case_key for item in speedups(runs)} == {"convnet/torch/fp32/b1"}


def test_the_plan_may_name_another_reference_and_then_no_default_holds():
    runs = [run("torch", "fp32", 8.0), run("trtexec", "fp32", 4.0), run("trtexec", "fp16", 2.0)]
    found = {item.case_key: item.speedup for item in speedups(runs, "trtexec/fp32")}
    assert found == {"convnet/torch/fp32/b1": pytest.approx(0.5), "convnet/trtexec/fp16/b1": pytest.approx(2.0)}
    assert speedups(runs, "trtexec/int8") == ()


def test_of_two_references_the_one_with_the_same_options_is_taken():
    plain, other = run("torch", "fp32", 4.0), run("torch", "fp32", 4.0, threads=2)
    case = run("torch", "fp16", 2.0, threads=2)
    assert reference_of(case, [plain, other, case], None) == other.case_key


values = st.floats(min_value=1e-3, max_value=1e4)
pairs = st.lists(st.tuples(values, values), min_size=1, max_size=8)


@settings(max_examples=60)
@given(pairs=pairs, scale=values)
def test_speed_ups_are_ratios(pairs, scale):
    """Units drop out, the way back is the reciprocal, the interval holds the value and more runs than none are told."""
    there = [run("torch", "fp32", a, repeat=r) for r, (a, _) in enumerate(pairs)]
    back = [run("trtexec", "fp16", b, repeat=r) for r, (_, b) in enumerate(pairs)]
    found = only(speedups([*there, *back]))
    assert found.n == len(pairs)
    logs = [math.log(a / b) for a, b in pairs]
    assert min(logs) - 1e-9 <= math.log(found.speedup) <= max(logs) + 1e-9
    if len(pairs) > 1:
        assert found.ci_low <= found.speedup <= found.ci_high
    scaled = [run("torch", "fp32", a * scale, repeat=r) for r, (a, _) in enumerate(pairs)]
    scaled += [run("trtexec", "fp16", b * scale, repeat=r) for r, (_, b) in enumerate(pairs)]
    assert only(speedups(scaled)).speedup == pytest.approx(found.speedup, rel=1e-6)
    turned = only(speedups([*there, *back], "trtexec/fp16"))
    assert turned.speedup == pytest.approx(1 / found.speedup, rel=1e-6)


@settings(max_examples=30)
@given(order=st.permutations(range(6)))
def test_the_order_of_runs_does_not_matter(order):
    runs = [run("torch", "fp32", 4.0 + r, repeat=r) for r in range(3)]
    runs += [run("trtexec", "fp16", 2.0 + r / 7, repeat=r) for r in range(3)]
    assert speedups([runs[index] for index in order]) == speedups(runs)


def torch_session(lab, **changes):
    cases = {"convnet/fp32/torch/b1": 4.0, "convnet/fp16/trtexec/b1": 1.0, "mlp/fp32/trtexec/b8": 3.0}
    return lab.session(cases=cases, run_sd=0.01, **changes)


def stored(store):
    with Reader.open(store.root) as reader:
        return reader.console("SELECT * FROM v_speedups ORDER BY case_key, metric").to_pylist()


def test_judging_stores_them_once_and_again(lab, store):
    store.add(torch_session(lab))
    judge(store.root)
    first = stored(store)
    assert {row["case_key"] for row in first} == {"convnet/fp16/trtexec/b1"}
    by_metric = {row["metric"]: row for row in first}
    assert set(by_metric) == {"latency_p50_ms", "latency_p99_ms", "throughput_qps"}
    assert by_metric["latency_p50_ms"]["speedup"] == pytest.approx(4.0, rel=0.05)
    assert by_metric["latency_p50_ms"]["ci_low"] < 4.0 < by_metric["latency_p50_ms"]["ci_high"]
    assert by_metric["throughput_qps"]["n"] == 5
    judge(store.root)
    again = stored(store)
    assert [{**row, "computed_at": None} for row in again] == [{**row, "computed_at": None} for row in first]


def test_the_reference_of_the_plan_is_read_from_the_session(lab, store):
    records = torch_session(lab)
    named = [
        dataclasses.replace(record, session={**record.session, "speedup_reference": "trtexec/fp16"})
        for record in records
    ]
    store.add(named)
    judge(store.root)
    assert {row["case_key"] for row in stored(store)} == {"convnet/fp32/torch/b1"}


def test_runs_that_do_not_count_give_no_speed_up(lab, store):
    store.add(torch_session(lab, rejected={"convnet/fp32/torch/b1": "thermally_throttled"}))
    judge(store.root)
    assert stored(store) == []
