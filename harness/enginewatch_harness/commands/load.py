"""``enginewatch load``: a load test of a server behind a URL, stored as runs."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from enginewatch_db.errors import ExitCode, InterruptedRunError
from enginewatch_db.model import RunStatus
from enginewatch_db.workspace import Workspace
from enginewatch_harness.commands.finite import FiniteRange
from enginewatch_harness.commands.load_group import LoadGroup
from enginewatch_harness.commands.load_options import load_options
from enginewatch_harness.commands.options import json_option, store_option
from enginewatch_harness.console import out, result_json, say
from enginewatch_harness.load.endpoints import ENDPOINTS

if TYPE_CHECKING:
    from enginewatch_db.model import RunRecord
    from enginewatch_harness.commands.load_session import LoadTest
    from enginewatch_harness.session_request import SessionOutcome


@click.group(cls=LoadGroup, no_args_is_help=False, context_settings={"show_default": True})
@click.argument("url")
@load_options
@click.option("--model", help="Name of the served model; needed where the server lists several.")
@click.option("--endpoint", type=click.Choice(sorted(ENDPOINTS)), help="[default: completions; chat with --turns].")
@click.option("--no-stream", is_flag=True, help="Ask for whole answers: no token times.")
@click.option("--body", metavar="JSON", help="Further fields of every request.")
@click.option("--api-key-env", metavar="VARIABLE", help="Environment variable that holds the server's key.")
@click.option("--ca-file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Certificates to trust.")
@click.option("--insecure", is_flag=True, help="Accept any certificate.")
@click.option(
    "--request-timeout-s", type=FiniteRange(0, min_open=True), default=120.0, help="Longest time of one request."
)
@click.option(
    "--outage-s", type=FiniteRange(0), default=10.0, help="A server may refuse connections so long: a restart."
)
@click.option("--precision", default="best", help="What the server runs, for the record; best: as it is.")
@click.option("--device-name", metavar="NAME", help="What the server runs on, for the record: NVIDIA H200.")
@click.option("--gpus", type=click.IntRange(1), help="How many of them.")
@click.option("--label", help="Name of the session: a REF for `gate`.")
@click.option("--seed", type=click.IntRange(0), default=1, help="Seed of prompts, arrivals and order.")
@click.option("--no-store", is_flag=True, help="Store nothing.")
@click.option("--wait-s", type=FiniteRange(0), default=0.0, help="Wait so long for another session to end.")
@click.option("--progress", "kind", type=click.Choice(["auto", "live", "plain", "json"]), default="auto")
@store_option
@json_option
def load(*, workspace: Workspace, as_json: bool, no_store: bool, kind: str, **given: Any) -> None:  # noqa: ANN401 (forty options)
    """Load-test the LLM server at URL and store every run, with the host's and its GPUs' telemetry.

    URL is http://HOST:PORT, HOST:PORT, or ends in /v1. Each level of load runs --repeats times, in a random order
    within each repeat. `enginewatch load calibrate` finds what this host's client can drive.

    \b
    Examples:
      enginewatch load localhost:8000 --concurrency 1,8,32 --isl 512 --osl 128
      enginewatch load localhost:8000 --find knee
      enginewatch load localhost:8000 --find slo --slo ttft_ms=200 --slo tpot_ms=20 --rate 1-64
    """
    from enginewatch_harness.commands.load_session import prepare_test

    test = prepare_test(given, environment=os.environ)
    # SIGTERM ends a test as Ctrl-C does: children stopped, finished runs stored.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with _place(workspace, no_store=no_store) as place:
        try:
            outcome = test.run(place, kind)
        except KeyboardInterrupt as error:
            _show_partial(test, as_json=as_json)
            kept = _kept(test, workspace, no_store=no_store)
            raise InterruptedRunError(f"interrupted; {kept}") from error
    _show(test, outcome, None if no_store else workspace, as_json=as_json)
    code = exit_code(outcome.records, answered=test.answered)
    if code:
        click.get_current_context().exit(code)


@contextlib.contextmanager
def _place(workspace: Workspace, *, no_store: bool) -> Iterator[Workspace]:
    if not no_store:
        yield workspace
        return
    place = Workspace(Path(tempfile.mkdtemp(prefix="enginewatch-load-")))
    try:
        yield place
    finally:
        # A failed run's error names its logs, and they are all that is left of it.
        if any(place.work.glob("*/runs/*")):
            say(f"nothing was stored; the logs of failed runs are in {place.work}")
        else:
            shutil.rmtree(place.root, ignore_errors=True)


def exit_code(records: tuple[RunRecord, ...], *, answered: bool = False) -> int:
    """Return 5 when no run worked, 4 when the client was the bottleneck of all that did, else 0.

    A knee that was found is an answer, even where the client was late in every run: it is about throughput.
    """
    worked = [record for record in records if record.status is RunStatus.OK]
    if not worked:
        return int(ExitCode.FAILED)
    bound = all(any(reason.code == "client_bound" for reason in record.reasons) for record in worked)
    return int(ExitCode.UNFIT) if bound and not answered else 0


def _kept(test: LoadTest, workspace: Workspace, *, no_store: bool) -> str:
    if not test.heard:
        return "no run had finished"
    return "nothing was kept (--no-store)" if no_store else f"the finished runs are in {workspace.root}"


def _show_partial(test: LoadTest, *, as_json: bool) -> None:
    if test.heard and not as_json:
        out.print(test.table(tuple(test.heard)))


def _show(test: LoadTest, outcome: SessionOutcome, workspace: Workspace | None, *, as_json: bool) -> None:
    if as_json:
        result_json(test.as_json(outcome, workspace))
    else:
        out.print(test.table(outcome.records))
        for line in test.answer_lines(outcome.records):
            out.print(line, markup=False, soft_wrap=True)
    for line in test.closing(outcome, workspace):
        say(line)
