"""The Engine page, and what the Run page shows of an engine, in every state."""

from __future__ import annotations

import json

import pytest

from enginewatch_dashboards.state import EngineState, href
from enginewatch_db.ingest import ingest
from enginewatch_db.workspace import Workspace


def words(app):
    kinds = ("title", "header", "subheader", "markdown", "caption", "info", "warning", "error", "code")
    return "\n".join(str(element.value) for kind in kinds for element in getattr(app, kind))


def charts(app):
    """Return key → (figure, words for those who cannot see it)."""
    found = {}
    for chart in app.get("plotly_chart"):
        assert chart.proto.alt
        found[chart.proto.id.rsplit("-", 1)[-1]] = (json.loads(chart.proto.spec), chart.proto.alt)
    return found


def links(app):
    return {link.proto.label: (link.proto.page, link.proto.query_string) for link in app.get("page_link")}


def frames(app):
    """Return the page's tables as data frames."""
    return [frame.value for frame in app.dataframe]


def check(app):
    assert not app.exception
    assert not app.error, [error.value for error in app.error]
    return app


def boxes(app):
    return {box.label: box.value for box in app.selectbox}


def metrics(app):
    return {metric.label: metric.value for metric in app.metric}


def test_without_an_engine_it_says_what_builds_one(open_page, tmp_path, seed):
    workspace = Workspace(tmp_path / "ew").create()
    seed.write_session(workspace, 1, repeats=1, cases=[case for case in seed.CASES if case.streams])
    ingest(workspace)
    app = check(open_page(workspace, "engine"))
    assert app.title[0].value == "No engine yet"
    assert "enginewatch run PLAN" in words(app)


def test_an_engine_with_its_numbers_layers_and_roofline(open_page, engines):
    app = check(open_page(engines.workspace, "engine", id="aaaa2222", case="resnet50/trtexec/fp16/b8"))
    assert app.title[0].value == "resnet50 / trtexec / fp16"
    shown = metrics(app)
    assert (shown["GPU time p50"], shown["Output relative L2"], shown["Runs that count"]) == (
        "0.6710 ms", "0.0004", "2 of 2",
    )  # fmt: skip
    text = words(app)
    for told in (
        "last good of resnet50/trtexec/fp16/b8", "accuracy within its limits", "opt\\_level", "trtexec --onnx",
        "155 layers, together 0.6710 ms against 0.6710 ms",
        "cost is taken out, 2.3 µs of each layer", "**Computes in** fp16 100.0 %", "convert constants",
        "What bounds the layers", "latency",
    ):  # fmt: skip
        assert told in text, told
    assert set(charts(app)) == {"layers", "precisions", "roofline"}
    roof, alt = charts(app)["roofline"]
    assert "H200" in alt
    assert [trace["name"] for trace in roof["data"] if trace.get("name")] == ["memory 4.8 TB/s", "fp16: 56 layers"]
    layers, _used, listed = frames(app)
    assert len(layers) == 155
    assert layers["Time (µs)"].iloc[0] == layers["Time (µs)"].max()
    assert {"latency"} <= set(layers["Bound by"].dropna())
    assert set(listed["Case"]) == {key for key, _ in engines.runs}
    assert "✖ 0.21 (wrong)" in set(listed["Relative L2"])
    assert list(listed["Last good"]).count("✓ last good") == 6


def test_the_default_is_the_engine_used_last_with_its_layers(open_page, engines):
    app = check(open_page(engines.workspace, "engine"))
    assert boxes(app)["Engine"] == "cccccccccccc"
    assert boxes(app)["Compare with"] is None
    assert "The tool told the layers and no times" in words(app)


def test_a_case_alone_means_the_engine_used_last_in_it(open_page, engines):
    app = check(open_page(engines.workspace, "engine", case="resnet50/trtexec/fp32/b32"))
    assert boxes(app)["Engine"].startswith("aaaa1111")
    assert boxes(app)["Case"] == "resnet50/trtexec/fp32/b32"


def test_an_id_that_fits_two_engines_asks_which(open_page, engines):
    app = check(open_page(engines.workspace, "engine", id="AAAA"))
    assert app.title[0].value == "Which engine?"
    assert {query for _, query in links(app).values()} == {f"id={'aaaa1111' * 8}", f"id={'aaaa2222' * 8}"}


@pytest.mark.parametrize("given", ["dddd", "a", "no such thing"])
def test_an_unknown_id_says_so_and_shows_the_newest(open_page, engines, given):
    app = check(open_page(engines.workspace, "engine", id=given))
    assert "This store has no engine" in app.warning[0].value
    assert boxes(app)["Engine"] == "cccccccccccc"


@pytest.mark.parametrize(("case", "other"), [("b8", "b8"), ("b32", "b32")])
def test_the_difference_of_two_engines_adds_up(open_page, engines, case, other):
    app = check(open_page(engines.workspace, "engine", id="aaaa2222", case=f"resnet50/trtexec/fp16/{case}",
                          base="aaaa1111"))  # fmt: skip
    text = words(app)
    assert "What changed from fp32 to fp16" in text
    assert "less time than fp32: convolutions −" in text
    assert "not the same work" not in text
    figure, alt = charts(app)["waterfall"]
    assert "measured median GPU time" in alt
    table = next(frame for frame in frames(app) if "Work" in frame.columns)
    rows, total = table.iloc[:-1], table.iloc[-1]
    expected = {"b8": (2653.0, 671.0), "b32": (8301.0, 1377.0)}[other]
    assert (total["Base"], total["Cand"]) == pytest.approx(expected)
    assert rows["Change"].sum() == pytest.approx(total["Change"])
    assert {"conversions", "residual"} <= set(rows["Work"])
    assert figure["layout"]["xaxis"]["title"]["text"].startswith("µs of one inference")
    target = links(app)["The other way round"][1]
    assert "base=aaaa2222" in target
    assert f"fp32%2F{other}" in target


def test_kinds_of_work_can_be_compared_instead_of_layers(open_page, engines):
    app = check(open_page(engines.workspace, "engine", id="aaaa2222", base="aaaa1111", by="kind"))
    table = next(frame for frame in frames(app) if "Work" in frame.columns)
    assert "convolutions" in set(table["Work"])
    assert "Precision" not in table.columns
    assert table["Change"].iloc[:-1].sum() == pytest.approx(table["Change"].iloc[-1])


def test_other_work_or_no_times_is_said_before_it_is_compared(open_page, engines):
    app = check(open_page(engines.workspace, "engine", id="aaaa2222", base="bbbb"))
    assert "these are not the same work" in app.warning[0].value
    assert "two models" in app.warning[0].value
    app = check(open_page(engines.workspace, "engine", id="bbbb", base="cccc"))
    assert "has a time: measure it with `profile = true`" in app.info[0].value
    assert "waterfall" not in charts(app)


def test_a_processor_has_no_roofline_and_unknown_operations_are_said(open_page, engines):
    app = check(open_page(engines.workspace, "engine", id="bbbb"))
    text = words(app)
    assert "No roofline: no peaks are known of AMD EPYC 9654" in text
    assert "The operations of 1 of 2 computing layers are not known (20.0 % of the time)" in text
    assert set(charts(app)) == {"layers", "precisions"}
    assert "Bound by" not in frames(app)[0].columns


def test_choosing_writes_the_url(open_page, engines):
    app = open_page(engines.workspace, "engine", id="aaaa2222")
    box = app.selectbox(key="url_base")
    box.select(next(option for option in box.options if "fp32" in option)).run()
    assert app.query_params["base"] in ("aaaa1111aaaa", ["aaaa1111aaaa"])
    check(app)
    assert "waterfall" in charts(app)


def test_a_run_shows_accuracy_layers_kernels_and_its_engine(open_page, engines):
    app = check(open_page(engines.workspace, "run", id=engines.runs["resnet50/trtexec/fp16/b8", True]))
    text = words(app)
    for told in ("within its limits", "outputs within 0.0004 of fp32", "2 kernels", "155 layers"):
        assert told in text, told
    measures = next(table.value for table in app.table if "Limit" in table.value.columns)
    assert list(measures["Limit"]) == ["≤ 0.01", "none", "≥ 0.99"]
    assert list(measures["Value"]) == ["0.0004", "0.0012", "0.9999"]
    assert {"layers", "precisions", "roofline"} <= set(charts(app))
    assert links(app)["Engine, and what changed"][1] == "id=aaaa2222aaaa&case=resnet50%2Ftrtexec%2Ffp16%2Fb8"
    assert any("Kernel" in frame.columns for frame in frames(app))


def test_a_run_without_accuracy_and_layers_says_why_and_where_they_are(open_page, engines):
    app = check(open_page(engines.workspace, "run", id=engines.runs["resnet50/trtexec/fp16/b8", False]))
    text = words(app)
    assert "Not measured in this run: checked once for each engine" in text
    assert links(app)["Run 1 of this session has it"][1] == f"id={engines.runs['resnet50/trtexec/fp16/b8', True]}"
    assert "This run has no layer profile" in text


def test_a_wrong_engine_is_called_wrong(open_page, engines):
    app = check(open_page(engines.workspace, "run", id=engines.runs["convnet/onnxruntime/int8/b1", True]))
    assert ":red-badge[:material/error: wrong]" in words(app)
    assert "outputs are wrong: output\\_rel\\_l2 0.21" in words(app)


def test_runs_lead_to_their_engines(open_page, engines):
    app = check(open_page(engines.workspace, "runs", case="resnet50/trtexec/fp32/b8"))
    address = "/" + href(EngineState(id="aaaa1111aaaa", case="resnet50/trtexec/fp32/b8"))
    assert list(app.dataframe[0].value["Engine"]) == [address] * 2
