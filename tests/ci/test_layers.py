"""Two engines aligned and compared, one under a roofline: recordings of TensorRT 8.6 and hand-made engines."""

from __future__ import annotations

import dataclasses
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enginewatch_ci.layers.align import align
from enginewatch_ci.layers.facts import LayerFacts, family, layer_facts
from enginewatch_ci.layers.text import explain, render_layer_diff
from enginewatch_ci.layers.waterfall import diff_layers

MEASURED_NS = {"fp32-b8": 2_660_000, "fp16-b8": 670_538}


@pytest.fixture(scope="module")
def recorded(engines):
    totals = {"base_total_ns": MEASURED_NS["fp32-b8"], "cand_total_ns": MEASURED_NS["fp16-b8"]}
    return diff_layers(engines["fp32-b8"], engines["fp16-b8"], **totals)


def engine(*layers):
    """Make layers of (name, type, ns, origin, inputs, outputs); what is left out is empty."""
    made = []
    for index, (name, kind, time_ns, *rest) in enumerate(layers):
        nodes, reads, writes = (*rest, *((),) * 3)[:3]
        made.append(
            LayerFacts(
                index=index,
                name=name,
                family=family(name, kind),
                layer_type=kind,
                time_ns=time_ns,
                origin=tuple(nodes),
                inputs=tuple(reads),
                outputs=tuple(writes),
            )
        )
    return tuple(made)


def partition(groups):
    return {
        (frozenset(layer.name for layer in group.base), frozenset(layer.name for layer in group.cand))
        for group in groups
    }


def test_the_rows_sum_to_the_profiles_and_to_what_was_measured(recorded, layer_rows):
    found = recorded
    for side, name in (("base", "fp32-b8"), ("cand", "fp16-b8")):
        cost_ns = getattr(found, f"{side}_overhead_ns")
        assert cost_ns == pytest.approx(2300, rel=0.02), "the profiler costs each layer the same, in either engine"
        mean_ns = sum(round(max(row["mean_ns"] - cost_ns, 0)) for row in layer_rows(name))
        assert getattr(found, f"{side}_layers_ns") == mean_ns == pytest.approx(MEASURED_NS[name], abs=120)
        shown = sum(getattr(group, f"{side}_ns") for group in found.groups)
        assert shown + getattr(found, f"{side}_conversions_ns") == mean_ns
    deltas = sum(group.delta_ns for group in found.groups) + found.conversions_delta_ns
    assert deltas == found.layers_delta_ns
    assert deltas + found.residual_ns == MEASURED_NS["fp16-b8"] - MEASURED_NS["fp32-b8"]
    assert deltas == pytest.approx(found.total_delta_ns, rel=1e-3), "all of the measured change is explained"
    assert sum(cand - base for base, cand in found.by_family().values()) == found.layers_delta_ns


def test_nearly_all_time_is_aligned_and_fusions_that_differ_are_found(recorded):
    assert recorded.aligned_pct > 99.9
    assert recorded.guessed_pct == 0
    first = next(group for group in recorded.groups if group.label == "/conv1/Conv + /relu/Relu")
    # Only fp16 converts the input; the conversion belongs to the convolution that it serves.
    assert (first.base_conversions_ns, first.cand_conversions_ns) == (0, 11_077)
    assert (first.base_ns, first.cand_ns) == (76_468, 22_448)
    assert all(len(group.base) + len(group.cand) < 12 for group in recorded.groups)


def test_an_engine_against_itself_changes_nothing(engines):
    found = diff_layers(engines["fp16-b8"], engines["fp16-b8"], base_total_ns=5, cand_total_ns=5)
    assert found.layers_delta_ns == found.residual_ns == found.conversions_delta_ns == 0
    assert {group.delta_ns for group in found.groups} == {0}
    assert {group.side for group in found.groups} == {"both"}
    assert explain(found) == "candidate takes as long as baseline"


def test_the_order_of_rows_does_not_matter(recorded, engines, layer_rows):
    shuffled = layer_rows("fp16-b8")
    random.Random(5).shuffle(shuffled)
    assert layer_facts(shuffled) == engines["fp16-b8"]
    other = [dataclasses.replace(layer) for layer in reversed(engines["fp32-b8"])]
    assert partition(diff_layers(other, engines["fp16-b8"]).groups) == partition(recorded.groups)


def test_names_of_layers_need_not_agree(engines, recorded):
    renamed = [dataclasses.replace(layer, name=f"__myl_x_{layer.index}") for layer in engines["fp16-b8"]]
    totals = {"base_total_ns": MEASURED_NS["fp32-b8"], "cand_total_ns": MEASURED_NS["fp16-b8"]}
    found = diff_layers(engines["fp32-b8"], renamed, **totals)
    assert found.aligned_pct > 97
    assert found.layers_delta_ns == recorded.layers_delta_ns


def test_renumbered_nodes_are_matched_by_their_work_and_it_is_said(engines):
    renumbered = [
        dataclasses.replace(
            layer, name=f"n{layer.index}", origin=(f"n{layer.index}",), inputs=(), outputs=(f"t{layer.index}",)
        )
        for layer in engines["fp16-b8"]
    ]
    found = diff_layers(engines["fp32-b8"], renumbered)
    convolutions = [group for group in found.groups if group.family == "convolutions"]
    assert {group.side for group in convolutions} == {"both"}
    assert all(group.guessed for group in convolutions)
    assert "is matched by its shape and order only" in render_layer_diff(found)


def test_fusions_are_resolved_many_to_many():
    base = engine(("ab", "Conv", 10, "ab"), ("c", "Conv", 5, "c"), ("de", "Conv", 7, "de"), ("f", "Conv", 1, "f"))
    cand = engine(("a", "Conv", 4, "a"), ("bc", "Conv", 6, "bc"), ("de", "Conv", 3, "de"), ("e2", "NoOpX", 1, "e"))
    names = partition(align(base, cand))
    assert names == {
        (frozenset({"ab", "c"}), frozenset({"a", "bc"})),
        (frozenset({"de"}), frozenset({"de", "e2"})),
        (frozenset({"f"}), frozenset()),
    }


def test_what_is_left_over_joins_the_work_that_it_shares_most_with():
    base = engine(("abc", "Conv", 1, "abc"), ("cd", "Conv", 1, "cd"))
    cand = engine(("abc", "Conv", 1, "abc"), ("cd", "Conv", 1, "cd"), ("bc2", "Conv", 1, "bc"))
    assert (frozenset({"abc"}), frozenset({"abc", "bc2"})) in partition(align(base, cand))


def test_a_node_that_many_layers_mention_does_not_join_them():
    base = engine(("x", "Conv", 1, ("a", "/QuantizeLinear_1")), ("y", "Conv", 1, ("b", "/QuantizeLinear_1", "s")))
    cand = engine(("x", "Conv", 1, ("a", "/QuantizeLinear_1")), ("y", "Conv", 1, ("b", "s")))
    assert len(align(base, cand)) == 2


def test_nodes_that_an_exporter_counted_anew_link_nothing_that_has_a_better_name():
    base = engine(("x", "Conv", 1, ("layer1.weight", "Conv_5")), ("y", "Conv", 2, ("layer2.weight", "Conv_9")))
    cand = engine(("x", "Conv", 3, ("layer1.weight", "Conv_9")), ("y", "Conv", 4, ("layer2.weight", "Conv_17")))
    assert [(group.base[0].name, group.cand[0].name) for group in align(base, cand)] == [("x", "x"), ("y", "y")]
    same = align(engine(("x", "Conv", 1, ("Conv_5",))), engine(("z", "Conv", 1, ("Conv_5",))))
    assert len(same) == 1


def test_conversions_go_with_the_layer_that_they_serve():
    base = engine(("conv", "Conv", 10, "c", ("x",), ("y",)), ("pool", "Pool", 3, "p", ("y",), ("z",)))
    cand = engine(
        ("in", "Reformat", 2, (), ("x",), ("x1",)),
        ("again", "Shuffle", 1, (), ("x1",), ("x2",)),
        ("conv", "Conv", 4, "c", ("x2",), ("y1",)),
        ("Reformatting CopyNode for Output Tensor 0 to pool", "Reformat", 5, (), ("z1",), ("z",)),
        ("pool", "Pool", 3, "p", ("y1",), ("z1",)),
        ("lost", "Reformat", 7),
    )
    found = diff_layers(base, cand)
    conversions = {group.label: group.cand_conversions_ns for group in found.groups}
    assert conversions == {"conv": 3, "pool": 5, "lost": 7}
    assert found.by_family()["conversions"] == (0, 15)
    assert (found.layers_delta_ns, found.conversions_delta_ns) == (9, 15)


def test_a_chain_of_conversions_that_reads_itself_ends():
    found = align(engine(("r", "Reformat", 1, (), ("a",), ("a",)), ("s", "Reformat", 1, (), ("a",), ("a",))), ())
    assert sum(len(group.base) for group in found) == 2


@pytest.mark.parametrize(
    ("name", "layer_type", "expected"),
    [
        ("x", "CaskConvolution", "convolutions"),
        ("x", "MyelinReformat", "conversions"),
        ("x", "NoOp", "conversions"),
        ("x", "Constant", "constants"),
        ("x", "gemm", "matrix products"),
        ("__myl_CastMove_myl0_1", "kgen", "conversions"),
        ("__myl_AddCast_myl0_1", "kgen", "pointwise"),
        ("_gemm_mha_v2_myl0_3", "kgen", "attention"),
        ("__myl_FcCastAddErf_myl0_4", "fusion", "matrix products"),
        ("x", "QLinearConv", "convolutions"),
        ("x", "ReorderInput", "conversions"),
        ("x", "QuantizeLinear", "conversions"),
        ("x", "LayerNormalization", "normalisation"),
        ("conv1 + relu1", None, "convolutions"),
        ("x", "PluginV3", "other"),
    ],
)
def test_families(name, layer_type, expected):
    assert family(name, layer_type) == expected


def test_time_in_one_inference_counts_the_calls():
    given_rows = [
        {"layer_idx": 0, "name": "a", "mean_ns": 10, "calls": 100},
        {"layer_idx": 1, "name": "loop body", "mean_ns": 10, "calls": 300},
        {"layer_idx": 2, "name": "b", "mean_ns": 10, "calls": 100},
        {"layer_idx": 3, "name": "c", "mean_ns": float("nan"), "calls": None, "origin": float("nan")},
    ]
    assert [layer.time_ns for layer in layer_facts(given_rows)] == [10, 30, 10, None]


def test_the_text_says_where_the_time_went(recorded):
    text = render_layer_diff(recorded, base_name="fp32", cand_name="fp16", width=110, rows=3)
    first, *_, last = text.splitlines()
    assert first == (
        "fp16 takes 74.8 % less time than fp32: convolutions −2,004.9 µs; conversions +18.2 µs; pooling −2.8 µs"
    )
    assert last == "100.0 % of the layers' time is in work that both engines have"
    lines = {line.split("  ")[0]: line for line in text.splitlines()}
    assert lines["residual"].split()[1:] == ["0.0", "µs", "0.0", "µs", "0", "µs", "0.0", "%"]
    assert lines["measured"].split()[-2:] == ["100.0", "%"]
    assert "conversions (reformats, casts)" in lines
    assert "52 more" in lines or "53 more" in lines
    assert max(len(line) for line in text.splitlines()) <= 110
    assert "fp16: computing time fp16 100.0 %, 49 conversions 21.1 % of all" in text


def test_without_a_measured_time_there_is_no_residual_row(engines):
    found = diff_layers(engines["fp32-b8"], engines["fp16-b8"])
    assert found.residual_ns is found.total_delta_ns is None
    text = render_layer_diff(found)
    assert "by the sum of its layers" in text
    assert "residual" not in text


def test_without_times_the_text_says_what_to_do():
    layers = engine(("a", "Conv", None, "a"))
    assert "measure it with profile = true" in render_layer_diff(diff_layers(layers, layers))
    assert render_layer_diff(diff_layers((), ())) == (
        "no layer of baseline has a time: measure it with profile = true\n"
    )


def test_layers_that_stayed_in_the_old_precision_are_counted():
    base = [dataclasses.replace(layer, dtype="fp16", flops=9) for layer in engine(*[(n, "Conv", 10, n) for n in "abc"])]
    cand = [dataclasses.replace(layer, time_ns=5, dtype="fp16" if layer.name == "c" else "int8") for layer in base]
    told = explain(diff_layers(base, cand), base_name="fp16", cand_name="int8")
    assert told.startswith("int8 takes 50 % less time than fp16")
    assert told.endswith("1 layer stayed in fp16")


NAMES = st.sampled_from("abcdefgh")
LAYERS = st.lists(
    st.builds(
        lambda name, kind, time_ns, origin, inputs, outputs, flops: {
            "name": name,
            "layer_type": kind,
            "mean_ns": time_ns,
            "origin": origin,
            "input_tensors": inputs,
            "output_tensors": outputs,
            "flops": flops,
        },
        NAMES,
        st.sampled_from(["CaskConvolution", "Reformat", "Constant", "gemm", None]),
        st.none() | st.integers(0, 10**9),
        st.lists(NAMES, max_size=3),
        st.lists(NAMES, max_size=2),
        st.lists(NAMES, max_size=2),
        st.none() | st.integers(1, 3),
    ),
    max_size=9,
).map(lambda made: layer_facts({"layer_idx": index, **row} for index, row in enumerate(made)))


@settings(max_examples=60)
@given(LAYERS, LAYERS)
def test_nothing_is_lost_and_nothing_is_counted_twice(base, cand):
    found = diff_layers(base, cand, base_total_ns=10, cand_total_ns=20)
    for side, layers in (("base", base), ("cand", cand)):
        placed = [layer.index for group in found.groups for layer in getattr(group, side)]
        assert sorted(placed) == [layer.index for layer in layers]
    deltas = sum(group.delta_ns for group in found.groups) + found.conversions_delta_ns
    assert deltas + found.residual_ns == 10
    assert sum(cand_ns - base_ns for base_ns, cand_ns in found.by_family().values()) == found.layers_delta_ns
    assert render_layer_diff(found, width=60)
    assert found.aligned_pct is None or 0 <= found.aligned_pct <= 100.0001


@settings(max_examples=60)
@given(LAYERS, LAYERS)
def test_both_directions_find_the_same_groups(base, cand):
    there, back = diff_layers(base, cand), diff_layers(cand, base)
    assert there.layers_delta_ns == -back.layers_delta_ns

    def ids(found, first, second):
        return {
            (
                frozenset(layer.index for layer in getattr(group, first)),
                frozenset(layer.index for layer in getattr(group, second)),
            )
            for group in found.groups
        }

    assert ids(there, "base", "cand") == ids(back, "cand", "base")


@settings(max_examples=60)
@given(LAYERS, st.randoms())
def test_the_order_in_which_layers_are_given_does_not_matter(layers, shuffler):
    other = list(layers)
    shuffler.shuffle(other)
    assert align(layers, layers) == align(other, other)
    assert {group.delta_ns for group in diff_layers(layers, other).groups} <= {0}
