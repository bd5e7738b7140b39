from __future__ import annotations

import pytest

from enginewatch_ci import phrasing
from enginewatch_ci.summary import next_step, no_comparison, sentence, tally
from enginewatch_db.model import Verdict


@pytest.mark.parametrize(
    ("rel", "text"),
    [
        (0.103, "+10.3 %"),
        (-0.05, "-5.0 %"),
        (0.0038, "+0.38 %"),
        (0.0, "0.0 %"),
        (-0.00001, "0.0 %"),
        (2.5, "+250.0 %"),
    ],
)
def test_percent(rel, text):
    assert phrasing.percent(rel) == text


def test_quantities_have_units():
    assert phrasing.quantity(2.00812, "latency_p50_ms") == "2.008 ms"
    assert phrasing.quantity(0.00123456, "latency_p50_ms") == "0.001235 ms"
    assert phrasing.quantity(123456.7, "throughput_qps") == "123,457 1/s"
    assert phrasing.quantity(0.25, "latency_tail_log_ratio") == "0.25"


def test_lists_are_cut():
    assert phrasing.listed("abc") == "a, b, c"
    assert phrasing.listed("abcdef") == "a, b, c, d and 2 more"
    assert phrasing.count(1, "case") == "1 case"
    assert phrasing.count(2, "case") == "2 cases"


def test_each_verdict_has_its_sentence(comparison, golden_arm):
    def told(*items):
        return sentence(items[0].verdict, items, golden_arm("b"))

    failed = comparison("a", "latency_p50_ms", Verdict.FAILED, None, cause="build_failed")
    slow = comparison("b", "latency_p50_ms", Verdict.REGRESSED, 0.1)
    slower = comparison("c", "latency_p50_ms", Verdict.REGRESSED, 0.2)
    same = comparison("d", "latency_p50_ms", Verdict.UNCHANGED, 0.0)
    unclear = comparison("e", "latency_p50_ms", Verdict.INCONCLUSIVE, 0.1, why="the host moved", cause="host")
    assert told(failed, slow).startswith("Failed: 1 case failed, and did not before: a (build_failed); 1 comparison")
    assert told(slow, slower, same).startswith(
        "Regressed: c · latency_p50_ms +20.0 % [+18.8 %, +21.3 %] is the largest"
    )
    assert "(2 regressed, 1 unchanged)" in told(slow, slower, same)
    assert told(same).startswith("Unchanged: all 1 comparison, against 019ca9bb-e700 main 3f9c1d2aaa (2026-03-01")
    assert told(unclear, same).endswith("e: the host moved.")
    assert sentence(Verdict.UNCHANGED, (same, unclear), golden_arm("b")).startswith("Unchanged: 1 inconclusive, 1 un")
    assert sentence(None, (), golden_arm("b")).startswith("Not comparable")


def test_the_tally_is_worst_first(comparison):
    items = [comparison("a", "latency_p50_ms", verdict, 0.1) for verdict in reversed(Verdict)]
    assert tally(items) == "1 failed, 1 regressed, 1 not comparable, 1 inconclusive, 1 improved, 1 unchanged"


def test_a_first_session_says_what_it_is(lab, to_arm, cases):
    arm = to_arm(lab.session(failing=(cases[0],)))
    text = no_comparison(arm, arm)
    assert "is the baseline of plan 'demo' itself, with 2 of 3 cases measured" in text
    assert f"without a valid run: {cases[0]} (build_failed). The next" in text
    assert no_comparison(None, arm) == (
        "No baseline: plan 'demo' has no finished session with a valid run yet "
        "(3 cases tried, build_failed in 5 of 15 runs)."
    )


def test_inconclusive_for_want_of_runs_that_count_says_what_rejects_them(lab, to_arm, cases):
    late = to_arm(lab.session(rejected={cases[0]: "client_bound"}))
    assert next_step(Verdict.INCONCLUSIVE, late) == (
        "Too few runs count (client_bound rejected 5): Free the host's cores, lower the load, or use a host with more "
        "cores. Then measure both sides again on one quiet host."
    )
    noisy = to_arm(lab.session())
    assert "each case more often" in next_step(Verdict.INCONCLUSIVE, noisy)


@pytest.mark.parametrize("verdict", [None, *Verdict])
def test_every_verdict_has_a_next_step(verdict, golden_arm):
    assert next_step(verdict, golden_arm("c")).endswith(".")
