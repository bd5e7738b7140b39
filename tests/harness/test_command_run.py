"""The exit code of ``enginewatch run``."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import pytest

from enginewatch_db.errors import ExitCode
from enginewatch_db.ingest import IngestReport
from enginewatch_db.model import Comparison, Failure, RunStatus, Verdict
from enginewatch_harness.commands.run import exit_code
from enginewatch_harness.session_request import SessionOutcome


def outcome(*records) -> SessionOutcome:
    done = IngestReport(ingested=(), known=(), quarantined={})
    return SessionOutcome(session_id="s1", records=records, ingested=done, wall_s=1.0, stage_s={})


def judged(verdict: Verdict, cause: str | None):
    item = Comparison(
        case_key="a", series_id=None, metric="output_rel_l2", verdict=verdict, why="", threshold_rel=0.0, cause=cause
    )
    return SimpleNamespace(comparisons=(item,))


def test_runs_that_worked_pass_and_a_case_without_any_fails(make_run):
    good = make_run()[0]
    broken = dataclasses.replace(good, status=RunStatus.FAILED, failure=Failure(code="crashed", message="x"))
    assert exit_code(outcome(good)) == 0
    assert exit_code(outcome(broken)) == ExitCode.FAILED
    assert exit_code(outcome()) == ExitCode.FAILED


@pytest.mark.parametrize(
    ("verdict", "cause", "code"),
    [
        (Verdict.FAILED, "accuracy", ExitCode.FAILED),
        (Verdict.REGRESSED, None, ExitCode.PASS),  # the gate's business
        (Verdict.NOT_COMPARABLE, "accuracy", ExitCode.PASS),
    ],
)
def test_wrong_outputs_fail_a_run(make_run, verdict, cause, code):
    assert exit_code(outcome(make_run()[0]), judged(verdict, cause)) == code
