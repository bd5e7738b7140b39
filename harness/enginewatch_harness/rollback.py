"""The last good engine as a folder that can be carried away: files, versions, checksums, and how to load it."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import tarfile
import tomllib
from dataclasses import dataclass
from pathlib import Path

from enginewatch_db import __version__
from enginewatch_db.errors import DiskFullError, StorageError, UsageError
from enginewatch_db.model import EngineRecord, Json
from enginewatch_harness.backends.trtexec_shapes import shapes_spec
from enginewatch_harness.engine_cache import ENGINE, META, file_sha256
from enginewatch_harness.engine_fit import Here, key_options, others
from enginewatch_harness.engine_registry import Engine

SUMS = "SHA256SUMS"
PLAN = "plan.toml"
_ENDS = {"onnxruntime": ".onnx", "llamacpp": ".gguf"}
_LOAD = {
    "trtexec": "trtexec --loadEngine={file}{flags}",
    "tensorrt": "trtexec --loadEngine={file}{flags}",
    "tensorrt_rtx": "tensorrt_rtx --loadEngine={file}{flags}",
    "onnxruntime": 'python -c "import onnxruntime as o; print(o.InferenceSession({file!r}).get_inputs())"',
    "llamacpp": "llama-server --model {file}",
    "trtllm": "trtllm-serve {file}",
}


def here(backend_name: str) -> Here:
    """Look at what this machine has for an engine of one backend."""
    from enginewatch_harness.gpu_devices import host_gpus
    from enginewatch_harness.provenance import cpu_device
    from enginewatch_harness.registry import availability, backend_names

    found = availability(backend_name) if backend_name in backend_names() else None
    devices: dict[str, str | None] = {device.name: device.compute_capability for device in host_gpus().devices}
    if found is not None and found.device:
        devices.setdefault(found.device, None)
    devices.setdefault(cpu_device(), None)
    return Here(backend=backend_name, version=found.version if found and found.available else None, devices=devices)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """What goes into the folder.

    Attributes:
        engine: The engine; it lies in the cache, whole.
        case_key: The case that it is of.
        why: Why it is the last good one, or that it was asked for.
        session: Facts of the session that it is from: ``session_id``, ``plan_name``, ``plan_text``.
        versions: Versions of the tool, its libraries and the system when it was measured.
        command: The command of a run of the case with this engine; ``None`` where its backend has none.
        warnings: What does not fit here.
        unchecked: What could not be compared with this machine.
    """

    engine: Engine
    case_key: str
    why: str
    session: Json
    versions: Json
    command: str | None = None
    warnings: tuple[str, ...] = ()
    unchecked: tuple[str, ...] = ()


def engine_name(record: EngineRecord) -> str:
    """Return the engine's name in the bundle."""
    return f"model{_ENDS.get(record.backend or '', '.engine')}"


def write_bundle(bundle: Bundle, target: Path) -> tuple[str, ...]:
    """Write the bundle into ``target``, which appears whole or not at all, and return its files.

    Raises:
        UsageError: ``target`` is there already.
        StorageError: The engine is not in the cache, or the folder cannot be written.
        DiskFullError: No space left.
    """
    if target.exists():
        raise UsageError(f"{target} is there already", remedy="give another folder with --to")
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir(parents=True)
        _fill(bundle, temporary)
        _sums(temporary)
        files = tuple(sorted(str(path.relative_to(temporary)) for path in temporary.rglob("*") if path.is_file()))
        temporary.rename(target)
    except OSError as error:
        raise _unwritable(error, target) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return files


def _unwritable(error: OSError, target: Path) -> StorageError:
    import errno

    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFullError(f"no space left while {target} was written", remedy="give another place with --to")
    return StorageError(f"cannot write {target}: {error.strerror}", remedy="give another folder with --to")


def _fill(bundle: Bundle, folder: Path) -> None:
    entry, record = bundle.engine.entry, bundle.engine.record
    if entry is None:
        raise StorageError(f"engine {bundle.engine.title} is not in the cache")
    copied = folder / engine_name(record)
    for item in sorted(entry.folder.iterdir()):
        if item.name == ENGINE:
            _copy(item, copied)
        elif item.name != META:
            _copy(item, folder / item.name)
    if file_sha256(copied) != record.engine_sha256:
        raise StorageError(
            f"the copy of engine {bundle.engine.title} is not what was built: its checksum differs",
            remedy="check the disk: `enginewatch engines verify`",
        )
    if bundle.session.get("plan_text"):
        (folder / PLAN).write_text(str(bundle.session["plan_text"]), encoding="utf-8")
    if (place := policy_place(bundle.session)) is not None and not (folder / place).exists():
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).write_text(str(bundle.session["policy_text"]), encoding="utf-8")
    (folder / "versions.json").write_text(json.dumps(facts(bundle), indent=1, default=str) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(readme(bundle, folder), encoding="utf-8")


def policy_of(session: Json) -> str | None:
    """Return the policy that the plan names, as the plan spells it; ``None`` where it names none."""
    try:
        named = tomllib.loads(str(session.get("plan_text") or "")).get("policy")
    except tomllib.TOMLDecodeError:
        return None
    return named if isinstance(named, str) and named else None


def policy_place(session: Json) -> Path | None:
    """Return where the policy lies in the bundle; ``None`` where there is none, or its text was not kept.

    It is the plan's own path, unless that leads out of the bundle: then its name alone.
    """
    named = policy_of(session)
    if named is None or session.get("policy_text") is None:
        return None
    path = Path(named)
    return Path(path.name) if path.is_absolute() or ".." in path.parts else path


def _policy_line(session: Json) -> str | None:
    """Return what the reader must do before the plan finds its policy; ``None`` where that is nothing."""
    named, place = policy_of(session), policy_place(session)
    if named is None or place == Path(named):
        return None
    if place is None:
        return f"The plan names the policy `{named}`, which the store did not keep: put it there, or drop `policy`."
    return f'The plan names the policy `{named}`: `{place}` is its text; put it there, or write `policy = "{place}"`.'


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copyfile(source, target)


def _sums(folder: Path) -> None:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    lines = [f"{file_sha256(path)}  {path.relative_to(folder).as_posix()}\n" for path in files]
    (folder / SUMS).write_text("".join(lines), encoding="utf-8")


def facts(bundle: Bundle) -> Json:
    """Return what ``versions.json`` says."""
    record = bundle.engine.record
    named = ("engine_sha256", "engine_key", "model", "model_sha256", "backend", "tool_version", "device")
    more = ("compute_capability", "precision", "realised_precision", "shapes", "fingerprint", "size_bytes")
    return {
        "case": bundle.case_key,
        "why": bundle.why,
        "session": bundle.session.get("session_id"),
        "plan": bundle.session.get("plan_name"),
        **{name: getattr(record, name) for name in (*named, *more, "build_number", "built_at", "build_time_s")},
        "build": record.details,
        "environment": bundle.versions,
        "does_not_fit_the_machine_that_wrote_this": list(bundle.warnings),
        "not_checked": list(bundle.unchecked),
        "enginewatch": __version__,
    }


def readme(bundle: Bundle, folder: Path) -> str:
    """Return the text that says what this is and how it is loaded."""
    record = bundle.engine.record
    name = engine_name(record)
    load = _LOAD.get(record.backend or "", "{file}").format(file=name, flags=load_flags(record, bundle.command))
    capability = f", compute capability {record.compute_capability}" if record.compute_capability else ""
    lines = [
        f"# {bundle.case_key}",
        "",
        f"`{name}` is the engine {bundle.engine.short} of model {record.model or '?'}, {bundle.why}.",
        "",
        f"- built by {record.backend or '?'} {record.tool_version or '?'}, at {record.built_at or 'an unknown time'}",
        f"- for {record.device or 'an unknown device'}{capability}{_reach(record)}",
        f"- precision {record.precision or '?'}, realised {record.realised_precision or 'unknown'}",
        "",
        "Check the files, then load the engine:",
        "",
        f"    sha256sum -c {SUMS}",
        f"    {load}",
        "",
        f"`versions.json` has all versions and options of the build{_also(folder)}.",
    ]
    if (told := _policy_line(bundle.session)) is not None:
        lines += ["", told]
    if bundle.warnings:
        lines += ["", "Written with --force although it did not fit there:", *(f"- {text}" for text in bundle.warnings)]
    lines += ["", *(f"- {text}" for text in bundle.unchecked)] if bundle.unchecked else []
    return "\n".join(lines) + "\n"


def load_flags(record: EngineRecord, command: str | None) -> str:
    """Return what trtexec needs beside ``--loadEngine``, with a space in front: shapes, plugins, the embedded runtime.

    A run with the engine says them; where trtexec ran none, the shapes that the engine was built for are taken.
    """
    given = shlex.split(command) if command and "--loadEngine=" in command else []
    flags = [flag for flag in given if flag.startswith(("--shapes=", "--staticPlugins=", "--plugins="))]
    if not given and record.shapes:
        flags.append(f"--shapes={shapes_spec({name: tuple(dims) for name, dims in record.shapes.items()})}")
    if key_options(record).get("version_compatible"):
        # Without it trtexec does not load the lean runtime that lies in such an engine (samples/common of TensorRT).
        flags.append("--versionCompatible")
    return "".join(f" {shlex.quote(flag)}" for flag in flags)


def _reach(record: EngineRecord) -> str:
    version = "that version or a later one" if key_options(record).get("version_compatible") else "that version"
    if (more := others(record)) is not None:
        return f" and {more}: it runs on those, with {version}, only"
    return f": it runs on that product, with {version}, only"


def _also(folder: Path) -> str:
    parts = {PLAN: "the plan that it was built from", "timing.cache": "the builder's timing cache"}
    told = [f"`{name}` is {what}" for name, what in parts.items() if (folder / name).is_file()]
    told += ["`build.*.log` is what the builder wrote"] if any(folder.glob("build.*.log")) else []
    return "".join(f"; {text}" for text in told)


def archive_of(folder: Path) -> Path:
    """Return the archive that ``pack`` makes of a folder."""
    return folder.with_name(f"{folder.name}.tar.gz")


def pack(folder: Path) -> Path:
    """Put a bundle's folder into ``<folder>.tar.gz``, remove the folder, and return the archive.

    Raises:
        StorageError: It cannot be written.
    """
    archive = archive_of(folder)
    temporary = archive.with_name(f".{archive.name}.{os.getpid()}.tmp")
    try:
        with tarfile.open(temporary, "w:gz", compresslevel=1) as handle:
            handle.add(folder, arcname=folder.name)
        temporary.rename(archive)
    except OSError as error:
        raise _unwritable(error, archive) from error
    finally:
        temporary.unlink(missing_ok=True)
    shutil.rmtree(folder)
    return archive


def default_name(case_key: str, sha256: str) -> str:
    """Return the folder's name where none is given."""
    digest = sha256[:8] if sha256 else hashlib.sha256(case_key.encode()).hexdigest()[:8]
    return f"rollback-{case_key.replace('/', '-')}-{digest}"
