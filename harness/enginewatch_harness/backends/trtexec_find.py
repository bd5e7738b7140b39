"""Find trtexec and its version."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from functools import cache
from pathlib import Path

from enginewatch_db.errors import BackendError, NotAvailableError
from enginewatch_harness.backends.trtexec_flags import Tool
from enginewatch_harness.parse.trtexec_lines import decode
from enginewatch_harness.parse.trtexec_log import parse_log
from enginewatch_harness.process import ToolResult, run_tool
from enginewatch_harness.provenance import tool_output

VARIABLE = "TRTEXEC"
USUAL_PLACE = "/usr/src/tensorrt/bin/trtexec"
"""Where NVIDIA's Debian packages and containers put it; it is on no PATH there."""

_HELP_TIMEOUT_S = 60.0
_FLAG = re.compile(r"^\s+(--[A-Za-z]\w*)", re.MULTILINE)
_REMEDY = f"install TensorRT with its samples (libnvinfer-bin), or set {VARIABLE} to the path of trtexec"


def find_tool(option: str | None) -> Tool:
    """Return the trtexec to use: from the plan's option, from TRTEXEC, from PATH, or from its usual place.

    Raises:
        NotAvailableError: There is none, or it cannot start.
    """
    asked = option or os.environ.get(VARIABLE)
    candidates = [asked] if asked else ["trtexec", USUAL_PLACE]
    for candidate in candidates:
        path = shutil.which(candidate)
        if path is not None:
            return _identify(str(Path(path).absolute()))
    where = f"{asked!r} is not an executable" if asked else f"neither on PATH nor at {USUAL_PLACE}"
    raise NotAvailableError(f"trtexec was not found: {where}", remedy=_REMEDY)


@cache
def _identify(path: str) -> Tool:
    """Ask the tool for its banner; its exit status says nothing (``--help`` prints no PASSED)."""
    with tempfile.TemporaryDirectory(prefix="enginewatch-") as folder:
        said = _ask(path, "--help", Path(folder))
        log = parse_log(said.stdout, said.stderr)
        version = log.version
        if version is None:  # a banner without a number; "TensorRT version:" comes before the engine is opened
            tried = _ask(path, f"--loadEngine={folder}/none.engine", Path(folder))
            version = parse_log(tried.stdout, tried.stderr).version
    if version is None:
        words = decode(said.stderr).strip() or decode(said.stdout).strip() or "it printed nothing"
        raise NotAvailableError(
            f"{path} does not say its version: {words.splitlines()[0][:200]}",
            remedy="if a library is missing, add TensorRT's lib folder to LD_LIBRARY_PATH",
        )
    rtx = "rtx" in Path(path).name.lower() or any("rtx" in banner.tool.lower() for banner in log.banners)
    return Tool(path=path, version=version, rtx=rtx, listed=listed_flags(decode(said.stdout)))


def _ask(path: str, flag: str, folder: Path) -> ToolResult:
    try:
        return run_tool([path, flag], timeout_s=_HELP_TIMEOUT_S, log_prefix=folder / "asked")
    except (OSError, BackendError) as error:
        raise NotAvailableError(f"{path} {flag.partition('=')[0]} failed: {error}", remedy=_REMEDY) from error


def listed_flags(help_text: str) -> frozenset[str]:
    """Return the flags that a help text lists."""
    return frozenset(_FLAG.findall(help_text))


def plan_version(tool: Tool, engine: Path) -> str | None:
    """Return the version that an engine was built with; ``None`` where this trtexec cannot tell (before 9.1)."""
    if not tool.knows("--getPlanVersionOnly"):
        return None
    with tempfile.TemporaryDirectory(prefix="enginewatch-") as folder:
        command = [tool.path, "--getPlanVersionOnly", f"--loadEngine={engine}"]
        try:
            said = run_tool(command, timeout_s=_HELP_TIMEOUT_S, log_prefix=Path(folder) / "plan")
        except (OSError, BackendError):
            return None
    return parse_log(said.stdout, said.stderr).plan_version()


@cache
def gpu_name() -> str:
    """Return the product name of the first GPU; a neutral name where nvidia-smi is absent (Jetson)."""
    printed = tool_output(["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"])
    return printed.splitlines()[0].strip() if printed else "NVIDIA GPU"
