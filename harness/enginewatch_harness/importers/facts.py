"""What an importer is given and what it returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from enginewatch_db.errors import MeasurementError, UsageError
from enginewatch_db.model import Json
from enginewatch_db.validity import Reason
from enginewatch_harness.load.spec import LoadSpec

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A result file that was read.

    Attributes:
        name: As the user gave it, for messages.
        text: Its content.
        sha256: Hash of its content, unpacked where it was compressed; the ids of its runs come from it.
        modified_at: When it was written last, ISO 8601 UTC: stands in where the file names no time.
        beside: Name → text of the files in its folder that belong to it.
        beside_sha256: Name → hash of those files.
    """

    name: str
    text: str
    sha256: str
    modified_at: str
    beside: dict[str, str] = field(default_factory=dict)
    beside_sha256: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A document whose outer form is known.

    Attributes:
        document: The file.
        kind: ``json``, ``lines`` (one JSON object a line) or ``text``.
        value: The JSON value; the list of (object, place) of ``lines``; ``None`` of ``text``.
    """

    document: Document
    kind: str
    value: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedRun:
    """One load that another tool measured.

    Attributes:
        tool: The load generator, a key of ``registry.TOOLS`` or a relative of one (``sglang``).
        tool_version: ``None`` where the file does not say.
        place: Which part of the file, ``benchmark 2``; empty where the file holds one load.
        model: Name of the model, as the tool was told.
        server: The tool's server: ``tensorrt-llm``, ``sglang``, or ``openai`` for any of that interface.
        server_version: ``None`` where the file does not say.
        precision: Of weights, as the tool reports it; ``None`` where it does not.
        device: GPU; ``None`` where the file does not say.
        device_count: How many; 1 where the file does not say.
        load: How requests arrived and how long they were.
        endpoint: Path or kind of the endpoint.
        started_unix_ns: Wall clock at the run's origin; ``None`` where the file names no time.
        window_ns: The measured part, relative to the run's origin.
        requests: Table ``llm_requests``; ``None`` where the file holds only a summary.
        completed: Requests that succeeded.
        failed: Requests that did not; ``None`` where the file does not say.
        told: Metric → what the tool computed, only where its definition is ours.
        told_wins: Metrics or stems of ``told`` that go before what the single requests give: these lack tokens.
        absent: Metric or stem of metrics (``itl``) → why there is none, where the tool's own differs.
        own: What the tool itself reports, under its own names.
        reasons: Validity reasons beside ``imported``.
        notes: What a reader must know.
        command: The tool's command line, or its options.
        versions: Further software and its version.
    """

    tool: str
    tool_version: str | None
    model: str
    load: LoadSpec
    window_ns: tuple[int, int]
    completed: int
    failed: int | None
    place: str = ""
    server: str = "openai"
    server_version: str | None = None
    precision: str | None = None
    device: str | None = None
    device_count: int = 1
    endpoint: str | None = None
    started_unix_ns: int | None = None
    requests: pa.Table | None = None
    told: dict[str, float] = field(default_factory=dict)
    told_wins: frozenset[str] = frozenset()
    absent: dict[str, str] = field(default_factory=dict)
    own: Json = field(default_factory=dict)
    reasons: tuple[Reason, ...] = ()
    notes: tuple[str, ...] = ()
    command: str | None = None
    versions: dict[str, str] = field(default_factory=dict)


def not_a_result(where: str, why: str, remedy: str) -> UsageError:
    """Return the error for a file that cannot be read as what it seems to be."""
    return UsageError(f"{where}: {why}", remedy=remedy)


def incomplete(where: str, why: str, remedy: str = "measure again, to the end") -> MeasurementError:
    """Return the error for a load that did not come to its end, or in which nothing succeeded."""
    return MeasurementError(f"{where}: {why}", code="load_failed", remedy=remedy)
