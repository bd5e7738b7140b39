from __future__ import annotations

import json
from xml.etree import ElementTree as ET

import pytest
from click.testing import CliRunner

from enginewatch_ci import cli
from enginewatch_ci.choose import choose_session
from enginewatch_db import judgements
from enginewatch_db.connect import Reader
from enginewatch_db.errors import StorageError, UsageError
from enginewatch_db.model import Comparison, Verdict


@pytest.fixture
def call(store, monkeypatch):
    """Run a command on the store; return exit code, stdout and stderr."""
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)

    def run(command, *arguments):
        result = CliRunner().invoke(command, [*map(str, arguments), "--store", str(store.root)])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.stdout, result.stderr

    return run


def test_a_planted_slowdown_fails_the_gate_and_names_itself(call, lab, store, tmp_path, cases):
    store.add(lab.session(run_sd=0.006), lab.session(run_sd=0.006, factors={cases[0]: 1.10}))
    files = [tmp_path / "out" / name for name in ("gate.md", "gate.xml", "gate.json")]
    code, out, err = call(cli.gate, "--markdown", files[0], "--junit", files[1], "--json", files[2])
    assert code == 1
    assert "judging latest against baseline" in err
    assert f"Regressed: {cases[0]}" in out
    suite = ET.parse(files[1]).getroot().find("testsuite")  # noqa: S314 (our own output)
    failures = {
        case.get("name"): case.find("failure") for case in suite.iter("testcase") if case.find("failure") is not None
    }
    assert set(failures) == {"latency_p50_ms", "throughput_qps"}
    text = failures["latency_p50_ms"].text
    assert f"case: {cases[0]}" in text
    assert "metric: latency_p50_ms" in text
    assert "effect: +" in text
    assert "interval: [+" in text
    others = [item for item in json.loads(files[2].read_text())["comparisons"] if item["case_key"] != cases[0]]
    assert {item["verdict"] for item in others} <= {"unchanged", "inconclusive"}
    assert "▲ regressed" in files[0].read_text(encoding="utf-8")


def test_a_terminal_gets_what_fits_it_and_a_file_all(call, lab, store, monkeypatch):
    store.add(lab.session(), lab.session())
    _, wide, said = call(cli.gate)
    assert "Interval" in wide
    assert "\x1b" not in wide
    assert len(said.splitlines()) == 1
    monkeypatch.setattr(cli, "_window", lambda stream: 50)
    monkeypatch.setenv("NO_COLOR", "1")
    _, narrow, said = call(cli.gate)
    assert "Interval" not in narrow
    assert max(len(line) for line in narrow.splitlines() if not line.startswith("again: ")) <= 50
    assert len(said.splitlines()) > 1
    assert said.split()[-1] == str(store.root)


def test_the_same_code_again_passes(call, lab, store):
    store.add(lab.session(), lab.session())
    code, out, _ = call(cli.gate)
    assert code == 0
    assert "Unchanged" in out


def test_a_first_session_has_nothing_to_gate_and_a_judge_says_so(call, lab, store):
    store.add(lab.session())
    assert call(cli.gate)[0] == 3
    code, out, _ = call(cli.judge)
    assert code == 0
    assert "Nothing to compare with" in out


def test_noise_is_inconclusive(call, lab, store):
    store.add(lab.session(repeats=2, run_sd=0.1), lab.session(repeats=2, run_sd=0.1))
    code, out, _ = call(cli.gate)
    assert code == 3
    assert "Inconclusive" in out


def test_a_new_failure_exits_with_five(call, lab, store, cases):
    store.add(lab.session(), lab.session(failing=(cases[0],)))
    code, out, _ = call(cli.gate)
    assert code == 5
    assert "build_failed" in out


def test_json_on_stdout_is_nothing_but_json(call, lab, store):
    store.add(lab.session(), lab.session())
    _, out, _ = call(cli.gate, "--json", "-")
    assert json.loads(out)["schema_version"] == 1


def test_the_step_summary_is_appended(call, lab, store, tmp_path, monkeypatch):
    store.add(lab.session(), lab.session())
    summary = tmp_path / "summary.md"
    summary.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    call(cli.gate)
    assert summary.read_text(encoding="utf-8").startswith("before\n<!-- enginewatch-gate -->")


def test_the_policy_decides(call, lab, store, tmp_path, cases):
    store.add(lab.session(run_sd=0.002), lab.session(run_sd=0.002, factors={cases[0]: 1.03}))
    policy = tmp_path / "policy.toml"
    policy.write_text("[practical_pct]\nlatency_p50_ms = 1\n")
    assert call(cli.gate)[0] == 0
    assert call(cli.gate, "--policy", policy)[0] == 1
    policy.write_text("[gate]\nconfidense = 0.9\n")
    with pytest.raises(UsageError, match="confidence"):
        call(cli.gate, "--policy", policy)


def test_a_report_that_cannot_be_written_says_where(call, lab, store, tmp_path):
    store.add(lab.session(), lab.session())
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write the report"):
        call(cli.gate, "--junit", tmp_path / "file" / "gate.xml")


def test_accept_moves_the_baseline_and_keeps_who_and_why(call, lab, store, cases):
    slow = {"run_sd": 0.003, "factors": {cases[0]: 1.2}}
    store.add(lab.session(run_sd=0.003), lab.session(**slow), lab.session(**slow))
    assert call(cli.gate)[0] == 1
    code, out, _ = call(cli.accept, "latest~1", "--reason", "calibrated anew", "--by", "ann")
    assert code == 0
    assert "The baseline of plan 'demo' is" in out
    assert call(cli.gate)[0] == 0
    with Reader.open(store.root) as reader:
        rows = reader.console("SELECT accepted_by, reason FROM baselines").to_pylist()
    assert rows == [{"accepted_by": "ann", "reason": "calibrated anew"}]


def test_accept_says_which_engine_is_not_good_for_its_outputs_are_wrong(call, lab, store, cases):
    store.add(lab.session())
    session = choose_session(store.root, "latest")
    wrong = Comparison(
        case_key=cases[0],
        series_id=None,
        metric="output_rel_l2",
        verdict=Verdict.FAILED,
        why="the outputs are wrong",
        threshold_rel=0.05,
        cause="accuracy",
    )
    judgements.store(store.root, session.session_id, baseline_session=None, comparisons=[wrong], findings=[])
    code, out, _ = call(cli.accept, "latest", "--reason", "first")
    assert (code, out.count("not a last good one")) == (0, 1)
    assert cases[0] in out


def test_accept_wants_one_session_and_a_reason(call, lab, store):
    store.add(lab.session(label="main"), lab.session(label="main"))
    with pytest.raises(UsageError, match="names 2 sessions"):
        call(cli.accept, "main", "--reason", "x")
    with pytest.raises(UsageError, match="needs a reason"):
        call(cli.accept, "latest", "--reason", " ")
    assert call(cli.accept, "latest")[0] == 2


def test_judge_again_judges_the_earlier_sessions_too(call, lab, store):
    store.add(lab.session(), lab.session(), lab.session(), lab.session(plan="other"))
    code, _, err = call(cli.judge, "--again", "--candidate", "latest~1")
    assert code == 0
    assert err.count("judging") == 3
    with Reader.open(store.root) as reader:
        rows = reader.console("SELECT count(DISTINCT candidate_session) AS n FROM verdicts").to_pylist()
    assert rows == [{"n": 2}]


@pytest.mark.parametrize("command", [cli.gate, cli.judge, cli.accept])
def test_help_has_an_example_and_explains_the_options(command):
    result = CliRunner().invoke(command, ["--help"])
    assert result.exit_code == 0
    assert "Example:" in result.stdout
    assert "--store" in result.stdout
