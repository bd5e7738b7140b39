"""The commands ``gate``, ``judge`` and ``accept``. stdout is the result, stderr is progress."""

from __future__ import annotations

import getpass
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import click

from enginewatch_ci.exit_codes import exit_code
from enginewatch_ci.policy import load_policy
from enginewatch_db.errors import StorageError
from enginewatch_db.text_columns import wrapped
from enginewatch_db.workspace import Workspace

if TYPE_CHECKING:
    from enginewatch_ci.judgement import Judgement

PLAIN_WIDTH = 160
"""Columns where no terminal says how wide it is: logs of CI jobs scroll sideways."""

_REF_HELP = "latest, latest~N, a session id or its first characters, label:NAME, commit:SHA, or a folder of bundles"


def _options(function: Callable[..., None]) -> Callable[..., None]:
    """Add what ``gate`` and ``judge`` share."""
    decorators = [
        click.option(
            "--candidate", default="latest", show_default=True, metavar="REF", help=f"What to judge: {_REF_HELP}."
        ),
        click.option(
            "--baseline",
            default="baseline",
            show_default=True,
            metavar="REF",
            help="What to compare to: the same, or baseline: the accepted one of the candidate's plan, else its first.",
        ),
        click.option(
            "--policy",
            "policy_file",
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="Thresholds and rules, TOML.  [default: those of the candidate's plan, else the built-in ones]",
        ),
        click.option(
            "--store",
            metavar="DIR",
            help="Folder of the store.  [default: $ENGINEWATCH_STORE or .enginewatch]",
        ),
        click.option(
            "--markdown",
            type=click.Path(path_type=Path, dir_okay=False),
            metavar="FILE",
            help="Write the report as Markdown.",
        ),
        click.option(
            "--junit",
            type=click.Path(path_type=Path, dir_okay=False),
            metavar="FILE",
            help="Write the report as JUnit XML.",
        ),
        click.option(
            "--json",
            "json_file",
            type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
            metavar="FILE",
            help="Write the report as JSON; - prints it instead of the table.",
        ),
    ]
    for decorate in reversed(decorators):
        function = decorate(function)
    return function


@click.command()
@_options
def gate(
    candidate: str,
    baseline: str,
    policy_file: Path | None,
    store: str | None,
    markdown: Path | None,
    junit: Path | None,
    json_file: Path | None,
) -> None:
    """Compare a candidate with a baseline and exit with the verdict.

    \b
    Exit codes: 0 pass, 1 regression, 2 usage, 3 inconclusive or no baseline, 5 a case failed, 6 storage.
    Example:    enginewatch gate --baseline commit:3f9c1d2 --candidate latest --junit gate.xml
    """
    judgement = _judge(candidate, baseline, policy_file, store)
    _write(judgement, markdown, junit, json_file)
    _keep(judgement, store)
    click.get_current_context().exit(int(exit_code(judgement)))


@click.command()
@click.option("--again", is_flag=True, help="First judge every earlier session of the plan again, with today's rules.")
@_options
def judge(
    again: bool,
    candidate: str,
    baseline: str,
    policy_file: Path | None,
    store: str | None,
    markdown: Path | None,
    junit: Path | None,
    json_file: Path | None,
) -> None:
    """Judge a session from its stored runs, and replace its stored verdicts and findings.

    \b
    A first session, which has nothing to be compared to, exits with 0; else the codes are those of gate.
    Example:    enginewatch judge --again
    """
    judgement = _judge(candidate, baseline, policy_file, store)
    if again:
        _judge_earlier(judgement, baseline, policy_file, store)
    _write(judgement, markdown, junit, json_file)
    _keep(judgement, store)
    click.get_current_context().exit(int(exit_code(judgement, need_baseline=False)))


@click.command()
@click.argument("session", metavar="SESSION")
@click.option("--reason", required=True, help="Why this session is the measure of the next ones.")
@click.option("--by", help="Who accepts.  [default: the user's name]")
@click.option("--store", metavar="DIR", help="Folder of the store.  [default: $ENGINEWATCH_STORE or .enginewatch]")
def accept(session: str, reason: str, by: str | None, store: str | None) -> None:
    """Make SESSION the baseline of its plan from now on.

    \b
    A baseline never moves by itself. Every entry is kept, with who and why. Its engines become the last good ones,
    but for those whose outputs were judged wrong: they are named.
    Example:    enginewatch accept latest --reason "INT8 calibration fixed, slower on purpose"
    """
    from enginewatch_ci.choose import choose_session
    from enginewatch_db import judgements

    workspace = Workspace.locate(store)
    chosen = choose_session(workspace.root, session)
    wrong = judgements.accept(workspace.root, chosen.plan_name, chosen.session_id, by=by or _user(), reason=reason)
    _say(f"The baseline of plan {chosen.plan_name!r} is {chosen.title} from now on.", sys.stdout)
    for case_key in wrong:
        _say(f"Its engine of {case_key} is not a last good one: its outputs are wrong.", sys.stdout)


def _user() -> str | None:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        # A container's user id need not have a name.
        return None


def _judge(candidate: str, baseline: str, policy_file: Path | None, store: str | None) -> Judgement:
    from enginewatch_ci.judge import judge as judge_session

    workspace = Workspace.locate(store)
    policy = load_policy(policy_file) if policy_file is not None else None
    _say(f"judging {candidate} against {baseline} in {workspace.root}", sys.stderr)
    judgement = judge_session(workspace.root, candidate=candidate, baseline=baseline, policy=policy, store=False)
    for note in judgement.notes:
        _say(note, sys.stderr)
    return judgement


def _judge_earlier(judgement: Judgement, baseline: str, policy_file: Path | None, store: str | None) -> None:
    from enginewatch_ci.choose import sessions_of_plan

    newest = judgement.candidate.newest
    for session in sessions_of_plan(Workspace.locate(store).root, newest.plan_name):
        if session.started_at < newest.started_at:
            _keep(_judge(session.session_id, baseline, policy_file, store), store)


def _keep(judgement: Judgement, store: str | None) -> None:
    """Store the judgement after the reports are written, so that a store that cannot be written costs no report."""
    from enginewatch_ci.judge import store_judgement

    store_judgement(Workspace.locate(store).root, judgement)


def _write(judgement: Judgement, markdown: Path | None, junit: Path | None, json_file: Path | None) -> None:
    from enginewatch_ci import report

    text = report.render_markdown(judgement)
    if markdown is not None:
        _save(markdown, text)
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        _save(Path(summary), text, append=True)
    if junit is not None:
        _save(junit, report.render_junit(judgement))
    to_stdout = json_file is not None and str(json_file) == "-"
    if to_stdout:
        click.echo(report.render_json(judgement), nl=False)
    elif json_file is not None:
        _save(json_file, report.render_json(judgement))
    if not to_stdout:
        width = _window(sys.stdout)
        color = width is not None and "NO_COLOR" not in os.environ
        click.echo(
            report.render_text(judgement, width=width or PLAIN_WIDTH, color=color, wrap=width is not None), nl=False
        )


def _say(text: str, stream: TextIO) -> None:
    """Write a sentence: on a terminal it ends at words."""
    click.echo(wrapped(text, _window(stream)), file=stream)


def _window(stream: TextIO) -> int | None:
    """Return the columns of the terminal that a stream is; ``None`` for a file or a pipe."""
    return shutil.get_terminal_size().columns if stream.isatty() else None


def _save(path: Path, text: str, *, append: bool = False) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a" if append else "w", encoding="utf-8") as handle:
            handle.write(text)
    except OSError as error:
        raise StorageError(f"cannot write the report {path}: {error.strerror}", remedy="give another file") from error
