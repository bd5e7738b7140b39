"""Read result files from the disk, and put what is in them into the store. One bad file never costs a good one."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from enginewatch_db import bundle, ids
from enginewatch_db.errors import EnginewatchError, ExitCode, StorageError, UsageError
from enginewatch_db.ingest import ingest
from enginewatch_db.metrics import MetricValue
from enginewatch_db.workspace import Workspace
from enginewatch_harness.importers import records, registry
from enginewatch_harness.importers.facts import Document, ImportedRun, Opened
from enginewatch_harness.importers.metrics import judge_import
from enginewatch_harness.importers.records import Choices, Placed

GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """One run of an import.

    Attributes:
        is_new: Whether it was stored now; ``False``: the store had it.
    """

    file: str
    run_id: str
    case_key: str
    is_new: bool
    document: Document
    run: ImportedRun
    metrics: dict[str, MetricValue]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportReport:
    """What an import did.

    Attributes:
        stored: Every run that was found, in the order of the files.
        refused: File → why it was not imported.
        notes: What a user must hear of single files.
    """

    stored: tuple[Stored, ...]
    refused: dict[str, EnginewatchError]
    notes: tuple[str, ...]

    @property
    def exit_code(self) -> ExitCode:
        """0 when every file was imported; else that of the worst refusal."""
        codes = [error.exit_code for error in self.refused.values()]
        return max(codes, default=ExitCode.PASS)


def import_files(
    paths: Iterable[Path], workspace: Workspace, choices: Choices, *, tool: str | None = None
) -> ImportReport:
    """Import result files: the good ones go into the store, the others are named with the reason.

    Args:
        paths: The files.
        workspace: Where to store.
        choices: What the user says about the runs.
        tool: A key of ``registry.TOOLS``; ``None`` finds out for each file.

    Raises:
        StorageError: The store cannot be written.
    """
    found: list[tuple[Document, ImportedRun]] = []
    refused: dict[str, EnginewatchError] = {}
    notes: list[str] = []
    seen: dict[str, str] = {}
    for path in paths:
        try:
            opened = _open(path, notes)
            sha256 = opened.document.sha256
            if sha256 in seen:
                notes.append(f"{path} has the content of {seen[sha256]}: imported once")
                continue
            seen[sha256] = str(path)
            found += [(opened.document, run) for run in registry.parse(opened, tool)]
        except EnginewatchError as error:
            refused[str(path)] = error
    stored = _store(found, workspace, choices) if found else ()
    return ImportReport(stored=stored, refused=refused, notes=tuple(notes))


def _open(path: Path, notes: list[str]) -> Opened:
    """Read a file; of a file of single requests, read the summary that it belongs to."""
    opened = registry.open_document(read_document(path))
    summary = registry.primary_name(opened, path.name.removesuffix(".gz"))
    beside = _existing(path.parent, summary) if summary is not None else None
    if beside is None:
        return opened
    notes.append(f"{path} belongs to {beside.name}, which is imported with it")
    return registry.open_document(read_document(beside))


def read_document(path: Path) -> Document:
    """Read a file and those beside it that belong to it; what is compressed with gzip is unpacked.

    Raises:
        UsageError: It cannot be read.
    """
    content = _read(path)
    names = registry.companions(path.name.removesuffix(".gz"))
    beside = [found for name in names if (found := _existing(path.parent, name)) is not None]
    contents = {item.name.removesuffix(".gz"): _read(item) for item in beside}
    written = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    return Document(
        name=str(path),
        text=_text(content, path),
        sha256=hashlib.sha256(content).hexdigest(),
        modified_at=written.isoformat(),
        beside={name: _text(item, path.parent / name) for name, item in contents.items()},
        beside_sha256={name: hashlib.sha256(item).hexdigest() for name, item in contents.items()},
    )


def _existing(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def _read(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise UsageError(f"there is no file {path}", remedy="give the path of a result file") from error
    except IsADirectoryError as error:
        raise UsageError(
            f"{path} is a folder", remedy=f"give the result file in it, for example {path}/*.json"
        ) from error
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", remedy="check its permissions") from error
    if not content.startswith(GZIP_MAGIC):
        return content
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise UsageError(f"{path} cannot be unpacked: {error}", remedy="the file is cut: copy it again") from error


def _text(content: bytes, path: Path) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # Logs of many processes may hold broken bytes; JSON may not.
        if content.lstrip()[:1] in (b"{", b"["):
            raise UsageError(
                f"{path} is not UTF-8: {error.reason} at byte {error.start}", remedy="copy it again"
            ) from error
        return content.decode("utf-8", errors="replace")


def _store(found: list[tuple[Document, ImportedRun]], workspace: Workspace, choices: Choices) -> tuple[Stored, ...]:
    workspace.create()
    with workspace.lock("import", wait_s=60.0, busy="another import writes to this store"):
        placed = place(found, choices)
        is_new = {}
        for item in placed:
            run_id = records.run_id(item.document, item.run)
            is_new[run_id] = not _is_known(workspace, run_id)
            if is_new[run_id]:
                record, tables, _ = records.to_record(item, choices)
                bundle.write(workspace.spool, record, tables)
        report = ingest(workspace)
    mine = {run_id: why for run_id, why in report.quarantined.items() if run_id in is_new}
    if mine:
        run_id, why = next(iter(mine.items()))
        raise StorageError(f"imported run {run_id} could not be stored: {why}", remedy="please report it with the file")
    return tuple(_stored(item, choices, is_new=is_new[records.run_id(item.document, item.run)]) for item in placed)


def _is_known(workspace: Workspace, run_id: str) -> bool:
    """Return whether the bundle is in the store or on its way; bundles are whole or absent."""
    return (workspace.spool / run_id).exists() or any(workspace.done.glob(f"dt=*/{run_id}"))


def _stored(item: Placed, choices: Choices, *, is_new: bool) -> Stored:
    return Stored(
        file=item.document.name,
        run_id=records.run_id(item.document, item.run),
        case_key=records.case_key(item.run, choices),
        is_new=is_new,
        document=item.document,
        run=item.run,
        metrics={metric.metric: metric for metric in judge_import(item.run).metrics},
    )


def place(found: list[tuple[Document, ImportedRun]], choices: Choices) -> list[Placed]:
    """Put runs into sessions: one for each workload; a level that comes twice is a repeat.

    The id of a session comes from its runs, so it is the same for the same files.
    """
    groups: dict[str, list[tuple[Document, ImportedRun]]] = {}
    for document, run in found:
        groups.setdefault(records.workload_of(run, choices), []).append((document, run))
    placed = []
    for runs in groups.values():
        runs.sort(key=lambda item: records.started_at(*item))
        run_ids = [records.run_id(document, run) for document, run in runs]
        session_id = ids.content_id({"runs": sorted(run_ids)}, "import-session/v1")
        repeats: dict[str, int] = {}
        for order_idx, (document, run) in enumerate(runs):
            key = records.case_key(run, choices)
            repeats[key] = repeats.get(key, -1) + 1
            placed.append(
                Placed(
                    document=document,
                    run=run,
                    repeat=repeats[key],
                    order_idx=order_idx,
                    session_id=session_id,
                    session_started_at=records.started_at(*runs[0]),
                )
            )
    return placed
