"""The table of a difference: by kind of work where the engines share little, and never wider than its window."""

from __future__ import annotations

import pytest

from enginewatch_ci.layers.facts import layer_facts
from enginewatch_ci.layers.text import render_layer_diff
from enginewatch_ci.layers.waterfall import LayerDiff, diff_layers
from enginewatch_db.text_columns import text_width

LONG = {
    "base_name": "convnet/onnxruntime/fp32/b8 3f9c1d2a",
    "cand_name": "convnet/onnxruntime/int8/b8 88e0b1c4 (run 01a2)",
}


def difference(*, shared: int, own: int) -> LayerDiff:
    """Return the difference of two engines with that many layers in common, and that many each of their own."""

    def layers(side: str, time_ns: int) -> list[dict[str, object]]:
        names = [f"both/{i}" for i in range(shared)] + [f"{side}/block_{i}/{'x' * 60}/conv" for i in range(own)]
        return [
            {
                "layer_idx": i,
                "name": name,
                "layer_type": "CaskConvolution",
                "mean_ns": time_ns * (i + 1),
                "origin": [name],
                "input_tensors": [f"{name}.in"],
                "output_tensors": [f"{name}.out"],
                "input_dtype": side,
            }
            for i, name in enumerate(names)
        ]

    base, cand = layer_facts(layers("fp32", 9_000)), layer_facts(layers("int8", 5_000_000))
    return diff_layers(base, cand, base_total_ns=10_000_000, cand_total_ns=2_000_000_000)


def test_engines_that_share_little_are_told_by_kind_of_work():
    few = difference(shared=1, own=7)
    assert few.aligned_pct is not None
    assert few.aligned_pct < 50
    text = render_layer_diff(few)
    assert "only)" not in text
    assert "\nconvolutions  " in text
    assert text.endswith("so the table is by kind of work: --by layer shows the layers\n")
    asked = render_layer_diff(few, by="layer")
    assert "only)" in asked
    assert "--by layer" not in asked
    many = difference(shared=7, own=0)
    assert "both/3" in render_layer_diff(many)
    assert "both/3" not in render_layer_diff(many, by="kind")


@pytest.mark.parametrize("by", ["layer", "kind"])
@pytest.mark.parametrize("width", [80, 100, 120])
def test_the_table_fits_its_window_and_sums_all_the_same(width, by):
    text = render_layer_diff(
        difference(shared=1, own=7), width=width, by=by, measured_as="measured (median GPU time)", **LONG
    )
    assert max(map(text_width, text.splitlines())) <= width
    assert LONG["base_name"] in text.replace("\n", " ")
    for name in ("sum of the layers", "residual", "measured (median GPU time)"):
        assert f"\n{name} " in text
    if width == 80 and by == "layer":
        assert f"\nA: {LONG['base_name']}\nB: {LONG['cand_name']}\n" in text
        assert "(A only)" in text
        assert "(B only)" in text


def test_names_stay_in_the_heading_where_there_is_room():
    text = render_layer_diff(difference(shared=7, own=0), width=None, **LONG)
    assert "\nA: " not in text
    assert LONG["cand_name"] in text.splitlines()[2]
