"""The profiler's own cost, and the recorded fp16 and int8 engines of one network (TensorRT 8.6 on an H200)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginewatch_ci.layers.facts import LayerFacts, layer_facts
from enginewatch_ci.layers.histogram import precision_histogram
from enginewatch_ci.layers.overhead import MAX_COST_NS, without_profiler
from enginewatch_ci.layers.text import render_layer_diff
from enginewatch_ci.layers.waterfall import diff_layers

MEASURED_NS = {"fp16": 572_084, "int8": 430_941}
"""Mean GPU compute time of the measuring runs (quiet-resnet-*-b8.stdout.log)."""


def layers_of(*times_ns):
    return tuple(
        LayerFacts(index=index, name=f"l{index}", family="other", time_ns=time_ns)
        for index, time_ns in enumerate(times_ns)
    )


def recorded(layer_rows, name):
    return layer_facts(layer_rows(f"quiet-resnet-{name}-b8"))


@pytest.fixture(scope="module")
def int8(layer_rows):
    totals = {"base_total_ns": MEASURED_NS["fp16"], "cand_total_ns": MEASURED_NS["int8"]}
    return diff_layers(recorded(layer_rows, "fp16"), recorded(layer_rows, "int8"), **totals)


def test_the_layers_explain_what_int8_saves(int8):
    assert int8.aligned_pct > 99.9
    assert int8.guessed_pct == 0
    explained = sum(group.delta_ns for group in int8.groups) + int8.conversions_delta_ns
    assert explained + int8.residual_ns == int8.total_delta_ns
    assert explained == pytest.approx(int8.total_delta_ns, rel=1e-3)
    families = int8.by_family()
    assert families["convolutions"][1] < 0.75 * families["convolutions"][0]


def test_either_engine_pays_the_profiler_the_same_for_a_layer(int8):
    assert int8.base_overhead_ns == pytest.approx(int8.cand_overhead_ns, rel=0.08)
    assert int8.base_overhead_ns == pytest.approx(3150, rel=0.05)


def test_int8_is_in_the_engine(layer_rows):
    shares = {item.dtype: item.time_pct for item in precision_histogram(recorded(layer_rows, "int8"))}
    assert shares["int8"] > 95


def test_the_text_tells_it(int8):
    text = render_layer_diff(int8, base_name="fp16", cand_name="int8", width=None)
    first = text.splitlines()[0]
    assert first.startswith("int8 takes 24.7 % less time than fp16: convolutions −")
    assert "−0.0" not in text
    assert "the profiler's own cost of each layer is taken out: 3.2 µs in fp16, 3.0 µs in int8" in text


def test_what_the_profiler_said_stays_told(int8):
    assert int8.is_corrected
    assert (int8.base_profile_ns, int8.cand_profile_ns) == (673_393, 570_878)
    assert int8.profile_residual_ns == int8.total_delta_ns - (570_878 - 673_393)
    text = render_layer_diff(int8, base_name="fp16", cand_name="int8", width=None)
    assert "as profiled they sum to 673.4 µs and 570.9 µs, with a residual of −38.6 µs" in text


def test_a_profile_that_does_not_fit_its_time_is_left_as_it_is_and_told(layer_rows):
    """The layers of fp16 beside the measured time of int8: the cost would be 7.8 µs here and 3.0 µs there."""
    fp16, found_int8 = recorded(layer_rows, "fp16"), recorded(layer_rows, "int8")
    found = diff_layers(found_int8, fp16, base_total_ns=MEASURED_NS["int8"], cand_total_ns=MEASURED_NS["int8"])
    assert not found.is_corrected
    assert (found.base_layers_ns, found.cand_layers_ns) == (570_878, 673_393)
    assert found.residual_ns == found.profile_residual_ns == 570_878 - 673_393
    assert "one of the profiles does not fit its measured time" in render_layer_diff(found, width=None)


def test_one_measured_time_alone_corrects_nothing(layer_rows):
    found = diff_layers(recorded(layer_rows, "fp16"), recorded(layer_rows, "int8"), base_total_ns=MEASURED_NS["fp16"])
    assert not found.is_corrected
    assert found.base_layers_ns == 673_393


def test_small_layers_end_at_nothing_and_the_others_share_the_rest():
    layers, cost = without_profiler(layers_of(1_000, 5_000, 9_000, None), 8_000)
    assert [layer.time_ns for layer in layers] == [0, 2_000, 6_000, None]
    assert cost == 3_000


@pytest.mark.parametrize("total_ns", [None, 0, -5, 15_000, 20_000])
def test_nothing_is_taken_where_nothing_tells_how_much(total_ns):
    layers = layers_of(1_000, 5_000, 9_000)
    assert without_profiler(layers, total_ns) == (layers, 0.0)


def test_a_profile_of_another_engine_stays_as_it_is():
    layers = layers_of(500_000, 600_000)
    assert without_profiler(layers, 100_000) == (layers, 0.0)


@given(st.lists(st.integers(0, 1_000_000) | st.none(), max_size=40), st.integers(1, 5_000_000))
def test_what_is_left_is_the_total_and_keeps_its_order(times_ns, total_ns):
    before = layers_of(*times_ns)
    after, cost = without_profiler(before, total_ns)
    assert 0 <= cost <= MAX_COST_NS
    pairs = [(old.time_ns, new.time_ns) for old, new in zip(before, after, strict=True)]
    assert all((old is None) == (new is None) for old, new in pairs)
    known = sorted((old, new) for old, new in pairs if old is not None)
    assert all(0 <= new <= old for old, new in known)
    assert [new for _, new in known] == sorted(new for _, new in known)
    if cost:
        assert sum(new for _, new in known) == pytest.approx(total_ns, abs=len(known) + 1)
