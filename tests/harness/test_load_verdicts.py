"""Whether a load may count: the client's own limits, per process; failures; too few samples."""

import numpy as np
import pytest

from enginewatch_db.validity import is_valid
from enginewatch_harness.load.arrays import load_arrays
from enginewatch_harness.load.metrics import ClientStats
from enginewatch_harness.load.outcome import nothing_completed
from enginewatch_harness.load.verdicts import (
    bound_by_client,
    failures,
    few_samples,
    processes_needed,
    token_counts,
)

MS = 1_000_000
RESET = {"status": "error", "error_class": "reset"}


def stats_of(*, cpu_pct=5.0, late_ms=0.05, waited_pct=0.1, process=0):
    late = np.full(200, round(late_ms * MS))
    return ClientStats(cpu_pct=cpu_pct, waited_pct=waited_pct, loop_lateness_ns=late, process=process)


QUIET = stats_of()


def client_bound(table, client, *, rate_rps):
    return bound_by_client(load_arrays(table), (client,), rate_rps=rate_rps)


@pytest.mark.parametrize(
    ("client", "gap_ms", "bound"),
    [
        (QUIET, 2.0, False),
        (stats_of(cpu_pct=89.0), 2.0, False),
        (stats_of(cpu_pct=95.0), 2.0, True),
        (stats_of(late_ms=1.9), 2.0, False),  # under 2 ms
        (stats_of(late_ms=3.0), 50.0, False),  # under a tenth of what it disturbs
        (stats_of(late_ms=3.0), 20.0, True),
        (ClientStats(cpu_pct=None, waited_pct=None, loop_lateness_ns=np.zeros(0, dtype=np.int64)), 2.0, False),
    ],
)
def test_when_the_client_was_the_bottleneck(load_table, client, gap_ms, bound):
    reason = client_bound(load_table({"gaps": (gap_ms,) * 5}), client, rate_rps=None)
    assert (reason is not None) == bound
    assert reason is None or reason.code == "client_bound"


def test_a_client_that_waited_for_a_core_says_so(load_table):
    table = load_table({"gaps": (2.0,) * 5})
    waited = client_bound(table, stats_of(late_ms=5, waited_pct=30), rate_rps=None).detail
    assert "waiting for a core 30 %" in waited
    assert "free the host" in waited
    assert "processes" not in waited.split("free the host")[0].replace("other processes", "")
    assert "core" not in client_bound(table, stats_of(late_ms=5, waited_pct=0.5), rate_rps=None).detail
    assert client_bound(table, stats_of(waited_pct=30), rate_rps=None) is None


@pytest.mark.parametrize(
    ("late_ms", "ttft_ms", "bound"),
    [(0.5, 2.0, False), (5.0, 100.0, False), (5.0, 20.0, True)],
)
def test_late_sends_make_an_open_loop_client_bound(load_table, late_ms, ttft_ms, bound):
    table = load_table({"start": 10 + late_ms, "intended_at_ns": 10 * MS, "ttft": ttft_ms, "gaps": (100.0,) * 3})
    reason = client_bound(table, QUIET, rate_rps=10.0)
    assert (reason is not None) == bound
    assert reason is None or "between arrivals" in reason.detail
    assert reason is None or "raise concurrency" in reason.detail  # it was idle, and so was its loop


def test_the_gap_of_a_trace_is_its_own(load_table):
    sent = [{"start": at + 5.0, "intended_at_ns": at * MS, "ttft": 20.0, "gaps": (100.0,) * 3} for at in (0, 50, 200)]
    reason = client_bound(load_table(*sent), QUIET, rate_rps=None)
    assert "with 100.0 ms between arrivals" in reason.detail


def test_the_process_that_is_bound_is_named(load_table):
    arrays = load_arrays(load_table({"process": 0}, {"process": 1}))
    clients = (stats_of(process=0), stats_of(process=1, cpu_pct=97.0), stats_of(process=2, late_ms=4.0))
    detail = bound_by_client(arrays, clients, rate_rps=None).detail
    assert "process 1: its thread used 97 % of a core" in detail
    assert "process 2: its event loop was 4.0 ms late" in detail
    assert "process 0" not in detail
    assert "it needs 5 processes" in detail  # 3 x 97 / 70 = 4.2


def test_late_sends_belong_to_the_process_that_sent_them(load_table):
    rows = [
        {"start": 100 + late, "intended_at_ns": 100 * MS, "process": process, "ttft": 8.0}
        for process, late in ((0, 0.0), (1, 6.0))
    ]
    clients = (stats_of(process=0), stats_of(process=1))
    detail = bound_by_client(load_arrays(load_table(*rows)), clients, rate_rps=20.0).detail
    assert "process 1: it sent 6.0 ms late" in detail
    assert "process 0" not in detail


@pytest.mark.parametrize(
    ("shares", "needed"),
    [((95.0,), 2), ((140.0,), 2), ((50.0, 95.0), 3), ((98.0,) * 8, 12), ((None,), 2), ((10.0, 10.0), 3)],
)
def test_how_many_processes_it_needs(shares, needed):
    assert processes_needed(tuple(stats_of(cpu_pct=share) for share in shares)) == needed


def test_the_advice_ends_at_the_cores_there_are(load_table):
    arrays = load_arrays(load_table({}))
    busy = (stats_of(cpu_pct=99.0),)
    assert bound_by_client(arrays, busy, rate_rps=None, cores=2).detail.endswith("it needs 2 processes")
    assert "may use 1: lower the load" in bound_by_client(arrays, busy, rate_rps=None, cores=1).detail


def test_another_tools_load_is_never_called_client_bound(load_table):
    table = load_table({"start": 500.0, "intended_at_ns": 0})
    assert bound_by_client(load_arrays(table), (), rate_rps=10.0) is None


def test_failures_are_counted_by_class_most_frequent_first(load_table):
    table = load_table({}, {**RESET, "error_class": "timeout"}, RESET, RESET, {**RESET, "phase": "drain"})
    reason = failures(table)
    assert reason.code == "requests_failed"
    assert reason.detail == "3 of 4 requests: 2 reset, 1 timeout"


def test_nothing_failed_is_no_reason(load_table):
    assert failures(load_table({}, {**RESET, "phase": "drain"})) is None
    assert failures(load_table()) is None


@pytest.mark.parametrize(
    ("requests", "gaps", "code"),
    [
        (0, 0, "too_few_samples"),
        (5, 1000, "too_few_samples"),
        (6, 127, "too_few_samples"),
        (8, 127, "tail_undersampled"),  # 1,016 gaps: the recorded load of one stream
        (19, 10, "too_few_samples"),
        (20, 10, "tail_undersampled"),
        (99, 10, "tail_undersampled"),
        (100, 10, None),
        (100, 0, None),
    ],
)
def test_how_many_requests_are_enough(load_table, requests, gaps, code):
    done = [{"gaps": (1.0,) * gaps}] * requests
    others = [RESET, {"phase": "warmup"}, {"phase": "drain"}] * 10
    reason = few_samples(load_arrays(load_table(*done, *others)))
    assert (reason and reason.code) == code
    assert is_valid((reason,) if reason else ()) == (code != "too_few_samples")


def test_few_requests_say_what_their_p99_is_worth(load_table):
    reason = few_samples(load_arrays(load_table(*[{"gaps": (1.0,) * 60}] * 24)))
    assert reason.detail == "24 completed requests: p99 of TTFT, TPOT and E2E rests on the slowest one or two"


@pytest.mark.parametrize(("off", "told"), [(None, False), (2.0, False), (-1.9, False), (2.1, True), (-3.0, True)])
def test_token_counts_that_disagree(off, told):
    reason = token_counts(off)
    assert (reason is not None) == told
    assert reason is None or (reason.code == "token_counts_disagree" and f"{off:+.1f} %" in reason.detail)


def test_a_load_without_a_result_names_the_error_that_most_requests_had(load_table):
    told = [{**RESET, "error": text} for text in ("seldom", "often", "often")]
    found = nothing_completed(load_table(*told), remedy="try one by hand")
    assert (found.code, found.remedy) == ("load_failed", "try one by hand")
    assert "2 of 3 say: often" in found.message
    assert nothing_completed(load_table(), remedy="x").code == "no_samples"
