"""The demo: what is loaded is what was recorded, loading twice changes nothing, and nobody's own runs are touched."""

from __future__ import annotations

import json
import math
import re
import socket
import subprocess
import sys
import uuid
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginewatch_db import bundle
from enginewatch_db.errors import ExitCode, UsageError
from enginewatch_db.quantile import estimate
from enginewatch_db.workspace import Workspace
from enginewatch_harness.cli import main
from enginewatch_harness.demo import files, placing
from enginewatch_harness.demo.catalogue import (
    ENCODER_PLAN,
    ENGINE_RUNS,
    HOSTNAME,
    LLAMA_PLAN,
    PLANS,
    RESNET_PLAN,
    SERVER_RUNS,
)
from enginewatch_harness.demo.highlights import highlights
from enginewatch_harness.demo.load import MARKER, load_demo, planned, reset
from enginewatch_harness.parse.trtexec_log import parse_log
from enginewatch_harness.parse.vllm_bench import parse_results

REPOSITORY = Path(__file__).parents[2]
DATA = REPOSITORY / "harness" / "enginewatch_harness" / "demo" / "data"
RUNS = {RESNET_PLAN: 10, ENCODER_PLAN: 45, LLAMA_PLAN: 5}
SESSIONS = {RESNET_PLAN: 2, ENCODER_PLAN: 5, LLAMA_PLAN: 1}
REQUESTS = 8 + 64 + 256 + 768 + 200


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A store with the demo in it, and what loading said."""
    workspace = Workspace(tmp_path_factory.mktemp("demo") / "store")
    return workspace, load_demo(workspace)


@pytest.fixture(scope="module")
def ask(demo):
    """Ask the store: ``ask(sql)`` returns rows."""

    return lambda sql: query(demo[0], sql)[0].to_pylist()


@pytest.fixture(scope="module")
def metric(ask):
    """``metric(recording, metric)``: a value by the name of the recording."""
    rows = ask(
        "SELECT (r.provenance->'recorded'->>'name') AS name, m.metric, m.value, m.ci_low, m.ci_high, m.n, "
        "m.absent_reason "
        "FROM runs r JOIN run_metrics m USING (run_id)"
    )
    found = {(row["name"], row["metric"]): row for row in rows if row["name"]}
    return lambda name, key: found[name, key]


def tool_log(name):
    return parse_log(
        files.read_bytes(f"trtexec/{name}.stdout.log.gz"), files.read_bytes(f"trtexec/{name}.stderr.log.gz")
    )


def test_everything_that_was_recorded_is_in_the_store(demo, ask):
    _, report = demo
    assert (report.loaded, report.known) == (60, 0)
    plans = ask("SELECT plan_name, count(*) AS n, count(DISTINCT session_id) AS s FROM runs GROUP BY ALL")
    assert {row["plan_name"]: row["n"] for row in plans} == RUNS
    assert {row["plan_name"]: row["s"] for row in plans} == SESSIONS
    assert ask("SELECT count(*) AS n FROM runs WHERE status = 'ok' AND valid") == [{"n": 60}]
    assert ask("SELECT count(*) AS n FROM quarantine") == [{"n": 0}]
    samples = ask("SELECT count(*) AS n FROM latency_samples")[0]["n"]
    assert samples == sum(tool_log(run.name).summary.queries for run in ENGINE_RUNS)
    assert ask("SELECT count(*) AS n FROM llm_requests") == [{"n": REQUESTS}]
    assert ask("SELECT count(DISTINCT run_id) AS n FROM telemetry") == [{"n": 15}]
    assert ask("SELECT count(DISTINCT run_id) AS n, count(*) AS rows FROM layers") == [{"n": 5, "rows": 5 * 155}]


@pytest.mark.parametrize("run", ENGINE_RUNS, ids=lambda run: run.name)
def test_an_engine_run_has_the_numbers_of_the_tools_own_summary(metric, run):
    summary = tool_log(run.name).summary
    assert metric(run.name, "throughput_qps")["value"] == pytest.approx(summary.throughput_qps, rel=1e-5)
    latency, gpu = summary.latencies["Latency"], summary.latencies["GPU Compute Time"]
    assert metric(run.name, "latency_mean_ms")["value"] == pytest.approx(latency.mean_ms, rel=1e-5)
    assert metric(run.name, "latency_max_ms")["value"] == pytest.approx(latency.max_ms, rel=1e-5)
    for row, reported in (
        (metric(run.name, "latency_p50_ms"), latency.median_ms),
        (metric(run.name, "latency_p99_ms"), latency.percentiles[99]),
        (metric(run.name, "gpu_time_p99_ms"), gpu.percentiles[99]),
    ):
        assert row["n"] == summary.queries
        assert row["ci_low"] - 1e-5 <= reported <= (math.inf if row["ci_high"] is None else row["ci_high"] + 1e-5)


@pytest.mark.parametrize("run", SERVER_RUNS, ids=lambda run: run.name)
def test_a_load_has_the_numbers_of_the_tools_own_summary(metric, run):
    name = f"vllm/{run.name}.json.gz"
    (result,) = parse_results(files.read_text(name), name)
    reported = result.facts.reported
    assert metric(run.name, "output_tokens_s")["value"] == pytest.approx(reported["output_throughput"], rel=1e-6)
    for ours, theirs in (("ttft", "ttft"), ("itl", "itl"), ("tpot", "tpot"), ("e2e", "e2el")):
        row = metric(run.name, f"{ours}_p99_ms")
        assert (row["ci_low"] or 0) <= reported[f"p99_{theirs}_ms"] <= (row["ci_high"] or math.inf)
    # What the client did not record is absent, with the reason, and not zero.
    absent = metric(run.name, "client_cpu_pct")
    assert absent["value"] is None
    assert "does not record" in absent["absent_reason"]


def test_the_builds_are_there_as_they_were_recorded(ask):
    recorded = files.read_json("trtexec/build-spread.json.gz")
    rows = ask(
        "SELECT CAST(r.provenance->'recorded'->>'engine' AS INTEGER) AS engine, "
        "CAST(r.provenance->'recorded'->>'round' AS INTEGER) AS rep, r.repeat, m.value, m.n, "
        "m.metric FROM runs r JOIN run_metrics m USING (run_id) "
        f"WHERE r.plan_name = '{ENCODER_PLAN}' AND m.metric IN ('latency_p50_ms', 'latency_p99_ms')"
    )
    found = {(row["rep"], row["engine"], row["metric"]): (row["value"], row["n"]) for row in rows}
    for item in recorded:
        for metric, key in (("latency_p50_ms", "p50_ms"), ("latency_p99_ms", "p99_ms")):
            assert found[item["rep"], item["engine"], metric] == (item[key], item["n"])
    assert len(found) == 2 * len(recorded) == 90
    logs = np.log([item["p50_ms"] for item in recorded])
    assert 100 * logs.std() == pytest.approx(0.14, abs=0.01)  # the low-noise trend
    assert ask(
        f"SELECT count(*) AS n FROM run_reasons JOIN runs USING (run_id) WHERE plan_name = '{ENCODER_PLAN}'"
        " AND code <> 'telemetry_absent'"
    ) == [{"n": 0}]


def test_busy_is_not_sm_activity(metric):
    """Utilisation rates say over 90 % where the SMs are active less than 60 %, in each of the six runs."""
    for run in ENGINE_RUNS:
        if (run.precision, run.batch) == ("fp16", 8):
            assert metric(run.name, "gpu_busy_time_mean_pct")["value"] > 90
            assert metric(run.name, "sm_active_mean_pct")["value"] < 60
    assert metric("resnet50-fp16-b1", "gpu_busy_time_mean_pct")["value"] > 80
    assert metric("resnet50-fp16-b1", "sm_active_mean_pct")["value"] < 15


def test_one_request_at_a_time_is_memory_bound(metric):
    assert 55 < metric("bf16-c1-rinf", "dram_bw_mean_pct_of_peak")["value"] < 75
    assert metric("bf16-c1-rinf", "tensor_active_mean_pct")["value"] < 10
    assert metric("bf16-c1-rinf", "sm_clock_min_mhz")["value"] == 1980


def test_256_requests_at_a_time_meet_the_power_cap(metric, ask):
    assert metric("bf16-c256-rinf", "sm_clock_min_mhz")["value"] < 1700
    assert metric("bf16-c256-rinf", "power_max_w")["value"] == pytest.approx(700, rel=0.02)
    assert metric("bf16-c256-rinf", "power_capped_time_pct")["value"] > 80
    codes = ask("SELECT reason_codes FROM runs WHERE case_key = 'llama7b/openai/bf16/c256'")[0]["reason_codes"]
    assert {"power_capped", "clocks_unstable"} <= set(codes)


def test_the_energy_of_a_load_is_its_power_times_its_time(metric):
    seconds = metric("bf16-c64-rinf", "requests_s")["n"] / metric("bf16-c64-rinf", "requests_s")["value"]
    power = metric("bf16-c64-rinf", "power_mean_w")["value"]
    # The power is the driver's mean over a second, and so too low in the first one; the energy counter is exact.
    assert power * seconds < metric("bf16-c64-rinf", "energy_j")["value"] < 1.1 * power * seconds


def test_engines_carry_their_builds_time_and_the_crash_of_its_teardown(ask):
    engines = ask("SELECT path, build_time_s, size_bytes, realised_precision, fingerprint FROM engines ORDER BY path")
    assert [(row["path"], row["build_time_s"], row["realised_precision"]) for row in engines] == [
        ("models/resnet50-fp16.engine", 57.0823, "fp16"),
        ("models/resnet50-fp32.engine", tool_log("build-resnet50-fp32").build.build_time_s, "fp32"),
    ]
    assert engines[0]["size_bytes"] == 50 * 2**20
    crashed = ask(
        "SELECT count(*) AS n FROM runs "
        "WHERE list_contains(reason_codes, 'teardown_crash') AND engine_sha256 IS NOT NULL"
    )
    assert crashed == [{"n": 10}]
    again = ask(
        "SELECT DISTINCT r.engine_cached, r.engine_sha256 FROM runs r JOIN sessions s USING (session_id) "
        "WHERE s.label = 'same-engine-again'"
    )
    assert len(again) == 1
    assert again[0]["engine_cached"]


def test_the_options_are_those_that_the_tool_printed(ask):
    rows = ask("SELECT DISTINCT backend, workload, identity->'options' AS options FROM series ORDER BY workload")
    options = {row["workload"]: json.loads(row["options"]) for row in rows if row["backend"] == "trtexec"}
    assert options["resnet50"]["cuda_graph"] is False
    assert options["resnet50"]["data_transfers"] is True
    assert (options["resnet50"]["warmup_ms"], options["resnet50"]["duration_ms"]) == (500, 4000)
    assert options["encoder"]["cuda_graph"] is True
    assert options["encoder"]["data_transfers"] is False


def test_every_run_says_that_it_was_recorded_elsewhere(ask):
    rows = ask(
        "SELECT (r.provenance->'recorded'->>'origin') AS origin, h.hostname, s.trigger, s.label, "
        "(s.details->>'recorded') "
        "AS session_origin FROM runs r JOIN hosts h USING (host_id) JOIN sessions s USING (session_id)"
    )
    assert len(rows) == 60
    for row in rows:
        assert "not measured on this machine" in row["origin"]
        assert row["session_origin"] == row["origin"]
        assert ("2026-11-20" in row["origin"]) == (not row["label"].startswith("round-"))
        assert (row["hostname"], row["trigger"]) == (HOSTNAME, "demo")
    # No sentinel was timed, so none is claimed.
    assert ask("SELECT count(*) AS n FROM run_metrics WHERE metric = 'host_sentinel_ms'") == [{"n": 0}]
    nominal = ask(
        f"SELECT count(*) AS n FROM runs WHERE plan_name = '{ENCODER_PLAN}' "
        "AND (provenance->'recorded'->>'time') LIKE '%nominal%'"
    )
    assert nominal == [{"n": 45}]


def test_the_device_is_described_as_nvml_told(ask):
    (row,) = ask("SELECT DISTINCT devices->0 AS facts FROM runs WHERE (devices->0) IS NOT NULL")
    facts = json.loads(row["facts"])
    assert (facts["name"], facts["memory_mib"], facts["sm_count"]) == ("NVIDIA H200", 143771, 132)
    assert (facts["power_limit_mw"], facts["max_sm_clock_mhz"], facts["driver"]) == (700000, 1980, "580.159.04")
    assert round(facts["dram_peak_gb_s"]) == 4814


def test_ids_are_version_7_and_sort_by_time(ask):
    rows = ask("SELECT CAST(run_id AS VARCHAR) AS id, started_at FROM runs")
    assert all(uuid.UUID(row["id"]).version == 7 for row in rows)
    by_time = sorted(rows, key=lambda row: (row["started_at"], row["id"]))
    assert [row["id"] for row in by_time] == sorted(row["id"] for row in rows)
    assert len({row["id"] for row in rows}) == 60


@pytest.mark.parametrize("run", ENGINE_RUNS, ids=lambda run: run.name)
def test_the_warm_up_begins_in_the_second_that_the_tool_printed(ask, run):
    (row,) = ask(
        "SELECT epoch(r.started_at) + p.start_ns / 1e9 AS began FROM runs r JOIN run_phases p USING (run_id) "
        f"WHERE p.phase = 'warmup' AND (r.provenance->'recorded'->>'name') = '{run.name}'"
    )
    line = next(line for line in tool_log(run.name).lines if line.text == "Starting inference")
    stamp = datetime.strptime(line.stamp, "%m/%d/%Y-%H:%M:%S").replace(tzinfo=UTC).timestamp()
    assert stamp - 0.2 <= row["began"] <= stamp + 1.2


@pytest.mark.parametrize("run", SERVER_RUNS, ids=lambda run: run.name)
def test_a_load_ends_before_its_result_was_written(ask, run):
    (row,) = ask(
        "SELECT epoch(r.started_at) + p.end_ns / 1e9 AS ended FROM runs r JOIN run_phases p USING (run_id) "
        f"WHERE p.phase = 'measure' AND (r.provenance->'recorded'->>'name') = '{run.name}'"
    )
    name = f"vllm/{run.name}.json.gz"
    (result,) = parse_results(files.read_text(name), name)
    written = datetime.strptime(result.facts.date, "%Y%m%d-%H%M%S").replace(tzinfo=UTC).timestamp()
    assert written - 1.5 <= row["ended"] <= written + 1.15


def test_samples_and_requests_lie_inside_the_measuring_phase(ask):
    outside = ask(
        "WITH w AS (SELECT run_id, start_ns AS low, end_ns AS high FROM run_phases WHERE phase = 'measure') "
        "SELECT count(*) AS n FROM latency_samples JOIN w USING (run_id) WHERE start_ns < low OR start_ns > high "
        "UNION ALL SELECT count(*) FROM llm_requests JOIN w USING (run_id) "
        "WHERE sent_at_ns < low OR sent_at_ns + e2e_ns > high"
    )
    assert [row["n"] for row in outside] == [0, 0]
    marked = ask("SELECT DISTINCT phase FROM telemetry ORDER BY phase")
    assert [row["phase"] for row in marked] == ["drain", "load", "measure", "preflight", "warmup"]


def query(workspace, *statements):
    """Return Arrow tables from the published copy."""
    connection = duckdb.connect(str(workspace.read_copy.resolve()), read_only=True)
    try:
        return [connection.sql(statement).to_arrow_table() for statement in statements]
    finally:
        connection.close()


def contents(workspace):
    """Return all that the store holds, and its bundles with their times."""
    names = query(workspace, "SELECT table_name FROM duckdb_tables()")[0]["table_name"].to_pylist()
    tables = dict(zip(names, query(workspace, *(f"SELECT * FROM {name} ORDER BY ALL" for name in names)), strict=True))
    bundles = {str(path): path.stat().st_mtime_ns for path in workspace.done.rglob("*") if path.is_file()}
    return tables, bundles


def test_loading_twice_changes_nothing(demo):
    workspace, first = demo
    before = contents(workspace)
    second = load_demo(workspace)
    assert (second.loaded, second.known) == (0, 60)
    assert second.sentences == first.sentences
    tables, bundles = contents(workspace)
    assert bundles == before[1]
    assert tables.keys() == before[0].keys()
    assert [name for name in tables if not tables[name].equals(before[0][name])] == []


def test_two_loads_of_the_same_recordings_are_the_same(demo, tmp_path):
    """Another folder, with three bundles left in the spool by a load that was killed."""
    workspace = Workspace(tmp_path / "other")
    workspace.create()
    (workspace.root / MARKER).write_text((demo[0].root / MARKER).read_text().replace("true", "false"))
    for run in planned()[:3]:
        bundle.write(workspace.spool, *run.make())
    assert load_demo(workspace).loaded == 60
    keep = ("runs", "run_metrics", "run_phases", "latency_samples", "llm_requests", "telemetry", "sessions", "series")
    ours, theirs = contents(workspace)[0], contents(demo[0])[0]
    assert [name for name in keep if not ours[name].equals(theirs[name])] == []
    assert ours["verdicts"].num_rows == theirs["verdicts"].num_rows > 0


def test_verdicts_are_stored_for_every_later_session(demo, ask):
    _, report = demo
    assert set(report.sentences) == set(PLANS)
    judged = ask(
        "SELECT s.plan_name, count(DISTINCT v.candidate_session) AS n FROM verdicts v "
        "JOIN sessions s ON s.session_id = v.candidate_session GROUP BY ALL"
    )
    assert {row["plan_name"]: row["n"] for row in judged} == {RESNET_PLAN: 1, ENCODER_PLAN: 4}
    # The same engine under the noisy protocol must not be called a change, nor may nine builds under the quiet one.
    verdicts = ask("SELECT DISTINCT v.verdict FROM verdicts v WHERE v.case_key LIKE '%fp16/b8'")
    assert not {"regressed", "improved", "failed"} & {row["verdict"] for row in verdicts}
    newest = ask(
        "SELECT v.verdict, v.n_candidate FROM verdicts v JOIN sessions s ON s.session_id = v.candidate_session "
        "WHERE s.label = 'round-4' AND v.metric = 'latency_p50_ms'"
    )
    assert newest == [{"verdict": "unchanged", "n_candidate": 9}]


def test_the_highlights_hold_the_numbers_of_the_store(demo, metric):
    lines = highlights(demo[0])
    assert len(lines) == 4
    busy = metric("resnet50-fp16-b1", "gpu_busy_time_mean_pct")["value"]
    active = metric("resnet50-fp16-b1", "sm_active_mean_pct")["value"]
    assert f"busy {busy:.0f} %" in lines[0]
    assert f"active {active:.0f} %" in lines[0]
    assert (
        f"{metric('bf16-c1-rinf', 'dram_bw_mean_pct_of_peak')['value']:.0f} % of the DRAM peak of 4814 GB/s" in lines[1]
    )
    assert f"falls from 1980 to {metric('bf16-c256-rinf', 'sm_clock_min_mhz')['value']:.0f} MHz" in lines[2]
    assert "6 runs of one engine" in lines[3]
    assert "45 runs of encoder" in lines[3]


def test_another_folder_is_never_mixed_with(tmp_path):
    (tmp_path / "own.txt").write_text("mine")
    workspace = Workspace(tmp_path)
    with pytest.raises(UsageError, match="never mixed"):
        load_demo(workspace)
    with pytest.raises(UsageError, match="left alone"):
        reset(workspace)
    assert [path.name for path in tmp_path.iterdir()] == ["own.txt"]


def test_the_demo_of_other_recordings_is_refused_until_it_is_reset(tmp_path):
    (tmp_path / MARKER).write_text(json.dumps({"recordings_sha256": "00", "loader": 1, "judged": True}))
    with pytest.raises(UsageError, match="another enginewatch"):
        load_demo(Workspace(tmp_path))
    reset(Workspace(tmp_path))
    assert not tmp_path.exists()
    reset(Workspace(tmp_path))  # nothing to delete is no error


def run_command(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main(["demo", *arguments])
    captured = capsys.readouterr()
    return ended.value.code, captured.out, captured.err


def test_the_command_prints_what_to_look_at(demo, capsys):
    code, out, err = run_command(capsys, "--store", str(demo[0].root), "--no-dashboard")
    assert code == ExitCode.PASS
    assert "1. Busy is not SM activity" in out
    assert f"- {ENCODER_PLAN}: Unchanged" in out
    assert re.search(r"0 runs loaded, 60 were there already, in \d+\.\d s", err)


def test_the_command_speaks_json(demo, capsys):
    code, out, _ = run_command(capsys, "--store", str(demo[0].root), "--no-dashboard", "--json")
    content = json.loads(out)
    assert code == ExitCode.PASS
    assert (content["loaded"], content["known"], len(content["highlights"])) == (0, 60, 4)
    assert set(content["sentences"]) == set(PLANS)


def test_the_command_opens_the_dashboard_on_the_given_address(demo, capsys):
    """A taken port shows that the real launcher was called, with the address that was asked for."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, _, err = run_command(capsys, "--store", str(demo[0].root), "--port", str(port))
    assert code == ExitCode.USAGE
    assert f"port {port} on 127.0.0.1 is taken" in err


def test_reset_asks_where_nobody_can_answer(demo, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", open("/dev/null"))  # noqa: SIM115, PTH123
    code, _, err = run_command(capsys, "--store", str(demo[0].root), "--reset", "--no-dashboard")
    sys.stdin.close()
    assert code == ExitCode.USAGE
    assert "--yes" in err
    assert demo[0].store.exists()


def test_the_recordings_are_small_and_described_and_name_no_machine():
    paths = [path for path in DATA.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in paths) < 3_000_000
    assert "143,771 MiB" in (DATA / "README.md").read_text(encoding="utf-8")
    for path in paths:
        if path.suffix != ".parquet":
            text = files.read_text(path.relative_to(DATA).as_posix())
            assert not re.search(r"/(home|root|work|tmp|mnt|data)/|GPU-[0-9a-f]{8}", text), path
    script = (REPOSITORY / "examples" / "make_demo_data.py").read_text(encoding="utf-8")
    assert not re.search(r"[\"' ]/(home|root|work|tmp|mnt)/", script)


def test_the_script_that_made_the_recordings_explains_itself():
    script = REPOSITORY / "examples" / "make_demo_data.py"
    done = subprocess.run([sys.executable, str(script), "--help"], capture_output=True, text=True, check=True)
    assert "RECORDINGS holds what the tools wrote" in done.stdout


@given(
    head=st.integers(0, 4),
    idle=st.integers(1, 20),
    plateau=st.floats(5, 100),
    share=st.floats(0.25, 1),
    length=st.integers(3, 30),
)
def test_the_start_of_a_load_is_found_between_two_rows(head, idle, plateau, share, length):
    """A run before it may still be seen in the first rows; the row where it starts is busy for a share of its time."""
    active = [50.0] * head + [0.0] * idle + [share * plateau] + [plateau] * length
    t_ns = np.arange(len(active), dtype=np.int64) * 100_000_000
    found = placing.busy_from_ns(t_ns, np.array(active))
    assert found == pytest.approx((head + idle - share) * 1e8, abs=2)


@pytest.mark.parametrize("active", [[50.0, 60.0], [0.0, 0.0]])
def test_a_start_that_cannot_be_seen_is_no_start(active):
    with pytest.raises(ValueError, match="never"):
        placing.busy_from_ns(np.array([0, 100], dtype=np.int64), np.array(active))


@given(st.lists(st.integers(-(10**8), 10**8), min_size=1, max_size=9), st.integers(10**18, 2 * 10**18))
def test_the_offset_of_two_clocks_is_one_of_its_estimates_and_in_the_middle(errors, offset):
    sent = [10**12 * (i + 1) for i in range(len(errors))]
    busy = [at + offset + error for at, error in zip(sent, errors, strict=True)]
    found = placing.clock_offset(busy, sent)
    assert found.value_ns == offset + sorted(errors)[(len(errors) - 1) // 2]
    assert found.spread_ns == max(abs(offset + error - found.value_ns) for error in errors)
    assert found.n == len(errors)


def test_the_quality_block_counts_what_is_missing():
    t_ns = np.array([0, 100, 200, 320, 620, 720], dtype=np.int64) * 1_000_000
    quality = placing.quality_of(t_ns, {"gpu0": {"power_limit_mw": 700000}})
    assert quality["rate_hz"] == 10
    assert quality["ticks_made"] == 6
    assert quality["ticks_expected"] == 8
    assert (quality["late_ticks"], quality["gaps"], quality["max_gap_ms"]) == (2, 1, 300)
    assert quality["own_cpu_pct"] is None
    assert quality["limits"] == {"gpu0": {"power_limit_mw": 700000}}


def test_the_recorded_telemetry_has_few_gaps(ask):
    rows = ask("SELECT case_key, quality FROM runs WHERE (quality->'ticks_made') IS NOT NULL")
    assert len(rows) == 15
    for row in rows:
        quality = json.loads(row["quality"])
        assert 9 < quality["achieved_hz"] <= 10
        assert quality["ticks_expected"] - quality["ticks_made"] <= 3
    assert ask("SELECT count(*) AS n FROM run_reasons WHERE code = 'telemetry_gaps'") == [{"n": 0}]


def test_medians_are_those_of_the_stored_samples(ask, metric):
    rows = ask(
        "SELECT l.gpu_ns FROM latency_samples l JOIN runs r USING (run_id) "
        "WHERE (r.provenance->'recorded'->>'name') = 'resnet50-fp32-b8'"
    )
    gpu_ms = np.array([row["gpu_ns"] for row in rows]) / 1e6
    assert metric("resnet50-fp32-b8", "gpu_time_p50_ms")["value"] == pytest.approx(estimate(gpu_ms, 0.5).value)
