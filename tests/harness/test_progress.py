"""What is not available on this machine is said once, however many cases it keeps from running."""

from __future__ import annotations

import dataclasses

import pytest

from enginewatch_db.model import Failure, RunRecord, RunStatus
from enginewatch_harness import events
from enginewatch_harness.progress import make_progress


def finished(record: RunRecord, case_key: str, number: int, why: str) -> events.RunFinished:
    """Return the end of a run whose backend is not here."""
    failure = Failure(code="not_available", message=f"backend 'trtexec' is not available: {why}")
    absent = dataclasses.replace(
        record, case_key=case_key, status=RunStatus.NOT_AVAILABLE, failure=failure, metrics=(), reasons=()
    )
    return events.RunFinished(record=absent, number=number, total=4, wall_s=0.0)


@pytest.mark.parametrize(("kind", "lines"), [("plain", 2), ("live", 2), ("json", 4)])
def test_each_reason_is_said_once_to_a_person_and_each_run_to_a_machine(kind, lines, make_run, capsys):
    record = make_run()[0]
    with make_progress(kind) as listen:
        for number, why in enumerate(("no driver", "no driver", "no trtexec", "no driver")):
            listen(finished(record, f"net/trtexec/fp16/b{number}", number, why))
    said = [line for line in capsys.readouterr().err.splitlines() if "is not available" in line]
    assert len(said) == lines
    if kind == "plain":
        assert said[0] == "not available: backend 'trtexec' is not available: no driver"
