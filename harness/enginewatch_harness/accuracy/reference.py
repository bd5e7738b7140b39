"""The fp32 reference: outputs of the model as given, unoptimised, by ONNX Runtime on the CPU; kept by their hash."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from enginewatch_harness.backends.base import Job
from enginewatch_harness.backends.ort_convert import load_model
from enginewatch_harness.backends.ort_errors import translated
from enginewatch_harness.backends.ort_inputs import index_bounds, input_specs, make_inputs, resolve_shapes
from enginewatch_harness.backends.ort_options import OrtOptions
from enginewatch_harness.backends.ort_session import open_session
from enginewatch_harness.engine_cache import file_sha256

Arrays = dict[str, NDArray[Any]]

_MANY_THREADS = OrtOptions(threads=os.cpu_count() or 1)
"""The reference is not timed, so it may use every core."""


def reference_of(job: Job, cache_dir: Path | None) -> tuple[Arrays, Arrays]:
    """Return the seeded inputs of a case and the fp32 model's outputs for them, by name.

    Args:
        job: The case; its ``seed`` and ``shapes`` make the inputs.
        cache_dir: Where outputs are kept from run to run; ``None``: nowhere.

    Raises:
        BackendError: The model cannot be read or run (``model_missing``, ``model_corrupt``, ``unsupported_operator``,
            ``shape_outside_profile``, ``out_of_memory``).
    """
    session = open_session(job.model_path, _MANY_THREADS, precision="fp32", optimization="disable")
    specs = input_specs(session)
    shapes = resolve_shapes(specs, job.shapes, job.model_name)
    bounds = index_bounds(load_model(job.model_path)) if any("int" in spec.kind for spec in specs) else {}
    inputs = make_inputs(specs, shapes, bounds, job.seed)
    kept = None if cache_dir is None else cache_dir / "reference" / f"{_key(job, shapes)}.npz"
    outputs = _read(kept)
    if outputs is None:
        with translated(model=job.model_path, precision="fp32"):
            names = [item.name for item in session.get_outputs()]
            outputs = dict(zip(names, session.run(names, inputs), strict=True))
        _write(kept, outputs)
    return inputs, outputs


def _key(job: Job, shapes: dict[str, tuple[int, ...]]) -> str:
    import onnxruntime

    parts = [file_sha256(job.model_path), job.seed, sorted(shapes.items()), onnxruntime.__version__]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _read(path: Path | None) -> Arrays | None:
    if path is None or not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        # Cut by a kill or a full disk: it is computed again.
        return None


def _write(path: Path | None, outputs: Arrays) -> None:
    if path is None or any(not np.issubdtype(values.dtype, np.number) for values in outputs.values()):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.npz")
    with temporary.open("wb") as stream:
        np.savez(stream, allow_pickle=False, **outputs)
    temporary.replace(path)
