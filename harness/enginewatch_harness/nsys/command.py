"""Command lines of Nsight Systems. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

Version = tuple[int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Nsys:
    """An nsys at hand.

    Attributes:
        path: Its absolute path.
        version: Year, release, patch.
        options: What the help of its ``profile`` lists; empty: unknown, and the version decides.
    """

    path: str
    version: Version
    options: frozenset[str] = frozenset()

    @property
    def dotted(self) -> str:
        """The version as NVIDIA writes it."""
        return ".".join(map(str, self.version))

    def knows(self, option: str, since: Version) -> bool:
        """Return whether ``profile`` takes an option: as its help says, else by version."""
        return option in self.options if self.options else self.version >= since


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileCommand:
    """A command, and what this version could not be asked for."""

    argv: tuple[str, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureRange:
    """Record only a part of the process.

    Attributes:
        kind: ``cudaProfilerApi`` or ``nvtx``.
        nvtx_range: ``range@domain``, for ``nvtx``.
    """

    kind: str
    nvtx_range: str | None = None


_WANTED: tuple[tuple[str, str, Version, str], ...] = (
    ("--sample", "none", (2020, 1, 0), "CPU sampling stays on"),
    ("--cpuctxsw", "none", (2020, 4, 0), "context switches are traced too"),
    (
        "--cuda-graph-trace",
        "node",
        (2021, 5, 0),
        "the kernels of CUDA graphs may be missing",
    ),
    (
        "--discard-environment",
        "true",
        (2025, 3, 0),
        "the environment is stored in nsys's report, which is deleted afterwards",
    ),
    ("--stats", "false", (2019, 3, 0), "statistics may be printed"),
)
"""Option, value, first version taken to have it where the help says nothing, and what happens without it.

The defaults are too heavy, and wrong here: CPU sampling; a CUDA graph as one row without its kernels; the whole
environment in the report (help of 2026.2).
"""


def profile_command(
    nsys: Nsys,
    command: Sequence[str],
    *,
    output: Path,
    trace: Sequence[str] = ("cuda", "nvtx"),
    capture: CaptureRange | None = None,
) -> ProfileCommand:
    """Return the command that runs ``command`` under the profiler.

    Args:
        nsys: The tool at hand.
        command: What to profile, as a list of arguments.
        output: The report without its suffix, which the versions do not agree on.
        trace: What to trace.
        capture: Record a part only. The application runs on when that part ends: by default it would be killed.
    """
    flags, notes = [], []
    for option, value, since, without in _WANTED:
        if nsys.knows(option, since):
            flags.append(f"{option}={value}")
        else:
            notes.append(f"nsys {nsys.dotted} has no {option}: {without}")
    return ProfileCommand(
        argv=(
            nsys.path,
            "profile",
            f"--trace={','.join(trace)}",
            *flags,
            *_capture_flags(capture),
            "--force-overwrite=true",
            f"--output={output}",
            *command,
        ),
        notes=tuple(notes),
    )


def _capture_flags(capture: CaptureRange | None) -> tuple[str, ...]:
    if capture is None:
        return ()
    named = (f"--nvtx-capture={capture.nvtx_range}",) if capture.nvtx_range else ()
    return (f"--capture-range={capture.kind}", "--capture-range-end=stop", *named)


def export_command(nsys: Nsys, report: Path, *, output: Path) -> tuple[str, ...]:
    """Return the command that writes a report as SQLite."""
    return (nsys.path, "export", "--type=sqlite", f"--output={output}", "--force-overwrite=true", str(report))


_OLD_NAMES = {
    "cuda_gpu_kern_sum": "gpukernsum",
    "cuda_api_sum": "cudaapisum",
    "cuda_gpu_mem_time_sum": "gpumemtimesum",
    "cuda_gpu_mem_size_sum": "gpumemsizesum",
    "nvtx_sum": "nvtxsum",
    "osrt_sum": "osrtsum",
}
_NEW_NAMES_SINCE: Version = (2023, 1, 0)
"""``nsys stats --help-reports`` of 2022.4 has the old names."""

_OLD_RULES = {
    "cuda_memcpy_async": "cuda-async-memcpy",
    "cuda_memcpy_sync": "cuda-sync-memcpy",
    "cuda_memset_sync": "cuda-sync-memset",
    "cuda_api_sync": "cuda-sync-api",
    "gpu_gaps": "gpu-starv",
    "gpu_time_util": "gpu-low-util",
}
"""As 2022.4 calls them (its ``nsys analyze --help-rules``)."""

REPORTS = ("cuda_gpu_kern_sum", "cuda_api_sum", "cuda_gpu_mem_time_sum", "cuda_gpu_mem_size_sum", "nvtx_sum")
RULES = ("cuda_memcpy_async", "cuda_memcpy_sync", "cuda_memset_sync", "cuda_api_sync", "gpu_gaps", "gpu_time_util")


def report_name(nsys: Nsys, report: str) -> str:
    """Return what this version calls a report."""
    return report if nsys.version >= _NEW_NAMES_SINCE else _OLD_NAMES.get(report, report)


def current_name(report: str) -> str:
    """Return what versions since 2023 call a report, from either name."""
    return next((new for new, old in _OLD_NAMES.items() if old == report), report)


def rule_name(nsys: Nsys, rule: str) -> str:
    """Return what this version calls a rule."""
    return rule if nsys.version >= _NEW_NAMES_SINCE else _OLD_RULES.get(rule, rule)


def stats_command(
    nsys: Nsys,
    report: Path,
    *,
    output: Path,
    reports: Sequence[str] = REPORTS,
    folder: Path | None = None,
) -> tuple[str, ...]:
    """Return the command that writes reports as CSV files ``<output>_<report>.csv``.

    Args:
        nsys: The tool at hand.
        report: An ``.nsys-rep`` or ``.sqlite`` file.
        output: Beginning of the files' names.
        reports: Names as of 2023.1 and later.
        folder: Report scripts of one's own.
    """
    return (
        nsys.path,
        "stats",
        *(("--report-dir", str(folder)) if folder else ()),
        *_each("--report", [report_name(nsys, name) for name in reports]),
        *_written(report, output),
    )


def analyze_command(nsys: Nsys, report: Path, *, rules: Sequence[str] = RULES, output: Path) -> tuple[str, ...]:
    """Return the command that applies the rules of NVIDIA's expert system, for CSV files."""
    return (
        nsys.path,
        "analyze",
        *_each("--rule", [rule_name(nsys, rule) for rule in rules]),
        *_written(report, output),
    )


def _written(report: Path, output: Path) -> tuple[str, ...]:
    # An SQLite file is taken as it is; asked to export it, nsys refuses.
    forced = () if report.suffix == ".sqlite" else ("--force-export=true",)
    return ("--format", "csv", "--output", str(output), "--force-overwrite=true", *forced, str(report))


def _each(option: str, values: Sequence[str]) -> list[str]:
    return [part for value in values for part in (option, value)]
