"""Every page in every state: with data, without a store, with one session, with failed, LLM and GPU runs."""

from __future__ import annotations

import dataclasses
import json

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from enginewatch_dashboards.components.verdict_list import short_why
from enginewatch_db import model
from enginewatch_db.bundle import write
from enginewatch_db.ingest import ingest
from enginewatch_db.validity import Reason
from enginewatch_db.workspace import Workspace

PAGES = ("overview", "trend", "run", "engine", "serving", "runs", "sql")


def words(app):
    """Return all text of a page."""
    kinds = ("title", "header", "subheader", "markdown", "caption", "info", "warning", "error", "code")
    texts = [element.value for kind in kinds for element in getattr(app, kind)]
    return "\n".join(str(text) for text in texts)


def charts(app):
    """Return the page's charts as (figure, words for those who cannot see it)."""
    return [(json.loads(chart.proto.spec), chart.proto.alt) for chart in app.get("plotly_chart")]


def links(app):
    """Return label → (page, query) of the page's links."""
    return {link.proto.label: (link.proto.page, link.proto.query_string) for link in app.get("page_link")}


def check(app):
    """Assert what holds for every page: drawn without an error, and every chart has words."""
    assert not app.exception
    assert not app.error, [error.value for error in app.error]
    for figure, alt in charts(app):
        assert alt
        assert figure["data"]
    return app


@pytest.mark.parametrize("page", PAGES)
def test_without_a_store_every_page_says_what_to_do(open_page, tmp_path, page):
    app = open_page(Workspace(tmp_path / "nothing"), page)
    assert not app.exception
    assert app.title[0].value == "No store yet"
    assert "There is no store in" in words(app)
    assert "enginewatch demo" in app.code[0].value


@pytest.mark.parametrize("page", PAGES)
def test_an_empty_store_says_what_to_do(open_page, workspace, page):
    ingest(workspace)
    app = open_page(workspace, page)
    assert app.title[0].value == "No runs yet"
    assert "enginewatch run PLAN" in app.code[0].value


def test_runs_that_wait_in_the_spool_are_told(open_page, workspace, make_run):
    ingest(workspace)
    record, tables = make_run()
    write(workspace.spool, record, tables)
    app = open_page(workspace)
    assert "1 finished run waits in the spool" in words(app)
    assert app.code[0].value == "enginewatch ingest"


def test_overview(open_page, rich):
    app = check(open_page(rich.workspace))
    text = words(app)
    assert "1 failed and 2 regressed" in text
    assert "latency p50 +11.8 % \\[+10.2, +13.4\\] against night-3." in text
    assert "newest run ended 2026-11-05 10:16 UTC" in text
    assert "74 runs in 4 sessions" in text
    found = links(app)
    assert list(found)[:4] == ["decoder", "encoder", "resnet50", "llama-7b"]
    assert found["encoder"] == ("trend", "case=encoder%2Fonnxruntime%2Fint8%2Fb8&metric=latency_p50_ms")
    assert found["Run"][1] == f"id={rich.runs['decoder/onnxruntime/fp32/b1']}"


def test_overview_counts_all_six_verdicts(open_page, rich):
    app = check(open_page(rich.workspace))
    labels = [option.content for option in app.pills[0].proto.options]
    told = " ".join(labels)
    for part in ("1 failed", "2 regressed", "0 not comparable", "1 inconclusive", "1 improved", "3 unchanged"):
        assert part in told


def test_overview_lists_limits_and_what_is_absent(open_page, rich):
    app = check(open_page(rich.workspace))
    limits, absent = (table.value for table in app.table)
    assert "TensorRT-LLM is not installed" in absent["Why"][0]
    assert list(limits["Limit"])[:3] == [
        "p99 latency below 200 ms", "tokens/s not below the baseline", "SM activity above 70 %",
    ]  # fmt: skip
    assert "met" in limits["State"][0]
    assert "breached" in limits["State"][1]
    assert "1 breached" in limits["State"][2]
    assert "1 not evaluable" in limits["State"][2]
    assert "not judged" in limits["State"][4]
    assert "pip install" in absent["What adds it"][0]


def test_overview_filters_by_verdict(open_page, rich):
    app = check(open_page(rich.workspace, verdict="regressed"))
    assert set(app.dataframe[0].value["Verdict"]) == {"◆ regressed"}
    app.pills[0].set_value("inconclusive").run()
    assert app.query_params["verdict"] == "inconclusive"
    assert set(app.dataframe[0].value["Verdict"]) == {"? inconclusive"}
    empty = check(open_page(rich.workspace, verdict="not_comparable"))
    assert "Nothing is not comparable in the sessions that are shown." in words(empty)


def test_overview_of_an_earlier_session(open_page, rich):
    app = check(open_page(rich.workspace, session="night-2"))
    assert "Not judged yet" in words(app)
    assert "night-2" in words(app)
    # What was measured later must not leak into it: the third and fourth session do not exist yet.
    tiles = [caption.value for caption in app.caption if "valid runs" in caption.value]
    assert tiles == ["3 valid runs · 2 cases · 2 sessions"] * 3
    assert "No case failed. Findings come with the verdicts" in words(app)
    assert "1 failed" not in words(app).splitlines()[0]


def test_the_first_session_had_nothing_to_compare_with(open_page, rich):
    app = check(open_page(rich.workspace, session="night-1"))
    assert "Not enough data yet: 1 session; run again to compare" in words(app)


@pytest.mark.parametrize("page", ["overview", "runs"])
def test_an_unknown_session_is_said(open_page, rich, page):
    app = check(open_page(rich.workspace, page, session="no-such-night"))
    assert app.warning[0].value == "This store has no session `no-such-night`; showing all of them."


def test_overview_of_one_session_is_never_green(open_page, single):
    app = check(open_page(single.workspace))
    text = words(app)
    assert "Not enough data yet: 1 session; run again to compare" in text
    assert "not enough data yet: 1 session; run again to compare" in text
    assert "green-badge" not in text
    assert all(badge.proto.color != "green" for badge in app.get("badge"))


def test_trend(open_page, rich):
    case = "encoder/onnxruntime/int8/b8"
    app = check(open_page(rich.workspace, "trend", case=case, metric="latency_p50_ms"))
    text = words(app)
    assert app.title[0].value == f"latency p50 of {case}"
    assert "all of it lies beyond 5 %" in text
    ((figure, alt),) = charts(app)
    assert alt == f"latency p50 of {case} over 4 sessions"
    names = {trace.get("name") for trace in figure["data"]}
    assert {"run", "run that does not count", "session: regressed", "environment changed"} <= names
    table = app.dataframe[0].value
    assert list(table["Session"]) == ["night-4", "night-3 (baseline)", "night-2", "night-1"]
    assert list(table["Runs that count"]) == ["3 of 3", "3 of 3", "2 of 3", "3 of 3"]
    assert table["Environment changed"][1] == "driver: 575.57.08 → 580.159.04"


def test_trend_keeps_its_state_in_the_url(open_page, rich):
    app = check(open_page(rich.workspace, "trend", case="resnet50/trtexec/fp16/b8", metric="latency_p99_ms"))
    assert [box.value for box in app.selectbox] == ["resnet50/trtexec/fp16/b8", "latency_p99_ms"]
    app.selectbox[1].set_value("throughput_qps").run()
    app.toggle[1].set_value(True).run()
    check(app)
    assert app.query_params == {"case": "resnet50/trtexec/fp16/b8", "metric": "throughput_qps", "zero": "true"}
    assert charts(app)[0][0]["layout"]["yaxis"]["rangemode"] == "tozero"
    assert f"{app.code[0].value}".endswith("zero=true")


def test_trend_follows_the_url_back(open_page, rich):
    app = check(open_page(rich.workspace, "trend", case="resnet50/trtexec/fp16/b8"))
    app.selectbox[0].set_value("encoder/onnxruntime/fp32/b8").run()
    app.query_params["case"] = "resnet50/trtexec/fp16/b8"
    app.run()
    assert app.selectbox[0].value == "resnet50/trtexec/fp16/b8"


def test_trend_over_time(open_page, rich):
    app = check(open_page(rich.workspace, "trend", case="llama-7b/openai/bf16/c64", axis="time"))
    figure, _ = charts(app)[0]
    assert figure["layout"]["xaxis"]["type"] == "date"
    assert "higher is better ↑" in charts(app)[0][0]["layout"]["yaxis"]["title"]["text"] or "lower is better" in str(
        figure
    )


def test_trend_of_one_session_asks_for_another(open_page, single):
    app = check(open_page(single.workspace, "trend"))
    assert "1 session; run again to compare" in words(app)


def test_trend_of_an_unknown_case_says_so(open_page, rich):
    app = check(open_page(rich.workspace, "trend", case="no/such/case"))
    assert "This store has no case `no/such/case`" in app.warning[0].value
    assert charts(app)


def test_trend_of_an_absent_metric_says_why(open_page, rich):
    app = check(open_page(rich.workspace, "trend", case="encoder/onnxruntime/int8/b8", metric="build_time_s"))
    assert "build time is absent: the engine came from the cache" in app.info[0].value


def test_trend_of_a_case_that_only_failed(open_page, rich):
    app = check(open_page(rich.workspace, "trend", case="decoder/onnxruntime/fp32/b1"))
    assert "1 run, and no value" in words(app)
    assert "FusedGelu" in words(app)
    assert links(app)["Open that run"][1] == f"id={rich.runs['decoder/onnxruntime/fp32/b1']}"


def titles(app):
    return [figure["layout"]["title"]["text"] for figure, _ in charts(app)]


def test_run_of_an_engine_on_a_gpu(open_page, rich):
    app = check(open_page(rich.workspace, "run", id=rich.runs["resnet50/trtexec/fp16/b8"]))
    assert titles(app) == [
        "latency in the order of measuring", "Distribution of latency", "How much of the GPU was used",
        "What moves with the load", "gpu0: what its units did", "Host", "Slowest layers", "Realised precision",
    ]  # fmt: skip
    text = words(app)
    assert "May I trust it? Yes" in text
    assert "The utilisation rate says **97 %**; the SMs were active for **37 %** of their cycles" in text
    assert "trtexec --loadEngine=resnet50.plan" in text
    assert "enginewatch run nightly.toml" in text
    assert {metric.label for metric in app.metric} >= {"latency p50", "latency p99", "SM active mean", "power mean"}
    assert json.loads(app.json[0].value)["case_key"] == "resnet50/trtexec/fp16/b8"


def test_run_of_a_server(open_page, rich):
    app = check(open_page(rich.workspace, "run", id=rich.runs["llama-7b/openai/bf16/c64"]))
    assert titles(app)[:3] == [
        "Distribution of time to first token", "Distribution of gap between tokens",
        "Requests: waiting for the first token, then decoding",
    ]  # fmt: skip
    text = words(app)
    assert "Yes, with care" in text
    assert "the power cap of 700 W held the clock down for **71 %** of the time" in text
    assert "http\\_503" in text
    gpu = next(figure for figure, _ in charts(app) if figure["layout"]["title"]["text"] == "Load and gpu0")
    assert "power limit 700 W" in " ".join(note["text"] for note in gpu["layout"]["annotations"])


def test_run_as_a_cumulative_distribution(open_page, rich):
    app = check(open_page(rich.workspace, "run", id=rich.runs["encoder/onnxruntime/fp32/b8"], dist="ecdf"))
    assert "Cumulative distribution of latency" in titles(app)
    app.segmented_control[0].set_value("histogram").run()
    assert "Distribution of latency" in titles(check(app))
    assert app.query_params["dist"] == "histogram"


def test_run_that_failed_says_why_and_what_to_do(open_page, rich):
    app = check(open_page(rich.workspace, "run", id=rich.runs["decoder/onnxruntime/fp32/b1"]))
    text = words(app)
    assert "May I trust it? No: it does not count in any verdict" in text
    found = app.table[0].value["Found"][0]
    assert "does not know operator" in found
    assert "export the model with opset 20" in found
    assert not charts(app)


def test_run_of_an_absent_backend(open_page, rich):
    app = check(open_page(rich.workspace, "run", id=rich.runs["llama-7b/trtllm/fp8/c64"]))
    assert "not available" in words(app)
    assert "TensorRT-LLM is not installed" in app.table[0].value["Found"][0]


def test_run_links_to_its_neighbours(open_page, rich):
    app = check(open_page(rich.workspace, "run", id=rich.runs["encoder/onnxruntime/int8/b8"]))
    before = links(app)["← before"][1].removeprefix("id=")
    earlier = check(open_page(rich.workspace, "run", id=before))
    assert links(earlier)["after →"][1] == f"id={rich.runs['encoder/onnxruntime/int8/b8']}"
    assert "run 11 of 12 of this series" in words(earlier)


def test_run_by_the_beginning_of_its_id(open_page, rich):
    run_id = rich.runs["encoder/onnxruntime/int8/b8"]
    assert check(open_page(rich.workspace, "run", id=run_id[:23])).title[0].value == "encoder/onnxruntime/int8/b8"
    several = check(open_page(rich.workspace, "run", id=run_id[:4]))
    assert several.title[0].value == "Which run?"


@pytest.mark.parametrize("given", ["", "ffffffff-0000", "no uuid'; DROP TABLE runs"])
def test_run_without_a_run_offers_the_newest(open_page, rich, given):
    app = check(open_page(rich.workspace, "run", **({"id": given} if given else {})))
    assert app.title[0].value == ("No such run" if given else "Choose a run")
    assert len(app.dataframe[0].value) == 12


def test_runs_include_failed_and_absent_ones(open_page, rich):
    app = check(open_page(rich.workspace, "runs"))
    assert app.title[0].value == "All 74 runs"
    table = app.dataframe[0].value
    assert set(table["Status"]) == {"✓ ok", "▲ ok, rejected", "✖ failed", "○ not available"}
    columns = list(table.columns)
    assert columns.index("Counts") < columns.index("Session")
    assert any("does not know operator" in text for text in table["Counts"])
    assert any(text == "✖ no: thermally_throttled" for text in table["Counts"])
    assert table["Run"][0].startswith("/run?id=")


def test_runs_filters_live_in_the_url(open_page, rich):
    app = check(open_page(rich.workspace, "runs", backend="trtexec", session="night-4"))
    assert app.title[0].value == "6 runs"
    app.selectbox[5].set_value("no").run()
    check(app)
    assert app.query_params == {"backend": "trtexec", "session": "night-4", "valid": "no"}
    assert "No run fits these filters" in words(app)
    failed = check(open_page(rich.workspace, "runs", status="failed"))
    assert list(failed.dataframe[0].value["Case"]) == ["decoder/onnxruntime/fp32/b1"]


def test_a_long_list_of_runs_is_cut_and_says_so(open_page, rich, monkeypatch):
    from enginewatch_dashboards.data import Store

    asked = Store.rows
    monkeypatch.setattr(
        Store,
        "rows",
        lambda self, name, **given: asked(self, name, **(given | {"limit": 5} if name == "runs" else given)),
    )
    app = check(open_page(rich.workspace, "runs"))
    assert app.title[0].value == "All 74 runs"
    assert len(app.dataframe[0].value) == 5


def test_a_page_that_breaks_shows_one_sentence(open_page, rich, monkeypatch):
    def boom(*_args, **_values):
        raise RuntimeError("the first line\nand a wall of text")

    monkeypatch.setattr("enginewatch_dashboards.tiles.headline", boom)
    app = open_page(rich.workspace)
    assert not app.exception
    assert app.error[0].value.startswith("**This page could not be drawn: RuntimeError: the first line**")
    assert "wall of text" not in app.error[0].value


def test_newer_results_are_offered(open_page, seed, workspace):
    seed.write_session(workspace, 1, repeats=1, cases=seed.CASES[:1])
    ingest(workspace)
    app = check(open_page(workspace))
    assert "1 run in 1 session" in words(app)
    seed.write_session(workspace, 2, repeats=1, cases=seed.CASES[:1])
    ingest(workspace)
    assert "2 runs in 2 sessions" in words(check(app.run()))


@pytest.fixture
def moved(seed, workspace):
    """One case on two devices: two series that may not be compared."""
    for number, device in ((1, "Xeon A"), (2, "Xeon B")):
        seed.write_session(workspace, number, repeats=1, cases=[dataclasses.replace(seed.CASES[0], device=device)])
    ingest(workspace)
    return workspace


def test_trend_lets_one_choose_between_series_of_a_case(open_page, moved):
    app = check(open_page(moved, "trend", case="encoder/onnxruntime/fp32/b8"))
    picker = app.selectbox[1]
    assert picker.label == "Identity: these may not be compared"
    assert list(picker.options) == ["device Xeon B (1 run)", "device Xeon A (1 run)"]
    assert list(app.dataframe[0].value["Session"]) == ["night-2"]
    picker.select_index(1).run()
    check(app)
    assert len(app.query_params["series"]) == 36
    assert list(app.dataframe[0].value["Session"]) == ["night-1"]
    assert "Xeon A" in words(app)


def test_run_lets_one_choose_between_gpus(open_page, seed, workspace):
    record, tables = seed.finished(
        seed.CASES[2], session=seed.session_facts(1), number=1, repeat=0, order=0, scale=1.0, seed=1
    )
    telemetry = tables["telemetry"]
    gpu = telemetry.filter(pc.equal(telemetry["device"], "gpu0"))
    second = gpu.set_column(gpu.schema.get_field_index("device"), "device", pa.array(["gpu1"] * gpu.num_rows))
    tables["telemetry"] = pa.concat_tables([telemetry, second])
    facts = {"device": "gpu1", "power_limit_mw": 500_000}
    record = dataclasses.replace(record, devices=(*record.devices, facts))
    write(workspace.spool, record, tables)
    ingest(workspace)
    app = check(open_page(workspace, "run", id=record.run_id, gpu="gpu1"))
    assert "gpu1: what its units did" in titles(app)
    picker = next(control for control in app.segmented_control if control.value == "gpu1")
    picker.set_value("gpu0").run()
    assert "gpu0: what its units did" in titles(check(app))
    assert app.query_params["gpu"] == "gpu0"


def test_why_leaves_out_what_the_columns_beside_it_say():
    told = "latency_p50_ms rose from 1.0 ms to 1.2 ms: +20 % [-1.0 %, +40 %] (95 %, 5 against 5 runs); about 9 runs"
    assert short_why("latency_p50_ms", told) == "about 9 runs"
    assert short_why("latency_p50_ms", told.replace("); ", "), ")) == "about 9 runs"
    assert short_why("ttft_p50_ms", told) == told
    assert short_why("latency_p50_ms", "new case: the baseline does not have it") == (
        "new case: the baseline does not have it"
    )


def test_what_spoils_an_open_comparison_is_in_the_headline_and_in_the_list(open_page, seed, workspace):
    from enginewatch_db.judgements import store

    for number in (1, 2):
        for order, spec in enumerate(seed.CASES[:2]):
            record, tables = seed.finished(
                spec, session=seed.session_facts(number), number=number, repeat=0, order=order, scale=1.0, seed=order
            )
            busy = Reason(code="host_busy", detail="1.4 cores")
            write(workspace.spool, dataclasses.replace(record, reasons=(*record.reasons, busy)), tables)
    ingest(workspace)
    open_ = model.Comparison(
        case_key=seed.CASES[0].key, series_id=None, metric="latency_p50_ms", verdict=model.Verdict.INCONCLUSIVE,
        why="it reaches across 5 %", threshold_rel=0.05, baseline_value=1.0, candidate_value=1.1, effect=None,
    )  # fmt: skip
    store(workspace, seed.session_id(2), baseline_session=seed.session_id(1), comparisons=[open_], findings=[])
    text = words(check(open_page(workspace)))
    assert "More repeats" not in text
    assert text.count("host\\_busy marks 2 of 2 runs") == 2
    assert "Try: Stop them, or measure at another time." in text
