from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from enginewatch_ci import why
from enginewatch_ci.comparable import CasePair
from enginewatch_ci.decide import decide
from enginewatch_ci.host import HostShift
from enginewatch_ci.measure import Row
from enginewatch_ci.policy import Policy
from enginewatch_ci.stats import LogEffect
from enginewatch_ci.stats.bootstrap import Student
from enginewatch_db.model import Verdict
from enginewatch_db.validity import Reason


@pytest.fixture
def row():
    """Return a row whose effect has a given shift and 95 % half width, with five runs a side."""

    def make(shift, half, metric="latency_p50_ms"):
        law = Student(df=8)
        effect = LogEffect(
            shift=shift,
            se=half / law.critical(0.95),
            null=law,
            method="test",
            baseline=0.0,
            candidate=shift,
            n_baseline=5,
            n_candidate=6,
        )
        pair = CasePair(case_key="a", series_id="s", baseline=(), candidate=())
        values = {"baseline_value": 1.0, "candidate_value": float(np.exp(shift))}
        return Row(pair=pair, metric=metric, threshold_rel=0.05, effect=effect, **values)

    return make


@pytest.mark.parametrize(
    ("shift", "half", "words"),
    [
        # The upper limit is log(1.05) = 0.0488. Half as far from it as the interval is wide: four times the runs.
        (0.0488 - 0.0201, 0.04, "about 20 runs a side"),
        (0.0488 + 0.03, 0.04, "about 9 runs a side"),
        (0.0488 + 0.001, 0.04, "more than 40 runs a side would be needed"),
        (0.0488 - 0.03, 0.0301, "about 6 runs a side"),
    ],
)
def test_advice_counts_the_runs_that_would_decide(row, shift, half, words):
    assert words in why.advice(row(shift, half), 0.95)


def test_the_sentence_has_values_effect_interval_runs_and_threshold(row):
    text = why.judged(row(float(np.log(1.1)), 0.01), Verdict.REGRESSED, 0.95)
    assert text == (
        "latency_p50_ms rose from 1 ms to 1.1 ms: +10.0 % [+8.9 %, +11.1 %] (95 %, 5 against 6 runs); "
        "all of the interval is beyond the 5 % that matter"
    )
    assert "fell from 1 ms to 0.9 ms" in why.judged(row(float(np.log(0.9)), 0.01), Verdict.IMPROVED, 0.95)
    assert "stayed at 1 ms: 0.0 % [" in why.judged(row(0.0, 0.01), Verdict.UNCHANGED, 0.95)


@pytest.fixture
def few(lab, to_arm):
    """Return what is said of a case of which only some of five runs count, without the values."""

    def make(before, after, reason="client_bound"):
        def arm(counting):
            records = lab.session(cases={"chat/fp16/llamacpp/c1": 20.0}, llm=True, run_sd=0.2)
            rejected = (Reason(code=reason),)
            return to_arm([replace(r, reasons=rejected) if i >= counting else r for i, r in enumerate(records)])

        decision = decide(arm(before), arm(after), Policy())
        return next(item.why for item in decision.comparisons if item.metric == "ttft_p50_ms")

    return make


def test_one_run_that_counts_is_told_by_what_rejected_the_others(few):
    told = few(1, 1)
    assert told.startswith("one run a side has no run-to-run spread: ttft_p50_ms is ")
    assert told.endswith(
        "; 1 of 5 runs counts in the baseline (client_bound), 1 of 5 runs counts in the candidate (client_bound)"
        " → Free the host's cores, lower the load, or use a host with more cores"
    )
    assert "repeat" not in told


def test_the_side_with_one_run_is_named(few):
    assert few(5, 1).startswith("one run in the candidate has no run-to-run spread")
    assert few(1, 5).startswith("one run in the baseline has no run-to-run spread")
    assert "baseline (" not in few(5, 1)


def test_rejected_runs_are_named_beside_the_number_of_runs_that_would_decide(few):
    told = few(3, 2, "too_few_samples")
    assert "runs a side would" in told
    assert told.endswith(
        "; 3 of 5 runs count in the baseline (too_few_samples), 2 of 5 runs count in the candidate (too_few_samples)"
        " → Raise duration_s in the plan"
    )


def test_where_all_runs_count_more_repeats_are_the_remedy(lab, to_arm, cases):
    arms = [to_arm(lab.session(repeats=1)) for _ in range(2)]
    assert decide(*arms, Policy()).comparisons[0].why.endswith("; repeat at least 3 times a side")


def test_a_host_that_may_have_moved_is_not_said_to_have(row):
    unsure = HostShift(shift=0.01, half_width=0.02, n_baseline=5, n_candidate=5)
    sure = HostShift(shift=0.04, half_width=0.02, n_baseline=5, n_candidate=5)
    assert "the host may have moved (+1.0 % [" in why.host_moved(row(0.1, 0.01), unsure, (0.0, 0.2), 0.95)
    assert "the host itself moved by +4.1 % [" in why.host_moved(row(0.1, 0.01), sure, (0.0, 0.2), 0.95)
