"""Check the options of cases by the parsers of their backends, whether or not those are installed here."""

from __future__ import annotations

import difflib

from enginewatch_db.errors import PlanError
from enginewatch_harness.backends.base import ChecksOptions
from enginewatch_harness.backends.option_values import known_options
from enginewatch_harness.matrix import Case
from enginewatch_harness.plan_file import PlanFile
from enginewatch_harness.registry import backend


def check_options(case: Case, plan: PlanFile) -> None:
    """Check names and values of a case's options. A slip is told at the desk, not on the host with the GPU.

    Raises:
        PlanError: An option that no backend of the workload has, or a value that its backend does not take.
    """
    _refuse_unknown(case, plan)
    tool = backend(case.backend)
    if isinstance(tool, ChecksOptions):
        tool.check_options(case.options)


def _refuse_unknown(case: Case, plan: PlanFile) -> None:
    """Name the nearest option of any backend of the workload: its options go to all of them."""
    workload = next((item for item in plan.workload if item.name == case.workload), None)
    if workload is None or len(workload.backends) < 2:
        return  # the backend's own parser says it as well
    known = known_options()
    if not all(name in known for name in workload.backends):
        return  # servers and engines have no options in common
    everything = {name for names in known.values() for name in names}
    for key in workload.options:
        if key not in everything:
            owners = {name: owner for owner in reversed(workload.backends) for name in known[owner]}
            near = difflib.get_close_matches(key, list(owners), n=1, cutoff=0.0)[0]
            raise PlanError(
                f"workload {workload.name!r} has the unknown option {key!r}",
                remedy=f"did you mean {near!r} ({owners[near]})?",
            )
