"""The command line: help, exit codes, errors in one line."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from enginewatch_db.errors import ExitCode
from enginewatch_harness import cli
from enginewatch_harness.commands.db import vertical
from enginewatch_harness.commands.run import parse_injections
from enginewatch_harness.console import result


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        cli.main(list(arguments))
    return int(end.value.code or 0)


def test_help_lists_every_command_without_importing_them():
    code = "import sys\nfrom enginewatch_harness.cli import main\ntry:\n main(['--help'])\nexcept SystemExit: pass\n"
    code += "print(sorted(m for m in ('duckdb', 'streamlit', 'onnxruntime', 'scipy') if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("[]")
    for name in cli.COMMANDS:
        assert f"\n  {name} " in done.stdout


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_has_help_with_an_example(name, capsys):
    assert call(name, "--help") == 0
    text = capsys.readouterr().out
    assert text.startswith("Usage: ")
    assert "enginewatch " in text.split("Options:")[0].replace("Usage: enginewatch", "") or name == "db"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("run", "absent.toml"), ExitCode.USAGE, "absent.toml"),
        (("run", "--nonsense"), ExitCode.USAGE, "nonsense"),
        (("nonsense",), ExitCode.USAGE, "nonsense"),
        (("db", "query", "SELECT 1"), ExitCode.STORAGE, "there is no store"),
        (("schedule", "absent.toml"), ExitCode.USAGE, "enginewatch init"),
    ],
)
def test_mistakes_end_with_one_line_and_the_right_code(arguments, code, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ENGINEWATCH_STORE", str(tmp_path / "store"))
    assert call(*arguments) == code
    said = capsys.readouterr()
    assert words in said.err
    assert "Traceback" not in said.err


def test_init_writes_a_plan_that_dry_runs_and_is_not_overwritten(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert call("init") == 0
    assert call("init") == ExitCode.USAGE
    assert "--force" in capsys.readouterr().err
    assert call("init", "--if-missing") == 0
    assert call("run", "--dry-run", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert len(document["order"]) == len(document["cases"]) * 5
    assert document["estimate_s"] < 300


def test_doctor_says_what_is_missing_and_how_to_add_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert call("doctor", "--json") == 0
    items = {item["name"]: item for item in json.loads(capsys.readouterr().out)}
    assert {"backend onnxruntime", "backend llamacpp", "backend trtexec", "duckdb", "nsys", "free disk"} <= set(items)
    for item in items.values():
        assert item["found"]
        assert item["remedy"] or item["state"] == "ok"
    assert call("doctor") == 0
    assert "enginewatch[tensorrt]" in capsys.readouterr().out


def test_a_run_prints_its_table_and_its_json(tmp_path, monkeypatch, capsys, tiny_plan):
    monkeypatch.chdir(tmp_path)
    path = str(tiny_plan(batches="1"))
    assert call("run", path, "--progress", "plain") == 0
    said = capsys.readouterr()
    assert "net/onnxruntime/fp32/b1" in said.out
    assert "run 2/2" in said.err
    assert call("run", path, "--json", "--progress", "json") == 0
    said = capsys.readouterr()
    document = json.loads(said.out)
    assert document["schema_version"] == 1
    case = document["cases"][0]
    assert case["valid"] == 2
    low, value, high = (case["metrics"]["latency_p50_ms"][key] for key in ("ci_low", "value", "ci_high"))
    assert low <= value <= high
    finished = [json.loads(line) for line in said.err.splitlines() if line.startswith("{")]
    assert sum(event["event"] == "RunFinished" for event in finished) == 2


def test_queries_print_tables_csv_and_json(tmp_path, monkeypatch, capsys, stored, workspace):
    stored("01900000-0000-7000-8000-000000000001", {"encoder/onnxruntime/fp32/b8": 5.0}, repeats=2)
    monkeypatch.setenv("ENGINEWATCH_STORE", str(workspace.root))
    sql = "SELECT case_key, repeat FROM v_runs ORDER BY repeat"
    assert call("db", "query", sql, "--format", "csv") == 0
    assert capsys.readouterr().out.splitlines()[0] == "case_key,repeat"
    assert call("db", "query", sql, "--format", "json") == 0
    assert json.loads(capsys.readouterr().out.splitlines()[1])["repeat"] == 1
    assert call("db", "query", "DELETE FROM runs") == ExitCode.USAGE
    assert "read-only" in capsys.readouterr().err
    assert call("db", "export", str(tmp_path / "out"), "--table", "v_runs", "--format", "csv") == 0
    assert (tmp_path / "out" / "v_runs.csv").is_file()
    assert call("db", "export", str(tmp_path / "out"), "--table", "v_rums") == ExitCode.USAGE
    assert call("db", "schema") == 0
    assert "v_telemetry:" in capsys.readouterr().out
    assert call("db", "path") == 0
    assert call("db", "rebuild") == 0
    assert "2 runs" in capsys.readouterr().out


def test_what_waits_in_the_spool_is_seen_by_a_query(monkeypatch, capsys, workspace, make_run):
    from enginewatch_db import bundle

    record, tables = make_run()
    bundle.write(workspace.spool, record, tables)
    monkeypatch.setenv("ENGINEWATCH_STORE", str(workspace.root))
    assert call("db", "query", "SELECT count(*) AS n FROM runs", "--format", "csv") == 0
    assert capsys.readouterr().out.split() == ["n", "1"]


def test_ingest_tells_what_it_set_aside(monkeypatch, capsys, workspace):
    (workspace.spool / "half").mkdir()
    monkeypatch.setenv("ENGINEWATCH_STORE", str(workspace.root))
    assert call("ingest") == ExitCode.STORAGE
    assert "half a bundle" in capsys.readouterr().err


def test_a_bug_ends_with_five_never_with_one(monkeypatch, capsys):
    monkeypatch.setattr(cli.enginewatch, "main", lambda **_: 1 / 0)
    assert call("doctor") == ExitCode.FAILED
    assert "this is a bug" in capsys.readouterr().err


def test_a_policy_that_cannot_be_read_costs_no_session(tmp_path, monkeypatch, capsys, tiny_plan):
    monkeypatch.chdir(tmp_path)
    path = tiny_plan()
    path.write_text('policy = "nowhere.toml"\n' + path.read_text())
    assert call("run", str(path)) == ExitCode.USAGE
    said = capsys.readouterr().err
    assert "nowhere.toml" in said
    assert "session" not in said


def test_resume_takes_nothing_else(tmp_path, monkeypatch, capsys, tiny_plan):
    monkeypatch.chdir(tmp_path)
    assert call("run", str(tiny_plan()), "--resume", "--repeats", "3") == ExitCode.USAGE
    assert "as it began" in capsys.readouterr().err


def test_rows_wider_than_the_window_have_a_line_a_column(monkeypatch, capsys, stored, workspace):
    stored("01900000-0000-7000-8000-000000000001", {"encoder/onnxruntime/fp32/b8": 5.0}, repeats=2)
    monkeypatch.setenv("ENGINEWATCH_STORE", str(workspace.root))
    assert call("db", "query", "SELECT * FROM runs ORDER BY repeat") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("──")] == ["── 1 ──", "── 2 ──"]
    assert [line.split() for line in lines if line.startswith("repeat ")] == [["repeat", "0"], ["repeat", "1"]]
    assert ["case_key", "encoder/onnxruntime/fp32/b8"] in [line.split() for line in lines]
    assert call("db", "query", "SELECT * FROM runs WHERE false") == 0
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "no rows\n")


def test_rows_that_fit_are_a_table_with_whole_cells(monkeypatch, capsys, stored, workspace):
    stored("01900000-0000-7000-8000-000000000001", {"encoder/onnxruntime/fp32/b8": 5.0}, repeats=2)
    monkeypatch.setenv("ENGINEWATCH_STORE", str(workspace.root))
    for wide, is_table in (("x" * 100, True), ("x" * 156, True), ("x" * 157, False)):
        assert call("db", "query", f"SELECT '{wide}' AS a, repeat AS b FROM runs") == 0
        out = capsys.readouterr().out
        assert wide in out
        assert ("┃" in out) == is_table


def test_a_record_has_aligned_names_and_whole_values():
    assert vertical(["id", "a name"], [["1", "x\n[b]y"], ["2", ""]]) == [
        "── 1 ──",
        "id      1",
        "a name  x",
        "        [b]y",
        "── 2 ──",
        "id      2",
        "a name",
    ]


@pytest.mark.parametrize(("typed", "meant"), [("rnu", "run"), ("dashbord", "dashboard"), ("gat", "gate")])
def test_a_mistyped_command_is_answered_with_the_nearest(typed, meant, capsys):
    assert call(typed) == ExitCode.USAGE
    assert f"No such command {typed!r}. Did you mean {meant!r}?" in capsys.readouterr().err


def test_what_is_near_no_command_is_answered_with_none(capsys):
    assert call("qqqq") == ExitCode.USAGE
    assert "Did you mean" not in capsys.readouterr().err


def test_injections_are_parsed_and_refused():
    assert parse_injections(("a/b=1.5",)) == {"a/b": 1.5}
    for text in ("a", "a=", "=1", "a=x", "a=-1", "a=0"):
        with pytest.raises(Exception, match="is not CASE=MS"):
            parse_injections((text,))


def test_results_go_to_stdout_as_they_are(capsys):
    result("[bold]not markup[/bold]")
    assert capsys.readouterr().out == "[bold]not markup[/bold]\n"
