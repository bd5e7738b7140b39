"""``enginewatch nsys``: reports of Nsight Systems, read and scrubbed."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import click

from enginewatch_db.errors import BackendError, MeasurementError, NotAvailableError
from enginewatch_harness.commands.engine_tables import print_table
from enginewatch_harness.commands.options import json_option
from enginewatch_harness.console import result, result_json, say
from enginewatch_harness.nsys.as_text import as_json, call_table, copy_table, facts, gap_table, kernel_table
from enginewatch_harness.nsys.command import export_command
from enginewatch_harness.nsys.events import Recording
from enginewatch_harness.nsys.find import find_nsys
from enginewatch_harness.nsys.rules import hints
from enginewatch_harness.nsys.scrub import Scrubber, local_words, private_words, scrub_report
from enginewatch_harness.nsys.sqlite import open_report, read_recording
from enginewatch_harness.nsys.stats_csv import Value, parse_stats
from enginewatch_harness.nsys.summary import summarize
from enginewatch_harness.nsys.told import SCRIPTS, ask_nsys, keep_csv
from enginewatch_harness.process import run_tool

_EXPORT_TIMEOUT_S = 600.0
_REPORTS = (".nsys-rep", ".qdrep")
_STATS = (".csv", ".txt")
_MOST_CALLS = 12
FIRST_TO_GO = ("pageable", "block", "max µs", "grid", "from ms", "MiB", "layer", "median µs")

report_argument = click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))


@click.group()
def nsys() -> None:
    """Read and scrub reports of Nsight Systems.

    \b
    Examples:
      enginewatch nsys summarize report.nsys-rep --inferences 50 --csv tables
      enginewatch nsys scrub report.nsys-rep harmless.sqlite
      nsys stats --report-dir "$(enginewatch nsys reports)" --report enginewatch_gpu_idle report.nsys-rep
    """


@nsys.command(name="summarize")
@report_argument
@click.option("--inferences", type=click.IntRange(min=1), help="How many were done at least: the last so many count.")
@click.option("--top", type=click.IntRange(min=1), default=20, show_default=True, help="Kernels to show.")
@click.option(
    "--csv",
    "csv_dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep what `nsys stats` and `nsys analyze` write about FILE in this folder, scrubbed.",
)
@json_option
def summarize_(file: Path, inferences: int | None, top: int, csv_dir: Path | None, *, as_json: bool) -> None:
    """Print kernels, copies, launches and idle times of FILE, an .nsys-rep or its SQLite export.

    Of an .nsys-rep, nsys's own statistics are held against these tables, and the findings of its rules are told.
    A .csv or .txt file is taken as output of `nsys stats --format csv`: its tables are printed, in ns and bytes.

    \b
    Example:
      enginewatch nsys summarize report.sqlite --json
    """
    if file.suffix in _STATS and csv_dir is not None:
        raise click.UsageError("--csv needs a report: an .nsys-rep or .sqlite file")
    if file.suffix in _STATS:
        _print_stats(file, top, machine=as_json)
    else:
        _summarize(file, inferences, top, csv_dir, machine=as_json)


def _print_stats(file: Path, top: int, *, machine: bool) -> None:
    found = parse_stats(file.read_text(encoding="utf-8", errors="replace"))
    if not any(report.rows or report.skipped for report in found):
        raise MeasurementError(
            f"{file} has no table of nsys stats",
            code="results_damaged",
            remedy="write it with: nsys stats --format csv --output NAME",
        )
    if machine:
        result_json([asdict(report) for report in found])
        return
    for report in found:
        result(f"{report.name or report.title or file.name}{f': {report.skipped}' if report.skipped else ''}")
        if report.rows:
            columns = {key: [_cell(row[key]) for row in report.rows[:top]] for key in report.rows[0]}
            print_table(columns, first_to_go=("stddev_ns", "stddev_bytes", "blockxyz", "gridxyz"))


def _cell(value: Value) -> str:
    return "–" if value is None else f"{value:.10g}" if isinstance(value, float) else value


def _summarize(file: Path, inferences: int | None, top: int, csv_dir: Path | None, *, machine: bool) -> None:
    with _exported(file) as exported:
        with open_report(exported) as tables:
            scrubber = Scrubber(private_words(tables) | local_words())
        recording = read_recording(exported)
        if file.suffix in _REPORTS or csv_dir is not None:
            recording = replace(recording, notes=(*recording.notes, *_told(exported, recording, csv_dir, scrubber)))
    summary = summarize(recording, inferences)
    if machine:
        result_json(as_json(recording, summary, scrubber))
        return
    for note in recording.notes:
        say(f"{file.name}: {note}")
    if summary is None:
        result("no work on a GPU was recorded")
        return
    if summary.window.why and inferences is not None:
        say(f"{file.name}: {summary.window.why}")
    for line in facts(summary):
        result(line)
    for table, right in (
        (kernel_table(summary.kernels[:top]), ("time %", "total µs", "calls", "median µs", "max µs")),
        (copy_table(summary.copies), ("count", "total µs", "MiB", "GiB/s", "pageable")),
        (call_table(summary.calls[:_MOST_CALLS]), ("calls", "total µs", "median µs", "max µs")),
        (gap_table(summary.gaps), ("idle µs", "from ms")),
    ):
        if next(iter(table.values())):
            result("")
            cleaned = {name: list(map(scrubber.name, cells)) for name, cells in table.items()}
            print_table(cleaned, first_to_go=FIRST_TO_GO, right=right)
    for hint in hints(recording, summary):
        result(f"\n{hint.code}: {scrubber.name(hint.words)}\n  → {hint.advice}")


def _told(exported: Path, recording: Recording, csv_dir: Path | None, scrubber: Scrubber) -> tuple[str, ...]:
    tool = find_nsys()
    with tempfile.TemporaryDirectory(prefix="enginewatch-") as folder:
        told = ask_nsys(tool, exported, recording, Path(folder), timeout_s=_EXPORT_TIMEOUT_S)
        if csv_dir is not None:
            say(f"wrote {len(keep_csv(Path(folder), csv_dir, scrubber))} files to {csv_dir}")
    return tuple(map(scrubber.message, told))


@nsys.command()
@report_argument
@click.argument("target", type=click.Path(dir_okay=False, path_type=Path))
def scrub(file: Path, target: Path) -> None:
    """Write what is harmless of FILE into TARGET, an SQLite file: no environment, host, user, command or path.

    \b
    Example:
      enginewatch nsys scrub report.nsys-rep harmless.sqlite
    """
    if target.exists() and target.samefile(file):
        raise click.UsageError("TARGET is FILE itself; name a new file")
    with _exported(file) as exported:
        scrub_report(exported, target)
    say(f"wrote {target}")


@nsys.command()
def reports() -> None:
    """Print the folder of enginewatch's own report scripts, for the option --report-dir of `nsys stats`.

    \b
    Example:
      nsys stats --report-dir "$(enginewatch nsys reports)" --report enginewatch_kernel_sum report.nsys-rep
    """
    result(str(SCRIPTS))


@contextmanager
def _exported(file: Path) -> Iterator[Path]:
    """Yield the SQLite file of a report, which is exported first where it is none."""
    if file.suffix not in _REPORTS:
        yield file
        return
    tool = find_nsys()
    with tempfile.TemporaryDirectory(prefix="enginewatch-") as folder:
        target = Path(folder) / "report.sqlite"
        argv = export_command(tool, file.absolute(), output=target)
        try:
            ended = run_tool(argv, timeout_s=_EXPORT_TIMEOUT_S, log_prefix=Path(folder) / "export")
        except OSError as error:
            raise NotAvailableError(f"{tool.path} cannot be started: {error}", remedy="set NSYS to its path") from error
        if ended.returncode != 0 or not target.is_file():
            words = " ".join((ended.stderr or ended.stdout).decode("utf-8", errors="replace").split())[-300:]
            raise BackendError(
                f"nsys {tool.dotted} could not export {file}: {words or 'it said nothing'}",
                code="results_damaged",
                remedy="export it with the version that wrote it",
            )
        yield target
