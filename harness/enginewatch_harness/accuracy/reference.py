"""The fp32 reference: outputs of the model as given, unoptimised, by ONNX Runtime on the CPU; kept by their hash.

Inputs are seeded, or a user's own (options ``accuracy_data`` and ``accuracy_batches``).
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from enginewatch_harness.backends import option_values as read
from enginewatch_harness.backends.base import Job
from enginewatch_harness.backends.ort_errors import translated
from enginewatch_harness.backends.ort_inputs import InputSpec, index_bounds, input_specs, make_inputs, resolve_shapes
from enginewatch_harness.backends.ort_options import OrtOptions
from enginewatch_harness.backends.ort_session import open_session
from enginewatch_harness.graph_precision.load import load_model, model_sha256
from enginewatch_harness.input_data import Arrays, data_sha256, read_samples

DATA = "accuracy_data"

_MANY_THREADS = OrtOptions(threads=os.cpu_count() or 1)
"""The reference is not timed, so it may use every core."""

_NAMES = "names"


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Inputs of a case, and what the fp32 model answers."""

    inputs: Arrays
    outputs: Arrays


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """What an engine is compared with.

    Attributes:
        batches: At least one.
        note: What the inputs are, for the provenance; ``None`` where they are seeded.
    """

    batches: tuple[Batch, ...]
    note: str | None = None


def reference_of(job: Job, cache_dir: Path | None) -> Reference:
    """Return the inputs of a case and the fp32 model's outputs for them, by name.

    Args:
        job: The case; its ``seed`` and ``shapes`` make the inputs, where its options name no data.
        cache_dir: Where outputs are kept from run to run; ``None``: nowhere.

    Raises:
        BackendError: The model cannot be read or run (``model_missing``, ``model_corrupt``, ``unsupported_operator``,
            ``shape_outside_profile``, ``out_of_memory``), or the data does not fit it.
        PlanError: The data does not exist, or an option has a bad value.
    """
    session = open_session(job.model_path, _MANY_THREADS, precision="fp32", optimization="disable")
    specs = input_specs(session)
    shapes = resolve_shapes(specs, job.shapes, job.model_name)
    path = read.optional_text(job.options, DATA)
    most = read.integer(job.options, "accuracy_batches", OrtOptions().accuracy_batches, low=1)
    seen: list[str | int] = [job.seed]
    note = None
    if path is None:
        inputs = [_seeded(job, specs, shapes)]
    else:
        sha256 = data_sha256(Path(path), DATA)
        inputs = list(islice(read_samples(Path(path), specs, shapes, DATA), most))
        seen = [sha256, most]
        note = f"accuracy on {len(inputs)} batches of {Path(path).name} (sha256 {sha256})"
    kept = None if cache_dir is None else cache_dir / "reference" / f"{_key(job, shapes, seen)}.npz"
    outputs = _read(kept, len(inputs))
    if outputs is None:
        with translated(model=job.model_path, precision="fp32"):
            outputs = list(_answers(session, inputs))
        _write(kept, outputs)
    pairs = zip(inputs, outputs, strict=True)
    return Reference(batches=tuple(Batch(inputs=given, outputs=found) for given, found in pairs), note=note)


def _seeded(job: Job, specs: list[InputSpec], shapes: dict[str, tuple[int, ...]]) -> Arrays:
    bounds = index_bounds(load_model(job.model_path)) if any("int" in spec.kind for spec in specs) else {}
    return make_inputs(specs, shapes, bounds, job.seed)


def _answers(session: Any, inputs: list[Arrays]) -> Iterator[Arrays]:  # noqa: ANN401 - onnxruntime ships no types
    names = [item.name for item in session.get_outputs()]
    for arrays in inputs:
        yield dict(zip(names, session.run(names, arrays), strict=True))


def _key(job: Job, shapes: dict[str, tuple[int, ...]], seen: list[str | int]) -> str:
    import onnxruntime

    parts = [model_sha256(job.model_path), seen, sorted(shapes.items()), onnxruntime.__version__]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _read(path: Path | None, batches: int) -> list[Arrays] | None:
    if path is None or not path.is_file():
        return None
    try:
        # numpy leaves a damaged file open that it opened itself.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            names = stored[_NAMES].tolist()
            return [{name: stored[f"{batch}.{i}"] for i, name in enumerate(names)} for batch in range(batches)]
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
        # Cut by a kill or a full disk: it is computed again.
        return None


def _write(path: Path | None, outputs: list[Arrays]) -> None:
    if path is None or any(not np.issubdtype(item.dtype, np.number) for found in outputs for item in found.values()):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.npz")
    # By number, as a name may be any text and numpy's own keywords are names too.
    stored = {f"{batch}.{i}": item for batch, found in enumerate(outputs) for i, item in enumerate(found.values())}
    try:
        with temporary.open("wb") as stream:
            np.savez(stream, allow_pickle=False, **{_NAMES: np.array(list(outputs[0])), **stored})
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
