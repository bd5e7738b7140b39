"""Metrics of a load against the definitions, computed again the slow way."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginewatch_db.quantile import HD_MAX_N, estimate
from enginewatch_harness.load.arrays import load_arrays, start_ns
from enginewatch_harness.load.metrics import (
    LEVELS,
    NO_STREAM,
    NOT_RECORDED,
    ClientStats,
    client_metrics,
    latency_metrics,
    load_metrics,
    rate_metrics,
)
from enginewatch_harness.load.window import totals
from enginewatch_harness.summarise import LEVELS as QUANTILES

MS = 1_000_000
QUIET = ClientStats(cpu_pct=5.0, waited_pct=0.1, loop_lateness_ns=np.full(100, 60_000))
FAILED = {"status": "error", "error_class": "reset"}
WHOLE = {"ttft_ns": None, "itl_ns": None, "tpot_ns": None, "content_events": 1, "e2e_ns": 80 * MS, "output_tokens": 8}


@pytest.fixture(scope="module")
def values(load_table):
    """Metrics by name, of requests given in ms."""

    def found(*requests, window=(0.0, 1000.0), client=QUIET):
        table = load_table(*requests)
        counted = totals(table, (round(window[0] * MS), round(window[1] * MS)))
        return {item.metric: item for item in load_metrics(table, counted, (client,))}

    return found


def test_the_definitions_on_one_request(values):
    found = values({"start": 100, "ttft": 10, "gaps": (1.0, 2.0, 6.0)})
    assert found["ttft_p50_ms"].value == pytest.approx(10)
    assert found["e2e_p50_ms"].value == pytest.approx(19)
    assert found["tpot_p50_ms"].value == pytest.approx(9 / 3)
    assert found["itl_p50_ms"].n == 3
    assert found["tokens_s_per_user"].value == pytest.approx(1000 / 3)
    assert found["output_tokens_s"].value == pytest.approx(4)
    assert found["input_tokens_s"].value == pytest.approx(20)
    assert found["total_tokens_s"].value == pytest.approx(24)
    assert found["requests_s"].value == pytest.approx(1)
    assert found["requests_failed_pct"].value == 0
    assert found["zero_gap_pct"].value == 0
    assert found["client_cpu_pct"].value == 5.0
    assert found["client_processes"].value == 1
    assert found["loop_lateness_p99_ms"].value == pytest.approx(0.06)
    assert found["send_lateness_p99_ms"].value is None


@pytest.mark.parametrize("stem", ["ttft", "itl", "tpot", "e2e"])
def test_every_level_has_the_interval_of_the_order_statistics(load_table, stem):
    rng = np.random.default_rng(4)
    requests = [{"ttft": 5 + rng.exponential(9), "gaps": tuple(rng.exponential(3, 4))} for _ in range(300)]
    table = load_table(*requests)
    found = {item.metric: item for item in latency_metrics(load_arrays(table))}
    column = np.concatenate(table["itl_ns"].to_pylist()) if stem == "itl" else table[f"{stem}_ns"].to_numpy()
    for level in LEVELS[stem]:
        expected = estimate(column / MS, QUANTILES[level])
        item = found[f"{stem}_{level}_ms"]
        assert item.value == pytest.approx(expected.value)
        assert (item.ci_low, item.ci_high, item.n) == pytest.approx((expected.ci_low, expected.ci_high, expected.n))


def test_millions_of_gaps_are_not_sorted_and_give_the_same(timed_table):
    import pyarrow as pa

    rng = np.random.default_rng(1)
    n, per = 1200, 20
    gaps = rng.gamma(2.0, 3.0 * MS, n * per).astype(np.int64)
    assert gaps.size > HD_MAX_N
    lists = pa.ListArray.from_arrays(pa.array(np.arange(0, gaps.size + 1, per, dtype=np.int32)), pa.array(gaps))
    table = timed_table(np.arange(n) * 0.1, np.ones(n), 10.0, 100.0, open_loop=True, itl_ns=lists)
    chosen = gaps[100 * per : 1000 * per]
    kept = chosen.copy()
    found = {item.metric: item for item in latency_metrics(load_arrays(table))}
    assert chosen.size < HD_MAX_N < gaps.size
    table = timed_table(np.arange(n) * 0.1, np.ones(n), 0.0, 120.0, open_loop=True, itl_ns=lists)
    whole = {item.metric: item for item in latency_metrics(load_arrays(table))}
    for level in LEVELS["itl"]:
        for result, expected in (
            (found[f"itl_{level}_ms"], estimate(chosen / MS, QUANTILES[level])),
            (whole[f"itl_{level}_ms"], estimate(gaps / MS, QUANTILES[level])),
        ):
            assert result.value == pytest.approx(expected.value)
            assert (result.ci_low, result.ci_high) == pytest.approx((expected.ci_low, expected.ci_high))
    assert (chosen == kept).all()  # the table itself stays in order


def test_an_event_of_several_tokens_is_weighted(values):
    found = values({"output_tokens": 12})
    assert found["output_tokens_s"].value == pytest.approx(12)
    assert found["tpot_p50_ms"].value == pytest.approx(6 / 11)
    assert found["itl_p50_ms"].n == 3


def test_failed_requests_have_no_latency_and_no_tokens(values):
    found = values({}, FAILED, {**FAILED, "phase": "warmup"})
    assert found["requests_failed_pct"].value == pytest.approx(50)  # of those of the measuring phase
    assert found["output_tokens_s"].value == pytest.approx(4)
    assert found["ttft_p50_ms"].n == 1


@pytest.mark.parametrize("requests", [[], [FAILED], [{"phase": "warmup"}]])
def test_without_a_completed_request_latencies_are_absent_with_a_reason(values, requests):
    found = values(*requests, window=(500.0, 600.0))
    for stem, levels in LEVELS.items():
        for level in levels:
            item = found[f"{stem}_{level}_ms"]
            assert item.value is None
            assert "no request" in item.absent_reason
    for name in ("output_tokens_s", "requests_s", "tokens_s_per_user", "zero_gap_pct", "ttfo_p50_ms"):
        assert found[name].value is None


def test_an_empty_window_gives_no_rates(values):
    found = values({}, window=(5, 5))
    assert found["requests_s"].absent_reason == "the load ended before the measuring phase began"


def test_requests_of_one_token_have_no_gaps(values):
    found = values({"gaps": ()})
    assert found["ttft_p50_ms"].value == pytest.approx(10)
    assert found["e2e_p50_ms"].value == pytest.approx(10)
    for name in ("itl_p50_ms", "tpot_p50_ms", "tokens_s_per_user", "zero_gap_pct"):
        assert found[name].absent_reason == "no request had more than one token"


def test_answers_that_come_whole_have_an_end_and_rates_and_no_token_times(values):
    found = values({**WHOLE, "start": 0.0}, {**WHOLE, "start": 990.0})
    assert found["e2e_p50_ms"].value == pytest.approx(80)
    assert found["requests_s"].value == pytest.approx(1)  # the second ended after the window
    assert found["output_tokens_s"].value == pytest.approx(8)
    assert found["input_tokens_s"].value == pytest.approx(20)
    for name in ("ttft_p50_ms", "itl_p99_ms", "tpot_p50_ms", "tokens_s_per_user", "zero_gap_pct", "ttfo_p50_ms"):
        assert found[name].absent_reason == NO_STREAM


def test_whole_answers_without_usage_have_no_tokens_rather_than_one_each(values):
    found = values({**WHOLE, "output_tokens": None})
    for name in ("output_tokens_s", "total_tokens_s"):
        assert found[name].absent_reason == "the server reported no token usage"
    assert found["requests_s"].value == pytest.approx(1)
    counted = values({**WHOLE, "output_tokens": None, "tokenizer_output_tokens": 6})
    assert counted["output_tokens_s"].value == pytest.approx(6)


def test_what_a_tool_did_not_record_is_not_blamed_on_the_server(values):
    found = values({"ttft_ns": None, "itl_ns": None, "e2e_ns": 80 * MS, "content_events": None})
    assert found["ttft_p50_ms"].absent_reason == NOT_RECORDED
    assert values({"itl_ns": None})["itl_p50_ms"].absent_reason == NOT_RECORDED


def test_without_usage_events_are_tokens_and_prompt_tokens_are_absent(values):
    found = values({"output_tokens": None, "prompt_tokens": None})
    assert found["output_tokens_s"].value == pytest.approx(4)
    assert found["input_tokens_s"].absent_reason == "the server reported no token usage"
    assert found["total_tokens_s"].value is None


def test_zero_gaps_are_counted(values):
    assert values({"gaps": (0.0, 3.0, 0.0, 1.0)})["zero_gap_pct"].value == pytest.approx(50)


def test_ttfo_is_there_where_reasoning_was_seen(values):
    found = values({"ttfo_ns": 70 * MS}, {"ttfo_ns": 90 * MS}, {})
    assert found["ttfo_p50_ms"].value == pytest.approx(80)
    assert found["ttfo_p50_ms"].n == 2
    for request in ({}, {"ttfo_ns": 10 * MS}):
        assert "no reasoning" in values(request)["ttfo_p99_ms"].absent_reason


def test_open_loop_latencies_count_from_the_intended_time(load_table, values):
    late = {"start": 103.0, "intended_at_ns": 100 * MS, "stream": None}
    assert start_ns(load_table(late)).tolist() == [100 * MS]
    assert values(late)["send_lateness_p99_ms"].value == pytest.approx(3)


def test_a_new_connection_is_inside_the_latency(load_table):
    assert start_ns(load_table({"start": 9.0, "connect_ns": 4 * MS})).tolist() == [5 * MS]
    with pytest.raises(ValueError, match="1 requests have no start"):
        start_ns(load_table({"sent_at_ns": None}))


def test_tokens_a_gpu_need_the_number_of_gpus(load_table):
    table = load_table({})
    counted, arrays = totals(table, (0, 1000 * MS)), load_arrays(table)
    found = {item.metric: item for item in rate_metrics(arrays, counted, 2)}
    assert found["output_tokens_s_per_gpu"].value == pytest.approx(2)
    found = {item.metric: item for item in rate_metrics(arrays, counted)}
    assert "not known" in found["output_tokens_s_per_gpu"].absent_reason


def test_usage_against_the_tokenizer(values):
    both = {"output_tokens": 103, "tokenizer_output_tokens": 100}
    found = values(both, {**both, "output_tokens": 101}, {"output_tokens": 900}, {**both, "phase": "warmup"})
    assert found["usage_vs_tokenizer_pct"].value == pytest.approx(2.0)
    assert found["usage_vs_tokenizer_pct"].n == 2
    assert values({})["usage_vs_tokenizer_pct"].absent_reason == "no tokenizer was given"
    only = values({"output_tokens": None, "tokenizer_output_tokens": 4})
    assert "both" in only["usage_vs_tokenizer_pct"].absent_reason


def test_the_client_is_all_its_processes_and_its_share_is_the_busiest_ones(load_table):
    arrays = load_arrays(load_table({}))
    clients = tuple(
        ClientStats(cpu_pct=cpu, waited_pct=None, loop_lateness_ns=np.full(100, late * MS), process=process)
        for process, cpu, late in ((0, 20.0, 1), (1, None, 1), (2, 60.0, 3))
    )
    found = {item.metric: item for item in client_metrics(arrays, clients)}
    assert found["client_cpu_pct"].value == 60.0
    assert found["client_processes"].value == 3
    assert found["loop_lateness_p99_ms"].n == 300
    assert found["loop_lateness_p99_ms"].value == pytest.approx(3)


def test_another_tools_client_is_absent(load_table):
    for item in client_metrics(load_arrays(load_table({})), ()):
        assert item.absent_reason == NOT_RECORDED


gap = st.integers(0, 50 * MS)
request_of = st.fixed_dictionaries(
    {
        "start": st.integers(0, 900 * MS).map(lambda at: at / MS),
        "ttft": st.integers(1, 200 * MS).map(lambda at: at / MS),
        "gaps": st.lists(gap.map(lambda at: at / MS), max_size=12).map(tuple),
        "output_tokens": st.none() | st.integers(1, 40),
        "phase": st.sampled_from(["warmup", "measure", "drain"]),
        "status": st.sampled_from(["ok", "ok", "ok", "error"]),
    }
)


def times_of(row):
    """Return when each content event came, one by one."""
    first = row["sent_at_ns"] + row["ttft_ns"]
    return [first + sum(row["itl_ns"][:count]) for count in range(len(row["itl_ns"]) + 1)]


@given(st.lists(request_of, max_size=8), st.integers(0, 500 * MS), st.integers(1, 600 * MS))
def test_totals_agree_with_counting_one_by_one(load_table, requests, begin, length):
    table = load_table(*requests)
    window = (begin, begin + length)
    counted = totals(table, window)
    tokens = completed = prompts = 0
    for row in table.to_pylist():
        if row["status"] == "error":
            continue
        inside = [window[0] <= at < window[1] for at in times_of(row)]
        each = 1 if row["output_tokens"] is None else row["output_tokens"] / len(inside)
        tokens += each * sum(inside)
        completed += inside[-1]
        prompts += row["prompt_tokens"] * inside[0]
    assert counted.output_tokens == pytest.approx(tokens)
    assert counted.completed == completed
    assert counted.input_tokens == prompts
    assert counted.output_known


@given(st.lists(request_of, min_size=1, max_size=8))
def test_metrics_are_finite_ordered_and_pool_all_gaps(values, requests):
    found = values(*requests)
    chosen = [item for item in requests if item["phase"] == "measure" and item["status"] == "ok"]
    gaps = [round(gap * MS) for item in chosen for gap in item["gaps"]]
    assert (found["itl_p50_ms"].n or 0) == (len(gaps) if any(gaps) else 0)  # of one read, nobody can tell them
    assert (found["ttft_p50_ms"].n or 0) == len(chosen)
    for stem, levels in LEVELS.items():
        series = [found[f"{stem}_{level}_ms"].value for level in levels]
        if series[0] is not None:
            assert all(math.isfinite(value) and value >= 0 for value in series)
            assert all(low <= high + 1e-9 for low, high in pairwise(series))
    if chosen:
        ttfts = [item["ttft"] for item in chosen]
        assert min(ttfts) - 1e-5 <= found["ttft_p50_ms"].value <= max(ttfts) + 1e-5
