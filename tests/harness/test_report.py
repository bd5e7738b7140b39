"""What a person reads while a session runs and at its end."""

from __future__ import annotations

import dataclasses
import io
import json
from types import SimpleNamespace

import pytest
from rich.console import Console

from enginewatch_db.ingest import IngestReport
from enginewatch_db.metrics import MetricValue
from enginewatch_db.model import Comparison, Effect, Failure, RunStatus, Verdict
from enginewatch_db.validity import Reason
from enginewatch_harness import console, events, progress, report
from enginewatch_harness.accuracy.check import ELSEWHERE, SWITCHED_OFF
from enginewatch_harness.progress import LiveProgress, PlainProgress, clock, headline, make_progress
from enginewatch_harness.session_request import SessionOutcome
from enginewatch_harness.troubles import reason_lines


@pytest.fixture
def records(make_run):
    good = [make_run(repeat=i, latency_ms=5 + i / 100, seed=i)[0] for i in range(3)]
    failure = Failure(code="server_died", message="the server ended with status 1", remedy="read its log")
    bad = dataclasses.replace(
        make_run(case_key="chat/llamacpp/fp16/c1")[0], status=RunStatus.FAILED, failure=failure, metrics=()
    )
    return (*good, bad)


def render(table, width: int = 160) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
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


def compared(case_key: str, verdict: Verdict, metric: str = "latency_p50_ms", rel: float | None = None) -> Comparison:
    effect = rel and Effect(rel=rel, ci_low=rel, ci_high=rel, confidence=0.95, n_baseline=3, n_candidate=3, method="t")
    return Comparison(
        case_key=case_key, series_id=None, metric=metric, verdict=verdict, why="", threshold_rel=0.05, effect=effect
    )


LONG_ENGINE = "encoder/onnxruntime/int8_dynamic/b4"
LONG_SERVER = "chat-open/llamacpp/fp16/poisson8rps"


@pytest.fixture
def mixed(make_run):
    """Runs of an engine and of a server, with names as long as those of the CPU default plan."""
    records = []
    for repeat in range(3):
        engine = dataclasses.replace(
            make_run(repeat=repeat, latency_ms=5 + repeat / 100, seed=repeat)[0], case_key=LONG_ENGINE
        )
        times = [MetricValue(metric=f"ttft_p{at}_ms", value=at + repeat / 10) for at in (50, 99)]
        absent = MetricValue(metric="latency_p50_ms", value=None, absent_reason="a server has none")
        rate = MetricValue(metric="output_tokens_s", value=1014.0 + repeat)
        server = dataclasses.replace(engine, case_key=LONG_SERVER, metrics=(absent, *times, rate))
        records += [engine, server]
    return tuple(records)


@pytest.mark.parametrize("width", [60, 70, 80, 100, 120, 160])
def test_the_table_of_a_session_breaks_no_name_number_or_verdict(mixed, width):
    judged = SimpleNamespace(
        comparisons=(
            compared(LONG_ENGINE, Verdict.REGRESSED, "latency_p50_ms", 0.12),
            compared(LONG_SERVER, Verdict.NOT_COMPARABLE),
        )
    )
    lines = render(report.table(mixed, judged, width=width), width).splitlines()
    engine = next(line for line in lines if LONG_ENGINE in line)
    server = next(line for line in lines if LONG_SERVER in line)
    assert "not comparable" in server
    assert "_comparab" not in "".join(lines)
    assert max(map(len, lines)) <= width
    assert ("TTFT 50.1" in server) == (width >= 70)
    assert ("5.006" in engine) == (width >= 70)
    assert ("[" in engine) == (width >= 160)
    assert ("regressed latency_p50_ms +12.0%" in engine) == (width >= 120)
    assert "latency_p50_ms" in "".join(lines)


def test_in_a_window_narrower_than_a_name_the_verdict_stays_whole(mixed):
    judged = SimpleNamespace(comparisons=(compared(LONG_ENGINE, Verdict.REGRESSED, "output_tokens_s", 0.12),))
    text = render(report.table(mixed, judged, width=30), 30)
    assert "output_tokens_s" in text
    assert max(map(len, text.splitlines())) <= 30


def test_the_columns_say_whose_times_they_have(mixed):
    def head(records):
        return render(report.table(records, None)).split("━", maxsplit=1)[0]

    engines = tuple(record for record in mixed if record.case_key == LONG_ENGINE)
    servers = tuple(record for record in mixed if record.case_key == LONG_SERVER)
    assert "latency" in head(engines)
    assert "TTFT" not in head(engines)
    assert "TTFT" in head(servers)
    assert "latency" not in head(servers)
    assert "TTFT 50.1" not in render(report.table(servers, None))
    assert "latency or" in head(mixed)


def test_a_case_without_a_number_does_not_mix_the_columns(records):
    head = render(report.table(records, None)).split("━", maxsplit=1)[0]
    assert "latency" in head
    assert "TTFT" not in head


def test_machines_read_the_verdict_by_its_name(mixed):
    judged = SimpleNamespace(sentence="", comparisons=(compared(LONG_SERVER, Verdict.NOT_COMPARABLE),))
    document = report.as_json(outcome(mixed), judged)
    assert [case["verdict"] for case in document["cases"]] == ["not_comparable", "no baseline yet"]


def test_the_location_lies_in_its_interval_and_invalid_runs_do_not_count(records):
    value, low, high = report.spread(records[:3], "latency_p50_ms")
    assert low < value < high
    assert value == pytest.approx(5.01, rel=0.01)
    rejected = [dataclasses.replace(r, reasons=(Reason(code="client_bound"),)) for r in records[:3]]
    assert report.spread(rejected, "latency_p50_ms") is None


def test_the_worst_verdict_of_a_case_is_shown(records):
    case_key = records[0].case_key
    both = (
        compared(case_key, Verdict.UNCHANGED, "latency_p99_ms", 0.12),
        compared(case_key, Verdict.REGRESSED, "latency_p50_ms", 0.12),
    )
    assert report.case_verdict(case_key, records[:3], both) == "regressed latency_p50_ms +12.0%"


def test_the_closing_lines_name_failures_remedies_and_stages(records, workspace):
    lines = "\n".join(report.closing(workspace, outcome(records), None))
    assert "the server ended with status 1 → read its log" in lines
    assert "quarantined x: half a bundle" in lines
    assert "build 1.0 s, measure 60.0 s" in lines
    assert "1:01" in lines


def test_the_closing_lines_say_what_does_not_count_and_what_to_do(records, workspace):
    busy = Reason(code="host_busy", detail="1.1 cores were busy before the run")
    late = Reason(code="client_bound", detail="its event loop was late")
    marked = [
        dataclasses.replace(records[0], reasons=(busy,)),
        dataclasses.replace(records[1], reasons=(busy, Reason(code="tail_undersampled", detail="125 samples"))),
        dataclasses.replace(records[2], reasons=(busy, late)),
        dataclasses.replace(records[3], reasons=(Reason(code="run_failed"),)),
    ]
    lines = report.closing(workspace, outcome(marked), None)
    start = lines.index("2 of 4 runs count; no run counts of chat/llamacpp/fp16/c1")
    assert lines[start + 1 : start + 4] == [
        "client_bound, 1 of 4 runs, does not count: The load generator itself was the bottleneck "
        "(its event loop was late) → Free the host's cores, lower the load, or use a host with more cores.",
        "host_busy, 3 of 4 runs, counts with care: Other processes used more than half a core before the run "
        "(1.1 cores were busy before the run) → Stop them, or measure at another time.",
        "tail_undersampled, 1 of 4 runs, counts with care: Fewer than 1,000 samples: p99 rests on fewer than ten of "
        "them (125 samples) → Raise duration_s, or judge the median.",
    ]
    assert not any(line.startswith("run_failed") for line in lines)


def test_nothing_is_said_about_runs_that_all_count(records, workspace):
    lines = report.closing(workspace, outcome(records[:3]), None)
    assert lines[0].startswith("quarantined")


def test_a_code_with_differing_details_shows_the_last_and_a_repeated_code_counts_once(records):
    details = ("1.1 cores", "1.3 cores")
    reasons = tuple(Reason(code="host_busy", detail=detail) for detail in details)
    one, two = (dataclasses.replace(records[0], reasons=(reason,)) for reason in reasons)
    assert "(last: 1.3 cores)" in reason_lines([one, two])[0]
    twice = dataclasses.replace(records[0], reasons=reasons)
    assert reason_lines([twice])[0].startswith("host_busy, 1 of 1 run, counts with care")


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
        assert "session s of plan p: 1 case, 2 runs, 1 done already, about 1:05" in said.err
        assert "from the cache" in said.err
        assert "failed (server_died)" in said.err


def test_auto_is_plain_without_a_terminal():
    assert type(make_progress("auto")) is PlainProgress
    assert isinstance(make_progress("live"), LiveProgress)


@pytest.mark.parametrize("width", [60, 80, 100, 160])
def test_a_narrow_bar_cuts_the_name_and_no_number(width, monkeypatch):
    screen = Console(width=width, file=io.StringIO(), force_terminal=True, color_system=None)
    monkeypatch.setattr(progress, "err", screen)
    monkeypatch.setattr("enginewatch_harness.console.err", screen)
    listen = LiveProgress()
    every = [
        events.Started(session_id="s", plan_name="p", cases=12, total=120, done=0, estimate_s=65),
        events.RunStarted(case_key=LONG_SERVER, repeat=0, number=112, total=120, eta_s=754),
        events.RunProgress(case_key=LONG_SERVER, n=1200, median_ms=12.3456),
    ]
    for event in every:
        listen(event)
    shown = Console(width=width, file=io.StringIO(), record=True)
    shown.print(listen._bar.get_renderable())
    (line,) = shown.export_text().splitlines()
    for part in ("111/120", "ETA 12:34", "n=1200 median 12.346 ms"):
        assert part in line
    assert len(line) <= width
    assert (LONG_SERVER in line) == (width == 160)
    assert ("0:00:00" in line) == (width >= 100)


def test_events_for_machines_are_one_line_each_in_any_window(records, monkeypatch):
    class Window(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("enginewatch_harness.console.err", Console(file=Window(), width=30, highlight=False))
    listen = make_progress("json")
    for event in every_event(records[0]):
        listen(event)
    for line in console.err.file.getvalue().splitlines():
        assert "event" in json.loads(line)


def test_clock_and_headline(records):
    assert clock(125.4) == "2:05"
    assert headline(records[0]).startswith("latency p50 4.99")
    marked = dataclasses.replace(records[0], reasons=(Reason(code="host_busy"),))
    assert "[host_busy]" in headline(marked)


def test_the_error_against_fp32_stands_in_the_table(records):
    values = (("output_rel_l2", 0.0193), ("output_top1_agreement_pct", 99.5))
    checked = tuple(MetricValue(metric=metric, value=value) for metric, value in values)
    later = tuple(MetricValue(metric=metric, value=None, absent_reason="checked once") for metric, _ in values)
    runs = [dataclasses.replace(records[0], metrics=(*records[0].metrics, *checked))]
    runs += [dataclasses.replace(record, metrics=(*record.metrics, *later)) for record in records[1:3]]
    text = render(report.table([*runs, records[3]], None))
    assert "vs fp32" in text
    assert "0.019" in next(line for line in text.splitlines() if "encoder/" in line)
    assert "vs fp32" not in render(report.table(records, None)), "only where a case has one"
    assert report.accuracy(runs) == dict(values)
    case = next(item for item in report.as_json(outcome(tuple(runs)), None)["cases"] if "encoder/" in item["case"])
    assert case["accuracy"] == dict(values)


def test_the_closing_lines_tell_why_a_case_has_no_accuracy(records, workspace):
    def unchecked(record, key, *reasons):
        absent = [
            [MetricValue(metric=metric, value=None, absent_reason=why) for metric in report.ACCURACY] for why in reasons
        ]
        return tuple(
            dataclasses.replace(record, case_key=key, metrics=(*record.metrics, *metrics)) for metrics in absent
        )

    why = "the engine did not answer the reference's inputs: it died"
    off = unchecked(records[0], "off", SWITCHED_OFF)
    runs = (*unchecked(records[0], "b", why, ELSEWHERE), *unchecked(records[0], "a", why, ELSEWHERE), *off, *records)
    told = [line for line in report.closing(workspace, outcome(runs), None) if "no accuracy" in line]
    assert told == [f"no accuracy of a, b: {why}"], "one line a reason; nothing of what is off, or has none by nature"
    good = MetricValue(metric="output_rel_l2", value=0.01)
    runs = (dataclasses.replace(runs[0], metrics=(*records[0].metrics, good)), *runs[1:])
    assert report.accuracy_lines(runs) == [f"no accuracy of a: {why}"]
