"""Two engines aligned and compared, one under a roofline: recordings of TensorRT 8.6 and hand-made engines."""

from __future__ import annotations

import dataclasses
import gzip
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enginewatch_ci.layers.align import align
from enginewatch_ci.layers.facts import LayerFacts, family, layer_facts
from enginewatch_ci.layers.histogram import conversion_cost, dominant_dtype, precision_histogram
from enginewatch_ci.layers.roofline import layer_roofline, roofline
from enginewatch_ci.layers.text import explain, render_layer_diff
from enginewatch_ci.layers.waterfall import diff_layers
from enginewatch_db.gpus import find_gpu
from enginewatch_harness.parse.trtexec_json import parse_profile
from enginewatch_harness.parse.trtexec_layers import layers_table, parse_layers

DATA = Path(__file__).parent.parent / "data" / "harness" / "trtexec"
MEASURED_NS = {"fp32-b8": 2_660_000, "fp16-b8": 670_538}


def rows(name):
    texts = (gzip.decompress((DATA / f"resnet50-{name}.{kind}.json.gz").read_bytes()) for kind in ("profile", "layers"))
    profile, layers = (text.decode() for text in texts)
    return layers_table(parse_profile(profile), parse_layers(layers)).to_pylist()


@pytest.fixture(scope="module")
def engines():
    return {name: layer_facts(rows(name)) for name in ("fp32-b8", "fp16-b8")}


@pytest.fixture(scope="module")
def recorded(engines):
    totals = {"base_total_ns": MEASURED_NS["fp32-b8"], "cand_total_ns": MEASURED_NS["fp16-b8"]}
    return diff_layers(engines["fp32-b8"], engines["fp16-b8"], **totals)


def engine(*layers, origin=None):
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


def test_the_rows_sum_to_the_profiles_and_to_what_was_measured(recorded, engines):
    found = recorded
    for side, name in (("base", "fp32-b8"), ("cand", "fp16-b8")):
        mean_ns = sum(row["mean_ns"] for row in rows(name))
        assert getattr(found, f"{side}_layers_ns") == mean_ns
        shown = sum(getattr(group, f"{side}_ns") for group in found.groups)
        assert shown + getattr(found, f"{side}_conversions_ns") == mean_ns
    deltas = sum(group.delta_ns for group in found.groups) + found.conversions_delta_ns
    assert deltas == found.layers_delta_ns
    assert deltas + found.residual_ns == MEASURED_NS["fp16-b8"] - MEASURED_NS["fp32-b8"]
    # What the layers explain of the measured change: all but two percent.
    assert deltas == pytest.approx(found.total_delta_ns, rel=0.02)
    assert sum(cand - base for base, cand in found.by_family().values()) == found.layers_delta_ns


def test_nearly_all_time_is_aligned_and_fusions_that_differ_are_found(recorded):
    assert recorded.aligned_pct > 99.9
    assert recorded.guessed_pct == 0
    first = next(group for group in recorded.groups if group.label == "/conv1/Conv + /relu/Relu")
    # Only fp16 converts the input; the conversion belongs to the convolution that it serves.
    assert (first.base_conversions_ns, first.cand_conversions_ns) == (0, 13_410)
    assert (first.base_ns, first.cand_ns) == (78_756, 24_781)
    assert all(len(group.base) + len(group.cand) < 12 for group in recorded.groups)


def test_an_engine_against_itself_changes_nothing(engines):
    found = diff_layers(engines["fp16-b8"], engines["fp16-b8"], base_total_ns=5, cand_total_ns=5)
    assert found.layers_delta_ns == found.residual_ns == found.conversions_delta_ns == 0
    assert {group.delta_ns for group in found.groups} == {0}
    assert {group.side for group in found.groups} == {"both"}
    assert explain(found) == "candidate takes as long as baseline"


def test_the_order_of_rows_does_not_matter(recorded, engines):
    shuffled = rows("fp16-b8")
    random.Random(5).shuffle(shuffled)
    assert layer_facts(shuffled) == engines["fp16-b8"]
    other = [dataclasses.replace(layer) for layer in reversed(engines["fp32-b8"])]
    assert partition(diff_layers(other, engines["fp16-b8"]).groups) == partition(recorded.groups)


def test_names_of_layers_need_not_agree(engines, recorded):
    renamed = [dataclasses.replace(layer, name=f"__myl_x_{layer.index}") for layer in engines["fp16-b8"]]
    found = diff_layers(engines["fp32-b8"], renamed)
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
        "fp16 takes 74.8 % less time than fp32: convolutions −2,002.5 µs; conversions +15.9 µs; pooling −2.7 µs"
    )
    assert last == "100.0 % of the layers' time is in work that both engines have"
    lines = {line.split("  ")[0]: line for line in text.splitlines()}
    assert lines["residual"].split()[1:] == ["−244.8", "µs", "−245.0", "µs", "−0.2", "µs", "0.0", "%"]
    assert lines["measured"].split()[-2:] == ["100.0", "%"]
    assert "conversions (reformats, casts)" in lines
    assert "52 more" in lines or "53 more" in lines
    assert max(len(line) for line in text.splitlines()) <= 110
    assert "fp16: computing time fp16 100.0 %, 49 conversions 27.9 % of all" in text


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


def test_precision_histogram_and_conversions(engines):
    (share,) = precision_histogram(engines["fp16-b8"])
    assert (share.dtype, share.layers, share.layers_pct, share.time_pct, share.flops_pct) == ("fp16", 56, 100, 100, 100)
    cost = conversion_cost(engines["fp16-b8"])
    assert (cost.layers, cost.timed_layers) == (52, 49)
    assert cost.time_pct == pytest.approx(27.9, abs=0.05)
    assert share.time_ns + cost.time_ns == sum(layer.time_ns for layer in engines["fp16-b8"])
    assert precision_histogram(()) == ()
    assert conversion_cost(()).time_ns is None
    assert dominant_dtype(()) is None


def gpu_layer(**facts):
    values = {"index": 0, "name": "l", "family": "convolutions", "dtype": "fp16", "time_ns": 10_000, **facts}
    return LayerFacts(**values)


def test_the_roofline_says_what_bounds_a_layer():
    gpu = find_gpu("NVIDIA H200")
    compute = layer_roofline(gpu_layer(flops=989_400_000_000, bytes=10**6, time_ns=1_500_000), gpu)
    assert compute.attainable_ns == pytest.approx(1e6)
    assert compute.achieved_pct == pytest.approx(200 / 3)
    assert compute.attainable_flop_s == pytest.approx(compute.peak_flop_s)
    assert compute.bound == "compute"
    memory = layer_roofline(gpu_layer(flops=10**9, bytes=480_000_000, time_ns=150_000), gpu)
    assert memory.attainable_ns == pytest.approx(100_000)
    assert memory.attainable_flop_s == pytest.approx(10**9 / 480_000_000 * 4.8e12)
    assert (memory.bound, memory.may_stay_in_cache) == ("memory", False)
    assert layer_roofline(gpu_layer(flops=10**9, bytes=480_000_000, time_ns=300_000), gpu).bound == "latency"
    small = layer_roofline(gpu_layer(flops=10**6, bytes=10**5, time_ns=2_000), gpu)
    assert (small.bound, small.may_stay_in_cache) == ("latency", True)
    tiny = layer_roofline(gpu_layer(flops=10**6, bytes=7_680_000, time_ns=3_000), gpu)  # 2 µs of traffic at 80 %
    assert tiny.bound == "latency"
    copy = layer_roofline(gpu_layer(family="conversions", bytes=480_000_000, time_ns=150_000), gpu)
    assert (copy.bound, copy.intensity, copy.achieved_flop_s) == ("memory", 0, None)


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"flops": 5}, "its memory traffic is not known"),
        ({"bytes": 5}, "its operations are not known"),
        ({"bytes": 5, "flops": 5, "dtype": "fp4"}, "the peak of H200 SXM in fp4 is not known"),
        ({"bytes": 5, "flops": 5, "dtype": None}, "the peak of H200 SXM in an unknown dtype is not known"),
    ],
)
def test_what_cannot_be_known_has_a_reason(facts, reason):
    found = layer_roofline(gpu_layer(**facts), find_gpu("NVIDIA H200"))
    assert (found.bound, found.reason, found.achieved_pct) == ("unknown", reason, None)


def test_the_tactic_tells_of_fp16_accumulation():
    gpu = find_gpu("NVIDIA GeForce RTX 4090")
    slow, fast = (
        layer_roofline(gpu_layer(flops=10**9, bytes=10, tactic=f"sm80_xmma_gemm_f16f16_{word}_f16_nn"), gpu)
        for word in ("f16f32", "f16f16")
    )
    assert fast.peak_flop_s == pytest.approx(2 * slow.peak_flop_s, rel=0.01)


def test_the_recordings_under_the_roofline(engines):
    found = roofline(engines["fp32-b8"], "NVIDIA H200")
    assert sum(found.bound_time_pct.values()) == pytest.approx(100)
    assert {item.bound for item in found.layers} >= {"compute", "latency"}
    assert all(item.achieved_pct < 105 for item in found.layers if item.achieved_pct is not None)
    assert roofline(engines["fp32-b8"], "AMD EPYC 9654").reason == "no peaks are known of AMD EPYC 9654"
    assert roofline(engines["fp32-b8"], None).reason == "the device is not known"
    assert roofline((), "NVIDIA H200").reason == "no layer has a time"


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


@given(
    st.integers(1, 10**12), st.integers(1, 10**15), st.integers(1, 10**12), st.sampled_from(["fp16", "int8", "fp32"])
)
def test_no_roof_is_above_the_peaks(size, flops, time_ns, dtype):
    gpu = find_gpu("NVIDIA H200")
    found = layer_roofline(gpu_layer(flops=flops, bytes=size, time_ns=time_ns, dtype=dtype), gpu)
    assert found.attainable_flop_s <= gpu.peaks[dtype] * 1.0001
    assert found.attainable_flop_s <= found.intensity * gpu.dram_bytes_per_s * 1.0001
    assert found.achieved_pct == pytest.approx(100 * found.achieved_flop_s / found.attainable_flop_s)
