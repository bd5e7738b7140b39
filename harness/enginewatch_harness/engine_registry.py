"""All engines that are known: what the store says of them, and what lies in the cache."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime

from enginewatch_db.connect import Reader
from enginewatch_db.engines import engine_rows, protected
from enginewatch_db.errors import UsageError
from enginewatch_db.model import EngineRecord, Json
from enginewatch_db.workspace import Workspace
from enginewatch_harness.engine_cache import Entry, entries

MIN_PREFIX = 4
SHORT = 12
"""Characters of a checksum that are shown: enough to tell the engines of one store apart."""

_LISTED = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """One engine, wherever it is known from.

    Attributes:
        record: What is known of it.
        entry: Where it lies in the cache; ``None`` where it does not.
        stored: Whether a run with it is in the store.
        cases: Cases that it was measured in.
        plans: Plans of those.
        runs: How many runs used it.
        sessions: How many sessions.
        last_used_us: Start of its newest run, else when it was built, microseconds since 1970 (UTC).
        kept: Why it must stay: last good engine, or of a baseline; ``None`` where it need not.
    """

    record: EngineRecord
    entry: Entry | None
    stored: bool
    cases: tuple[str, ...] = ()
    plans: tuple[str, ...] = ()
    runs: int = 0
    sessions: int = 0
    last_used_us: int | None = None
    kept: str | None = None

    @property
    def sha256(self) -> str:
        """Hash of the engine."""
        return self.record.engine_sha256

    @property
    def short(self) -> str:
        """The first characters of the hash."""
        return self.sha256[:SHORT]

    @property
    def title(self) -> str:
        """The engine for a sentence."""
        record = self.record
        what = " ".join(part for part in (record.model, record.backend, record.precision) if part)
        return f"{self.short} ({what or 'engine'}, build {record.build_number + 1})"

    def as_json(self) -> Json:
        """Return it for machines."""
        cached = None
        if self.entry is not None:
            entry = self.entry
            cached = {"folder": str(entry.folder), "state": entry.state, "why": entry.why, "bytes": entry.size_bytes}
        record = asdict(self.record)
        del record["cached"]
        facts = {"cases": self.cases, "plans": self.plans, "runs": self.runs, "sessions": self.sessions}
        return {**record, **facts, "last_used_us": self.last_used_us, "kept": self.kept, "cache": cached}


def read_engines(reader: Reader, workspace: Workspace, *, hashed: bool = False) -> tuple[Engine, ...]:
    """Return the engines of the store and of the cache, the last used first.

    Args:
        reader: The store.
        workspace: Where the cache is.
        hashed: Read whole engines to check them; else their sizes have to do.
    """
    lying: dict[str, list[Entry]] = {}
    for entry in entries(workspace, hashed=hashed):
        if entry.record is not None:
            lying.setdefault(entry.record.engine_sha256, []).append(entry)
    kept = protected(reader)
    found = []
    for row in engine_rows(reader):
        sha256 = str(row["engine_sha256"])
        # Builds of one key may come out as the same file: each lies in a folder of its own.
        mine = lying.pop(sha256, [])
        engine = _stored(row, mine[0] if mine else None, kept.get(sha256))
        found += [engine, *(_same_file(engine, entry) for entry in mine[1:])]
    found += [_only_cached(entry) for mine in lying.values() for entry in mine]
    return tuple(sorted(found, key=lambda engine: (-(engine.last_used_us or 0), engine.sha256)))


def _stored(row: Json, entry: Entry | None, kept: str | None) -> Engine:
    lying = entry.record if entry is not None else None
    details = _object(row["details"]) or (lying.details if lying else {})
    record = EngineRecord(
        engine_key=row["engine_key"],
        engine_sha256=row["engine_sha256"],
        path=row["path"] or "",
        size_bytes=row["size_bytes"] or 0,
        cached=False,
        build_time_s=_first(row["build_time_s"], lying.build_time_s if lying else None),
        details=details,
        shapes=_object(row["shapes"]),
        built_at=_utc(row["built_us"]),
        **{name: row[name] for name in _SAME},
    )
    return Engine(
        record=record,
        entry=entry,
        stored=True,
        cases=tuple(row["cases"]),
        plans=tuple(row["plans"]),
        runs=row["runs"],
        sessions=row["sessions"],
        last_used_us=row["last_used_us"],
        kept=kept,
    )


_SAME = (
    "realised_precision",
    "fingerprint",
    "model",
    "model_sha256",
    "backend",
    "tool_version",
    "device",
    "compute_capability",
    "precision",
    "build_number",
    "peak_gpu_mem_mib",
    "peak_host_mem_mib",
)


def _same_file(engine: Engine, entry: Entry) -> Engine:
    """Return another build of which the same file came out: what is known of the one is known of the other."""
    record = entry.record or engine.record
    known = replace(
        engine.record,
        build_number=record.build_number,
        build_time_s=record.build_time_s,
        built_at=record.built_at,
    )
    return replace(engine, entry=entry, record=known)


def _only_cached(entry: Entry) -> Engine:
    record = entry.record
    if record is None:
        raise ValueError(f"{entry.folder} has no record")
    built = None
    if record.built_at:
        built = round(datetime.fromisoformat(record.built_at).timestamp() * 1e6)
    return Engine(record=record, entry=entry, stored=False, last_used_us=built)


def _first(value: float | None, other: float | None) -> float | None:
    return other if value is None else value


def _object(value: object) -> Json:
    found = json.loads(value) if isinstance(value, str) else value
    return found if isinstance(found, dict) else {}


def _utc(value_us: int | None) -> str | None:
    return None if value_us is None else datetime.fromtimestamp(value_us / 1e6, UTC).isoformat(timespec="seconds")


def matching(engines: Sequence[Engine], ref: str) -> tuple[Engine, ...]:
    """Return the engines whose checksum, key or folder begins with ``ref``; none where it is too short to be an id."""
    bare = ref.lower().replace("-", "")
    if len(bare) < MIN_PREFIX or not re.fullmatch(r"[0-9a-f]+(\.b\d+)?", bare):
        return ()
    folders = [engine for engine in engines if engine.entry is not None and engine.entry.folder.name == ref]
    return tuple(folders) or tuple(
        engine
        for engine in engines
        if engine.sha256.startswith(bare) or engine.record.engine_key.replace("-", "").startswith(bare)
    )


def find(engines: Sequence[Engine], ref: str) -> Engine:
    """Return the engine that ``ref`` names: the first characters of its checksum or of its key.

    Raises:
        UsageError: None has that id, or more than one; the candidates are named.
    """
    found = matching(engines, ref)
    if not found:
        newest = ", ".join(engine.title for engine in engines[:_LISTED])
        remedy = f"the newest are {newest}" if newest else "measure with `enginewatch run PLAN`"
        raise UsageError(f"no engine {ref!r} ({MIN_PREFIX} or more characters of its checksum or key)", remedy=remedy)
    if len({engine.sha256 for engine in found}) > 1:
        listed = ", ".join(engine.title for engine in found[:_LISTED])
        more = len(found) - _LISTED
        raise UsageError(
            f"{ref!r} is ambiguous: {len(found)} engines begin with it",
            remedy=f"give more of one: {listed}{f' and {more} more' if more > 0 else ''}",
        )
    return found[0]
