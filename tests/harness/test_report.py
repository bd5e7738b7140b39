"""What a person reads while a session runs and at its end."""

from __future__ import annotations

import dataclasses
import io

import pytest
from rich.console import Console

from enginewatch_db.ingest import IngestReport
from enginewatch_db.model import Comparison, Effect, Failure, RunStatus, Verdict
from enginewatch_db.validity import Reason
from enginewatch_harness import events, report
from enginewatch_harness.progress import LiveProgress, PlainProgress, clock, headline, make_progress
from enginewatch_harness.session_request import SessionOutcome


@pytest.fixture
def records(make_run):
    good = [make_run(repeat=i, latency_ms=5 + i / 100, seed=i)[0] for i in range(3)]
    failure = Failure(code="server_died", message="the server ended with status 1", remedy="read its log")
    bad = dataclasses.replace(
        make_run(case_key="chat/llamacpp/fp16/c1")[0], status=RunStatus.FAILED, failure=failure, metrics=()
    )
    return (*good, bad)


def render(table) -> str:
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(table)

    return console.export_text()


def outcome(records) -> SessionOutcome:
    done = IngestReport(ingested=(), known=(), quarantined={"x": "half a bundle"})
    return SessionOutcome(
        session_id="s1", records=records, ingested=done, wall_s=61.0, stage_s={"build": 1.0, "measure": 60.0}
    )


def test_the_table_has_intervals_runs_and_failures(records):
    text = render(report.table(records, None))
    row = next(line for line in text.splitlines() if "encoder/" in line)
    assert "[" in row
    assert "no baseline yet" in row
    assert "failed: server_died" in text


def test_the_location_lies_in_its_interval_and_invalid_runs_do_not_count(records):
    value, low, high = report.spread(records[:3], "latency_p50_ms")
    assert low < value < high
    assert value == pytest.approx(5.01, rel=0.01)
    rejected = [dataclasses.replace(r, reasons=(Reason(code="client_bound"),)) for r in records[:3]]
    assert report.spread(rejected, "latency_p50_ms") is None


def test_the_worst_verdict_of_a_case_is_shown(records):
    effect = Effect(rel=0.12, ci_low=0.1, ci_high=0.14, confidence=0.95, n_baseline=3, n_candidate=3, method="t")
    case_key = records[0].case_key

    def comparison(metric, verdict):
        return Comparison(
            case_key=case_key, series_id=None, metric=metric, verdict=verdict, why="", threshold_rel=0.05, effect=effect
        )

    both = (
        comparison("latency_p99_ms", Verdict.UNCHANGED),
        comparison("latency_p50_ms", Verdict.REGRESSED),
    )
    assert report.case_verdict(case_key, records[:3], both) == "regressed latency_p50_ms +12.0%"


def test_the_closing_lines_name_failures_remedies_and_stages(records, workspace):
    lines = "\n".join(report.closing(workspace, outcome(records), None))
    assert "the server ended with status 1 → read its log" in lines
    assert "quarantined x: half a bundle" in lines
    assert "build 1.0 s, measure 60.0 s" in lines
    assert "1:01" in lines


def test_json_has_every_case(records):
    document = report.as_json(outcome(records), None)
    assert [case["case"] for case in document["cases"]] == ["chat/llamacpp/fp16/c1", "encoder/onnxruntime/fp32/b8"]
    assert document["cases"][0]["failure"]["code"] == "server_died"


def every_event(record):
    return [
        events.Started(session_id="s", plan_name="p", cases=1, total=2, done=1, estimate_s=65),
        events.Building(case_key="c", number=1, total=1),
        events.Built(case_key="c", build_time_s=None),
        events.RunStarted(case_key="c", repeat=0, number=1, total=2, eta_s=5),
        events.RunProgress(case_key="c", n=10, median_ms=1.5),
        events.RunFinished(record=record, number=1, total=2, wall_s=1.0),
        events.Note(text="something"),
    ]


@pytest.mark.parametrize("kind", ["plain", "live", "json"])
def test_every_event_can_be_shown(kind, records, capsys):
    with make_progress(kind) as listen:
        for record in (records[0], records[3]):
            for event in every_event(record):
                listen(event)
    said = capsys.readouterr()
    assert said.out == ""
    if kind == "plain":
        assert "1 done already, about 1:05" in said.err
        assert "from the cache" in said.err
        assert "failed (server_died)" in said.err


def test_auto_is_plain_without_a_terminal():
    assert type(make_progress("auto")) is PlainProgress
    assert isinstance(make_progress("live"), LiveProgress)


def test_clock_and_headline(records):
    assert clock(125.4) == "2:05"
    assert headline(records[0]).startswith("latency p50 4.99")
    marked = dataclasses.replace(records[0], reasons=(Reason(code="host_busy"),))
    assert "[host_busy]" in headline(marked)
