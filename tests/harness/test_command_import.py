"""``enginewatch import``: good files go in, bad ones are named, the same file goes in once."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from enginewatch_db.connect import Reader
from enginewatch_db.errors import ExitCode
from enginewatch_db.ingest import rebuild
from enginewatch_harness import cli
from enginewatch_harness.commands import import_

DATA = Path(__file__).parents[1] / "data" / "harness" / "importers"
VLLM = DATA / "vllm-0.20-c16-summary.json.gz"
GUIDELLM = DATA / "guidellm-0.8-concurrent.json.gz"
TRTLLM = DATA / "trtllm-1.2-report.json"
CANCELLED = DATA / "aiperf-0.13-cancelled" / "profile_export_aiperf.json.gz"


@pytest.fixture
def call(workspace, capsys):
    """Import files into the test's store; returns the exit code, what it printed and what it said."""

    def run(*arguments):
        with pytest.raises(SystemExit) as end:
            cli.main(["import", "--store", str(workspace.root), *map(str, arguments)])
        said = capsys.readouterr()
        return int(end.value.code or 0), said.out, said.err

    return run


def stored(workspace, sql):
    """Return what the store says."""
    with Reader.open(workspace) as reader:
        return reader.console(sql).to_pylist()


def test_imported_runs_are_runs_like_our_own(call, workspace):
    code, _, said = call("--device", "NVIDIA H200", "--label", "theirs", VLLM, GUIDELLM)
    assert (code, "3 runs imported" in said) == (0, True)
    rows = stored(
        workspace,
        "SELECT r.case_key, r.status, r.repeat, r.plan_name, s.label, s.trigger, se.device, r.reason_codes[1] reason "
        "FROM runs r JOIN sessions s USING (session_id) JOIN series se USING (series_id) ORDER BY r.case_key",
    )
    assert [row["case_key"] for row in rows] == [
        "m/openai/unknown/guidellm/c1",
        "m/openai/unknown/guidellm/c4",
        "m7b/openai/unknown/vllm/c16",
    ]
    assert {row["plan_name"] for row in rows} == {"import-m", "import-m7b"}
    assert {(row["status"], row["label"], row["trigger"]) for row in rows} == {("ok", "theirs", "import")}
    assert {(row["device"], row["reason"], row["repeat"]) for row in rows} == {("NVIDIA H200", "imported", 0)}
    counts = stored(workspace, "SELECT count(*) AS n FROM llm_requests")
    assert counts[0]["n"] == 24


def test_where_a_run_comes_from_is_in_its_provenance(call, workspace):
    call(TRTLLM)
    (row,) = stored(workspace, "SELECT provenance::VARCHAR AS provenance, realised_precision FROM runs")
    found = json.loads(row["provenance"])
    assert found["imported"]["file"] == TRTLLM.name
    assert found["imported"]["tool_version"] == "1.2.0"
    assert len(found["imported"]["sha256"]) == 64
    assert found["details"]["trtllm-bench"]["streaming_metrics"]["avg_ttft_ms"] > 0
    assert row["realised_precision"] == "fp8"
    absent = stored(workspace, "SELECT metric, absent_reason FROM run_metrics WHERE metric = 'itl_p50_ms'")
    assert "mean per request" in absent[0]["absent_reason"]


def test_the_same_file_is_stored_once_under_any_name(call, workspace, tmp_path):
    call(GUIDELLM)
    renamed = tmp_path / "again.json"
    renamed.write_bytes(gzip.decompress(GUIDELLM.read_bytes()))
    code, out, said = call(renamed, GUIDELLM)
    assert code == 0
    assert "0 runs imported, 2 were there already" in said
    assert "imported once" in said
    assert out.count("there already") == 2
    assert stored(workspace, "SELECT count(*) AS n FROM runs")[0]["n"] == 2
    rebuild(workspace)
    assert stored(workspace, "SELECT count(*) AS n FROM runs")[0]["n"] == 2


def test_a_bad_file_costs_no_good_one_and_the_exit_code_tells(call, workspace, tmp_path):
    cut = tmp_path / "cut.json"
    cut.write_text(json.dumps({"completed": 3, "duration": 1})[:-4])
    code, _, said = call(cut, VLLM, CANCELLED, tmp_path / "absent.json", tmp_path)
    assert code == ExitCode.FAILED
    assert "cut.json: is cut, or not JSON" in said
    assert "the run was cancelled" in said
    assert f"there is no file {tmp_path / 'absent.json'}" in said
    assert f"{tmp_path} is a folder" in said
    assert "1 run imported, 0 were there already, 4 files refused" in said
    assert stored(workspace, "SELECT count(*) AS n FROM runs")[0]["n"] == 1


def test_what_is_no_result_is_a_usage_error_and_leaves_no_store(call, workspace, tmp_path):
    other = tmp_path / "notes.txt"
    other.write_text("hello")
    code, _, said = call(other)
    assert (code, "any load generator that is known here" in said) == (ExitCode.USAGE, True)
    assert not workspace.store.exists()


def test_single_requests_bring_the_summary_beside_them(call, workspace, tmp_path):
    folder = tmp_path / "artifacts"
    shutil.copytree(DATA / "aiperf-0.3-c2", folder)
    code, _, said = call(folder / "profile_export.jsonl.gz", folder / "profile_export_aiperf.json.gz")
    assert code == 0
    assert "belongs to profile_export_aiperf.json.gz" in said
    assert stored(workspace, "SELECT count(*) AS n FROM llm_requests")[0]["n"] == 10


def test_single_requests_without_their_summary_are_refused(call, tmp_path):
    alone = tmp_path / "profile_export.jsonl.gz"
    shutil.copy(DATA / "aiperf-0.3-c2" / "profile_export.jsonl.gz", alone)
    code, _, said = call(alone)
    assert code == ExitCode.USAGE
    assert "its summary profile_export_aiperf.json is not beside it" in said


def test_a_level_that_comes_twice_is_a_repeat(call, workspace, tmp_path):
    other = tmp_path / "other.json"
    value = json.loads(gzip.decompress(VLLM.read_bytes())) | {"duration": 3.6}
    other.write_text(json.dumps(value))
    call("--workload", "chat", VLLM, other)
    rows = stored(workspace, "SELECT case_key, repeat, session_id FROM runs ORDER BY repeat")
    assert [(row["case_key"], row["repeat"]) for row in rows] == [
        ("chat/openai/unknown/vllm/c16", 0),
        ("chat/openai/unknown/vllm/c16", 1),
    ]
    assert len({row["session_id"] for row in rows}) == 1


def test_two_tools_are_never_one_series(call, workspace, tmp_path):
    """Their definitions differ, so a comparison of both would be of definitions."""
    sglang = tmp_path / "sglang.json"
    value = json.loads(gzip.decompress(VLLM.read_bytes()))
    sglang.write_text(json.dumps(value | {"server_info": None, "median_e2e_latency_ms": 900.0}))
    call(VLLM, sglang)
    assert stored(workspace, "SELECT count(DISTINCT series_id) AS n FROM runs")[0]["n"] == 2


def test_json_has_every_run_and_every_refusal(call):
    code, out, _ = call("--json", TRTLLM, CANCELLED)
    found = json.loads(out)
    assert code == ExitCode.FAILED
    (run,) = found["runs"]
    assert (run["tool"], run["level"], run["new"], run["completed"]) == ("trtllm-bench", "c8", True, 40)
    assert run["metrics"]["ttft_p50_ms"] == pytest.approx(40.5, abs=0.1)
    assert "itl_p50_ms" in run["absent"]
    (refused,) = found["refused"]
    assert refused["file"] == str(CANCELLED)
    assert refused["remedy"]


def test_a_damaged_archive_is_refused(call, tmp_path):
    damaged = tmp_path / "r.json.gz"
    damaged.write_bytes(VLLM.read_bytes()[:-100])
    code, _, said = call(damaged)
    assert (code, "cannot be unpacked" in said) == (ExitCode.USAGE, True)


def test_json_that_is_not_utf_8_is_refused(call, tmp_path):
    broken = tmp_path / "r.json"
    broken.write_bytes(b'{"completed": "\xff"}')
    code, _, said = call(broken)
    assert (code, "is not UTF-8" in said) == (ExitCode.USAGE, True)


def test_a_log_with_broken_bytes_still_has_its_report(call, tmp_path):
    log = tmp_path / "t.log"
    log.write_bytes(b"\xff\xfe noise\n" + (DATA / "trtllm-0.16-throughput.log").read_bytes())
    code, out, _ = call("--tool", "trtllm-bench", log)
    assert (code, "trtllm-bench" in out) == (0, True)


def test_the_table_names_what_is_absent(call):
    _, out, _ = call(TRTLLM)
    header, row = out.splitlines()[:2]
    assert header.split()[:4] == ["run", "tool", "case", "level"]
    assert "1,332.8" in row
    assert "40.5" in row
    assert " ITL " in row
    assert "no ITL from trtllm-bench: " in out


def shown_at(width, monkeypatch, call, *arguments):
    """Import in a window of so many columns; return the lines of the table, and what was said."""
    monkeypatch.setattr(import_, "out", Console(width=width, highlight=False))
    _, out, said = call(*arguments)
    return out.splitlines(), said


@pytest.mark.parametrize("width", [60, 80, 160])
def test_a_narrow_table_leaves_columns_out_and_folds_nothing(call, monkeypatch, width):
    lines, _ = shown_at(width, monkeypatch, call, "--workload", "llama-3.1-8b", VLLM, GUIDELLM, TRTLLM)
    table = lines[: 1 + 4]
    assert max(map(len, table)) <= width
    for case in ("vllm/c16", "guidellm/c1", "guidellm/c4", "trtllm-bench/c8"):
        assert sum(f"/{case} " in line for line in table) == 1
    assert all(line.rstrip().endswith(" new") for line in table[1:])
    assert ("level" in table[0].split()) == (width == 160)
    assert ("tool" in table[0].split()) == (width >= 100)
    assert ("1,332.8" in "".join(table)) == (width >= 80)


def test_a_column_that_says_nothing_is_left_out(call):
    _, out, _ = call(VLLM)
    assert "absent" not in out
    assert "nothing" not in out


def test_one_is_one(call, tmp_path):
    _, _, said = call(VLLM, tmp_path / "absent.json")
    assert "1 run imported, 0 were there already, 1 file refused" in said
    assert "0 runs imported, 1 was there already, 0 files refused" in call(VLLM)[2]
