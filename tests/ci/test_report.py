from __future__ import annotations

import json
from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from enginewatch_ci import phrasing
from enginewatch_ci.report import render_json, render_junit, render_markdown, render_text
from enginewatch_ci.report.columns import MARKS
from enginewatch_ci.report.junit import clean
from enginewatch_ci.report.markdown import MARKER, MAX_CHARS, escape
from enginewatch_ci.summary import no_comparison
from enginewatch_db.model import Verdict


def parse(text):
    return ET.fromstring(text)  # noqa: S314 (our own output)


def test_golden_markdown(fixed, golden):
    golden("gate.md", render_markdown(fixed))


def test_golden_junit(fixed, golden):
    golden("gate.xml", render_junit(fixed))


def test_golden_json(fixed, golden):
    golden("gate.json", render_json(fixed))


def test_golden_text(fixed, golden):
    golden("gate.txt", render_text(fixed, width=160))


def test_markdown_puts_the_verdict_first_and_hides_what_is_unchanged(fixed):
    text = render_markdown(fixed)
    assert text.startswith(MARKER)
    visible = text.split("<details>", maxsplit=1)[0]
    order = ["Failed: 1 case", "New failures", "▲ regressed", "Limits not met", "Environment differences"]
    assert sorted(order, key=visible.index) == order
    assert "mlp/fp32" not in visible
    assert "mlp/fp32" in text
    assert "enginewatch gate --baseline 019ca9bb" in text


def test_markdown_stays_below_what_github_takes(fixed, comparison):
    many = tuple(comparison(f"case{n}", "latency_p50_ms", Verdict.UNCHANGED, 0.001) for n in range(2000))
    text = render_markdown(replace(fixed, comparisons=many))
    assert len(text) < MAX_CHARS + 100
    assert "more rows are in the JSON and JUnit reports" in text
    assert "All 2000 comparisons" in text


@given(st.text())
def test_escaped_text_cannot_leave_its_cell(text):
    found = escape(text)
    assert "\n" not in found
    assert "<" not in found
    assert "|" not in found.replace("\\|", "")


def test_markdown_of_hostile_names(fixed, comparison):
    item = comparison("a|b\n<img src=x>`", "latency_p50_ms", Verdict.REGRESSED, 0.2, why="</details> | x")
    text = render_markdown(replace(fixed, comparisons=(item,)))
    assert "<img" not in text
    assert text.count("</details>") == 1
    row = next(line for line in text.splitlines() if line.startswith("| a"))
    assert row.replace("\\|", "").count("|") == 9


def test_a_hostile_ref_stays_in_the_code_block(fixed):
    arm = replace(fixed.candidate, stored=False, ref="x`; rm -rf / #\n```")
    text = render_markdown(replace(fixed, candidate=arm))
    assert "--candidate 'x; rm -rf / #'" in text
    assert text.count("```") == 2


def test_junit_counts_and_texts(fixed):
    root = parse(render_junit(fixed))
    suite = root.find("testsuite")
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("9", "4", "3")
    failure = next(case for case in suite.iter("testcase") if case.get("name") == "output_tokens_s").find("failure")
    for part in (
        "case: llm/q8_0/llamacpp/c4",
        "metric: output_tokens_s",
        "effect: -21.0 %",
        "interval: [-22.2 %, -19.7 %] (95 %, 5 against 5 runs)",
        "threshold: 5 %",
    ):
        assert part in failure.text
    assert "llm/q8_0/llamacpp/c4 · output_tokens_s regressed: -21.0 %" in failure.get("message")
    limit = next(case for case in suite.iter("testcase") if case.get("name") == "limit.latency_p99_ms")
    assert limit.find("failure").get("type") == "limit"


@given(name=st.text(st.characters(blacklist_categories=()), min_size=1), why=st.text(st.characters()))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.parametrize("verdict", list(Verdict))
def test_junit_is_xml_for_any_name(fixed, comparison, verdict, name, why):
    item = comparison(name, "latency_p50_ms", verdict, 0.1, why=why, notes=(why,))
    text = render_junit(replace(fixed, comparisons=(item,), findings=(), sentence=why))
    case = parse(text.encode()).find("testsuite/testcase")
    # XML turns line ends of attributes into spaces; everything else must survive.
    assert case.get("classname").split() == clean(name).split()


def test_junit_without_comparisons_is_one_skipped_test(fixed):
    first = replace(fixed, comparisons=(), findings=(), sentence="Nothing to compare with.")
    suite = parse(render_junit(first)).find("testsuite")
    assert (suite.get("tests"), suite.get("skipped"), suite.get("failures")) == ("1", "1", "0")
    assert suite.find("testcase/skipped").get("message") == "Nothing to compare with."


def test_json_is_complete_and_versioned(fixed):
    found = json.loads(render_json(fixed))
    assert found["schema_version"] == 1
    assert found["verdict"] == "failed"
    assert found["exit_code"] == 5
    assert found["counts"] == {
        "failed": 1,
        "regressed": 2,
        "not_comparable": 1,
        "inconclusive": 2,
        "improved": 1,
        "unchanged": 1,
    }
    assert len(found["comparisons"]) == 8
    assert found["comparisons"][1]["effect"]["rel"] == 0.103
    assert found["policy"]["gate"]["confidence"] == 0.95
    assert found["host"]["rel"] == pytest.approx(0.0408, abs=1e-4)


def test_json_refuses_what_json_does_not_have(fixed, comparison):
    broken = comparison("a", "latency_p50_ms", Verdict.UNCHANGED, float("nan"))
    with pytest.raises(ValueError, match="JSON"):
        render_json(replace(fixed, comparisons=(broken,)))


def test_text_has_no_escape_codes_unless_asked(fixed):
    assert "\x1b" not in render_text(fixed)
    assert "\x1b" in render_text(fixed, color=True)


def test_text_shows_the_worst_rows_of_a_long_table(fixed, comparison):
    many = tuple(comparison(f"case{n:03d}", "latency_p50_ms", Verdict.UNCHANGED, 0.001) for n in range(100))
    text = render_text(replace(fixed, comparisons=many), width=200)
    assert "40 more rows" in text
    assert "case000" in text
    assert "case099" not in text


@pytest.fixture
def long(fixed, comparison):
    """A judgement whose names are as long as those of the CPU default plan."""
    found = (
        comparison("chat-open/llamacpp/fp16/poisson8rps", "output_tokens_s", Verdict.NOT_COMPARABLE, None),
        comparison("encoder/onnxruntime/int8_dynamic/b4", "latency_p50_ms", Verdict.REGRESSED, 1.25),
        comparison("encoder/onnxruntime/int8_dynamic/b4", "latency_p99_ms", Verdict.INCONCLUSIVE, 0.1),
        comparison("chat-open/llamacpp/fp16/poisson8rps", "ttft_p50_ms", Verdict.UNCHANGED, 0.001),
    )
    return replace(fixed, comparisons=found)


def table_lines(text):
    return text.split("\nchat-open/llamacpp/fp16/poisson8rps: ", maxsplit=1)[0].splitlines()


@pytest.mark.parametrize(
    ("width", "heading"),
    [
        (160, "Case Metric Baseline Candidate Change Interval Runs Verdict"),
        (120, "Case Metric Baseline Candidate Change Runs Verdict"),
        (107, "Case Metric Baseline Candidate Change Verdict"),
        (90, "Case Metric Change Verdict"),
        (80, "Case Metric Change Verdict"),
        (79, "Metric Baseline Candidate Change Runs Verdict"),
        (60, "Metric Candidate Change Verdict"),
        (48, "Metric Change Verdict"),
    ],
)
def test_a_narrow_table_leaves_columns_out_and_cuts_nothing(long, width, heading):
    text = render_text(long, width=width)
    lines = table_lines(text)
    assert lines[0].split() == heading.split()
    assert max(map(len, lines)) <= width
    assert "…" not in text
    for item in long.comparisons:
        row = next(line for line in lines if item.metric in line.split())
        assert row.endswith(phrasing.verdict(item.verdict))
        assert item.effect is None or phrasing.percent(item.effect.rel) in row
        assert (item.case_key in row) == heading.startswith("Case")


def test_without_room_for_the_case_it_stands_above_its_metrics(long):
    lines = table_lines(render_text(long, width=70))
    heads = [line.split()[0] for line in lines[1:]]
    assert heads == [
        "chat-open/llamacpp/fp16/poisson8rps",
        "output_tokens_s",
        "ttft_p50_ms",
        "encoder/onnxruntime/int8_dynamic/b4",
        "latency_p50_ms",
        "latency_p99_ms",
    ]
    marks = {line.index(mark) for line in lines for mark in MARKS.values() if mark in line}
    assert marks == {lines[0].index("Verdict")}


def test_in_a_window_narrower_than_a_row_it_is_still_whole(long):
    text = render_text(long, width=20)
    assert "chat-open/llamacpp/fp16/poisson8rps\n" in text
    assert "≠ not comparable" in text


def test_sentences_end_at_words_on_a_terminal_alone(long):
    plain = render_text(long, width=60)
    shown = render_text(long, width=60, wrap=True)
    assert plain.split() == shown.split()
    assert long.sentence in plain
    assert long.sentence not in shown
    prose = shown.split("\nchat-open/llamacpp/fp16/poisson8rps: ", maxsplit=1)[1].splitlines()
    assert all(len(line) <= 60 for line in prose if not line.startswith("again: "))
    assert shown.splitlines()[-1] == plain.splitlines()[-1]


def test_people_read_words_and_machines_names(fixed):
    for render in (render_markdown, render_text):
        assert "not comparable" in render(fixed)
        assert "not_comparable" not in render(fixed).replace("\\_", "_")
    assert '"not_comparable"' in render_json(fixed)
    assert "not_comparable: new case" in render_junit(fixed)


def test_reports_of_a_first_session(fixed):
    text = no_comparison(fixed.candidate, fixed.candidate)
    first = replace(fixed, comparisons=(), findings=(), verdict=None, is_baseline=True, sentence=text)
    for render in (render_markdown, render_junit, render_json, render_text):
        assert "Nothing to compare with" in render(first)
