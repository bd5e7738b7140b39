"""Calibration of the client: its rules on made-up steps, one real step, and what is kept."""

from __future__ import annotations

import io
import json
import os
from dataclasses import replace

import pytest
from rich.console import Console

from enginewatch_db.errors import StorageError, UnfitError
from enginewatch_db.metrics import MetricValue
from enginewatch_harness.commands.load_calibrate import table_of
from enginewatch_harness.load import calibrate, calibrate_run
from enginewatch_harness.load.calibrate import Errors, Limit, Step
from enginewatch_harness.load.calibrate_step import step_of
from enginewatch_harness.load.result import LoadResult

GOOD = Step(
    processes=1,
    streams=32,
    offered_tokens_s=3000.0,
    tokens_s=2990.0,
    client_cpu_pct=20.0,
    server_cpu_pct=30.0,
    loop_lateness_p99_ms=0.3,
    server_late_p99_ms=0.2,
    ttft_error=Errors(p50_ms=0.1, p99_ms=0.4),
    itl_error=Errors(p50_ms=0.0, p99_ms=0.1),
    failed=0,
)


def drive(client_streams: int, server_streams: int = 10**6) -> list[Step]:
    """Step until the limit is found on a host with these capacities."""
    steps: list[Step] = []
    while (streams := calibrate.next_streams(steps)) is not None:
        offered = calibrate.offered_tokens_s(streams)
        steps.append(
            replace(
                GOOD,
                streams=streams,
                offered_tokens_s=offered,
                tokens_s=offered * min(1, client_streams / streams),
                client_cpu_pct=min(100, 88 * streams / client_streams),
                server_cpu_pct=min(100, 88 * streams / server_streams),
            )
        )
        assert len(steps) < 20
    return steps


@pytest.mark.parametrize("capacity", [4, 20, 32, 100, 700, 1024, 3000])
def test_the_limit_is_within_half_an_octave_below_the_capacity(capacity):
    limit = calibrate.limit_of(drive(capacity))
    assert capacity / 2 <= limit.streams <= capacity
    assert limit.by == "client"
    assert f"{limit.streams} streams" in calibrate.sentence(limit)
    assert "at least" not in calibrate.sentence(limit)


def test_one_step_is_taken_between_the_last_that_was_driven_and_the_first_that_was_not():
    assert [step.streams for step in drive(60)] == [32, 64, 48]
    assert [step.streams for step in drive(40)] == [32, 64, 48]


def test_a_server_at_its_limit_makes_the_answer_a_lower_bound():
    limit = calibrate.limit_of(drive(10**6, server_streams=500))
    assert limit.by == "server"
    assert "at least" in calibrate.sentence(limit)
    assert 250 <= limit.streams <= 500


def test_a_host_beyond_the_range_says_so():
    limit = calibrate.limit_of(drive(10**6))
    assert (limit.by, limit.streams) == ("range", calibrate.LAST_STREAMS)


def test_when_no_step_is_driven_the_machine_is_to_be_freed():
    steps = []
    while (streams := calibrate.next_streams(steps)) is not None:
        steps.append(replace(GOOD, streams=streams, loop_lateness_p99_ms=9.0))
    limit = calibrate.limit_of(steps)
    assert limit.streams == 0
    assert "Free the machine" in calibrate.sentence(limit)


@pytest.mark.parametrize(
    ("change", "who"),
    [
        ({}, None),
        ({"failed": 2}, "client"),
        ({"client_cpu_pct": 91.0}, "client"),
        ({"loop_lateness_p99_ms": 2.1}, "client"),
        ({"tokens_s": 2900.0}, "client"),
        ({"server_cpu_pct": 95.0}, "server"),
        ({"server_late_p99_ms": 3.0, "loop_lateness_p99_ms": 9.0}, "server"),
        ({"client_cpu_pct": None, "server_cpu_pct": None, "server_late_p99_ms": None}, None),
    ],
)
def test_who_did_not_keep_up(change, who):
    found = calibrate.fault(replace(GOOD, **change))
    assert (found and found[0]) == who


def test_of_several_processes_the_worst_counts():
    other = replace(GOOD, tokens_s=2500.0, client_cpu_pct=None, ttft_error=Errors(p50_ms=-2.0, p99_ms=-3.0), failed=1)
    found = calibrate_run.worst([GOOD, other])
    assert (found.processes, found.tokens_s, found.client_cpu_pct, found.failed) == (2, 2500.0, 20.0, 1)
    assert found.ttft_error == other.ttft_error


def test_more_processes_than_pairs_of_cores_are_refused():
    with pytest.raises(UnfitError, match="cores"):
        calibrate_run.pairs_of_cores(len(os.sched_getaffinity(0)))


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="a client and its server need two cores")
def test_when_the_time_is_up_the_answer_is_a_lower_bound(monkeypatch):
    # What a real step finds depends on the machine; here each is driven.
    monkeypatch.setattr(calibrate_run, "run_step", lambda cores, streams, duration_s: replace(GOOD, streams=streams))
    seen: list[Step] = []
    [(limit, steps)] = calibrate_run.run_calibration([1], duration_s=1.0, budget_s=-1.0, on_step=seen.append)
    assert steps == seen
    assert [step.streams for step in steps] == [calibrate.FIRST_STREAMS]
    assert (limit.by, limit.streams) == ("time", calibrate.FIRST_STREAMS)
    assert "were up" in limit.why
    assert "at least" in calibrate.sentence(limit)


def truth_of(arrived_ms: float, *, late_ms: float = 0.0) -> dict[str, object]:
    """What the reference server knows of a request of four tokens that it wrote so late."""
    due = [arrived_ms + calibrate.TTFT_MS + number * calibrate.GAP_MS + late_ms for number in range(4)]
    return {"arrived_ns": round(arrived_ms * 1e6), "written_ns": [round(at * 1e6) for at in due]}


def test_a_step_compares_what_came_in_its_window_with_the_script(load_table):
    told = {"ttft_p50_ms": 51.0, "ttft_p99_ms": 53.0, "itl_p50_ms": 10.5, "itl_p99_ms": 9.0, "output_tokens_s": 90.0}
    result = LoadResult(
        requests=load_table({}, {}, {"phase": "warmup"}),
        window_ns=(1_000_000_000, 2_000_000_000),
        metrics=(
            *(MetricValue(metric=name, value=value) for name, value in told.items()),
            MetricValue(metric="requests_failed_pct", value=50.0, n=2),
        ),
        reasons=(),
        counts={},
    )
    outside = [truth_of(999.0, late_ms=300.0), truth_of(2000.0, late_ms=300.0)]
    step = step_of(result, [*outside, truth_of(1000.0), truth_of(1500.0)], streams=2, server_cpu_pct=12.0)
    assert step.server_late_p99_ms == pytest.approx(0.0)
    assert step.ttft_error is not None
    assert step.itl_error is not None
    assert (step.ttft_error.p50_ms, step.ttft_error.p99_ms) == pytest.approx((1.0, 3.0))
    assert (step.itl_error.p50_ms, step.itl_error.p99_ms) == pytest.approx((0.5, -1.0))
    assert (step.tokens_s, step.server_cpu_pct, step.failed) == (90.0, 12.0, 1)
    late = step_of(result, [truth_of(1000.0, late_ms=4.0)], streams=2, server_cpu_pct=None)
    assert late.server_late_p99_ms == pytest.approx(4.0)
    assert step_of(result, outside, streams=2, server_cpu_pct=None).ttft_error is None


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="a client and its server need two cores")
def test_a_real_step_is_compared_with_the_truth():
    step = calibrate_run.run_step(calibrate_run.pairs_of_cores(1), 2, 0.5)
    assert step.failed == 0
    assert step.streams == 2
    # Half a second holds less than one cycle of 0.68 s: the rate is rough, and never above what was offered by much.
    assert 0 < step.tokens_s <= 1.2 * step.offered_tokens_s
    assert step.server_cpu_pct is not None
    assert step.ttft_error is not None
    assert step.itl_error is not None


def test_a_calibration_is_found_again_on_this_processor_only(tmp_path):
    limit = Limit(processes=1, streams=512, tokens_s=48_000.0, by="server", why="x")
    content = calibrate_run.as_json([(limit, [GOOD])], host={"cpu_model": "A"}, at="2026-01-01T00:00:00+00:00")
    path = calibrate_run.store(tmp_path / "new", content)
    assert json.loads(path.read_text())["limits"][0]["steps"][0]["streams"] == 32
    assert calibrate_run.shown_limit(path.parent, cpu_model="A", processes=1) == limit
    assert calibrate_run.shown_limit(path.parent, cpu_model="B", processes=1) is None
    assert calibrate_run.shown_limit(path.parent, cpu_model="A", processes=2) is None
    path.write_text("{")
    assert calibrate_run.shown_limit(path.parent, cpu_model="A", processes=1) is None
    assert calibrate_run.shown_limit(tmp_path, cpu_model="A", processes=1) is None


def test_a_calibration_that_drove_nothing_is_no_limit(tmp_path):
    none = Limit(processes=1, streams=0, tokens_s=0.0, by="client", why="x")
    two = Limit(processes=2, streams=64, tokens_s=6000.0, by="client", why="x")
    content = calibrate_run.as_json([(none, [GOOD]), (two, [GOOD])], host={"cpu_model": "A"}, at="now")
    calibrate_run.store(tmp_path, content)
    assert calibrate_run.shown_limit(tmp_path, cpu_model="A", processes=1) == two


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(StorageError, match="file"):
        calibrate_run.store(blocked, {})


@pytest.mark.parametrize("width", [50, 80, 100, 120, 160])
def test_the_table_leaves_columns_out_and_cuts_nothing(width):
    errors = Errors(p50_ms=12.34, p99_ms=123.45)
    full = replace(GOOD, streams=3072, offered_tokens_s=307_200, ttft_error=errors, itl_error=errors)
    steps = [full, replace(full, streams=4096, server_late_p99_ms=50.0)]
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(table_of(steps, width=width))
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= width
    assert len(lines) == 2 + 1 + len(steps)
    assert "…" not in "".join(lines)
    assert "no: server" in lines[-1]
    assert "3072" in lines[-2]
    assert ("+12.34/+123.45" in lines[-1]) == (width >= 80)
    assert ("offered" in lines[0]) == (width >= 100)
    assert ("late p99 ms" in lines[1]) == (width >= 160)
