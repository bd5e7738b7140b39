"""``enginewatch import``: results of other load generators become runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from enginewatch_db.workspace import Workspace
from enginewatch_harness.commands.options import json_option, store_option
from enginewatch_harness.console import complain, out, result_json, say

if TYPE_CHECKING:
    from enginewatch_harness.importers.store import ImportReport, Stored

TOOLS = ("auto", "aiperf", "genai-perf", "vllm", "guidellm", "trtllm-bench")
STEMS = ("ttft", "itl", "tpot", "e2e")
SHOWN_ID = 8


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
        _table(report)
    for error in report.refused.values():
        complain(error)
    new = sum(item.is_new for item in report.stored)
    say(f"{new} runs imported, {len(report.stored) - new} were there already, {len(report.refused)} files refused")
    if report.exit_code:
        click.get_current_context().exit(int(report.exit_code))


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


def _table(report: ImportReport) -> None:
    from rich.table import Table

    from enginewatch_harness.importers.records import level

    table = Table(box=None, pad_edge=False)
    for column in ("run", "tool", "case"):
        table.add_column(column, overflow="fold")
    table.add_column("level")
    for column in ("requests", "out tok/s", "TTFT p50 ms"):
        table.add_column(column, justify="right")
    table.add_column("absent", overflow="fold")
    table.add_column("")
    for item in report.stored:
        table.add_row(
            item.run_id[:SHOWN_ID],
            item.run.tool,
            item.case_key,
            level(item.run),
            _requests(item),
            _number(item, "output_tokens_s"),
            _number(item, "ttft_p50_ms"),
            ", ".join(_absent(item)) or "nothing",
            "new" if item.is_new else "there already",
        )
    out.print(table)
    for sentence in dict.fromkeys(_reasons(report)):
        out.print(sentence, markup=False, soft_wrap=True)


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
