"""Figures of loads: lines with intervals both ways, the frontier, the limit; and server metrics above the GPU's."""

from __future__ import annotations

import base64
import dataclasses
import json
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginewatch_dashboards import theme
from enginewatch_dashboards.figures import server, spread
from enginewatch_dashboards.figures.serving import LEGEND_CHARS, MAX_LINES, MAX_NAMED, MAX_WORDS, against_load, frontier
from enginewatch_dashboards.figures.telemetry import gpu_timeline, host_timeline
from enginewatch_dashboards.pareto import Estimate, Standing
from enginewatch_dashboards.serving import Configuration, Level

PHASES = [
    {"phase": "load", "start_s": 0.0, "end_s": 60.0}, {"phase": "warmup", "start_s": 60.0, "end_s": 62.0},
    {"phase": "measure", "start_s": 62.0, "end_s": 70.0},
]  # fmt: skip


def as_json(figure):
    text = figure.to_json()
    assert not re.search(r"\b(NaN|Infinity)\b", text)
    return json.loads(text)


def decoded(array):
    return np.frombuffer(base64.b64decode(array["bdata"]), dtype=array["dtype"]).astype(float)


def level(load, *, n_valid=3, n_runs=3, standing=Standing.FRONTIER, spread=0.1, value=None, **parts):
    def estimate(middle):
        if n_valid == 1 or spread is None:
            return Estimate(value=middle)
        return Estimate(value=middle, low=middle * (1 - spread), high=middle * (1 + spread))

    value = 10.0 * load if value is None else value
    return Level(
        case_key=f"c{load}", session_id="s", session="ladder", run_ids=tuple(f"run-{load}-{i}" for i in range(n_runs)),
        n_valid=n_valid, n_runs=n_runs, load=float(load), word=str(load), throughput=estimate(100.0 * load),
        interactivity=estimate(200.0 / load), metric=estimate(value), goodput_pct=None, codes=(),
        standing=standing if n_valid else None, **parts,
    )  # fmt: skip


def line(name, *levels, closed=True):
    return Configuration(name=name, closed=closed, device="NVIDIA H200", levels=levels)


def draw(*lines):
    return as_json(frontier(lines, throughput="output_tokens_s", interactivity="tokens_s_per_user", revision="r"))


def test_each_point_has_intervals_both_ways_its_load_and_its_run():
    spec = draw(line("vllm bf16", level(1), level(8)))
    by_mode = {trace["mode"]: trace for trace in spec["data"] if trace.get("name") != "Pareto frontier"}
    points = by_mode["markers+text"]
    assert decoded(points["x"]).tolist() == [200.0, 25.0]
    assert decoded(points["y"]).tolist() == [100.0, 800.0]
    assert decoded(points["error_x"]["array"]).tolist() == pytest.approx([20.0, 2.5])
    assert decoded(points["error_y"]["arrayminus"]).tolist() == pytest.approx([10.0, 80.0])
    assert points["text"] == ["1", "8"]
    assert points["customdata"] == ["run-1-0", "run-8-0"]
    assert points["marker"]["symbol"] == "circle"
    for part in ("vllm bf16", "concurrency 8", "800.0 tokens/s [720.0, 880.0]", "on the frontier", "3 of 3 runs count"):
        assert part in points["hovertext"][1]
    assert spec["layout"]["xaxis"]["title"]["text"] == "tokens per user (tokens/s), higher is better →"


def test_single_runs_are_hollow_and_say_so():
    spec = draw(line("a", level(1, n_valid=1, n_runs=1)))
    point = next(trace for trace in spec["data"] if "markers" in trace["mode"])
    assert point["marker"]["symbol"] == "circle-open"
    assert point["error_y"]["visible"] is False
    assert "a single run has no interval" in point["hovertext"][0]
    assert "click to open it" in point["hovertext"][0]


def test_what_does_not_count_is_a_cross_off_the_line():
    spec = draw(line("a", level(1), level(8), level(64, n_valid=0)))
    joined = next(trace for trace in spec["data"] if trace.get("name") == "a")
    assert decoded(joined["y"]).tolist() == [100.0, 800.0]
    cross = next(trace for trace in spec["data"] if trace.get("marker", {}).get("symbol") == "x-thin-open")
    assert decoded(cross["y"]).tolist() == [6400.0]
    assert cross["error_x"]["visible"] is cross["error_y"]["visible"] is False
    assert "none counts" in cross["hovertext"][0]


def test_a_line_of_which_nothing_counts_is_faint():
    spec = draw(line("a", level(1, n_valid=0), level(8, n_valid=0)))
    joined = next(trace for trace in spec["data"] if trace.get("name") == "a")
    assert joined["opacity"] < 0.5
    assert not any(trace.get("name") == "Pareto frontier" for trace in spec["data"])


def test_the_frontier_joins_its_points_in_order():
    spec = draw(line("a", level(1), level(8)), line("b", level(4), level(2, standing=Standing.BEATEN)))
    joined = next(trace for trace in spec["data"] if trace.get("name") == "Pareto frontier")
    assert decoded(joined["x"]).tolist() == [25.0, 50.0, 200.0]


def test_not_more_lines_than_can_be_told_apart():
    lines = [line(f"line {n}", level(1), level(2)) for n in range(MAX_LINES + 5)]
    spec = draw(*(dataclasses.replace(each, place=place) for place, each in enumerate(lines)))
    looks = [(trace["line"]["color"], trace["line"]["dash"]) for trace in spec["data"]
             if trace["mode"] == "lines" and trace["name"] != "Pareto frontier"]  # fmt: skip
    assert len(looks) == len(set(looks)) == MAX_LINES


def test_against_the_load_with_a_limit():
    lines = [line("a", level(1), level(8), level(512))]
    spec = as_json(against_load(lines, "ttft_p99_ms", lambda one: one.metric, title="TTFT", limit=100.0, revision="r"))
    assert spec["layout"]["xaxis"]["type"] == "log"
    assert spec["layout"]["xaxis"]["ticktext"] == ["1", "8", "512"]
    assert spec["layout"]["yaxis"]["type"] == "log"
    rule = next(shape for shape in spec["layout"]["shapes"] if shape["type"] == "line")
    assert (rule["y0"], rule["line"]["color"]) == (100.0, theme.CRIMSON)
    note = spec["layout"]["annotations"][0]
    assert (note["text"], note["y"]) == ("limit 100 ms", 2.0)
    assert "concurrency" in spec["layout"]["xaxis"]["title"]["text"]


def test_a_narrow_range_and_shares_stay_linear():
    lines = [line("a", level(1, value=50.0), level(8, value=60.0), closed=False)]
    spec = as_json(against_load(lines, "ttft_p99_ms", lambda one: one.metric, title="t", limit=55.0, revision="r"))
    assert "type" not in spec["layout"]["yaxis"]
    assert spec["layout"]["yaxis"]["range"] == pytest.approx([0, 1.06 * 66])
    assert spec["layout"]["annotations"][0]["y"] == 55.0
    assert "offered requests per second" in spec["layout"]["xaxis"]["title"]["text"]
    share = as_json(against_load(lines, "goodput_pct", lambda one: one.metric, title="t", revision="r"))
    assert share["layout"]["yaxis"]["range"] == [0, 104]


def test_a_few_lines_are_named_below_the_plot_and_long_names_wrap():
    long = "llama bf16, TTFT ≤ 200 ms and TPOT ≤ 20 ms and E2E ≤ 9000 ms, device NVIDIA H200 NVL, 4096 tokens in"
    spec = draw(line("short", level(1)), line(long, level(2)))
    names = [trace["name"] for trace in spec["data"] if trace.get("name") and trace["name"] != "Pareto frontier"]
    assert names[0] == "short"
    assert names[1].replace("<br>", " ") == long
    assert all(len(part) <= LEGEND_CHARS for part in names[1].split("<br>"))
    legend = spec["layout"]["legend"]
    assert (legend["yref"], legend["y"], legend["yanchor"]) == ("container", 0, "bottom")
    assert spec["layout"]["height"] > draw(line("short", level(1)))["layout"]["height"]


def test_many_lines_have_numbers_that_are_those_of_every_chart():
    lines = [dataclasses.replace(line(f"line {n}", level(n + 1)), place=n) for n in range(MAX_NAMED + 1)]
    spec = draw(*lines)
    shown = {trace["legendgroup"]: trace["name"] for trace in spec["data"] if trace["mode"] == "lines"
             and trace["name"] != "Pareto frontier"}  # fmt: skip
    assert shown == {f"line {n}": str(n + 1) for n in range(MAX_NAMED + 1)}
    few = as_json(against_load(lines[4:], "ttft_p99_ms", lambda one: one.metric, title="t", revision="r",
                               numbered=True))  # fmt: skip
    assert [trace["name"] for trace in few["data"] if trace["mode"] == "lines"] == ["5", "6"]
    colours = {trace["name"]: trace["line"]["color"] for trace in spec["data"] if trace["mode"] == "lines"}
    assert all(colours[trace["name"]] == trace["line"]["color"] for trace in few["data"] if trace["mode"] == "lines")


def test_words_are_drawn_where_they_have_room():
    heap = [level(load, value=1.0) for load in (1, 64)]
    near = dataclasses.replace(heap[0], run_ids=("near",), word="2", throughput=Estimate(value=101.0))
    spec = draw(line("a", *heap), line("b", near))
    words = {run: word for trace in spec["data"] if trace["mode"] == "markers+text"
             for run, word in zip(trace["customdata"], trace["text"], strict=True)}  # fmt: skip
    assert words == {"run-1-0": "1", "run-64-0": "64", "near": ""}
    many = [dataclasses.replace(level(n + 1), run_ids=(f"r{n}",)) for n in range(MAX_WORDS + 1)]
    assert not any("text" in trace["mode"] for trace in draw(line("a", *many))["data"])


def wide(load, low, high):
    return dataclasses.replace(level(load), metric=Estimate(value=10.0 * load, low=low, high=high))


def test_a_bar_without_end_does_not_press_the_points_together():
    lines = [line("a", wide(1, 0.001, 90_000.0), level(8), level(64))]
    spec = as_json(against_load(lines, "ttft_p99_ms", lambda one: one.metric, title="t", revision="r"))
    low, high = spec["layout"]["yaxis"]["range"]
    assert 10**low > 10 / 8
    assert 10**high < 640 * 8
    assert spec["layout"]["annotations"][0]["text"] == "an interval runs off the axis: its ends are in the table"
    # The bar itself goes on to its end, beyond the edge: it is not drawn as if it ended there.
    point = next(trace for trace in spec["data"] if "markers" in trace["mode"])
    assert decoded(point["error_y"]["array"])[0] == 89_990.0
    share = as_json(against_load(lines, "goodput_pct", lambda one: one.metric, title="t", revision="r"))
    assert not share["layout"].get("annotations")


def test_intervals_of_usual_width_are_seen_whole():
    lines = [line("a", level(1, spread=0.5), level(8, spread=0.5))]
    spec = as_json(against_load(lines, "ttft_p99_ms", lambda one: one.metric, title="t", revision="r"))
    assert spec["layout"]["yaxis"]["range"][1] > 120
    assert not spec["layout"].get("annotations")
    assert spread.axis([]) == ({"rangemode": "tozero"}, False)


@given(st.lists(st.tuples(st.floats(0.01, 1e5), st.floats(1, 1e4), st.floats(1, 1e4)), min_size=1))
def test_every_value_is_on_the_axis(found):
    estimates = [Estimate(value=value, low=value / down, high=value * up) for value, down, up in found]
    part, cut = spread.axis(estimates)
    low, high = (10**end for end in part["range"]) if part.get("type") == "log" else part["range"]
    assert all(low <= one.value <= high for one in estimates)
    if not cut:
        assert all(low <= one.least and one.most <= high for one in estimates)


def columns(rows):
    names = ("device", "name", "t_s", "value")
    rows = sorted(rows)
    kinds = (object, object, float, float)
    return {name: np.array([row[i] for row in rows], dtype=kind)
            for i, (name, kind) in enumerate(zip(names, kinds, strict=True))}  # fmt: skip


FLIGHT = {"t_s": np.array([60.0, 60.5, 69.0]), "value": np.array([1.0, 2.0, 0.0])}
NOTHING = {"t_s": np.array([]), "value": np.array([])}
SERVER = columns(
    [("vllm", name, t, value) for name, value in (("requests_running", 8.0), ("requests_waiting", 3.0),
     ("kv_cache_used_pct", 40.0), ("preemptions_per_s", 0.0)) for t in (61.0, 62.0, 63.0)]
)  # fmt: skip
GPU = columns([("gpu0", name, t, 50.0) for name in ("sm_active_pct", "power_w") for t in (0.0, 61.0, 62.0)])
HOST = columns([("host", "cpu_util_pct", t, 50.0) for t in (61.0, 62.0)])
EMPTY = columns([])


def test_server_metrics_stand_above_the_gpu_on_one_axis():
    above = server.above(SERVER, FLIGHT, PHASES, device="gpu0")
    spec = as_json(gpu_timeline(GPU, PHASES, {}, gpu="gpu0", above=above, revision="r"))
    assert [trace["name"] for trace in spec["data"]] == [
        "in flight (client)", "running (server)", "waiting (server)", "KV cache in use", "SM active (GPM)",
        "board power",
    ]  # fmt: skip
    assert spec["data"][0]["line"]["shape"] == "hv"
    assert len({trace["yaxis"] for trace in spec["data"]}) == 4
    assert spec["layout"]["title"]["text"] == "Load, server and gpu0"
    # The minute in which the server started is not what one came to see.
    assert spec["layout"]["xaxis"]["range"] == pytest.approx([59.8, 70.2])
    words = [note["text"] for note in spec["layout"]["annotations"]]
    assert "measure" in words
    assert "load" not in words


def test_preemptions_get_a_panel_where_there_are_any():
    some = columns([("vllm", "preemptions_per_s", t, float(t)) for t in (61.0, 62.0)])
    above = server.above(some, NOTHING, PHASES, device="gpu0")
    spec = as_json(gpu_timeline(GPU, PHASES, {}, gpu="gpu0", above=above, revision="r"))
    assert next(trace["name"] for trace in spec["data"]) == "preemptions"


def test_without_a_gpu_the_load_stands_above_the_host():
    above = server.above(EMPTY, FLIGHT, PHASES, device=None)
    cores = {name: np.array([]) for name in ("core", "slot", "value", "low_s", "high_s")}
    spec = as_json(host_timeline(HOST, cores, PHASES, above=above, revision="r"))
    assert [trace["name"] for trace in spec["data"]] == ["in flight (client)", "CPU, mean over its cores"]
    assert spec["layout"]["title"]["text"] == "Load and host"


def test_without_client_and_server_there_is_nothing_above():
    assert server.above(EMPTY, NOTHING, PHASES, device="gpu0") is None
    assert server.shown_range(PHASES[:1]) is None


def test_what_a_server_does_not_tell_is_named():
    assert server.untold(SERVER) == ["prefix-cache hits"]
    assert server.sources(SERVER) == ["vllm"]
    assert server.sources(EMPTY) == []
