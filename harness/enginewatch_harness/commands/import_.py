"""``enginewatch import``: results of other load generators become runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.markup import escape

from enginewatch_db.text_columns import fits, fitting
from enginewatch_db.workspace import Workspace
from enginewatch_harness.commands.options import json_option, store_option
from enginewatch_harness.console import complain, out, result_json, result_prose, say

if TYPE_CHECKING:
    from rich.table import Table

    from enginewatch_harness.importers.store import ImportReport, Stored

TOOLS = ("auto", "aiperf", "genai-perf", "vllm", "guidellm", "trtllm-bench")
STEMS = ("ttft", "itl", "tpot", "e2e")
SHOWN_ID = 8
RIGHT = frozenset({"requests", "out tok/s", "TTFT p50 ms"})

FIRST_TO_GO = ("level", "run", "absent", "tool", "requests", "TTFT p50 ms", "out tok/s")
"""Columns that a narrow window does without: the case ends with the level, and what is absent is told below."""

SEPARATOR = 2


@click.command("import")
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path))
@click.option("--tool", type=click.Choice(TOOLS), default="auto", show_default=True, help="What wrote the files.")
@click.option("--workload", metavar="NAME", help="Name of the workload (default: the model's name).")
@click.option("--device", metavar="NAME", help="GPU that was measured, where the file does not say.")
@click.option("--label", metavar="TEXT", help="Label of the session, a REF for other commands.")
@store_option
@json_option
def import_(
    workspace: Workspace,
    *,
    files: tuple[Path, ...],
    tool: str,
    workload: str | None,
    device: str | None,
    label: str | None,
    as_json: bool,
) -> None:
    """Store the results of other load generators as runs.

    Reads AIPerf, genai-perf, vLLM's and SGLang's serving benchmarks, GuideLLM and trtllm-bench. Metrics are computed
    from the single requests by our own definitions, where the file has them; what a tool defines otherwise, or does
    not keep, is absent with the reason. A file of a cancelled or incomplete load is refused. The same file is stored
    once, however often it is given.

    \b
    Examples:
      enginewatch import artifacts/*/profile_export_aiperf.json
      enginewatch import --device "NVIDIA H200" bench-c16.json bench-c64.json
      enginewatch import --tool trtllm-bench throughput.log
    """
    from enginewatch_harness.importers.records import Choices
    from enginewatch_harness.importers.store import import_files

    choices = Choices(workload=workload, device=device, label=label)
    report = import_files(files, workspace, choices, tool=None if tool == "auto" else tool)
    for note in report.notes:
        say(note)
    if as_json:
        result_json(_as_json(report))
    elif report.stored:
        out.print(_table(report.stored, out.width))
        for sentence in dict.fromkeys(_reasons(report)):
            result_prose(sentence)
    for error in report.refused.values():
        complain(error)
    new = sum(item.is_new for item in report.stored)
    say(_summary(new, len(report.stored) - new, len(report.refused)))
    if report.exit_code:
        click.get_current_context().exit(int(report.exit_code))


def _summary(new: int, known: int, refused: int) -> str:
    from enginewatch_ci.phrasing import count

    were = "was" if known == 1 else "were"
    return f"{count(new, 'run')} imported, {known} {were} there already, {count(refused, 'file')} refused"


def _absent(item: Stored) -> list[str]:
    """Return the stems of latencies that have no median, and throughput where that is missing."""
    missing = [stem.upper() for stem in STEMS if item.metrics[f"{stem}_p50_ms"].value is None]
    return missing + (["tok/s"] if item.metrics["output_tokens_s"].value is None else [])


def _requests(item: Stored) -> str:
    failed = item.run.failed
    return f"{item.run.completed}" if not failed else f"{item.run.completed} of {item.run.completed + failed}"


def _number(item: Stored, metric: str) -> str:
    value = item.metrics[metric].value
    return "-" if value is None else f"{value:,.1f}"


def _columns(stored: Sequence[Stored]) -> dict[str, list[str]]:
    """Return the cells by column; one that would say ``nothing`` everywhere is left out."""
    from enginewatch_harness.importers.records import level

    absent = [", ".join(_absent(item)) or "nothing" for item in stored]
    found = {
        "run": [item.run_id[:SHOWN_ID] for item in stored],
        "tool": [item.run.tool for item in stored],
        "case": [item.case_key for item in stored],
        "level": [level(item.run) for item in stored],
        "requests": [_requests(item) for item in stored],
        "out tok/s": [_number(item, "output_tokens_s") for item in stored],
        "TTFT p50 ms": [_number(item, "ttft_p50_ms") for item in stored],
    }
    if set(absent) != {"nothing"}:
        found["absent"] = absent
    return found | {"state": ["new" if item.is_new else "there already" for item in stored]}


def _table(stored: Sequence[Stored], width: int | None) -> Table:
    from rich.table import Table

    columns = _columns(stored)
    texts = {name: [name, *cells] for name, cells in columns.items()}
    chosen = fitting(texts, width, first_to_go=FIRST_TO_GO, separator=SEPARATOR)
    whole = fits(texts, chosen, width, separator=SEPARATOR)
    table = Table(box=None, pad_edge=False)
    for name in chosen:
        table.add_column(name, justify="right" if name in RIGHT else "left", no_wrap=whole, overflow="fold")
    for cells in zip(*(columns[name] for name in chosen), strict=True):
        table.add_row(*map(escape, cells))
    return table


def _reasons(report: ImportReport) -> list[str]:
    found = []
    for item in report.stored:
        for stem in STEMS:
            metric = item.metrics[f"{stem}_p50_ms"]
            if metric.value is None:
                found.append(f"no {stem.upper()} from {item.run.tool}: {metric.absent_reason}")
    return found


def _as_json(report: ImportReport) -> dict[str, object]:
    from enginewatch_harness.importers.records import level

    return {
        "schema_version": 1,
        "runs": [
            {
                "run_id": item.run_id,
                "file": item.file,
                "sha256": item.document.sha256,
                "place": item.run.place or None,
                "tool": item.run.tool,
                "tool_version": item.run.tool_version,
                "case": item.case_key,
                "level": level(item.run),
                "new": item.is_new,
                "completed": item.run.completed,
                "failed": item.run.failed,
                "metrics": {key: metric.value for key, metric in item.metrics.items() if metric.value is not None},
                "absent": {key: metric.absent_reason for key, metric in item.metrics.items() if metric.value is None},
                "notes": list(item.run.notes),
            }
            for item in report.stored
        ],
        "refused": [
            {"file": file, "message": error.message, "remedy": error.remedy} for file, error in report.refused.items()
        ],
        "notes": list(report.notes),
    }
