"""Kernels that TensorRT-RTX compiled when an engine first ran, kept from run to run."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

FOLDER = "tensorrt-rtx"


@dataclass(slots=True, kw_only=True)
class RuntimeCache:
    """One file of compiled kernels.

    Attributes:
        path: The file; TensorRT-RTX itself refuses one of another GPU, driver or version.
        hit: Whether a kept file was taken; ``False``: everything is compiled anew.
    """

    path: Path
    hit: bool = False
    _handle: Any = field(default=None, repr=False)
    _blob: bytes = field(default=b"", repr=False)

    def attach(self, config: Any) -> None:  # noqa: ANN401 - TensorRT ships no types
        """Give a runtime configuration the kept kernels."""
        self._handle = config.create_runtime_cache()
        self._blob = self.path.read_bytes() if self.path.is_file() else b""
        self.hit = bool(self._blob) and bool(self._handle.deserialize(self._blob))
        config.set_runtime_cache(self._handle)

    def keep(self) -> int:
        """Write what is known now, and return its bytes; several runs may do so, the last one stands."""
        blob = bytes(memoryview(self._handle.serialize()))
        if not self.hit or blob != self._blob:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
            temporary.write_bytes(blob)
            temporary.replace(self.path)
        return len(blob)


def runtime_cache(module: ModuleType, folder: Path | None, engine: Path, device: str) -> RuntimeCache | None:
    """Return the cache of an engine on a GPU; ``None`` where nothing is to be kept."""
    if folder is None or not hasattr(module, "IRuntimeCache"):
        return None
    with engine.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    key = hashlib.sha256(f"{digest}:{device}:{module.__version__}".encode()).hexdigest()
    return RuntimeCache(path=folder / FOLDER / f"{key}.kernels")
