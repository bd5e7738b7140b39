"""Several client processes: one start, one queue, nothing lost and nothing twice."""

from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
import uvloop

from enginewatch_db.errors import BackendError
from enginewatch_db.model import Phase
from enginewatch_harness.load.crew import share
from enginewatch_harness.load.exchange import Exchange
from enginewatch_harness.load.generator import run_load
from enginewatch_harness.load.part import Account
from enginewatch_harness.load.record import Columns
from enginewatch_harness.load.reference_server import ReferenceServer
from enginewatch_harness.load.spec import LoadSpec, processes_for
from enginewatch_harness.load.summing import sum_up
from enginewatch_harness.load.synthetic import SyntheticWorkload, prepare_workload
from enginewatch_harness.load.target import Target

MS = 1_000_000


@pytest.fixture
def server():
    with ReferenceServer(loop_factory=uvloop.new_event_loop) as running:
        yield running


def load(server, spec, *, warmup_s=0.0, duration_s=5.0, script=None, **calls):
    target = Target(url=server.url, model="m", body={"script": script or {}}, timeout_s=30)
    return run_load(target, spec, warmup_s=warmup_s, duration_s=duration_s, seed=11, t0_ns=0, **calls)


def test_two_processes_share_the_work_and_lose_nothing(server):
    phases = []
    spec = LoadSpec(mode="closed", concurrency=5, requests=60, isl=8, osl=4, processes=2)
    result = load(server, spec, on_phase=phases.append)
    rows = result.requests.to_pylist()
    assert len(rows) == len(server.truths) == 60
    assert [row["request_idx"] for row in rows] == list(range(60))
    assert {row["status"] for row in rows} == {"ok"}
    assert {row["process"] for row in rows} == {0, 1}
    assert len({truth.body["prompt"] for truth in server.truths}) == 60  # one queue: no number was taken twice
    assert [row["content_events"] for row in rows] == [4] * 60
    assert phases == [Phase.WARMUP, Phase.MEASURE, Phase.DRAIN]
    # Every time that a process tells matches one at which the server wrote: the processes share one clock.
    wrote = np.sort([truth.written_ns[0] for truth in server.truths])
    first = np.sort([row["sent_at_ns"] + row["ttft_ns"] for row in rows])
    assert (first >= wrote).all()
    found = {item.metric: item.value for item in result.metrics}
    assert found["client_processes"] == 2


def test_an_open_loop_keeps_one_schedule_over_all_processes(server):
    spec = LoadSpec(mode="constant", concurrency=32, rate_rps=200, requests=40, isl=8, osl=3, processes=2)
    result = load(server, spec, script={"ttft_ms": 20})
    intended = result.requests["intended_at_ns"].to_pylist()
    assert len(intended) == 40
    assert np.diff(sorted(intended)).tolist() == [5 * MS] * 39
    assert set(result.requests["process"].to_pylist()) == {0, 1}


def test_a_duration_ends_all_processes(server):
    spec = LoadSpec(mode="closed", concurrency=4, isl=8, osl=4, processes=2)
    result = load(server, spec, warmup_s=0.1, duration_s=0.3)
    begin, end = result.window_ns
    assert end - begin == 300 * MS
    assert set(result.requests["phase"].to_pylist()) >= {"warmup", "measure"}


def test_a_process_that_fails_is_told_with_its_last_words(server, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    monkeypatch.setattr("enginewatch_harness.load.crew.sys.executable", "/bin/false")
    with pytest.raises(BackendError, match="client process 0 of 2"):
        load(server, LoadSpec(mode="closed", concurrency=2, requests=4, processes=2))


@pytest.mark.parametrize(
    ("spec", "cores", "expected"),
    [
        (LoadSpec(mode="closed", concurrency=1024, processes=0), 8, 4),
        (LoadSpec(mode="closed", concurrency=1024, processes=0), 2, 1),
        (LoadSpec(mode="closed", concurrency=8, processes=0), 64, 1),
        (LoadSpec(mode="closed", concurrency=2, processes=8), 2, 2),
        (LoadSpec(mode="poisson", rate_rps=1, concurrency=1, processes=3), 2, 3),
    ],
)
def test_how_many_processes(spec, cores, expected):
    assert processes_for(spec, cores) == expected


def test_streams_are_shared_out_without_loss():
    spec = LoadSpec(mode="closed", concurrency=11)
    assert [share(spec, number, 4).concurrency for number in range(4)] == [3, 3, 3, 2]


def test_no_descriptor_is_left_open(server):
    before = len(list(Path("/proc/self/fd").iterdir()))
    load(server, LoadSpec(mode="closed", concurrency=2, requests=4, isl=4, osl=2, processes=2))
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def part_of(process, *, resent, ticks, times_ms):
    """Return what a process brings: one request with content at these times, and (due, late) in ms of its ticks."""
    planned = SyntheticWorkload(prepare_workload(LoadSpec(mode="closed", concurrency=2), 1)).request(process)
    exchange = Exchange(idx=0, phase="measure", planned=planned, message=b"", stream=0, sent_ns=0, http_status=200)
    exchange.content_ns.extend(at * MS for at in times_ms)
    exchange.visible_ns, exchange.end_ns, exchange.output_tokens = times_ms[0] * MS, times_ms[-1] * MS, len(times_ms)
    account = Account(
        process=process,
        begin_ns=0,
        end_ns=100 * MS,
        usage={},
        tick_due_ns=[due * MS for due, _ in ticks],
        tick_late_ns=[late * MS for _, late in ticks],
        resent=resent,
    )
    return account, Columns.of([exchange], process)


def test_what_the_processes_say_of_themselves_is_summed_and_blamed_on_the_right_one():
    spec = LoadSpec(mode="closed", concurrency=2, processes=2)
    workload = SyntheticWorkload(prepare_workload(spec, 1))
    parts = [
        part_of(0, resent=1, ticks=[(-1, 90), (0, 1), (99, 1), (100, 90)], times_ms=(10, 20, 30)),
        part_of(1, resent=2, ticks=[(50, 9)], times_ms=(10, 20, 30)),
    ]
    result = sum_up(parts, spec, workload, None, 0)
    assert result.counts["resent"] == 3
    assert any(note.startswith("3 requests were sent again") for note in result.notes)
    found = {item.metric: item for item in result.metrics}
    assert found["loop_lateness_p99_ms"].n == 3  # of the window alone
    bound = next(reason.detail for reason in result.reasons if reason.code == "client_bound")
    assert bound.startswith("process 1: its event loop was 9.0 ms late")
    assert "process 0" not in bound


def test_processes_take_turns_in_an_open_loop(server):
    spec = LoadSpec(mode="constant", concurrency=512, rate_rps=400, requests=120, isl=8, osl=2, processes=2)
    rows = load(server, spec).requests.to_pylist()
    senders = [row["process"] for row in sorted(rows, key=lambda row: row["intended_at_ns"])]
    longest = max(len(list(run)) for _, run in groupby(senders))
    assert longest < 40  # neither holds the arrivals that the other could send
    assert min(senders.count(0), senders.count(1)) > 20
