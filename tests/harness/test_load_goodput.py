"""Goodput: which requests met every objective, by hand and against a slow count."""

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from enginewatch_db.errors import UsageError
from enginewatch_harness.load.arrays import load_arrays
from enginewatch_harness.load.goodput import NO_SLO, good_requests, goodput_metrics
from enginewatch_harness.load.spec import SLO_KEYS

MS = 1_000_000
WHOLE = {"ttft_ns": None, "itl_ns": None, "tpot_ns": None, "content_events": 1, "e2e_ns": 80 * MS}


def good(load_table, slo, *requests):
    return good_requests(load_arrays(load_table(*requests)), slo).tolist()


@pytest.mark.parametrize(
    ("slo", "met"),
    [
        ({"ttft_ms": 10}, [True, False, False]),  # a limit is inclusive
        ({"tpot_ms": 3}, [True, True, False]),
        ({"itl_ms": 5}, [False, True, False]),  # the largest gap, not the mean
        ({"e2e_ms": 19}, [True, True, False]),
        ({"ttft_ms": 11, "itl_ms": 7}, [True, True, False]),
        ({"ttft_ms": 11, "itl_ms": 5}, [False, True, False]),
    ],
)
def test_every_objective_bounds_each_request(load_table, slo, met):
    requests = [
        {"ttft": 10, "gaps": (1.0, 2.0, 6.0)},
        {"ttft": 11, "gaps": (2.0, 2.0, 2.0)},
        {"status": "error", "error_class": "reset"},
    ]
    assert good(load_table, slo, *requests) == met


def test_a_value_that_is_missing_is_a_miss(load_table):
    assert good(load_table, {"ttft_ms": 1e9}, WHOLE) == [False]
    assert good(load_table, {"itl_ms": 1e9}, WHOLE, {"itl_ns": None}) == [False, False]
    assert good(load_table, {"tpot_ms": 1e9}, {**WHOLE, "output_tokens": 1}) == [False]
    assert good(load_table, {"e2e_ms": 80}, WHOLE) == [True]


def test_a_single_token_has_no_gap_to_miss_by(load_table):
    assert good(load_table, {"itl_ms": 1, "tpot_ms": 1}, {"gaps": ()}) == [True]


def test_the_rate_counts_ends_in_the_window_and_the_share_starts_in_the_phase(load_table):
    table = load_table(
        {"start": 0, "ttft": 10, "phase": "warmup"},  # ends at 16, inside
        {"start": 20, "ttft": 10},
        {"start": 30, "ttft": 90},  # misses
        {"start": 98, "ttft": 10},  # ends outside
        {"start": 40, "status": "error", "error_class": "timeout"},
        {"start": 60, "ttft": 10, "phase": "drain"},
    )
    rate, share = goodput_metrics(load_arrays(table), {"ttft_ms": 50}, (10 * MS, 110 * MS))
    assert rate.value == pytest.approx(3 / 0.1)
    assert share.value == pytest.approx(50)
    assert share.n == 4
    assert share.ci_low < 50 < share.ci_high


def test_without_objectives_window_or_requests_it_is_absent(load_table):
    arrays = load_arrays(load_table({"phase": "warmup"}))
    assert {item.absent_reason for item in goodput_metrics(arrays, {}, (0, MS))} == {NO_SLO}
    assert all(item.value is None for item in goodput_metrics(arrays, {"ttft_ms": 1}, (MS, MS)))
    with pytest.raises(UsageError, match="ttft_s"):
        goodput_metrics(arrays, {"ttft_s": 1}, (0, MS))


@given(
    st.lists(
        st.tuples(st.floats(1, 50), st.lists(st.floats(0, 9), max_size=6), st.sampled_from(["ok", "error"])), max_size=8
    ),
    st.dictionaries(st.sampled_from(SLO_KEYS), st.floats(1, 60), min_size=1),
)
@example(drawn=[(1.0, [0.0], "ok")], slo={"itl_ms": 1.0})
def test_it_agrees_with_asking_each_request(load_table, drawn, slo):
    table = load_table(*({"ttft": ttft, "gaps": tuple(gaps), "status": status} for ttft, gaps, status in drawn))

    def largest_gap(gaps):
        # Several events without any time between them came in one read: nobody can tell their gaps.
        return 0 if not gaps else max(gaps) or math.inf

    def met(row):
        seen = {
            "ttft_ms": row["ttft_ns"],
            "e2e_ms": row["e2e_ns"],
            "tpot_ms": row["tpot_ns"] or 0,
            "itl_ms": largest_gap(row["itl_ns"]),
        }
        return row["status"] == "ok" and all(seen[key] <= limit * MS for key, limit in slo.items())

    assert good_requests(load_arrays(table), slo).tolist() == [met(row) for row in table.to_pylist()]


def test_the_largest_gap_is_of_its_own_request(load_table):
    table = load_table({"gaps": ()}, {"gaps": (1.0, 5.0)}, {"itl_ns": None}, {"gaps": (2.0,)})
    found = load_arrays(table).largest_gap_ns() / MS
    assert found[[0, 1, 3]].tolist() == [0, 5, 2]
    assert np.isnan(found[2])
