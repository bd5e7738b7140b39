"""``enginewatch engines show``: everything that is known of one engine."""

from __future__ import annotations

import json
from typing import Any

import click

from enginewatch_db.connect import Reader
from enginewatch_db.engines import good_engines
from enginewatch_db.model import Json
from enginewatch_db.workspace import Workspace
from enginewatch_harness.commands.db import open_reader
from enginewatch_harness.commands.engine_tables import mib, number, print_facts, print_table, when
from enginewatch_harness.commands.options import json_option, store_option
from enginewatch_harness.console import result, result_json
from enginewatch_harness.engine_registry import Engine, find, read_engines
from enginewatch_harness.session_builds import KEY_OPTIONS


@click.command()
@click.argument("engine", metavar="ID")
@store_option
@json_option
def show(engine: str, workspace: Workspace, *, as_json: bool) -> None:
    """Show all that is known of the engine ID: the first characters of its checksum or key.

    \b
    Example:
      enginewatch engines show 3f9c1d2a
    """
    with open_reader(workspace) as reader:
        found = find(read_engines(reader, workspace, hashed=True), engine)
        facts = _facts(reader, found)
    if as_json:
        result_json(facts)
        return
    _print(found, facts)


def _facts(reader: Reader, found: Engine) -> Json:
    record = found.record
    provenance = reader.rows("engines_provenance", engine=found.sha256)
    made: Json = json.loads(provenance[0]["provenance"] or "{}") if provenance else {}
    used = reader.rows("engines_usage", engine=found.sha256)
    return {
        **found.as_json(),
        "key_parts": {
            "model_sha256": record.model_sha256,
            "backend": record.backend,
            "version": record.tool_version,
            "device": record.device,
            "precision": record.precision,
            "options": record.details.get(KEY_OPTIONS),
        },
        "environment": json.loads(provenance[0]["facets"] or "{}") if provenance else {},
        "run_command": made.get("command"),
        "versions": made.get("versions"),
        "builds": _builds(reader, found),
        "precision_histogram": _histogram(reader, found),
        "used": used,
        "reasons": sorted({reason for row in used for reason in row["reasons"] or []}),
        "last_good_of": [
            {"plan": item.plan_name, "case": item.case_key, "session": item.session_id, "why": item.why}
            for item in good_engines(reader)
            if item.engine_sha256 == found.sha256
        ],
        "files": _files(found),
    }


def _builds(reader: Reader, found: Engine) -> list[Json]:
    return reader.rows("engines_builds", key=found.record.engine_key)


def _files(found: Engine) -> dict[str, int]:
    folder = found.entry.folder if found.entry is not None else None
    if folder is None:
        return {}
    return {str(item.relative_to(folder)): item.stat().st_size for item in sorted(folder.rglob("*")) if item.is_file()}


def _histogram(reader: Reader, found: Engine) -> list[Json]:
    """Return what the engine computes in, from the newest run that was looked into."""
    from dataclasses import asdict

    from enginewatch_ci.layers.facts import layer_facts
    from enginewatch_ci.layers.histogram import precision_histogram

    runs = reader.rows("engines_layers_run", engine=found.sha256, run=None, session=None, case=None)
    if not runs:
        return []
    layers = layer_facts(reader.rows("engines_layers", run=runs[0]["run_id"]))
    return [asdict(share) for share in precision_histogram(layers)]


def _print(found: Engine, facts: Json) -> None:
    record, entry = found.record, found.entry
    cached = "not in the cache"
    if entry is not None:
        cached = f"{entry.folder}: {entry.state}{f', {entry.why}' if entry.why else ''}"
    options = facts["key_parts"]["options"]
    print_facts(
        {
            "engine": found.sha256,
            "key": record.engine_key,
            "model": f"{record.model or '?'} {(record.model_sha256 or '')[:16]}".strip(),
            "backend": f"{record.backend or '?'} {record.tool_version or ''}".strip(),
            "device": _device(found),
            "precision": f"{record.precision or '?'} asked for, {record.realised_precision or 'unknown'} realised",
            "shapes": ", ".join(f"{name} {'x'.join(map(str, dims))}" for name, dims in record.shapes.items()),
            "options": ", ".join(f"{name}={value}" for name, value in options.items()) if options else None,
            "fingerprint": (record.fingerprint or "")[:16],
            "size": f"{mib(record.size_bytes)}{_resident(found)}",
            "built": f"{record.built_at or 'unknown'}{_took(record.build_time_s)}",
            "peak memory": _peak(found),
            "build command": _text(record.details.get("command")),
            "run command": _text(facts["run_command"]),
            "versions": ", ".join(f"{name} {value}" for name, value in (facts["versions"] or {}).items()),
            "cache": cached,
            "kept": found.kept,
            "reasons": ", ".join(facts["reasons"]),
        }
    )
    _print_builds(facts["builds"])
    _print_histogram(facts["precision_histogram"])
    _print_used(facts["used"])


def _device(found: Engine) -> str:
    capability = found.record.compute_capability
    return f"{found.record.device or 'any'}{f', compute capability {capability}' if capability else ''}"


def _resident(found: Engine) -> str:
    return f", {mib(found.entry.size_bytes)} with logs and caches" if found.entry is not None else ""


def _took(seconds: float | None) -> str:
    return "" if seconds is None else f", took {seconds:.3g} s"


def _peak(found: Engine) -> str | None:
    record = found.record
    parts = {"GPU": record.peak_gpu_mem_mib, "host": record.peak_host_mem_mib}
    return ", ".join(f"{name} {value:,.4g} MiB" for name, value in parts.items() if value is not None) or None


def _text(value: Any) -> str | None:  # noqa: ANN401 (any JSON value)
    return " ".join(map(str, value)) if isinstance(value, list) else (str(value) if value else None)


def _print_builds(builds: list[Json]) -> None:
    if len(builds) > 1:
        result("")
        columns = {
            "build": [str(row["build_number"] + 1) for row in builds],
            "engine": [row["engine_sha256"][:12] for row in builds],
            "build s": [number(row["build_time_s"], ".3g") for row in builds],
            "runs": [str(row["runs"]) for row in builds],
        }
        print_table(columns, first_to_go=(), right=("build s", "runs"))


def _print_histogram(shares: list[Json]) -> None:
    if shares:
        result("")
        columns = {
            "computes in": [share["dtype"] or "unknown" for share in shares],
            "layers": [str(share["layers"]) for share in shares],
            "of the time": [number(share["time_pct"], ".1f", "%") for share in shares],
            "of the flops": [number(share["flops_pct"], ".1f", "%") for share in shares],
        }
        print_table(columns, first_to_go=(), right=("layers", "of the time", "of the flops"))


def _print_used(used: list[Json]) -> None:
    if used:
        result("")
        columns = {
            "session": [row["session_id"][:13] for row in used],
            "label": [row["label"] or "" for row in used],
            "case": [row["case_key"] for row in used],
            "runs": [f"{row['valid_runs']}/{row['runs']}" for row in used],
            "median ms": [number(row["latency_p50_ms"]) for row in used],
            "per s": [number(row["throughput_qps"]) for row in used],
            "when (UTC)": [when(row["started_us"]) for row in used],
        }
        print_table(columns, first_to_go=("label", "per s", "when (UTC)"), right=("runs", "median ms", "per s"))
