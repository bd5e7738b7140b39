"""Find ``trtllm-bench`` and ``trtllm-build``, and the version that they belong to."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from enginewatch_db.errors import NotAvailableError

BENCH, BUILD = "trtllm-bench", "trtllm-build"
VARIABLES = {BENCH: "TRTLLM_BENCH", BUILD: "TRTLLM_BUILD"}
REMEDY = "run in NVIDIA's TensorRT-LLM container (nvcr.io/nvidia/tensorrt-llm/release), or set {variable} to its path"
_VERSION = re.compile(r"^tensorrt_llm-(?P<version>\d+(?:\.\w+)+)\.dist-info$")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrtllmTool:
    """A tool of TensorRT-LLM.

    Attributes:
        path: Where it lies.
        version: Version of the package that it belongs to; ``None`` where none lies beside it.
    """

    path: str
    version: str | None


def find_tool(name: str, option: str | None) -> TrtllmTool:
    """Return the tool to use: from the plan's option, from its environment variable, or from PATH.

    The tool has no ``--version``, and its ``--help`` loads all of PyTorch: the version is the one of the package
    beside it.

    Raises:
        NotAvailableError: There is none.
    """
    asked = option or os.environ.get(VARIABLES[name])
    path = shutil.which(asked or name)
    if path is None:
        where = f"{asked!r} is not an executable" if asked else "it is not on PATH"
        raise NotAvailableError(f"{name} was not found: {where}", remedy=REMEDY.format(variable=VARIABLES[name]))
    return TrtllmTool(path=str(Path(path).absolute()), version=_version_beside(Path(path).absolute()))


def _version_beside(path: Path) -> str | None:
    for folder in dict.fromkeys((path.parent.parent, path.resolve().parent.parent)):
        for found in sorted(folder.glob("lib*/python3*/*-packages/tensorrt_llm-*.dist-info"), reverse=True):
            match = _VERSION.match(found.name)
            if match is not None:
                return match["version"]
    return None
