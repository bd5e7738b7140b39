"""Figures as JSON: titles, traces, custom data, typed arrays, no NaN in the text, gaps as gaps."""

from __future__ import annotations

import ast
import base64
import dataclasses
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginewatch_dashboards import figures, theme
from enginewatch_dashboards.figures import samples
from enginewatch_dashboards.figures.llm import requests, segments
from enginewatch_dashboards.figures.quick import numeric_columns, quick
from enginewatch_dashboards.figures.siblings import siblings
from enginewatch_dashboards.figures.spark import sparkline
from enginewatch_dashboards.figures.style import CONFIG, with_gaps
from enginewatch_dashboards.figures.telemetry import gpu_timeline, gpus, host_timeline
from enginewatch_dashboards.figures.trend import trend
from enginewatch_dashboards.figures.utilisation import utilisation
from enginewatch_dashboards.trends import Change, session_points, unlabelled

START = datetime(2026, 11, 1, tzinfo=UTC)
PHASES = [{"phase": "warmup", "start_s": 0.0, "end_s": 1.0}, {"phase": "measure", "start_s": 1.0, "end_s": 9.0}]


def as_json(figure):
    """Return a figure as the browser gets it, after the checks that hold for every figure."""
    text = figure.to_json()
    assert not re.search(r"\b(NaN|Infinity)\b", text)
    spec = json.loads(text)
    assert "uirevision" in spec["layout"]
    for trace in spec["data"]:
        for axis in ("x", "y", "z"):
            values = trace.get(axis)
            # A list of numbers would be encoded one by one, 30 times slower than a typed array.
            assert not (isinstance(values, list) and values and isinstance(values[0], int | float))
    return spec


def axis_titles(spec):
    return [spec["layout"][key]["title"]["text"] for key in sorted(spec["layout"]) if re.fullmatch(r"[xy]axis\d*", key)
            and "title" in spec["layout"][key]]  # fmt: skip


def decoded(array):
    """Return a typed array of a figure's JSON."""
    return np.frombuffer(base64.b64decode(array["bdata"]), dtype=array["dtype"])


def trend_run(number, value, *, repeat=0, valid=True, status="ok"):
    day = START + timedelta(days=number)
    return {
        "run_id": f"run-{number}-{repeat}", "session_id": f"s{number}", "label": f"night-{number}", "plan_name": "p",
        "session_started_at": day, "started_at": day + timedelta(minutes=repeat), "git_commit": "0123456789abcdef",
        "hostname": "bench-01", "env_id": "e", "value": value, "ci_low": None, "ci_high": None, "n": 1000,
        "valid": valid, "status": status, "reason_codes": [] if valid else ["foreign_process"],
        "failure_message": "it broke" if status == "failed" else None, "repeat": repeat,
    }  # fmt: skip


@pytest.fixture
def runs():
    found = [trend_run(n, 5.0 + n / 100 + r / 1000, repeat=r) for n in range(3) for r in range(3)]
    return [*found, trend_run(2, 9.0, repeat=3, valid=False), trend_run(3, None, valid=False, status="failed")]


@pytest.fixture
def points(runs):
    verdicts = [{"session_id": "s2", "baseline_session": "s0", "verdict": "regressed", "why": "slower by 2 %"}]
    return session_points(runs, verdicts, [])


CHANGE = Change(place=1, started_at=START + timedelta(days=1), facets={"driver": ("575", "580")})


@pytest.mark.parametrize("axis", ["order", "time"])
def test_trend(points, runs, axis):
    spec = as_json(trend(points, runs, [CHANGE], "latency_p50_ms", axis=axis, revision="r"))
    names = [trace.get("name") for trace in spec["data"]]
    assert names == [
        "run", "run that does not count", "baseline night-0", None, "session: not judged", "session: regressed",
        "failed run", "environment changed",
    ]  # fmt: skip
    by_name = {trace.get("name"): trace for trace in spec["data"]}
    assert by_name["run"]["customdata"] == [f"run-{n}-{r}" for n in range(3) for r in range(3)]
    assert by_name["failed run"]["customdata"] == ["run-3-0"]
    assert by_name["session: regressed"]["customdata"] == ["run-2-1"]
    assert by_name["session: regressed"]["marker"]["color"] == theme.ORANGE
    assert by_name["session: regressed"]["marker"]["symbol"] == "diamond"
    assert spec["layout"]["yaxis"]["title"]["text"] == "latency p50 (ms), lower is better ↓"
    assert any(note["text"] == "driver" for note in spec["layout"]["annotations"])


def test_trend_hover_tells_the_whole_story(points, runs):
    spec = as_json(trend(points, runs, [CHANGE], "latency_p50_ms"))
    by_name = {trace.get("name"): trace for trace in spec["data"]}
    session = by_name["session: regressed"]["hovertext"][0]
    for part in ("ms", "[", "3 of 4 runs count", "bench-01", "0123456789", "regressed: slower by 2 %"):
        assert part in session
    assert "does not count: foreign_process" in by_name["run that does not count"]["hovertext"][0]
    assert "it broke" in by_name["failed run"]["hovertext"][0]
    assert "driver: 575 → 580" in by_name["environment changed"]["hovertext"][0]


def test_a_session_without_a_label_has_its_date_once(points, runs):
    first = points[0]
    bare = dataclasses.replace(first, label=unlabelled(first.started_at))
    spec = as_json(trend([bare, *points[1:]], runs, [], "latency_p50_ms"))
    ticks = spec["layout"]["xaxis"]["ticktext"]
    assert ticks[0] == f"{first.started_at:%H:%M}<br>{first.started_at:%b %d}"
    assert ticks[1].startswith(points[1].label)


def test_a_session_without_a_value_breaks_the_line(points, runs):
    line = as_json(trend(points, runs, [], "latency_p50_ms"))["data"][3]
    assert np.isnan(decoded(line["y"]))[-1]
    assert not np.isnan(decoded(line["y"]))[:-1].any()


def test_trend_options(points, runs):
    spec = as_json(trend(points, runs, [], "output_tokens_s", dots=False, zero=True))
    assert "run" not in [trace.get("name") for trace in spec["data"]]
    assert spec["layout"]["yaxis"]["rangemode"] == "tozero"
    assert "higher is better ↑" in spec["layout"]["yaxis"]["title"]["text"]


def columns(**values):
    return {name: np.asarray(value) for name, value in values.items()}


def telemetry(series):
    rows = [
        (device, name, t, v) for (device, name), (ts, vs) in sorted(series.items()) for t, v in zip(ts, vs, strict=True)
    ]
    return columns(
        device=np.array([row[0] for row in rows], dtype=object),
        name=np.array([row[1] for row in rows], dtype=object),
        t_s=[row[2] for row in rows],
        value=[row[3] for row in rows],
    )


TICKS = np.arange(0, 10, 0.1)
GPU_SERIES = {
    ("gpu0", name): (TICKS, np.full(TICKS.size, level))
    for name, level in [
        ("sm_active_pct", 48.0), ("gpu_busy_time_pct", 98.0), ("tensor_active_pct", 19.0),
        ("dram_bw_pct_of_peak", 14.0), ("power_w", 690.0), ("sm_clock_mhz", 1600.0), ("temp_c", 60.0),
    ]
}  # fmt: skip


def test_gpu_timeline_shows_both_kinds_of_utilisation_and_the_limits():
    facts = {"power_limit_mw": 700_000, "max_sm_clock_mhz": 1980}
    spec = as_json(gpu_timeline(telemetry(GPU_SERIES), PHASES, facts, gpu="gpu0", revision="r"))
    assert [trace["name"] for trace in spec["data"]] == [
        "GPU busy time (utilisation rate)", "SM active (GPM)", "DRAM bandwidth of its peak", "tensor pipes active",
        "board power", "SM clock", "GPU temperature",
    ]  # fmt: skip
    assert spec["data"][0]["yaxis"] == spec["data"][1]["yaxis"] == "y"
    words = " ".join(note["text"] for note in spec["layout"]["annotations"])
    assert "power limit 700 W" in words
    assert "highest SM clock 1980 MHz" in words
    assert "measure" in words
    assert axis_titles(spec)[-1] == "MHz" or "seconds since the run began" in axis_titles(spec)
    bands = [shape for shape in spec["layout"]["shapes"] if shape["type"] == "rect"]
    assert [band["fillcolor"] for band in bands] == [theme.PHASE_TINTS["warmup"], theme.PHASE_TINTS["measure"]]


def test_gpu_timeline_leaves_out_what_was_not_read():
    series = {key: value for key, value in GPU_SERIES.items() if key[1] in ("gpu_busy_time_pct", "power_w")}
    spec = as_json(gpu_timeline(telemetry(series), PHASES, {}, gpu="gpu0", revision="r"))
    assert [trace["name"] for trace in spec["data"]] == ["GPU busy time (utilisation rate)", "board power"]
    assert not [shape for shape in spec["layout"]["shapes"] if shape["type"] == "line"]
    assert gpus(telemetry(series)) == ["gpu0"]


def test_a_missing_second_is_a_gap():
    keep = (TICKS < 3) | (TICKS >= 4)
    t, v = with_gaps(TICKS[keep], np.ones(keep.sum()))
    assert np.isnan(v).sum() == 1
    assert 2.9 < t[np.isnan(v)][0] < 4.0
    whole_t, whole_v = with_gaps(TICKS, np.ones(TICKS.size))
    assert not np.isnan(whole_v).any()
    assert whole_t.size == TICKS.size


@given(st.lists(st.floats(0.01, 5.0), min_size=1, max_size=60), st.floats(0, 1))
def test_gaps_change_no_reading(steps, bucket):
    t = np.cumsum(steps)
    out_t, out_v = with_gaps(t, np.arange(t.size, dtype=float), bucket=bucket)
    kept = ~np.isnan(out_v)
    assert (out_t[kept] == t).all()
    assert (np.diff(out_t) >= 0).all()
    assert not (np.isnan(out_v)[1:] & np.isnan(out_v)[:-1]).any()


def test_host_timeline_has_a_row_per_core():
    cores = columns(
        core=[0, 0, 1, 1], slot=[0, 1, 0, 1], value=[90.0, 95.0, 5.0, 6.0], low_s=[0.0] * 4, high_s=[9.0] * 4
    )
    host = telemetry({("host", "cpu_util_pct"): (TICKS, np.full(TICKS.size, 50.0))})
    spec = as_json(host_timeline(host, cores, PHASES, revision="r"))
    assert [trace["type"] for trace in spec["data"]] == ["scatter", "heatmap"]
    assert decoded(spec["data"][1]["z"]).tolist() == [90.0, 95.0, 5.0, 6.0]
    empty = columns(core=[], slot=[], value=[], low_s=[], high_s=[])
    assert [trace["type"] for trace in as_json(host_timeline(host, empty, [], revision="r"))["data"]] == ["scatter"]


MARKS = {"p50": 2.0, "p90": 2.4, "p99": 3.0}


def test_samples_in_order_say_how_many_are_drawn():
    spec = as_json(
        samples.in_order(columns(t_s=[0.0, 1.0], value=[2.0, 9.0]), MARKS, what="latency", n=5000, revision="r")
    )
    assert "2 of 5,000 drawn, extremes kept" in spec["layout"]["xaxis"]["title"]["text"]
    assert [note["text"] for note in spec["layout"]["annotations"]] == ["p50", "p90", "p99"]
    assert "lower is better ↓" in spec["layout"]["yaxis"]["title"]["text"]


def test_histogram_counts_and_tells_what_lies_beyond():
    bins = columns(
        bin=[-1, 0, 3, 4], n=[7, 10, 20, 2], low=[1.0] * 4, high=[3.0] * 4, smallest=[0.5] * 4, largest=[9.0] * 4
    )
    spec = as_json(samples.histogram(bins, MARKS, what="latency", n_bins=4, revision="r"))
    assert decoded(spec["data"][0]["y"]).tolist() == [10, 0, 0, 20, 0]
    assert decoded(spec["data"][0]["x"]).tolist() == [1.0, 1.5, 2.0, 2.5, 3.0]
    told = spec["layout"]["title"]["subtitle"]["text"]
    assert told == "2 above 3.000 (largest 9.000) · 7 below 1.000 (smallest 0.5000) ms"
    assert "type" not in spec["layout"]["xaxis"]


def test_a_long_tail_gets_a_logarithmic_axis():
    assert samples.is_skewed({"p50": 10.0, "p99": 41.0})
    assert not samples.is_skewed({"p50": 10.0, "p99": 39.0})
    assert not samples.is_skewed({"p50": 10.0})
    bins = columns(bin=[0, 1], n=[5, 5], low=[1.0] * 2, high=[100.0] * 2, smallest=[1.0] * 2, largest=[100.0] * 2)
    spec = as_json(samples.histogram(bins, {"p50": 10.0}, what="gap", n_bins=2, log=True, revision="r"))
    assert spec["layout"]["xaxis"]["type"] == "log"
    assert decoded(spec["data"][0]["x"]).tolist() == pytest.approx([1.0, 10.0, 100.0])
    assert next(note["x"] for note in spec["layout"]["annotations"]) == pytest.approx(1.0)
    assert "logarithmic" in spec["layout"]["xaxis"]["title"]["text"]


def test_ecdf_ends_at_everything():
    spec = as_json(
        samples.ecdf(columns(value=[1.0, 2.0, 5.0], rank=[1, 50, 100], n=[100] * 3), MARKS, what="x", revision="r")
    )
    assert decoded(spec["data"][0]["y"]).tolist() == [1.0, 50.0, 100.0]


def test_a_quantile_shows_its_interval():
    bins = columns(bin=[0], n=[5], low=[1.0], high=[9.0], smallest=[1.0], largest=[9.0])
    ends = {"p50": (1.5, 2.5), "p99": (7.0, None)}
    spec = as_json(samples.histogram(bins, MARKS, what="x", n_bins=1, ends=ends, revision="r"))
    bands = [(shape["x0"], shape["x1"]) for shape in spec["layout"]["shapes"] if shape["type"] == "rect"]
    assert bands == [(1.5, 2.5)]
    words = [note["text"] for note in spec["layout"]["annotations"]]
    assert any(text.startswith("p50 ") and text.endswith("[1.500, 2.500]") for text in words)
    assert any(text.startswith("p99 ") and text.endswith("[7.000, …]") for text in words)


def test_intervals_are_read_from_the_metrics():
    rows = [{"metric": "e2e_p50_ms", "value": 5.0, "ci_low": 4.0, "ci_high": None}]
    assert samples.ends_of(rows, "e2e") == {"p50": (4.0, None)}
    assert samples.quantiles_of(rows, "e2e") == {"p50": 5.0}


def request_rows():
    nothing = np.array([None] * 4, dtype=object)
    return columns(
        request_idx=[0, 1, 2, 3], stream=[0, 1, 0, 1], process=[0, 1, 0, 1], session=nothing, turn=nothing,
        phase=np.array(["warmup", "measure", "measure", "drain"], dtype=object), place=[1, 2, 3, 4], n=[9] * 4,
        status=np.array(["ok", "error", "ok", "error"], dtype=object), http_status=[np.nan, 503, np.nan, np.nan],
        error_class=np.array([None, "http_503", None, "cancelled"], dtype=object), start_s=[0.0, 0.5, 1.0, 1.5],
        sent_s=[0.0, 0.5, 1.05, 1.5], first_s=[0.2, np.nan, 1.1, np.nan], end_s=[1.0, np.nan, 2.0, np.nan],
        late_ms=[0.0, 0.0, 50.0, 0.0], ttft_ms=[200.0, np.nan, 100.0, np.nan], e2e_ms=[1000.0, np.nan, 1000.0, np.nan],
        tpot_ms=[34.8, np.nan, 39.1, np.nan], prompt_tokens=[512, 512, 512, 512],
        cached_prompt_tokens=[np.nan, np.nan, 128, np.nan], output_tokens=[24, np.nan, 24, np.nan],
    )  # fmt: skip


def test_requests_are_drawn_as_late_waiting_and_decoding():
    spec = as_json(requests(request_rows(), PHASES, revision="r"))
    assert [trace.get("name") for trace in spec["data"]] == [
        "late or connecting", "to first token", "decoding", None, "cut off at the end", "failed: http_503",
    ]  # fmt: skip
    by_name = {trace.get("name"): trace for trace in spec["data"]}
    late, waiting = (decoded(by_name[name]["x"]) for name in ("late or connecting", "to first token"))
    assert late[:2].tolist() == [1.0, 1.05]
    assert late.size == 3
    assert waiting[[0, 1, 3, 4]].tolist() == [0.0, 0.2, 1.05, 1.1]
    assert np.isnan(waiting[[2, 5]]).all()
    assert by_name["failed: http_503"]["marker"]["color"] == theme.CRIMSON
    assert by_name["cut off at the end"]["marker"]["color"] == theme.GREY
    assert "4 of 9 drawn" in spec["layout"]["xaxis"]["title"]["text"]


def test_a_request_tells_its_story():
    spec = as_json(requests(request_rows(), PHASES, revision="r"))
    stories = next(trace["hovertext"] for trace in spec["data"] if not trace.get("name"))
    assert len(stories) == 4
    assert "request 2, measure, stream 0, client process 0" in stories[2]
    for part in ("sent 50.0 ms late", "TTFT 100.0 ms", "E2E 1,000 ms", "512 (128 cached) → 24 tokens"):
        assert part in stories[2], part
    assert "late" not in stories[0]
    failed = next(trace["hovertext"] for trace in spec["data"] if trace.get("name") == "failed: http_503")
    assert "HTTP 503" in failed[0]


def test_few_requests_get_thick_bars_and_the_shown_part_is_kept():
    spec = as_json(requests(request_rows(), PHASES, x_range=(0.5, 2.0), revision="r"))
    assert spec["data"][1]["line"]["width"] == 9.0
    assert spec["layout"]["xaxis"]["range"] == [0.5, 2.0]


@given(st.lists(st.floats(-1e6, 1e6), max_size=20))
def test_segments_keep_every_end(values):
    ends = np.array(values)
    x, y = segments(ends, ends + 1, np.arange(ends.size, dtype=float))
    assert x.size == y.size == 3 * ends.size
    assert (x[0::3] == ends).all()
    assert np.isnan(x[2::3]).all()


def test_utilisation_keeps_time_apart_from_units():
    metrics = [
        {"metric": "gpu_busy_time_mean_pct", "value": 98.0}, {"metric": "sm_active_mean_pct", "value": 48.0},
        {"metric": "power_mean_w", "value": 350.0}, {"metric": "tensor_active_mean_pct", "value": None},
    ]  # fmt: skip
    spec = as_json(utilisation(metrics, power_limit_w=700.0, revision="r"))
    assert spec["data"][0]["y"] == ["board power of its limit", "SM active", "GPU busy time (utilisation rate)"]
    assert decoded(spec["data"][0]["x"]).tolist() == [50.0, 48.0, 98.0]
    assert spec["data"][0]["marker"]["color"] == [theme.GREY, theme.BLUE, theme.ORANGE]
    assert utilisation([], power_limit_w=None, revision="r") is None


def sibling(concurrency, sm, *, here=False, precision="bf16"):
    return {
        "case_key": f"llm/c{concurrency}", "backend": "openai", "precision": precision, "batch": None,
        "concurrency": concurrency, "here": here, "run_id": f"r{concurrency}", "gpu_busy_time_mean_pct": 97.0,
        "sm_active_mean_pct": sm, "tensor_active_mean_pct": None, "dram_bw_mean_pct_of_peak": 60.0,
    }  # fmt: skip


def test_siblings_are_ordered_by_load():
    rows = [sibling(64, 88.0, here=True), sibling(1, 67.0), sibling(16, 70.0), sibling(4, 1.0, precision="fp8")]
    spec = as_json(siblings(rows, revision="r"))
    assert spec["data"][0]["x"] == ["1", "16", "64"]
    assert [trace["name"] for trace in spec["data"]][-1] == "DRAM bandwidth of its peak"
    assert len(spec["data"]) == 3
    assert spec["layout"]["shapes"][0]["x0"] == 2
    assert siblings(rows[:1], revision="r") is None


def test_quick_chart_picks_axes():
    names = columns(case=np.array(["a", "b"], dtype=object), value=[1.0, 2.0])
    assert numeric_columns(names) == ["value"]
    spec = as_json(quick(names, y="value", revision="q"))
    assert (spec["data"][0]["type"], axis_titles(spec)) == ("bar", ["case", "value"])
    moments = columns(at=np.array(["2026-11-01", "2026-11-02"], dtype="datetime64[ms]"), value=[1.0, 2.0])
    assert as_json(quick(moments, y="value", revision="q"))["data"][0]["type"] == "scatter"
    assert axis_titles(as_json(quick(columns(value=[1.0]), y="value", revision="q"))) == ["row", "value"]


@given(st.lists(st.floats(-1e9, 1e9), min_size=2, max_size=30), st.none() | st.floats(-1e9, 1e9))
def test_sparklines_stay_in_their_box(values, reference):
    picture = sparkline(values, colour=theme.GREY, last_colour=theme.BLUE, reference=reference)
    numbers = [float(n) for n in re.findall(r'c[xy]="([-\d.]+)"', picture)]
    assert all(0 <= n <= 240 for n in numbers)
    assert "nan" not in picture


def test_one_point_makes_no_line():
    assert sparkline([1.0], colour=theme.GREY, last_colour=theme.BLUE) == ""


def test_plotly_sends_nothing_away():
    assert CONFIG["displaylogo"] is False
    assert CONFIG["showSendToCloud"] is False


def test_figures_import_neither_streamlit_nor_duckdb():
    for path in Path(figures.__file__).parent.glob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = {
            alias.name if isinstance(node, ast.Import) else node.module
            for node in ast.walk(tree)
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in node.names
        }
        assert not {str(name).split(".")[0] for name in names} & {"streamlit", "duckdb"}
