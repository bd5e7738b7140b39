"""What a run was measured on and with: host, environment facets, git."""

from __future__ import annotations

import os
import platform
import socket
import tempfile
from functools import cache
from importlib import metadata
from pathlib import Path

import psutil

from enginewatch_db import __version__
from enginewatch_db.errors import BackendError
from enginewatch_db.model import Json
from enginewatch_harness.process import run_tool

FACET_PACKAGES = ("onnxruntime", "onnx", "xllamacpp", "tensorrt", "tensorrt-llm", "torch", "nvidia-ml-py", "numpy")


@cache
def cpu_model() -> str:
    """Return the CPU's product name."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


@cache
def cpu_device() -> str:
    """Return the device name of a CPU run: product and cores, since half the cores is another device."""
    return f"{cpu_model()} ({len(os.sched_getaffinity(0))} cores)"


def host_facts() -> Json:
    """Return what describes this machine and does not change between runs."""
    return {
        "hostname": socket.gethostname(),
        "cpu_model": cpu_model(),
        "cpu_count": os.cpu_count(),
        "cpu_available": len(os.sched_getaffinity(0)),
        "mem_total_mib": psutil.virtual_memory().total // 2**20,
        "machine": platform.machine(),
    }


def environment_facets() -> Json:
    """Return the facets of the software environment: they may differ between runs, and explain."""
    facets: Json = {
        "os": platform.system(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "enginewatch": __version__,
        "cpu_governor": _governor(),
        "container_image": os.environ.get("ENGINEWATCH_IMAGE"),
    }
    for package in FACET_PACKAGES:
        try:
            facets[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {name: value for name, value in facets.items() if value is not None}


def _governor() -> str | None:
    path = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    return path.read_text(encoding="utf-8").strip() if path.is_file() else None


def tool_output(argv: list[str], *, cwd: Path | None = None, timeout_s: float = 10.0) -> str | None:
    """Return what a small tool printed, or ``None`` when it is absent, fails, or takes too long."""
    with tempfile.TemporaryDirectory(prefix="enginewatch-") as folder:
        try:
            done = run_tool(argv, cwd=cwd, timeout_s=timeout_s, log_prefix=Path(folder) / "tool")
        except (FileNotFoundError, BackendError):
            return None
    return done.stdout.decode("utf-8", errors="replace").strip() if done.returncode == 0 else None


def git_facts(folder: Path) -> Json:
    """Return commit, branch and dirtiness of the repository around ``folder``; empty outside of one."""
    commit = tool_output(["git", "rev-parse", "HEAD"], cwd=folder)
    if not commit:
        return {}
    return {
        "git_commit": commit,
        "git_branch": tool_output(["git", "rev-parse", "--abbrev-ref", "HEAD"], cwd=folder),
        "git_dirty": bool(tool_output(["git", "status", "--porcelain", "--untracked-files=no"], cwd=folder)),
    }
