"""One side of a comparison of engines: its layers and its measured time, from the store or from trtexec's exports."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from enginewatch_ci.layers.facts import LayerFacts, layer_facts
from enginewatch_db.connect import Reader
from enginewatch_db.errors import MeasurementError, UsageError
from enginewatch_db.model import Json
from enginewatch_db.workspace import Workspace
from enginewatch_harness.engine_registry import MIN_PREFIX, Engine, find, matching, read_engines

_ENDS = (".layers.json", ".profile.json", ".times.json", ".json")
_LISTED = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """Layers of an engine, with what a person calls it.

    Attributes:
        name: Short, for the heading of a column.
        source: Where the layers are from.
        layers: In order of execution.
        total_ns: Time of one inference without a profiler; ``None`` where it was not measured.
        total_is: What that time is, for example ``median GPU time``; ``None`` where there is none.
        notes: What a reader must know.
        case_key: The case that it was measured in; ``None`` for files.
        alike: Workload, model, batch, shapes and device that it was measured with; empty for files.
    """

    name: str
    source: str
    layers: tuple[LayerFacts, ...]
    total_ns: int | None
    total_is: str | None = None
    notes: tuple[str, ...] = ()
    case_key: str | None = None
    alike: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Runs:
    """The runs that a reference can mean: one where it names a run or a case, else all of an engine.

    Attributes:
        title: The engine for a sentence; ``None`` where a run or a case was named.
        rows: Those with times first, then the newest.
    """

    title: str | None
    rows: tuple[Json, ...]


def load_pair(base: str, cand: str, workspace: Workspace) -> tuple[Side, Side]:
    """Return the two sides of a comparison.

    An engine may have been measured in more than one case. Of its runs, one is taken that agrees with the other
    side's in workload, model, batch, shapes and device. Runs and cases that were named are taken as they are;
    ``difference`` says where they do not agree.

    Args:
        base: An engine's or a run's id, ``SESSION:CASE``, or a file or folder with trtexec's exports.
        cand: The same of the other side.
        workspace: Where the store is, for what is no path.

    Raises:
        UsageError: A side names nothing, more than one thing, or something without layers, or the engines were never
            measured alike.
        MeasurementError: A file is damaged.
        StorageError: There is no store.
    """
    return _told_apart(*_load_pair((base, cand), workspace))


def _told_apart(one: Side, other: Side) -> tuple[Side, Side]:
    """Return two sides that are called alike, such as two runs of one engine, with what they are from."""
    if one.name != other.name or one.source == other.source:
        return one, other
    return replace(one, name=f"{one.name} ({one.source})"), replace(other, name=f"{other.name} ({other.source})")


def _load_pair(refs: tuple[str, str], workspace: Workspace) -> tuple[Side, Side]:
    files = [_from_files(Path(ref).expanduser()) if _is_file(ref) else None for ref in refs]
    one, other = files
    if one is not None and other is not None:
        return one, other
    from enginewatch_harness.commands.db import open_reader

    with open_reader(workspace) as reader:
        engines = read_engines(reader, workspace)
        runs = [
            None if side is not None else _runs_of(ref, reader, engines, workspace)
            for ref, side in zip(refs, files, strict=True)
        ]
        first, second = runs
        if first is not None and second is not None:
            rows = _pair(first, second)
            return _side(rows[0], reader), _side(rows[1], reader)
        if first is not None and other is not None:
            return _side(first.rows[0], reader), other
        if second is not None and one is not None:
            return one, _side(second.rows[0], reader)
    raise AssertionError("a side is a file or has runs")


def _is_file(ref: str) -> bool:
    return Path(ref).expanduser().exists() or ref.endswith((".json", ".json.gz"))


def difference(one: Side, other: Side) -> str | None:
    """Return in words what two sides do not share besides their engines; ``None`` where nothing is known to differ."""
    differing = [name for name, value in one.alike.items() if other.alike and other.alike[name] != value]
    if not differing:
        return None
    return (
        f"{one.case_key} and {other.case_key} differ in {' and '.join(differing)}: "
        "what follows is not the change from one engine to another alone"
    )


def measured_as(one: Side, other: Side) -> str:
    """Return what the measured times of two sides are, for the row that has them."""
    found = dict.fromkeys(side.total_is for side in (one, other) if side.total_is is not None)
    return f"measured ({', '.join(found)})" if found else "measured"


def _from_files(given: Path) -> Side:
    from enginewatch_harness.parse.trtexec_json import parse_profile
    from enginewatch_harness.parse.trtexec_layers import layers_table, parse_layers

    layers_path = _layers_file(given)
    stem = layers_path.name.removesuffix(".gz").removesuffix("layers.json").rstrip(".")
    profile_text = _beside(layers_path, stem, ("profile.json", "json"))
    profile = parse_profile(profile_text) if profile_text is not None else None
    table = layers_table(profile, parse_layers(_read(layers_path)))
    notes = [] if profile is not None else [f"no {_named(stem, 'profile.json')} beside it, so its layers have no times"]
    total_ns = _total_ns(layers_path, stem)
    if total_ns is None:
        notes.append(f"no {_named(stem, 'times.json')} beside it, so the measured total is unknown")
    return Side(
        name=stem or layers_path.parent.name,
        source=str(layers_path),
        layers=layer_facts(table.to_pylist()),
        total_ns=total_ns,
        total_is=None if total_ns is None else "mean GPU time",
        notes=tuple(notes),
    )


def _layers_file(given: Path) -> Path:
    if given.is_dir():
        found = sorted([*given.glob("*layers.json"), *given.glob("*layers.json.gz")])
        # A run's own folder has those of the profile beside those of the measurement: the same engine.
        timed = [path for path in found if "profile" in path.name] or found
        if len(timed) != 1:
            listed = ", ".join(path.name for path in found[:_LISTED]) or "none"
            raise UsageError(f"{given} has {len(found)} layer files ({listed})", remedy="give one NAME.layers.json")
        return timed[0]
    name = given.name.removesuffix(".gz")
    stem = name
    for end in _ENDS:
        if name.endswith(end):
            stem = name.removesuffix(end)
            break
    if name in ("layers.json", "profile.json", "times.json"):
        stem = ""
    for candidate in (given, *(given.with_name(_named(stem, "layers.json") + end) for end in ("", ".gz"))):
        if candidate.is_file() and "layers.json" in candidate.name:
            return candidate
    raise UsageError(
        f"there is no {given.with_name(_named(stem, 'layers.json'))}",
        remedy="give trtexec's --exportLayerInfo file as NAME.layers.json, and --exportProfile's as NAME.profile.json",
    )


def _named(stem: str, end: str) -> str:
    return f"{stem}.{end}" if stem else end


def _beside(layers: Path, stem: str, ends: tuple[str, ...]) -> str | None:
    for end in ends:
        for path in (layers.with_name(_named(stem, end)), layers.with_name(_named(stem, end) + ".gz")):
            if path.is_file() and path != layers:
                return _read(path)
    return None


def _read(path: Path) -> str:
    try:
        content = path.read_bytes()
        return (gzip.decompress(content) if path.suffix == ".gz" else content).decode("utf-8", errors="replace")
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise MeasurementError(
            f"{path} is no whole gzip file: {error}",
            code="results_damaged",
            remedy="copy or export it again; a file that is not compressed must not end in .gz",
        ) from error
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", remedy="check the path and its rights") from error


def _total_ns(layers: Path, stem: str) -> int | None:
    """Return the mean GPU compute time of one query: from the samples, else from the summary of the log."""
    from enginewatch_harness.parse.trtexec_json import parse_times
    from enginewatch_harness.parse.trtexec_log import parse_log

    if (text := _beside(layers, stem, ("times.json",))) is not None:
        return round(float(parse_times(text, warmup_ms=0.0).compute_ms.mean()) * 1e6)
    log = _beside(layers, stem, ("stdout.log", "log"))
    summary = parse_log(log.encode()).summary if log is not None else None
    line = summary.latencies.get("GPU Compute Time") if summary is not None else None
    return None if line is None or line.mean_ms is None else round(line.mean_ms * 1e6)


def _runs_of(ref: str, reader: Reader, engines: Sequence[Engine], workspace: Workspace) -> _Runs:
    if ":" in ref:
        return _Runs(title=None, rows=(_run_of_case(ref, reader, workspace),))
    bare = ref.lower().replace("-", "")
    runs = [] if len(bare) < MIN_PREFIX else _runs(reader, run=bare)
    found = matching(engines, ref)
    if found and runs:
        raise UsageError(f"{ref!r} is the beginning of an engine's and of a run's id", remedy="give more of it")
    if not found and len(runs) > 1:
        listed = ", ".join(row["run_id"] for row in runs[:_LISTED])
        raise UsageError(f"{ref!r} is ambiguous: {len(runs)} runs begin with it", remedy=f"give more of {listed}")
    if runs:
        return _Runs(title=None, rows=(runs[0],))
    engine = find(engines, ref)
    return _Runs(title=engine.title, rows=tuple(_runs_of_engine(engine, reader)))


def _pair(one: _Runs, other: _Runs) -> tuple[Json, Json]:
    """Return the runs to compare: measured alike, with times, in one case if there is one, and the newest of those.

    Raises:
        UsageError: There are none that were measured alike, and not both were named.
    """
    pairs = [
        (not (mine["timed"] and its["timed"]), mine["case_key"] != its["case_key"], place + its_place, mine, its)
        for place, mine in enumerate(one.rows)
        for its_place, its in enumerate(other.rows)
        if mine["alike"] == its["alike"]
    ]
    if pairs:
        return min(pairs, key=lambda pair: pair[:3])[3:]
    if one.title is None and other.title is None:
        return one.rows[0], other.rows[0]
    told = " and ".join(f"{side.title or 'the run'} in {_cases(side.rows)}" for side in (one, other))
    raise UsageError(
        f"the two were never measured with the same model, batch, shapes and device: {told}",
        remedy="name two cases as SESSION:CASE (or two runs) to compare them all the same",
    )


def _cases(rows: Sequence[Json]) -> str:
    keys = sorted({f"{row['case_key']} ({row['alike']['device'] or 'unknown device'})" for row in rows})
    more = len(keys) - _LISTED
    return ", ".join(keys[:_LISTED]) + (f" and {more} more" if more > 0 else "")


def _side(run: Json, reader: Reader) -> Side:
    rows = reader.rows("engines_layers", run=run["run_id"])
    total = reader.rows("engines_total", engine=run["engine_sha256"], case=run["case_key"], session=run["session_id"])
    on_gpu = total[0]["gpu_ms"] is not None
    total_ms = total[0]["gpu_ms"] if on_gpu else total[0]["latency_ms"]
    return Side(
        name=f"{run['case_key']} {str(run['engine_sha256'] or run['run_id'])[:8]}",
        source=f"run {run['run_id']}",
        layers=layer_facts(rows),
        total_ns=None if total_ms is None else round(total_ms * 1e6),
        total_is=None if total_ms is None else "median GPU time" if on_gpu else "mean latency",
        case_key=run["case_key"],
        alike=run["alike"],
    )


def _runs(reader: Reader, **given: str) -> list[Json]:
    return reader.rows("engines_layers_run", **{"engine": None, "run": None, "session": None, "case": None, **given})


def _runs_of_engine(engine: Engine, reader: Reader) -> list[Json]:
    found = _runs(reader, engine=engine.sha256)
    if not found:
        raise UsageError(
            f"no run of engine {engine.title} has layers",
            remedy="measure it with the backend's profile switched on (options = { profile = true })",
        )
    return found


def _run_of_case(ref: str, reader: Reader, workspace: Workspace) -> Json:
    from enginewatch_ci.choose import choose_session

    session_ref, _, case_key = ref.rpartition(":")
    session = choose_session(workspace.root, session_ref)
    found = _runs(reader, session=session.session_id, case=case_key)
    if not found:
        cases = sorted({row["case_key"] for row in _runs(reader, session=session.session_id)})
        remedy = f"cases with layers: {', '.join(cases[:_LISTED])}" if cases else "none of its runs has layers"
        raise UsageError(f"{ref!r}: session {session.title} has no layers of case {case_key!r}", remedy=remedy)
    return found[0]
