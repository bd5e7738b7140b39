"""What the Engine page draws and says, from rows: figures, steps that add up, which engine is meant."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enginewatch_ci.layers.facts import layer_facts
from enginewatch_ci.layers.roofline import roofline
from enginewatch_ci.layers.waterfall import diff_layers
from enginewatch_dashboards import engines, layer_rows, theme
from enginewatch_dashboards import format as fmt
from enginewatch_dashboards.figures.layers import layers, precisions, short_name
from enginewatch_dashboards.figures.roofline import drawn, rooflines
from enginewatch_dashboards.figures.waterfall import waterfall
from enginewatch_dashboards.layer_rows import Step

GPU = "NVIDIA H200"
TIMES = st.none() | st.integers(1_000_000, 3_000_000)


def as_json(figure):
    return json.loads(figure.to_json())


def floats(values):
    """Return the numbers of a trace, which Plotly may write as base64."""
    import base64

    if isinstance(values, dict):
        return np.frombuffer(base64.b64decode(values["bdata"]), dtype=values["dtype"]).tolist()
    return values


def row(name, us, kind="CaskConvolution", **more):
    return {"layer_idx": 0, "name": name, "layer_type": kind, "dtype": "fp16", "calls": 10,
            "mean_ns": None if us is None else int(us * 1e3), "input_dtype": None, "output_dtype": None,
            "source": "trtexec", **more}  # fmt: skip


def test_layers_are_ranked_conversions_stand_out_and_the_rest_is_one_bar():
    rows = [row(f"l{i}", 100.0 - i) | {"layer_idx": i} for i in range(30)]
    rows[1] = row("Reformatting CopyNode", 99.0, "Reformat", layer_idx=1)
    found = layer_rows.profile(rows, GPU)
    spec = as_json(layers(found.timed, revision="r"))
    assert len(spec["data"][0]["y"]) == 19
    assert spec["data"][0]["y"][-1] == "the other 12"
    assert spec["data"][0]["marker"]["color"][:2] == [theme.BLUE, theme.ORANGE]
    shares = [float(text.split(" %")[0]) for text in spec["data"][0]["text"]]
    assert sum(shares) == pytest.approx(100.0, abs=1.0)
    # A bar of ten times the slowest layer would leave nothing of the others to see.
    assert floats(spec["data"][0]["x"])[-1] == 0
    assert spec["data"][0]["text"][-1].endswith("beyond the axis")
    few = as_json(layers(found.timed[:20], revision="r"))["data"][0]
    assert floats(few["x"])[-1] == pytest.approx(82.0 + 81.0)
    assert few["text"][-1].endswith(" %")


def test_precisions_hold_the_whole_time_and_the_conversions():
    rows = [row("a", 60.0), row("b", 30.0, dtype="int8"), row("r", 10.0, "Reformat")]
    found = layer_rows.profile([one | {"layer_idx": i} for i, one in enumerate(rows)], GPU)
    trace = as_json(precisions(found.shares, found.conversions, revision="r"))["data"][0]
    assert list(trace["y"]) == ["fp16", "int8", "conversions"]
    assert floats(trace["x"]) == pytest.approx([60.0, 30.0, 10.0])
    assert trace["marker"]["color"] == [theme.BLUE, theme.BLUE, theme.ORANGE]
    assert layer_rows.precision_told(found) == "fp16 66.7 %, int8 33.3 %"
    assert "10.0 µs, 10.0 % of all" in layer_rows.conversions_told(found)


def test_dtypes_are_those_of_their_own_layer():
    rows = [
        row("b", 1.0, layer_idx=0, input_dtype="fp32", output_dtype="fp16"),
        row("a", 2.0, layer_idx=1, input_dtype="int8", output_dtype="int8"),
        row("c", 3.0, layer_idx=2),
    ]
    told = {one["layer"].name: one["dtypes"] for one in layer_rows.layer_rows(layer_rows.profile(rows, GPU), 10)}
    assert told == {"a": "int8", "b": "fp32 → fp16", "c": "fp16"}


def test_what_is_not_known_is_said_and_never_zero():
    rows = [
        row("a", 60.0, layer_idx=0, flops=10**9, bytes=10**6),
        row("plugin", 40.0, "PluginV2", layer_idx=1, bytes=10**6),
        row("late", None, layer_idx=2, flops=1, bytes=1),
    ]
    found = layer_rows.profile(rows, GPU)
    assert layer_rows.unknown_told(found) == [
        "1 of 3 layers have no time in the profile.",
        "The operations of 1 of 3 computing layers are not known (40.0 % of the time).",
    ]
    table = {one["layer"].name: one for one in layer_rows.layer_rows(found, 10)}
    assert table["plugin"]["achieved_pct"] is None
    assert table["plugin"]["why"] == "its operations are not known"
    assert table["late"]["time_us"] is None
    assert layer_rows.roof_told(layer_rows.profile(rows, "AMD EPYC")) == "No roofline: no peaks are known of AMD EPYC."


def test_a_roofline_has_one_roof_per_datatype_and_areas_by_time():
    rows = [
        row("a", 40.0, layer_idx=0, flops=4 * 10**9, bytes=10**7),
        row("b", 10.0, layer_idx=1, flops=10**9, bytes=10**7, dtype="int8"),
        row("move", 10.0, "Reformat", layer_idx=2, bytes=10**7),
    ]
    roof = roofline(layer_facts(rows), GPU)
    spec = as_json(rooflines(roof, revision="r"))
    assert [trace.get("name") for trace in spec["data"]] == [
        "memory 4.8 TB/s", None, None, "fp16: 1 layer", "int8: 1 layer",
    ]  # fmt: skip
    first, second = spec["data"][3:]
    assert floats(first["x"]) == pytest.approx([400.0])
    assert floats(first["y"]) == pytest.approx([100.0])
    sizes = [floats(trace["marker"]["size"])[0] for trace in (first, second)]
    assert sizes[0] / sizes[1] == pytest.approx(2.0)
    assert first["marker"]["symbol"] != second["marker"]["symbol"]
    assert len(drawn(roof)) == 2
    memory = spec["data"][0]
    assert floats(memory["y"])[0] / floats(memory["x"])[0] == pytest.approx(4.8)
    words = [note["text"] for note in spec["layout"]["annotations"]]
    assert any(text.startswith("fp16 989") for text in words)
    assert rooflines(roofline(layer_facts(rows), "AMD EPYC"), revision="r") is None
    assert rooflines(roofline(layer_facts(rows[2:]), GPU), revision="r") is None


def test_roofs_of_one_height_share_their_words():
    rows = [row(dtype, 10.0, layer_idx=i, flops=10**9, bytes=10**7, dtype=dtype)
            for i, dtype in enumerate(("fp16", "bf16"))]  # fmt: skip
    spec = as_json(rooflines(roofline(layer_facts(rows), GPU), revision="r"))
    assert len(spec["layout"]["annotations"]) == 1
    assert {"fp16", "bf16"} <= set(spec["layout"]["annotations"][0]["text"].replace(",", "").split())


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.integers(0, 30), st.integers(0, 30), TIMES, TIMES, st.integers(1, 8))
def test_steps_always_lead_from_one_total_to_the_other(engine_seed, number, n_base, n_cand, base_ns, cand_ns, limit):
    rng = np.random.default_rng(number)
    one, other = (layer_facts(engine_seed.random_layers(rng, n)) for n in (n_base, n_cand))
    diff = diff_layers(one, other, base_total_ns=base_ns, cand_total_ns=cand_ns)
    has_totals = base_ns is not None and cand_ns is not None
    ends = (base_ns, cand_ns) if has_totals else (diff.base_layers_ns, diff.cand_layers_ns)
    for steps in (layer_rows.steps(diff, limit), layer_rows.family_steps(diff)):
        assert sum(step.delta_ns for step in steps) == ends[1] - ends[0]
        assert ("residual" in [step.kind for step in steps]) is has_totals
        spec = as_json(waterfall(steps, base_ns=ends[0], cand_ns=ends[1], base_name="a", cand_name="b", what="time",
                                 revision="r"))  # fmt: skip
        bar = spec["data"][0]
        starts, lengths = np.array(floats(bar["base"])), np.array(floats(bar["x"]))
        tops = starts + lengths
        assert starts[1:-1] == pytest.approx(tops[:-2])
        assert tops[-2] == pytest.approx(tops[-1])
        assert len(set(bar["y"])) == len(steps) + 2


def test_a_small_change_is_not_drawn_from_zero_and_the_axis_says_so():
    steps = [Step(label="conv", base_ns=500_000, cand_ns=510_000)]
    near = as_json(waterfall(steps, base_ns=1_000_000, cand_ns=1_010_000, base_name="a", cand_name="b", what="time",
                             revision="r"))["layout"]["xaxis"]  # fmt: skip
    assert "does not begin at 0" in near["title"]["text"]
    assert 900 < near["range"][0] < 1000
    steps = [Step(label="conv", base_ns=900_000, cand_ns=200_000)]
    far = as_json(waterfall(steps, base_ns=1_000_000, cand_ns=300_000, base_name="a", cand_name="b", what="time",
                            revision="r"))["layout"]["xaxis"]  # fmt: skip
    assert far["range"][0] == 0
    assert "begin" not in far["title"]["text"]


def case(key, *, sha="ab" * 32, layers="run", precision="fp16", realised=None, used=0, **more):
    workload, backend, *_ = key.split("/")
    return {"engine_sha256": sha, "case_key": key, "workload": workload, "model": workload, "backend": backend,
            "precision": precision, "realised_precision": realised, "layers_run": layers, "size_bytes": 2**20,
            "build_number": 0, "last_used": datetime(2026, 11, 1, tzinfo=UTC) + timedelta(hours=used),
            "output_rel_l2": None, "accuracy_state": None, **more}  # fmt: skip


def test_the_counterpart_is_the_same_work_with_layers():
    mine = case("net/trtexec/fp16/b8")
    cases = tuple(case(f"net/trtexec/fp32/{feed}", layers=layers, used=used)
                  for feed, layers, used in (("b1", "x", 3), ("b8", "x", 1), ("b32", "x", 2)))  # fmt: skip
    assert engines.counterpart(engines.Engine(cases=cases), mine)["case_key"] == "net/trtexec/fp32/b8"
    without = tuple(one | ({"layers_run": None} if one["case_key"].endswith("b8") else {}) for one in cases)
    assert engines.counterpart(engines.Engine(cases=without), mine)["case_key"] == "net/trtexec/fp32/b1"


def test_an_engine_is_meant_by_the_beginning_of_its_checksum():
    found = engines.group(
        [case("net/trtexec/fp16/b1"), case("net/trtexec/fp16/b8"), case("a/b/fp32/b1", sha="ac" * 32)]
    )
    assert [len(engine.cases) for engine in found] == [2, 1]
    assert [engine.sha256 for engine in engines.meant(found, " ABAB ")] == ["ab" * 32]
    assert engines.meant(found, "a") == []
    assert engines.meant(found, None) == []
    assert "b1, b8 · build 1 · 1.0 MiB · abababab" in found[0].words


def test_names_tell_two_engines_apart():
    fp16, fp32 = (engines.Engine(cases=(case(f"n/t/{p}/b1", precision=p),)) for p in ("fp16", "fp32"))
    again = engines.Engine(cases=(case("n/t/fp16/b1", sha="cd" * 32),))
    assert engines.names(fp32, fp16) == ("fp32", "fp16")
    assert engines.names(fp16, again) == ("fp16 abababab", "fp16 cdcdcdcd")
    best = engines.Engine(cases=(case("n/t/best/b1", precision="best", realised="fp16"),))
    assert best.precision == "best → fp16"


def test_two_totals_are_of_one_kind():
    gpu, cpu = {"gpu_ms": 1.0, "latency_ms": 1.5}, {"gpu_ms": None, "latency_ms": 2.5}
    assert engines.totals_ns(gpu, gpu) == (1_000_000, 1_000_000, "median GPU time")
    assert engines.totals_ns(gpu, cpu) == (1_500_000, 2_500_000, "mean latency")
    assert engines.totals_ns(gpu, {"gpu_ms": None, "latency_ms": None}) == (None, None, "")


def test_accuracy_in_words():
    row = case("n/t/fp16/b1")
    assert engines.accuracy_words(row) == "not measured"
    assert engines.accuracy_words(row | {"output_rel_l2": 2.64e-7}) == "… 2.64e−07 (not judged yet)"
    assert engines.accuracy_words(row | {"output_rel_l2": 0.3, "accuracy_state": "breached"}) == "✖ 0.3 (wrong)"
    assert fmt.tiny(0.0150645) == "0.0151"


def test_long_names_keep_both_ends():
    assert short_name("a" * 42) == "a" * 42
    cut = short_name("begin" + "x" * 100 + "end")
    assert cut.startswith("begin")
    assert cut.endswith("end")
    assert len(cut) <= 42
