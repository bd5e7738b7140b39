"""A whole trtexec log: standard output and error of one run → facts, and whether it succeeded. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from enginewatch_db.errors import BackendError
from enginewatch_db.model import Json
from enginewatch_db.validity import Reason
from enginewatch_harness.parse.trtexec_facts import (
    BuildFacts,
    DeviceFacts,
    MeasuringOptions,
    read_build,
    read_device,
    read_options,
)
from enginewatch_harness.parse.trtexec_failures import explain_failure, signal_number
from enginewatch_harness.parse.trtexec_json import Profile
from enginewatch_harness.parse.trtexec_lines import (
    Banner,
    LogLine,
    decode,
    find_banners,
    read_sections,
    split_lines,
)
from enginewatch_harness.parse.trtexec_output import Binding, read_bindings
from enginewatch_harness.parse.trtexec_reasons import GRAPH_FAILED, read_notes, read_reasons
from enginewatch_harness.parse.trtexec_summary import PerformanceSummary, read_summary
from enginewatch_harness.parse.trtexec_table import read_table

_SAVED = "Skipped inference phase since --skipInference is added."


@dataclass(frozen=True, slots=True, kw_only=True)
class TrtexecLog:
    """What one run of trtexec said.

    Attributes:
        version: Version from the banners and ``TensorRT version:``; ``None`` when none is there or they disagree.
        passed: Whether the banner ``PASSED`` was printed.
        banners: All banners in their order.
        lines: All lines, standard error first: its first error is the cause.
        sections: Section → key → value, as printed.
        summary: ``None`` when there is none: a build, a failure, or a profiler in the measurement.
    """

    version: str | None
    passed: bool
    banners: tuple[Banner, ...]
    lines: tuple[LogLine, ...]
    sections: dict[str, dict[str, str]]
    options: MeasuringOptions
    device: DeviceFacts
    build: BuildFacts
    summary: PerformanceSummary | None

    def reasons(self, cov_pct: float | None = None) -> tuple[Reason, ...]:
        """Return validity reasons; see ``trtexec_reasons.read_reasons``."""
        return read_reasons(self.lines, self.options, self.build, cov_pct)

    def notes(self) -> tuple[str, ...]:
        """Return warnings that explain without making the run invalid."""
        return read_notes(self.lines)

    def effective_options(self) -> Json:
        """Return the measuring options that are part of a run's identity, as they came to be."""
        found = self.options.effective()
        if "cuda_graph" in found and any(GRAPH_FAILED in line.text for line in self.lines):
            found["cuda_graph"] = False
        return found

    def bindings(self) -> tuple[Binding, ...]:
        """Return the engine's inputs and outputs as the log names them."""
        return read_bindings(self.lines)

    def plan_version(self) -> str | None:
        """Return the version that a plan was built with, as ``--getPlanVersionOnly`` prints it (10 and later)."""
        found = {match[1] for match in (_PLAN_VERSION.match(line.text) for line in self.lines if line.whole) if match}
        return found.pop() if len(found) == 1 else None

    def profile(self) -> Profile | None:
        """Return the printed layer table; ``None`` when there is none."""
        return read_table(self.lines)


def parse_log(stdout: bytes, stderr: bytes = b"") -> TrtexecLog:
    """Read a run's output. Merged captures work too: give them as ``stdout``.

    Never raises: an output that says nothing gives facts that are all ``None``.
    """
    out, err = decode(stdout), decode(stderr)
    banners = find_banners(out) + find_banners(err)
    printed = split_lines(out)
    lines = (*split_lines(err), *printed)
    sections = read_sections(printed)
    return TrtexecLog(
        version=_version(banners, lines),
        passed=any(banner.state == "PASSED" for banner in banners),
        banners=tuple(banners),
        lines=lines,
        sections=sections,
        options=read_options(sections),
        device=read_device(sections),
        build=read_build(lines, sections),
        summary=read_summary(printed),
    )


_VERSION = re.compile(r"^TensorRT(?:[- ]RTX)? version: (\d+\.\d+\.\d+)(?:\.\d+)?$")
_PLAN_VERSION = re.compile(r"^Plan was created with TensorRT version (\d+\.\d+\.\d+)(?:\.\d+)?$")


def _version(banners: Sequence[Banner], lines: Sequence[LogLine]) -> str | None:
    """Return what most of the banners and ``TensorRT version:`` say; a tie tells nothing."""
    told = Counter(banner.version for banner in banners if banner.version)
    told.update(match[1] for match in (_VERSION.match(line.text) for line in lines if line.whole) if match)
    ranked = told.most_common(2)
    if not ranked or (len(ranked) == 2 and ranked[0][1] == ranked[1][1]):
        return None
    return ranked[0][0]


def judge_build(log: TrtexecLog, returncode: int, *, engine_saved: bool, what: str) -> tuple[Reason, ...]:
    """Decide whether a build succeeded: exit status 0 and ``PASSED``, or a saved engine and a crash after that.

    Args:
        log: What the tool said.
        returncode: Its exit status.
        engine_saved: Whether a new, non-empty engine file is there.
        what: What was built, for messages.

    Returns:
        ``teardown_crash`` where it crashed after the engine was saved; the engine works (seen with 8.6).

    Raises:
        BackendError: It failed; the code says why.
    """
    saved = engine_saved and (log.passed or any(_SAVED in line.text for line in log.lines))
    return _judge(log, returncode, complete=saved, what=what)


def judge_run(log: TrtexecLog, returncode: int, *, what: str) -> tuple[Reason, ...]:
    """Decide whether a measurement succeeded: exit status 0, ``PASSED`` and a performance summary.

    Returns:
        ``teardown_crash`` where it crashed after all that; the samples are whole.

    Raises:
        BackendError: It failed; the code says why.
    """
    return _judge(log, returncode, complete=log.passed and log.summary is not None, what=what)


def _judge(log: TrtexecLog, returncode: int, *, complete: bool, what: str) -> tuple[Reason, ...]:
    number = signal_number(returncode)
    if complete and returncode == 0 and log.passed:
        return ()
    if complete and number is not None:
        return (Reason(code="teardown_crash", detail=f"signal {number} after the result was saved"),)
    if log.passed and returncode == 0:
        raise BackendError(
            f"{what}: trtexec passed, but wrote no result",
            code="no_samples",
            remedy="read its log: a profiler without --separateProfileRun suppresses the summary",
        )
    raise explain_failure(log.lines, returncode, what)
