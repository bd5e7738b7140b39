"""``enginewatch run``: a plan goes in, verdicts come out."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING

import click

from enginewatch_db.errors import ExitCode, InterruptedRunError, UsageError
from enginewatch_db.model import RunStatus, Verdict
from enginewatch_db.workspace import Workspace
from enginewatch_harness.commands.options import json_option, store_option
from enginewatch_harness.console import out, result, result_json, say
from enginewatch_harness.matrix import estimate_s, order
from enginewatch_harness.plan_file import load_plan
from enginewatch_harness.progress import clock, make_progress

if TYPE_CHECKING:
    from enginewatch_ci.judgement import Judgement
    from enginewatch_ci.policy import Policy
    from enginewatch_harness.session_request import SessionOutcome, SessionRequest


def parse_injections(given: tuple[str, ...]) -> dict[str, float]:
    """Return case part → delay from ``CASE=MS`` texts.

    Raises:
        UsageError: A text without ``=`` or with a delay that is no positive number.
    """
    found = {}
    for text in given:
        part, separator, delay = text.rpartition("=")
        try:
            found[part] = float(delay)
        except ValueError:
            separator = ""
        if not separator or not part or not found[part] > 0:
            raise UsageError(
                f"--inject-delay-ms {text!r} is not CASE=MS",
                remedy="for example --inject-delay-ms encoder/onnxruntime/fp32/b8=2.5",
            )
    return found


@click.command()
@click.argument("plan", type=click.Path(dir_okay=False, path_type=Path), default=Path("enginewatch.toml"))
@store_option
@click.option("--resume", is_flag=True, help="Do what the newest unfinished session of this plan is missing.")
@click.option("--case", "cases", multiple=True, metavar="TEXT", help="Only cases whose key contains TEXT; repeatable.")
@click.option("--repeats", type=click.IntRange(1), help="Runs of each case, instead of the plan's number.")
@click.option("--seed", type=click.IntRange(0), help="Seed of the order, instead of the plan's.")
@click.option("--device", metavar="UUID", help="GPU or MIG slice to measure on, instead of the plan's or the first.")
@click.option("--label", help="Name of the session: a REF for `gate`.")
@click.option("--dry-run", is_flag=True, help="Check and print what would run, in which order; measure nothing.")
@click.option("--no-judge", is_flag=True, help="Store the runs without comparing them with the baseline.")
@click.option(
    "--progress", "kind", type=click.Choice(["auto", "live", "plain", "json"]), default="auto", show_default=True
)
@click.option(
    "--inject-delay-ms",
    "injections",
    multiple=True,
    metavar="CASE=MS",
    help="Test only: make the cases whose key contains CASE slower by MS in every inference.",
)
@click.option("--wait-s", type=click.FloatRange(0), default=0.0, help="Wait so long for another session to end.")
@click.option("--trigger", type=click.Choice(["cli", "schedule", "ci"]), default="cli", help="Who starts the session.")
@json_option
def run(
    plan: Path,
    *,
    workspace: Workspace,
    resume: bool,
    cases: tuple[str, ...],
    repeats: int | None,
    seed: int | None,
    device: str | None,
    label: str | None,
    dry_run: bool,
    no_judge: bool,
    kind: str,
    injections: tuple[str, ...],
    wait_s: float,
    trigger: str,
    as_json: bool,
) -> None:
    """Build, measure, store and judge the cases of PLAN (default: enginewatch.toml).

    Every repeat runs each case once, in a seeded random order, each run in a fresh process with the telemetry
    collector beside it. A run that is finished is safe: Ctrl-C, a crash or a kill loses only the one that runs,
    and --resume does the rest.

    \b
    Examples:
      enginewatch run
      enginewatch run plan.toml --label before-upgrade
      enginewatch run plan.toml --case encoder --repeats 3 --dry-run
    """
    from enginewatch_ci.policy import load_policy
    from enginewatch_harness.session import run_session
    from enginewatch_harness.session_request import SessionRequest

    if resume and (cases or repeats or seed is not None or device or label or injections):
        raise UsageError(
            "--resume goes on with a session as it began: it takes no --case, --repeats, --seed, --device, --label or "
            "injection",
            remedy="leave them out, or start a new session without --resume",
        )
    parsed, plan_sha256 = load_plan(plan)
    changes = {"repeats": repeats, "seed": seed}
    parsed = parsed.model_copy(update={name: value for name, value in changes.items() if value is not None})
    request = SessionRequest(
        plan=parsed,
        plan_path=plan,
        plan_sha256=plan_sha256,
        label=label,
        resume=resume,
        cases=cases,
        inject=parse_injections(injections),
        trigger=trigger,
        wait_s=wait_s,
        device=device,
    )
    # Read before anything is measured: a policy that cannot be obeyed must not cost a session.
    policy = load_policy(plan.parent / parsed.policy if parsed.policy else None)
    if dry_run:
        click.get_current_context().exit(_show_plan(request, as_json=as_json))
    # SIGTERM ends a session as Ctrl-C does: children stopped, finished runs stored.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with make_progress(kind) as listen:
            outcome = run_session(request, workspace, listen)
    except KeyboardInterrupt as error:
        raise InterruptedRunError(
            f"interrupted; the finished runs are in {workspace.root}", remedy=f"enginewatch run {plan} --resume"
        ) from error
    judged = None if no_judge else _judge(workspace, outcome, policy)
    _show(workspace, outcome, judged, as_json=as_json)
    code = exit_code(outcome, judged)
    if code:
        click.get_current_context().exit(code)


def exit_code(outcome: SessionOutcome, judged: Judgement | None = None) -> int:
    """Return 5 when a case has no good run or wrong outputs, or nothing could be measured at all, else 0."""
    from enginewatch_ci.accuracy import CAUSE
    from enginewatch_harness.session_request import failed_cases

    measured = any(record.status is RunStatus.OK for record in outcome.records)
    wrong = judged is not None and any(
        item.verdict is Verdict.FAILED and item.cause == CAUSE for item in judged.comparisons
    )
    return int(ExitCode.FAILED) if failed_cases(outcome.records) or wrong or not measured else 0


def _show_plan(request: SessionRequest, *, as_json: bool) -> int:
    """Print what the session would do, and return the exit code that its checks would bring."""
    from enginewatch_harness.dry_run import failure_lines, foresee

    foreseen = foresee(request)
    plan, cases = request.plan, foreseen.cases
    turns = order(cases, plan.repeats, plan.seed)
    seconds = estimate_s(cases, plan.repeats)
    if as_json:
        listed = [{"order": turn.order_idx, "case": turn.case.key, "repeat": turn.repeat} for turn in turns]
        result_json(
            {
                "plan": plan.name,
                "cases": [case.key for case in cases],
                "order": listed,
                "estimate_s": seconds,
                "devices": {case.key: case.bound.uuid for case in cases if case.bound is not None},
                "left_for_another_host": foreseen.left,
                "failures": {
                    key: {"code": failure.code, "message": failure.message, "remedy": failure.remedy}
                    for key, failure in foreseen.failures.items()
                },
            }
        )
        return int(ExitCode.FAILED) if foreseen.fails else 0
    result(f"{len(cases)} cases x {plan.repeats} repeats = {len(turns)} runs, about {clock(seconds)} plus builds")
    for name, uuid in dict.fromkeys((case.bound.name, case.bound.uuid) for case in cases if case.bound is not None):
        result(f"here: {name} {uuid}")
    for key, why in foreseen.left.items():
        result(f"elsewhere: {key}: {why}")
    for line in failure_lines(foreseen.failures):
        result(line)
    for turn in turns:
        result(f"{turn.order_idx:4d}  {turn.case.key}  #{turn.repeat}")
    return int(ExitCode.FAILED) if foreseen.fails else 0


def _judge(workspace: Workspace, outcome: SessionOutcome, policy: Policy) -> Judgement:
    from enginewatch_ci.judge import judge

    return judge(workspace.root, candidate=outcome.session_id, policy=policy)


def _show(workspace: Workspace, outcome: SessionOutcome, judged: Judgement | None, *, as_json: bool) -> None:
    from enginewatch_harness import report

    if as_json:
        result_json(report.as_json(outcome, judged))
        return
    out.print(report.table(outcome.records, judged, width=out.width))
    for line in report.closing(workspace, outcome, judged):
        say(line)
