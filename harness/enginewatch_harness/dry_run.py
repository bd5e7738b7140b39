"""What a session would do here: the checks of a session, without building, measuring or keeping anything."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from enginewatch_db.model import Failure
from enginewatch_db.workspace import Workspace
from enginewatch_harness.gpu_choice import runnable
from enginewatch_harness.matrix import Case
from enginewatch_harness.prepare import check_models, prepare
from enginewatch_harness.session_request import SessionRequest, plan_cases


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreseen:
    """What a session would find.

    Attributes:
        cases: The cases that it would measure.
        left: Case → why it is left for another host.
        failures: Case → why it would fail here, or its backend is not here.
    """

    cases: tuple[Case, ...]
    left: dict[str, str]
    failures: dict[str, Failure]

    @property
    def fails(self) -> bool:
        """Whether the session would end as failed: a case fails, or none can be measured."""
        return not self.cases or any(failure.code != "not_available" for failure in self.failures.values())


def foresee(request: SessionRequest) -> Foreseen:
    """Go through a session's checks, in its order. Generated models are written to a folder that is removed again.

    Raises:
        PlanError: The plan cannot be obeyed.
        UnfitError: Nothing of the plan runs here.
    """
    folder = request.plan_path.absolute().parent
    cases, left = runnable(plan_cases(request))
    check_models(request.plan, folder)
    with tempfile.TemporaryDirectory(prefix="enginewatch-dry-run-") as scratch:
        workspace = Workspace(Path(scratch))
        ready = {case.key: prepare(case, plan=request.plan, folder=folder, workspace=workspace) for case in cases}
    failures = {key: item.failure for key, item in ready.items() if item.failure is not None}
    return Foreseen(cases=tuple(case for case in cases if case.key not in failures), left=left, failures=failures)


def failure_lines(failures: Mapping[str, Failure]) -> list[str]:
    """Return each reason once, and under it the cases that it keeps from being measured."""
    grouped: dict[Failure, list[str]] = {}
    for key, failure in failures.items():
        grouped.setdefault(failure, []).append(key)
    lines = []
    for failure, keys in grouped.items():
        word = "not available" if failure.code == "not_available" else f"would fail ({failure.code})"
        lines.append(f"{word}: {failure.message}" + (f" → {failure.remedy}" if failure.remedy else ""))
        lines += [f"      {key}" for key in keys]
    return lines
