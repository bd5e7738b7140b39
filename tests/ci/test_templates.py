"""The CI templates only call the command line: their shell is run here with a recording stand-in for it."""

from __future__ import annotations

import os
import subprocess
import textwrap
from pathlib import Path

import pytest

CI = Path(__file__).parents[2] / "ci"

STAND_IN = """#!/bin/bash
echo "$@" >> "$CALLS"
if [ "$1" = run ]; then exit "$RUN_CODE"; fi
exit "$GATE_CODE"
"""


def github_script():
    text = (CI / "github" / "action.yml").read_text(encoding="utf-8")
    return textwrap.dedent(text.split("run: |\n", maxsplit=1)[1])


def gitlab_script():
    """Return the job's script: a literal block and a folded one, as GitLab joins them."""
    text = (CI / "gitlab" / "gate.yml").read_text(encoding="utf-8")
    body = text.split("  script:\n", maxsplit=1)[1].split("  allow_failure:", maxsplit=1)[0]
    literal, folded = body.split("    - |\n", maxsplit=1)[1].split("    - >-\n", maxsplit=1)
    return f"set -e\n{textwrap.dedent(literal)}\n{' '.join(folded.split())}\n"


@pytest.fixture
def play(tmp_path):
    """Run a script; return its exit code and the calls of the command line."""

    def run(script, *, run_code=0, gate_code=0, **env):
        binary = tmp_path / "bin" / "enginewatch"
        binary.parent.mkdir(exist_ok=True)
        binary.write_text(STAND_IN)
        binary.chmod(0o755)
        calls = tmp_path / "calls"
        calls.write_text("")
        names = {"PLAN": "plan.toml", "BASELINE": "baseline", "POLICY": "", "REPORTS": "out"}
        prefixed = {f"ENGINEWATCH_{name}": value for name, value in names.items()}
        found = subprocess.run(
            ["bash", "-c", script],
            env={
                **names,
                **prefixed,
                **env,
                "PATH": f"{binary.parent}:{os.environ['PATH']}",
                "CALLS": str(calls),
                "RUN_CODE": str(run_code),
                "GATE_CODE": str(gate_code),
                "GITHUB_OUTPUT": str(tmp_path / "output"),
            },
            check=False,
        )
        return found.returncode, calls.read_text().splitlines()

    return run


SCRIPTS = pytest.mark.parametrize("script", [github_script(), gitlab_script()], ids=["github", "gitlab"])


@SCRIPTS
@pytest.mark.parametrize("gate_code", [0, 1, 3, 5])
def test_the_gates_code_is_the_jobs(play, script, gate_code):
    code, calls = play(script, gate_code=gate_code)
    assert code == gate_code
    assert calls == [
        "run plan.toml --no-judge",
        "gate --baseline baseline --candidate latest --markdown out/gate.md --junit out/gate.xml --json out/gate.json",
    ]


@SCRIPTS
def test_failed_cases_reach_the_gate_and_an_unfit_machine_does_not(play, script):
    assert play(script, run_code=5, gate_code=1)[0] == 1
    code, calls = play(script, run_code=4)
    assert code == 4
    assert len(calls) == 1


@SCRIPTS
def test_a_policy_is_passed_on_as_one_word(play, script):
    _, calls = play(script, POLICY="my policy.toml", ENGINEWATCH_POLICY="my policy.toml")
    assert "--policy my policy.toml --markdown" in calls[1]


@SCRIPTS
def test_without_a_plan_only_the_gate_runs(play, script):
    _, calls = play(script, PLAN="", ENGINEWATCH_PLAN="")
    assert [call.split()[0] for call in calls] == ["gate"]


def test_the_actions_output_is_the_exit_code(play, tmp_path):
    play(github_script(), gate_code=3)
    assert (tmp_path / "output").read_text() == "exit-code=3\n"
