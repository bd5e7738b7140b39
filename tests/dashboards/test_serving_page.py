"""The Serving page and what the Run page shows of a load: with intervals, single runs, filters, limits, and nothing."""

from __future__ import annotations

import dataclasses
import json
import re

import pytest

from enginewatch_db.bundle import write
from enginewatch_db.connect import Reader
from enginewatch_db.ingest import ingest


def words(app):
    kinds = ("title", "subheader", "markdown", "caption", "info", "warning", "error", "code")
    return "\n".join(str(element.value) for kind in kinds for element in getattr(app, kind))


def charts(app):
    found = [json.loads(chart.proto.spec) for chart in app.get("plotly_chart")]
    return {figure["layout"]["title"]["text"]: figure for figure in found}


def check(app):
    assert not app.exception
    assert not app.error, [error.value for error in app.error]
    for chart in app.get("plotly_chart"):
        assert chart.proto.alt
    return app


def names(figure):
    return [trace["name"] for trace in figure["data"] if trace.get("name")]


def test_throughput_against_interactivity(open_page, ladder):
    app = check(open_page(ladder.workspace, "serving"))
    found = charts(app)
    assert list(found) == [
        "Throughput against interactivity", "TTFT p99 against the load", "Requests that met the SLO",
    ]  # fmt: skip
    assert names(found["Throughput against interactivity"]) == ["Pareto frontier", "llama-8b bf16", "llama-8b fp8"]
    assert "18 runs, 6 levels of 2 configurations · 1 level (crosses) without a run that counts" in words(app)
    table = app.dataframe[0].value
    assert list(table["Load"]) == ["1", "16", "256"] * 2
    assert list(table["Count"]) == ["3 of 3"] * 5 + ["0 of 3"]
    assert table["Does not count"][5] == "client_bound"
    assert table["Frontier"][5] == "–"
    assert "on the frontier" in set(table["Frontier"])
    assert all(text.startswith("[") for text in table["output tokens (tokens/s) 95 %"])
    assert table["Runs"][0].startswith("/runs?session=")
    assert "case=chat%2Fopenai%2Fbf16%2Fc1" in table["Runs"][0]


def test_points_carry_a_run_of_their_level(open_page, ladder):
    figure = charts(check(open_page(ladder.workspace, "serving")))["Throughput against interactivity"]
    ids = [run for trace in figure["data"] for run in trace.get("customdata", [])]
    assert len(ids) == 6
    with Reader.open(ladder.workspace) as reader:
        known = {row["id"] for row in reader.console("SELECT run_id::VARCHAR AS id FROM runs").to_pylist()}
    assert set(ids) <= known


def test_a_limit_is_a_line_a_sentence_and_a_goodput(open_page, ladder):
    app = check(open_page(ladder.workspace, "serving", slo="200"))
    assert "Most within **TTFT p99 ≤ 200 ms**: **llama-8b fp8** at concurrency 16" in words(app)
    found = charts(app)
    assert "Requests that met TTFT ≤ 200 ms" in found
    notes = [note["text"] for note in found["TTFT p99 against the load"]["layout"]["annotations"]]
    assert notes == ["limit 200 ms"]
    table = app.dataframe[0].value
    assert list(table["Limit"]) == ["✓ meets", "✓ meets", "✖ misses"] * 2
    assert table["Met the limit (%)"][0] == 100.0
    assert table["Met the limit (%)"][2] < 5


def test_a_limit_that_nothing_meets(open_page, ladder):
    assert "No level meets TTFT p99 ≤ 0.5 ms" in words(check(open_page(ladder.workspace, "serving", slo="0.5")))
    # The interval of c1's p99 is wide: a limit inside it is neither met nor missed.
    table = check(open_page(ladder.workspace, "serving", slo="31")).dataframe[0].value
    assert "? across it" in set(table["Limit"])


@pytest.mark.parametrize("slo", ["-5", "0", "much", "nan", "inf"])
def test_a_limit_that_is_no_number_is_none(open_page, ladder, slo):
    app = check(open_page(ladder.workspace, "serving", slo=slo))
    assert app.number_input[0].value is None
    assert "Most within" not in words(app)


def test_filters_live_in_the_url(open_page, ladder):
    app = check(open_page(ladder.workspace, "serving", precision="fp8", metric="e2e_p50_ms"))
    assert set(app.dataframe[0].value["Configuration"]) == {"llama-8b fp8"}
    assert "E2E p50 against the load" in charts(app)
    app.number_input[0].set_value(900.0).run()
    app.toggle[0].set_value(True).run()
    app.segmented_control[0].set_value("gpu").run()
    check(app)
    assert app.query_params == {
        "precision": "fp8", "metric": "e2e_p50_ms", "slo": "900", "counted": "true", "per": "gpu",
    }  # fmt: skip
    assert list(app.dataframe[0].value["Load"]) == ["1", "16"]
    assert (
        "output tokens per GPU" in charts(app)["Throughput against interactivity"]["layout"]["yaxis"]["title"]["text"]
    )
    assert app.code[0].value.endswith("serving?precision=fp8&counted=true&per=gpu&metric=e2e_p50_ms&slo=900")


def test_filters_that_leave_nothing_say_so(open_page, ladder):
    app = check(open_page(ladder.workspace, "serving", session="ladder", precision="fp8", counted="true"))
    assert charts(app)
    none = check(open_page(ladder.workspace, "serving", session="no-such-session"))
    assert none.warning[0].value.startswith("This store has no session `no-such-session`")


@pytest.fixture
def build(workspace, ladder_seed):
    def make(**given):
        ladder_seed.write_ladder(workspace, **given)
        ingest(workspace)
        return workspace

    return make


def test_single_runs_are_hollow_and_told(open_page, build):
    app = check(open_page(build(precisions=("bf16",), levels=(1, 16), repeats=1), "serving"))
    assert "every level is a single run (hollow) without an interval: measure three or more (`repeats` in" in words(app)
    assert "`--repeats` of `enginewatch load`" in words(app)
    assert set(app.dataframe[0].value["TTFT p99 (ms) 95 %"]) == {"one run"}
    assert app.dataframe[0].value["Runs"][0].startswith("/run?id=")
    symbols = {trace["marker"]["symbol"] for trace in charts(app)["Throughput against interactivity"]["data"]
               if "marker" in trace}  # fmt: skip
    assert symbols == {"circle-open"}


def test_one_level_says_what_to_run(open_page, build):
    app = check(open_page(build(precisions=("bf16",), levels=(4,), repeats=2), "serving"))
    assert "one load level" in app.info[0].value
    assert any("enginewatch load URL --concurrency 1,8,32" in code.value for code in app.code)


def test_rates_and_streams_have_an_axis_each(open_page, build):
    app = check(open_page(build(precisions=("bf16",), levels=(1, 4), repeats=2, rates=(5, 10)), "serving"))
    against = charts(app)["TTFT p99 against the load"]
    assert "concurrency" in against["layout"]["xaxis"]["title"]["text"]
    assert names(against) == ["llama-8b bf16, closed"]
    picker = next(control for control in app.segmented_control if control.value == "closed")
    picker.set_value("open").run()
    against = charts(check(app))["TTFT p99 against the load"]
    assert names(against) == ["llama-8b bf16, poisson"]
    assert against["layout"]["xaxis"]["ticktext"] == ["5", "10"]
    assert app.query_params["load"] == "open"
    assert set(app.dataframe[0].value["Load"]) == {"1", "4", "5/s", "10/s"}


def test_a_store_without_load_runs_says_what_to_run(open_page, single):
    app = check(open_page(single.workspace, "serving"))
    assert "No load run yet" in words(app)
    assert "enginewatch load URL" in app.code[0].value


def test_runs_of_older_versions_are_shown(open_page, rich):
    """Their requests have none of the new columns, and there are no server samples."""
    app = check(open_page(rich.workspace, "serving"))
    assert "TTFT p99 against the load" in charts(app)
    assert "No run has both throughput and interactivity" in words(app)
    assert "these runs declared no SLO" in words(app)


def test_run_shows_the_load_its_client_and_its_server(open_page, ladder):
    app = check(open_page(ladder.workspace, "run", id=ladder.runs["chat/openai/bf16/c256"]))
    text = words(app)
    assert "closed loop of 256 streams, 512 → 32 tokens" in text
    assert "busiest process at 44.0 %, event loop late by p99 0.210 ms, 2 processes" in text
    assert "Little's law gives 1.01" in text
    assert "of requests met TTFT ≤ 400 ms" in text
    assert "Server metrics of vllm; 3 preemptions." in text
    found = charts(app)
    assert "Distribution of end-to-end time" in found
    lines = names(found["Load, server and gpu0"])
    for line in ("in flight (client)", "waiting (server)", "KV cache in use", "preemptions", "SM active (GPM)"):
        assert line in lines
    shown = found["Requests: waiting for the first token, then decoding"]
    assert shown["layout"]["xaxis"]["range"] == found["Load, server and gpu0"]["layout"]["xaxis"]["range"]
    assert any(name.startswith("failed: ") for name in names(shown))


def test_a_p99_of_few_requests_is_marked(open_page, ladder):
    few = check(open_page(ladder.workspace, "run", id=ladder.runs["chat/openai/bf16/c1"]))
    tiles = {tile.label: tile.value for tile in few.metric}
    assert tiles["TTFT p99"].startswith("~ ")
    assert not tiles["TTFT p50"].startswith("~")
    assert sum("the slowest of " in caption.value for caption in few.caption) == 1
    assert re.search(r"the slowest of \d\d requests", words(few))
    many = check(open_page(ladder.workspace, "run", id=ladder.runs["chat/openai/bf16/c256"]))
    assert not any(tile.value.startswith("~") for tile in many.metric)
    assert "the slowest of" not in words(many)


def test_run_that_does_not_count_says_so_at_the_load(open_page, ladder):
    text = words(check(open_page(ladder.workspace, "run", id=ladder.runs["chat/openai/fp8/c256"])))
    assert "it was the bottleneck: a process was busy for 97 % of a core" in text
    assert "This run does not count: client\\_bound." in text
    assert "ok, rejected" in text
    assert ":green-badge[:material/check: ok]" not in text


def test_run_of_an_older_version_says_what_is_missing(open_page, rich):
    app = check(open_page(rich.workspace, "run", id=rich.runs["llama-7b/openai/bf16/c64"]))
    text = words(app)
    assert "No metrics of the server itself: they were not scraped in this run." in text
    assert "unknown: the client's own work was not measured" in text
    assert "not counted: no SLO was declared" in text
    assert names(charts(app)["Load and gpu0"])[0] == "in flight (client)"


def test_run_without_stored_requests_says_so(open_page, workspace, ladder_seed):
    table = ladder_seed.requests("bf16", 1, seed=1)
    record = ladder_seed._record("bf16", 1, 0, 1, table)
    absent = [m for m in record.metrics if m.metric != "server_preemptions"]
    why = dataclasses.replace(record.metrics[-1], metric="server_running_mean", absent_reason="it has no /metrics")
    write(workspace.spool, dataclasses.replace(record, metrics=(*absent, why)), {})
    ingest(workspace)
    app = check(open_page(workspace, "run", id=record.run_id))
    text = words(app)
    assert "Single requests were not stored" in text
    assert "No metrics of the server itself: it has no /metrics." in text
    assert "No telemetry covers this run" in text


def test_runs_of_one_case(open_page, ladder):
    app = check(open_page(ladder.workspace, "runs", case="chat/openai/fp8/c16", session="ladder"))
    assert app.title[0].value == "3 runs"
    assert set(app.dataframe[0].value["Case"]) == {"chat/openai/fp8/c16"}


def test_a_store_of_an_older_version_says_what_to_do(open_page, ladder, monkeypatch):
    from enginewatch_dashboards.components import frame

    newest = frame.migrations()[-1]
    newer = dataclasses.replace(newest, version=newest.version + 1)
    monkeypatch.setattr(frame, "migrations", lambda: (newest, newer))
    app = check(open_page(ladder.workspace, "serving"))
    assert app.title[0].value == "The store is of an older version"
    assert app.code[0].value == "enginewatch ingest"
