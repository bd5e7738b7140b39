"""Is torch here, and for which device was it built: read from its files, since importing it takes seconds."""

from __future__ import annotations

import importlib.util
import os
import re
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from enginewatch_db.errors import NotAvailableError
from enginewatch_harness.backends.base import Availability
from enginewatch_harness.backends.cuda_device import first_gpu
from enginewatch_harness.backends.torch_options import precisions_on
from enginewatch_harness.lean import let_pandas_in
from enginewatch_harness.provenance import cpu_device

_CUDA = re.compile(r"^cuda\b[^=]*= '([\d.]+)'", re.MULTILINE)
REMEDY = "pip install 'enginewatch[torch]'"


def find_folder(module: str) -> Path | None:
    """Return the folder of an installed package without importing it."""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None
    return Path(spec.origin).parent if spec and spec.origin else None


@cache
def built_for_cuda() -> bool:
    """Return whether the installed torch has CUDA (``torch/version.py``)."""
    folder = find_folder("torch")
    if folder is None:
        return False
    try:
        return _CUDA.search((folder / "version.py").read_text(encoding="utf-8")) is not None
    except OSError:
        return False


def kind_of_device(wanted: str) -> str:
    """Return ``cpu`` or ``cuda`` for the option ``torch_device``, as far as it is known before torch is imported."""
    if wanted != "auto":
        return wanted
    return "cuda" if built_for_cuda() and first_gpu() else "cpu"


def device_name(wanted: str) -> str:
    """Return the product name of the device that a case runs on."""
    return cpu_device() if kind_of_device(wanted) == "cpu" else first_gpu() or "NVIDIA GPU"


def torch_availability() -> Availability:
    """Say whether torch is here, without importing it."""
    if find_folder("torch") is None:
        return Availability(available=False, why="torch is not installed", remedy=REMEDY)
    return Availability(
        available=True,
        version=version_of("torch"),
        device=device_name("auto"),
        precisions=precisions_on(kind_of_device("auto")),
    )


def version_of(package: str) -> str | None:
    """Return the version of an installed package; ``None`` where its metadata is absent."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def import_torch(cache_dir: Path | None) -> Any:  # noqa: ANN401 - torch is not installed where types are checked
    """Import torch with its compilers' caches inside the workspace, so that runs share them and nothing else does.

    Raises:
        NotAvailableError: It is absent or cannot be imported.
    """
    if cache_dir is not None:
        for name, folder in (("TORCHINDUCTOR_CACHE_DIR", "torchinductor"), ("TRITON_CACHE_DIR", "triton")):
            os.environ.setdefault(name, str(cache_dir / folder))
    let_pandas_in()
    try:
        import torch
    # The boundary to a library whose binary parts may be broken: a missing CUDA library is an OSError.
    except Exception as error:
        raise NotAvailableError(f"torch cannot be imported: {error}", remedy=REMEDY) from error
    return torch
