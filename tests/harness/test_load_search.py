"""Searches over load against simulated servers of known capacity."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enginewatch_harness.load.knee import Knee, NoKnee
from enginewatch_harness.load.search import Attained, KneeSearch, Limits, SloSearch, attainment

STREAMS = Limits(low=1, high=512, whole=True)


def slots(level: float, *, knee: float, fall: float) -> float:
    """Linear up to the knee, then flat or falling."""
    return 30 * min(level, knee) * min(1.0, knee / level) ** fall


def drive_knee(search: KneeSearch, server, rng, sd: float = 0.03, spoilt: float = 0.05) -> KneeSearch:
    while asked := search.ask():
        noise = rng.normal(0, sd, len(asked)) - 0.3 * (rng.random(len(asked)) < spoilt)
        search.feed(asked, [float(server(run.level) * math.exp(e)) for run, e in zip(asked, noise, strict=True)])
    return search


def drive_slo(search: SloSearch, limit: float, rng, requests: int = 300, steep: float = 12.0) -> SloSearch:
    """A server whose share of good requests falls through the goal at ``limit``."""
    while asked := search.ask():
        brought = []
        for run in asked:
            share = 1 / (1 + math.exp(steep * math.log(run.level / limit) - math.log(0.95 / 0.05)))
            share *= math.exp(-abs(rng.normal(0, 0.002)))
            brought.append(Attained(good=int(rng.binomial(requests, share)), total=requests))
        search.feed(asked, brought)
    return search


def test_the_knee_is_within_ten_percent_in_more_than_95_of_100_noisy_searches():
    rng = np.random.default_rng(1)
    near, runs, count = 0, [], 200
    for number in range(count):
        knee = float(np.exp(rng.uniform(math.log(3), math.log(150))))
        fall = 0.2 if number % 2 else 0.0
        search = drive_knee(KneeSearch(limits=STREAMS), partial(slots, knee=knee, fall=fall), rng)
        assert search.spent <= STREAMS.max_runs
        runs.append(search.spent)
        near += isinstance(search.answer, Knee) and abs(search.answer.load / knee - 1) <= 0.10
    assert near > 0.95 * count
    assert np.median(runs) <= 16


def test_a_knee_that_is_settled_says_how_exactly():
    search = drive_knee(KneeSearch(limits=STREAMS), lambda n: 30 * min(n, 20), np.random.default_rng(2), sd=0.01)
    assert search.settled
    assert isinstance(search.answer, Knee)
    assert search.answer.half_width_rel <= STREAMS.tolerance


def test_doubling_stops_after_two_levels_that_bring_nothing_more():
    search = KneeSearch(limits=STREAMS)
    levels = []
    while len(asked := search.ask()) == 1:
        levels.append(asked[0].level)
        search.feed(asked, [min(asked[0].level, 10.0)])
    assert levels == [1, 2, 4, 8, 16, 32, 64]


def test_a_level_that_brings_nothing_is_tried_again_before_it_counts_as_too_much():
    search = KneeSearch(limits=STREAMS)
    levels = []
    while len(asked := search.ask()) == 1:
        levels.append(asked[0].level)
        lost = asked[0].level == 4 and levels.count(4) == 1
        search.feed(asked, [None if lost or asked[0].level >= 64 else asked[0].level])
    assert levels == [1, 2, 4, 4, 8, 16, 32, 64, 64, 64, 128, 128, 128]


def test_a_range_without_a_knee_ends_early_with_the_reason():
    limits = Limits(low=1, high=32, whole=True)
    search = drive_knee(KneeSearch(limits=limits), lambda n: n, np.random.default_rng(3))
    assert isinstance(search.answer, NoKnee)
    assert search.answer.code == "still_growing"
    assert search.spent == 6


def test_no_more_runs_than_allowed_and_no_level_outside():
    limits = Limits(low=2, high=100, whole=True, max_runs=9)
    search = KneeSearch(limits=limits)
    asked_for = 0
    while asked := search.ask():
        asked_for += len(asked)
        assert all(2 <= run.level <= 100 and run.level == int(run.level) for run in asked)
        assert len({run.level for run in asked}) == len(asked)
        search.feed(asked, [min(run.level, 17) for run in asked])
    assert asked_for == search.spent <= 9


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), limit=st.integers(2, 400))
def test_the_slo_search_finds_the_streams(seed, limit):
    search = drive_slo(SloSearch(limits=STREAMS), limit + 0.5, np.random.default_rng(seed), steep=60.0)
    answer = search.answer()
    assert answer.closed
    assert answer.passes is not None
    assert answer.fails is not None
    assert answer.passes == pytest.approx(limit, abs=max(1.0, 0.15 * limit))
    assert answer.fails - answer.passes <= max(1.0, 0.1 * answer.passes)
    assert answer.runs == search.spent <= STREAMS.max_runs


def test_the_slo_search_over_rates_is_near_the_limit_in_few_runs():
    limits = Limits(low=0.5, high=1000, whole=False, tolerance=0.1)
    rng, near, runs = np.random.default_rng(5), 0, []
    for _ in range(100):
        limit = float(np.exp(rng.uniform(math.log(1), math.log(500))))
        answer = drive_slo(SloSearch(limits=limits), limit, rng, steep=12.0).answer()
        runs.append(answer.runs)
        assert answer.passes is not None
        near += abs(answer.passes / limit - 1) <= 0.15
    assert near >= 90
    assert np.median(runs) <= 20


def test_an_unsure_level_is_repeated_and_the_answer_says_so():
    search = SloSearch(limits=Limits(low=1, high=1, whole=True), max_repeats=3)
    levels = []
    while asked := search.ask():
        levels += [run.level for run in asked]
        search.feed(asked, [Attained(good=96, total=100)])
    assert levels == [1, 1, 1]
    answer = search.answer()
    assert (answer.passes, answer.sure) == (1, False)
    assert "highest load" in str(answer.why)


def test_repeats_that_bring_nothing_count_as_repeats():
    search = SloSearch(limits=Limits(low=1, high=64, whole=True))
    levels = []
    while asked := search.ask():
        levels.append(asked[0].level)
        search.feed(asked, [Attained(good=48, total=50) if levels.count(asked[0].level) == 1 else None])
        assert levels.count(asked[0].level) <= 3
    assert levels[-1] == 64


def test_a_sure_level_needs_one_run():
    search = SloSearch(limits=Limits(low=1, high=2, whole=True))
    spent = 0
    while asked := search.ask():
        spent += 1
        good = 1000 if asked[0].level == 1 else 500
        search.feed(asked, [Attained(good=good, total=1000)])
    assert spent == 2
    answer = search.answer()
    assert (answer.passes, answer.fails, answer.sure, answer.closed) == (1, 2, True, True)


def test_when_nothing_meets_it_the_answer_is_none_with_the_reason():
    search = SloSearch(limits=STREAMS)
    while asked := search.ask():
        search.feed(asked, [Attained(good=0, total=100)])
    answer = search.answer()
    assert answer.passes is None
    assert "misses the SLO already" in str(answer.why)
    assert answer.runs == 1


def test_runs_that_bring_nothing_are_tried_three_times_and_then_fail():
    search = SloSearch(limits=STREAMS)
    levels = []
    while asked := search.ask():
        levels.append(asked[0].level)
        search.feed(asked, [Attained(good=1000, total=1000) if asked[0].level < 4 else None])
    assert levels == [1, 2, 4, 4, 4, 3]
    answer = search.answer()
    assert (answer.passes, answer.closed, answer.why) == (3, False, "no run at 4 counts")


@given(good=st.integers(0, 400), more=st.integers(0, 400))
def test_the_bounds_of_a_share_hold_it(good, more):
    found = attainment([Attained(good=good, total=good + more)])
    if good + more == 0:
        assert found is None
        return
    assert found is not None
    share, low, high = found
    assert 0 <= low <= share <= high <= 1


def test_runs_that_differ_by_more_than_chance_widen_the_bounds():
    alike = attainment([Attained(good=90, total=100)] * 4)
    unlike = attainment([Attained(good=good, total=100) for good in (100, 80, 100, 80)])
    assert alike is not None
    assert unlike is not None
    assert unlike[0] == alike[0]
    assert unlike[2] - unlike[1] > 1.5 * (alike[2] - alike[1])


def test_wilsons_bound_by_hand():
    # 95 of 100, z = 1.645: (0.95 + z²/200 ± z sqrt(0.95 0.05 / 100 + z²/40000)) / (1 + z²/100)
    found = attainment([Attained(good=95, total=100)])
    assert found == pytest.approx((0.95, 0.900_84, 0.975_46), abs=2e-5)


def test_a_budget_that_ends_while_levels_are_doubled_ends_in_an_answer():
    search = KneeSearch(limits=Limits(low=1, high=256, whole=True, max_runs=6))
    while asked := search.ask():
        search.feed(asked, [run.level * 100.0 for run in asked])
    assert search.spent == 6
    assert isinstance(search.answer, NoKnee)
    assert search.answer.code == "still_growing"


@pytest.mark.parametrize(
    ("high", "first"),
    [
        (64, {2.0: 3.0, 4.0: 3.667, 8.0: 8.833, 16.0: 8.0, 32.0: 8.667}),
        (32, {2.0: 3.0, 4.0: 4.0, 8.0: 8.167, 16.0: 10.0, 32.0: 8.667}),
    ],
)
def test_noise_of_single_runs_that_hides_a_flat_end_is_looked_through(high, first):
    """Throughputs of a real server, one run a level: 3.0 where 2 were offered makes all of it look like growth."""
    search = KneeSearch(limits=Limits(low=2, high=high, whole=False))
    while len(search.points) < len(first):
        asked = search.ask()
        search.feed(asked, [first[run.level] for run in asked])
    assert isinstance(search.answer, NoKnee)
    while asked := search.ask():
        search.feed(asked, [min(run.level, 9.0) for run in asked])
    assert isinstance(search.answer, Knee)
    assert search.answer.load == pytest.approx(9.0, rel=0.1)


def test_a_server_that_grows_to_the_highest_load_is_not_measured_again():
    search = KneeSearch(limits=Limits(low=1, high=64, whole=True, max_runs=30))
    while asked := search.ask():
        search.feed(asked, [run.level * 10.0 for run in asked])
    assert isinstance(search.answer, NoKnee)
    assert search.answer.code == "still_growing"
    assert search.spent == 7
