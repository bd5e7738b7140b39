"""Metrics of a load against the definitions, computed again the slow way."""

import math
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginewatch_db import tables
from enginewatch_harness.load.exchange import ErrorClass, Exchange
from enginewatch_harness.load.metrics import LEVELS, ClientStats, load_metrics, start_ns, totals
from enginewatch_harness.load.record import to_table
from enginewatch_harness.load.verdicts import client_bound, failures

MS = 1_000_000
T0 = 7_000_000_000
QUIET = ClientStats(cpu_pct=5.0, waited_pct=0.1, loop_lateness_ns=np.full(100, 60_000))


def exchange(idx=0, *, start=0.0, ttft=10.0, gaps=(2.0, 2.0, 2.0), phase="measure", **changes):
    """A completed request of the closed loop; times in ms from the origin."""
    begin = T0 + round(start * MS)
    content = [begin + round((ttft + sum(gaps[:count])) * MS) for count in range(len(gaps) + 1)]
    facts = {
        "idx": idx,
        "phase": phase,
        "body": b"",
        "stream": 0,
        "start_ns": begin,
        "sent_ns": begin,
        "first_byte_ns": content[0],
        "content_ns": content,
        "end_ns": content[-1],
        "http_status": 200,
        "finish_reason": "length",
        "prompt_tokens": 20,
        "output_tokens": len(content),
        "done": True,
    }
    return Exchange(**(facts | changes))


def failed(idx=0, error_class=ErrorClass.RESET, **changes):
    return exchange(idx, error_class=error_class, error="why", **changes)


def values(exchanges, window=(0.0, 1000.0), client=QUIET):
    table = to_table(exchanges, T0)
    counted = totals(table, (round(window[0] * MS), round(window[1] * MS)))
    return {item.metric: item for item in load_metrics(table, counted, client)}


def test_the_definitions_on_one_request():
    found = values([exchange(start=100, ttft=10, gaps=(1.0, 2.0, 6.0))])
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
    assert found["loop_lateness_p99_ms"].value == pytest.approx(0.06)
    assert found["send_lateness_p99_ms"].value is None


def test_tokens_count_where_they_arrive_not_where_they_start():
    requests = [
        exchange(0, start=0, ttft=50, gaps=(40.0, 20.0, 20.0), phase="warmup"),  # at 50, 90, 110, 130
        exchange(1, start=150, ttft=40, gaps=(5.0, 10.0), phase="measure"),  # at 190, 195, 205
        exchange(2, start=210, ttft=1, gaps=(1.0,), phase="drain"),
    ]
    table = to_table(requests, T0)
    counted = totals(table, (100 * MS, 200 * MS))
    assert counted.output_tokens == 4
    assert counted.input_tokens == 20  # only request 1 began to answer inside
    assert counted.completed == 1  # only request 0 ended inside
    assert counted.window_s == pytest.approx(0.1)
    found = values(requests, (100, 200))
    assert found["ttft_p50_ms"].n == 1  # latencies are those of the measuring phase's requests
    assert found["ttft_p50_ms"].value == pytest.approx(40)


def test_the_window_has_an_inclusive_start_and_an_exclusive_end():
    table = to_table([exchange(start=0, ttft=100, gaps=(50.0, 50.0))], T0)
    assert totals(table, (100 * MS, 200 * MS)).output_tokens == 2
    assert totals(table, (100 * MS + 1, 200 * MS + 1)).output_tokens == 2


def test_an_event_of_several_tokens_is_weighted():
    found = values([exchange(output_tokens=12)])
    assert found["output_tokens_s"].value == pytest.approx(12)
    assert found["tpot_p50_ms"].value == pytest.approx(6 / 11)
    assert found["itl_p50_ms"].n == 3


def test_failed_requests_have_no_latency_and_no_tokens():
    requests = [exchange(0), failed(1), failed(2, ErrorClass.TIMEOUT, phase="warmup")]
    table = to_table(requests, T0)
    assert table["status"].to_pylist() == ["ok", "error", "error"]
    for name in ("ttft_ns", "e2e_ns", "tpot_ns", "itl_ns"):
        assert table[name].null_count == 2
    assert table["content_events"].to_pylist() == [4, 4, 4]
    found = values(requests)
    assert found["requests_failed_pct"].value == pytest.approx(50)  # of those of the measuring phase
    assert found["output_tokens_s"].value == pytest.approx(4)
    reason = failures(table)
    assert reason.code == "requests_failed"
    assert "1 of 2 requests: 1 reset" in reason.detail


@pytest.mark.parametrize("requests", [[], [failed()], [exchange(phase="warmup")]])
def test_without_a_completed_request_latencies_are_absent_with_a_reason(requests):
    found = values(requests, (500.0, 600.0))
    for stem, levels in LEVELS.items():
        for level in levels:
            item = found[f"{stem}_{level}_ms"]
            assert item.value is None
            assert "no request" in item.absent_reason
    for name in ("output_tokens_s", "requests_s", "tokens_s_per_user", "zero_gap_pct"):
        assert found[name].value is None


def test_an_empty_window_gives_no_rates():
    assert values([exchange()], (5, 5))["requests_s"].absent_reason == "the load ended before the measuring phase began"


def test_requests_of_one_token_have_no_gaps():
    found = values([exchange(gaps=())])
    assert found["ttft_p50_ms"].value == pytest.approx(10)
    assert found["e2e_p50_ms"].value == pytest.approx(10)
    for name in ("itl_p50_ms", "tpot_p50_ms", "tokens_s_per_user", "zero_gap_pct"):
        assert found[name].value is None


def test_without_usage_events_are_tokens_and_prompt_tokens_are_absent():
    found = values([exchange(output_tokens=None, prompt_tokens=None)])
    assert found["output_tokens_s"].value == pytest.approx(4)
    assert found["tpot_p50_ms"].value == pytest.approx(2)
    assert found["input_tokens_s"].absent_reason == "the server reported no token usage"
    assert found["total_tokens_s"].value is None


def test_zero_gaps_are_counted():
    assert values([exchange(gaps=(0.0, 3.0, 0.0, 1.0))])["zero_gap_pct"].value == pytest.approx(50)


def test_open_loop_latencies_count_from_the_intended_time():
    late = exchange(intended_ns=T0 + 100 * MS, start_ns=T0 + 100 * MS, sent_ns=T0 + 103 * MS, stream=None)
    late.content_ns = [T0 + 120 * MS, T0 + 122 * MS]
    table = to_table([late], T0)
    assert table["ttft_ns"].to_pylist() == [20 * MS]
    assert start_ns(table).tolist() == [100 * MS]
    assert values([late])["send_lateness_p99_ms"].value == pytest.approx(3)


def test_a_new_connection_is_inside_ttft_and_marked():
    own = exchange(start=5, ttft=10, new_connection=True, connect_ns=4 * MS, sent_ns=T0 + 9 * MS)
    table = to_table([own], T0)
    assert start_ns(table).tolist() == [5 * MS]
    row = table.to_pylist()[0]
    assert (row["new_connection"], row["connect_ns"], row["ttft_ns"]) == (True, 4 * MS, 10 * MS)


def test_the_table_has_the_schema_of_the_store():
    table = to_table([exchange(1), failed(0)], T0)
    assert table.schema == tables.LLM_REQUESTS
    assert tables.conform("llm_requests", table) == table
    assert table["request_idx"].to_pylist() == [0, 1]
    assert pa.types.is_list(table.schema.field("itl_ns").type)


gap = st.integers(0, 50 * MS)
request = st.builds(
    lambda start, ttft, gaps, tokens, phase: exchange(
        start=start / MS, ttft=ttft / MS, gaps=tuple(item / MS for item in gaps), phase=phase, output_tokens=tokens
    ),
    start=st.integers(0, 900 * MS),
    ttft=st.integers(1, 200 * MS),
    gaps=st.lists(gap, max_size=12),
    tokens=st.none() | st.integers(1, 40),
    phase=st.sampled_from(["warmup", "measure", "drain"]),
)


@given(st.lists(request, max_size=8), st.integers(0, 500 * MS), st.integers(1, 600 * MS))
def test_totals_agree_with_counting_one_by_one(requests, begin, length):
    for idx, item in enumerate(requests):
        item.idx = idx
    window = (begin, begin + length)
    counted = totals(to_table(requests, T0), window)
    tokens = completed = prompts = 0
    for item in requests:
        inside = [window[0] <= at - T0 < window[1] for at in item.content_ns]
        each = 1 if item.output_tokens is None else item.output_tokens / len(item.content_ns)
        tokens += each * sum(inside)
        completed += inside[-1]
        prompts += item.prompt_tokens * inside[0]
    assert counted.output_tokens == pytest.approx(tokens)
    assert counted.completed == completed
    assert counted.input_tokens == prompts


@given(st.lists(request, min_size=1, max_size=8))
def test_metrics_are_finite_ordered_and_pool_all_gaps(requests):
    for idx, item in enumerate(requests):
        item.idx = idx
    found = values(requests)
    chosen = [item for item in requests if item.phase == "measure"]
    gaps = [b - a for item in chosen for a, b in pairwise(item.content_ns)]
    assert (found["itl_p50_ms"].n or 0) == len(gaps)
    assert (found["ttft_p50_ms"].n or 0) == len(chosen)
    for stem, levels in LEVELS.items():
        series = [found[f"{stem}_{level}_ms"].value for level in levels]
        if series[0] is not None:
            assert all(math.isfinite(value) and value >= 0 for value in series)
            assert all(low <= high + 1e-9 for low, high in pairwise(series))
    if chosen:
        ttfts = [(item.content_ns[0] - item.start_ns) / MS for item in chosen]
        assert min(ttfts) - 1e-9 <= found["ttft_p50_ms"].value <= max(ttfts) + 1e-9


def stats_of(*, cpu_pct=5.0, late_ms=0.05, waited_pct=0.1):
    return ClientStats(cpu_pct=cpu_pct, waited_pct=waited_pct, loop_lateness_ns=np.full(200, round(late_ms * MS)))


@pytest.mark.parametrize(
    ("client", "gap_ms", "bound"),
    [
        (stats_of(), 2.0, False),
        (stats_of(cpu_pct=89.0), 2.0, False),
        (stats_of(cpu_pct=95.0), 2.0, True),
        (stats_of(late_ms=1.9), 2.0, False),  # under 2 ms
        (stats_of(late_ms=3.0), 50.0, False),  # under a tenth of what it disturbs
        (stats_of(late_ms=3.0), 20.0, True),
        (ClientStats(cpu_pct=None, waited_pct=None, loop_lateness_ns=np.zeros(0, dtype=np.int64)), 2.0, False),
    ],
)
def test_when_the_client_was_the_bottleneck(client, gap_ms, bound):
    table = to_table([exchange(gaps=(gap_ms,) * 5)], T0)
    reason = client_bound(table, client, rate_rps=None)
    assert (reason is not None) == bound
    assert reason is None or reason.code == "client_bound"


def test_a_client_that_waited_for_a_core_says_so():
    table = to_table([exchange(gaps=(2.0,) * 5)], T0)
    assert "waiting for a core 30 %" in client_bound(table, stats_of(late_ms=5, waited_pct=30), rate_rps=None).detail
    assert "core" not in client_bound(table, stats_of(late_ms=5, waited_pct=0.5), rate_rps=None).detail
    assert client_bound(table, stats_of(waited_pct=30), rate_rps=None) is None


@pytest.mark.parametrize(
    ("late_ms", "ttft_ms", "bound"),
    [(0.5, 2.0, False), (5.0, 100.0, False), (5.0, 20.0, True)],
)
def test_late_sends_make_an_open_loop_client_bound(late_ms, ttft_ms, bound):
    due = T0 + 10 * MS
    item = exchange(intended_ns=due, start_ns=due, sent_ns=due + round(late_ms * MS), gaps=(100.0,) * 3)
    item.content_ns = [due + round((ttft_ms + 100 * k) * MS) for k in range(4)]
    reason = client_bound(to_table([item], T0), QUIET, rate_rps=10.0)
    assert (reason is not None) == bound
    assert reason is None or "between arrivals" in reason.detail


def test_nothing_failed_is_no_reason():
    assert failures(to_table([exchange(), failed(1, phase="drain")], T0)) is None
