"""Which tool wrote a file, told by its content. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from enginewatch_db.errors import UsageError
from enginewatch_harness.importers import aiperf, genai_perf, guidellm, trtllm, vllm
from enginewatch_harness.importers.facts import Document, ImportedRun, Opened, incomplete, not_a_result

NESTED_TOO_DEEP = "is nested too deeply for any result file"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A load generator whose results can be imported.

    Attributes:
        recognises: Whether a file is one of its results.
        parse: From such a file to the loads in it.
        writes: What it writes, for messages.
    """

    recognises: Callable[[Opened], bool]
    parse: Callable[[Opened], tuple[ImportedRun, ...]]
    writes: str


TOOLS: dict[str, Tool] = {
    "aiperf": Tool(recognises=aiperf.recognises, parse=aiperf.parse, writes="profile_export_aiperf.json"),
    "genai-perf": Tool(
        recognises=lambda opened: genai_perf.recognises(opened) or genai_perf.is_raw(opened),
        parse=genai_perf.parse,
        writes="profile_export_genai_perf.json",
    ),
    "vllm": Tool(
        recognises=vllm.recognises,
        parse=vllm.parse,
        writes="the JSON of `vllm bench serve --save-result --save-detailed`",
    ),
    "guidellm": Tool(recognises=guidellm.recognises, parse=guidellm.parse, writes="benchmarks.json"),
    "trtllm-bench": Tool(
        recognises=trtllm.recognises, parse=trtllm.parse, writes="the file of --report_json, or what it prints"
    ),
}
"""Name of the tool, as of ``--tool`` → how to read it; tried in this order."""


def companions(name: str) -> tuple[str, ...]:
    """Return the names of files that may lie beside a file of this name and belong to it."""
    found = (aiperf.records_name(name), genai_perf.raw_name(name))
    return tuple(item for item in found if item is not None)


def primary_name(opened: Opened, name: str) -> str | None:
    """Return the name of the summary that a file of single requests belongs to; ``None`` for any other file."""
    if aiperf.is_records(opened):
        return aiperf.summary_name(name)
    if genai_perf.is_raw(opened):
        return genai_perf.summary_name(name)
    return None


def open_document(document: Document) -> Opened:
    """Find out the outer form of a file.

    Raises:
        UsageError: It begins as JSON and does not end so.
        MeasurementError: It is empty.
    """
    text = document.text
    if not text.strip():
        raise incomplete(document.name, "the file is empty: the tool ended before it had written it")
    try:
        return Opened(document=document, kind="json", value=json.loads(text))
    except RecursionError as error:
        raise not_a_result(document.name, NESTED_TOO_DEEP, "give the file as the tool wrote it") from error
    except ValueError as error:
        # A log may begin with a bracket, "[11/20/2026-22:10:57] [TRT-LLM] [I]": only an object counts as cut.
        if not text.lstrip().startswith("{"):
            return Opened(document=document, kind="text", value=None)
        lines = _lines(text, document.name)
        if lines is None:
            raise _cut(document.name, error) from error
        return Opened(document=document, kind="lines", value=lines)


def _cut(name: str, error: ValueError) -> UsageError:
    return not_a_result(name, f"is cut, or not JSON: {error}", "copy it again; if the tool was stopped, measure again")


def _lines(text: str, name: str) -> list[tuple[dict[str, Any], str]] | None:
    """Return the objects of a file of lines; ``None`` where its first line is none already."""
    found: list[tuple[dict[str, Any], str]] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        where = f"{name}, line {number}"
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            if not found:
                return None
            raise not_a_result(
                where, f"is not JSON ({error})", "the file is cut or was edited: remove that line, or copy it again"
            ) from error
        if not isinstance(value, dict):
            raise not_a_result(where, "is not a JSON object", "give the file as the tool wrote it")
        found.append((value, where))
    return found


def detect(opened: Opened) -> str:
    """Return the name of the tool that wrote a file.

    Raises:
        UsageError: None of them did.
    """
    for name, tool in TOOLS.items():
        if tool.recognises(opened):
            return name
    if aiperf.is_records(opened):
        summary = aiperf.summary_name(opened.document.name.rsplit("/", 1)[-1].removesuffix(".gz"))
        raise not_a_result(
            opened.document.name,
            f"holds AIPerf's single requests, and its summary {summary} is not beside it",
            f"put {summary} into the same folder",
        )
    known = "; ".join(f"{name}: {tool.writes}" for name, tool in TOOLS.items())
    raise not_a_result(
        opened.document.name, "is not a result of any load generator that is known here", f"known are {known}"
    )


def parse(opened: Opened, tool: str | None = None) -> tuple[ImportedRun, ...]:
    """Return the loads in a file.

    Args:
        opened: The file.
        tool: A key of ``TOOLS``; ``None`` finds out.

    Raises:
        UsageError: It is no result of the tool, or a value in it cannot be.
        MeasurementError: The load did not come to its end, or nothing in it succeeded.
    """
    name = tool or detect(opened)
    if not TOOLS[name].recognises(opened):
        raise not_a_result(
            opened.document.name, f"is no result of {name}", f"give {TOOLS[name].writes}, or leave --tool away"
        )
    return TOOLS[name].parse(opened)
