"""What nsys itself says of a report: its statistics, held against ours, and the findings of its expert system."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from enginewatch_db.errors import BackendError, MeasurementError
from enginewatch_harness import nsys as package
from enginewatch_harness.nsys.command import (
    REPORTS,
    RULES,
    Nsys,
    analyze_command,
    report_name,
    rule_name,
    stats_command,
)
from enginewatch_harness.nsys.events import KERNEL, Recording
from enginewatch_harness.nsys.scrub import Scrubber
from enginewatch_harness.nsys.stats_csv import StatsReport, Value, parse_stats
from enginewatch_harness.process import ToolResult, run_tool

SCRIPTS = Path(package.__file__).parent / "reports"
"""Our own report scripts."""

OWN_REPORTS = ("enginewatch_kernel_sum", "enginewatch_gpu_idle")
_KERNEL_SUMS = ("cuda_gpu_kern_sum", "enginewatch_kernel_sum")
_STATS, _RULE = "stats", "analyze"
_NS_PER_CALL = 1.0
_RELATIVE = 1e-6
"""Rounding of a sum of times in ns, which is what these files are written in."""

_LAST_WORDS = 200


def ask_nsys(nsys: Nsys, exported: Path, recording: Recording, folder: Path, *, timeout_s: float) -> tuple[str, ...]:
    """Let nsys write its statistics and findings as CSV files, and return in words what is worth knowing of them.

    Args:
        nsys: The tool at hand.
        exported: A report as SQLite.
        recording: What we read from it.
        folder: Where the files go: ``stats_<report>.csv`` and ``analyze_<rule>.csv``.
        timeout_s: How long each of the two may take.

    Raises:
        OSError: The folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    reports = (*REPORTS, *OWN_REPORTS)
    asked = stats_command(nsys, exported, output=folder / _STATS, reports=reports, folder=SCRIPTS)
    notes = [*_run(nsys, asked, folder, timeout_s)]
    for name in _KERNEL_SUMS:
        notes += kernel_differences(name, _read(folder / f"{_STATS}_{report_name(nsys, name)}.csv", name), recording)
    notes += _run(nsys, analyze_command(nsys, exported, output=folder / _RULE), folder, timeout_s)
    for rule in RULES:
        notes += findings(rule, _read(folder / f"{_RULE}_{rule_name(nsys, rule)}.csv", rule))
    return tuple(notes)


def keep_csv(folder: Path, target: Path, scrubber: Scrubber) -> tuple[Path, ...]:
    """Copy what nsys wrote into a folder, without private words and without files that hold nothing.

    Raises:
        MeasurementError: ``disk_full``: the folder cannot be written.
    """
    kept = []
    try:
        target.mkdir(parents=True, exist_ok=True)
        for file in sorted(folder.glob("*.csv")):
            text = file.read_text(encoding="utf-8", errors="replace")
            if text.strip():
                kept.append(target / file.name)
                kept[-1].write_text(scrubber.name(text), encoding="utf-8")
    except OSError as error:
        raise MeasurementError(
            f"{target} cannot be written: {error}", code="disk_full", remedy="name another folder with --csv"
        ) from error
    return tuple(kept)


def _run(nsys: Nsys, argv: tuple[str, ...], folder: Path, timeout_s: float) -> list[str]:
    try:
        ended: ToolResult = run_tool(argv, timeout_s=timeout_s, log_prefix=folder / argv[1])
    except (OSError, BackendError) as error:
        return [f"nsys {argv[1]}: {error}"]
    if ended.returncode == 0:
        return []
    words = " ".join((ended.stderr or ended.stdout).decode("utf-8", errors="replace").split())[-_LAST_WORDS:]
    return [f"nsys {nsys.dotted} {argv[1]} ended with status {ended.returncode}: {words or 'it said nothing'}"]


def _read(file: Path, name: str) -> tuple[StatsReport, ...]:
    if not file.is_file():
        return ()
    return parse_stats(file.read_text(encoding="utf-8", errors="replace"), name)


def kernel_differences(name: str, found: Iterable[StatsReport], recording: Recording) -> list[str]:
    """Return where a sum over kernels that nsys made differs from ours by more than rounding. Pure.

    Args:
        name: Name of nsys's report.
        found: The report; one that is not there says nothing.
        recording: What we read of the same file, all of it.
    """
    rows = [row for report in found for row in report.rows]
    if not rows:
        return []
    theirs = _sums((str(row.get("name")), row.get("instances"), row.get("total_time_ns")) for row in rows)
    ours = _sums((item.name, 1, item.end_ns - item.start_ns) for item in recording.work if item.kind == KERNEL)
    differing = [key for key in sorted({*theirs, *ours}) if not _alike(theirs.get(key), ours.get(key))]
    if not differing:
        return []
    first = differing[0]
    return [
        f"nsys's {name} and we differ on {len(differing)} of {len({*theirs, *ours})} kernels: "
        f"{first} took {_words(theirs.get(first))} there, {_words(ours.get(first))} here"
    ]


def _sums(rows: Iterable[tuple[str, Value, Value]]) -> dict[str, tuple[float, float]]:
    found: dict[str, tuple[float, float]] = {}
    for name, count, total_ns in rows:
        calls, time_ns = found.get(name, (0.0, 0.0))
        found[name] = (calls + _number(count), time_ns + _number(total_ns))
    return found


def _number(value: Value) -> float:
    return value if isinstance(value, int | float) else 0.0


def _alike(one: tuple[float, float] | None, other: tuple[float, float] | None) -> bool:
    if one is None or other is None or one[0] != other[0]:
        return False
    return abs(one[1] - other[1]) <= _NS_PER_CALL * one[0] + _RELATIVE * abs(one[1])


def _words(sums: tuple[float, float] | None) -> str:
    return "no time" if sums is None else f"{sums[1] / 1e3:.10g} µs in {sums[0]:g} calls"


def findings(rule: str, found: Iterable[StatsReport]) -> list[str]:
    """Return in words what a rule of nsys's expert system found; it lists no more than 50 of each. Pure."""
    rows = [row for report in found for row in report.rows]
    if not rows:
        return []
    durations = [_number(row.get("duration_ns")) for row in rows]
    longest = rows[durations.index(max(durations))]
    parts = [f"the longest takes {max(durations) / 1e3:.6g} µs"] if max(durations) > 0 else []
    parts += [str(call)] if (call := longest.get("api_name")) else []
    used = [_number(row["in_use_pct"]) for row in rows if "in_use_pct" in row]
    parts += [f"the GPU in use {min(used):g} % at the least"] if used else []
    return [f"nsys analyze, {rule}: {len(rows)} {'finding' if len(rows) == 1 else 'findings'}, {', '.join(parts)}"]
