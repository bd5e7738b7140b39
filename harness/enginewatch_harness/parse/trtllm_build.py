"""The log of ``trtllm-build``: times, memory, warnings. Pure.

Three programs write into it: ``[TRT-LLM] [I]`` (Python), ``[TRT] [I]`` (TensorRT) and ``[TensorRT-LLM][INFO]`` (its C++
runtime). ``hh:mm:ss`` times are whole seconds and start again at 24 h; what it calls peak memory is the resident memory
when the build ends (``tensorrt_llm/builder.py``: ``rss / 1024 / 1024``), so its MB are MiB. A line that was cut counts
for nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from enginewatch_db.model import Json

_LINE = re.compile(
    r"^\s*(?:\[[\d/]{8,10}-[\d:]{8}\]\s*)?\[(?P<who>TRT-LLM|TRT|TensorRT-LLM)\]\s*"
    r"(?:\[(?P<level>[IWEVF]|INFO|WARNING|ERROR|DEBUG|TRACE|VERBOSE|FATAL)\]\s*)?(?:\[RANK \d+\]\s*)?(?P<text>.*?)\s*$"
)
_GENERATED = re.compile(r"^Engine generation completed in (\d+(?:\.\d+)?) seconds\.?$")
_NETWORK = re.compile(r"^Total time of building (?!all engines).+: (\d\d):(\d\d):(\d\d)$")
_SERIALISED = re.compile(r"^Engine serialized\. Total time: (\d\d):(\d\d):(\d\d)$")
_ALL = re.compile(r"^Total time of building all engines: (\d\d):(\d\d):(\d\d)$")
_MEMORY = re.compile(r"^Build phase peak memory: (\d+(?:\.\d+)?) MB(?:, children: (\d+(?:\.\d+)?) MB)?$")
_WEIGHTS = re.compile(r"^Total Weights Memory: (\d+) bytes$")
_VERSION = re.compile(r"^TensorRT[- ]LLM version: (\S+)$")
_CAPABILITY = re.compile(r"^Compute capability: \((\d+), (\d+)\)$")
_MOST = 1e12


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildLog:
    """What a build says. Tuples have one value for each rank, in the order of the log.

    Attributes:
        version: TensorRT-LLM's own.
        compute_capability: ``9.0``.
        generate_s: Time in TensorRT's builder.
        network_s: Time to build each network; whole seconds.
        serialise_s: Time to write each engine; whole seconds.
        total_s: Time of all; whole seconds; ``None``: the build did not come to its end.
        host_mem_mib: Resident memory of the build and its children when it ended.
        weights_bytes: Weights of each engine.
        warnings: Lines of warnings.
        errors: Texts of errors.
    """

    version: str | None = None
    compute_capability: str | None = None
    generate_s: tuple[float, ...] = ()
    network_s: tuple[int, ...] = ()
    serialise_s: tuple[int, ...] = ()
    total_s: int | None = None
    host_mem_mib: tuple[float, ...] = ()
    weights_bytes: tuple[int, ...] = ()
    warnings: int = 0
    errors: tuple[str, ...] = ()

    @property
    def peak_host_mem_mib(self) -> float | None:
        """The largest of any rank's; ``None`` where the log does not tell."""
        return max(self.host_mem_mib, default=None)

    def details(self) -> Json:
        """Return what a reader of an engine's record may want; nothing that the log does not tell."""
        found: Json = {
            "generate_s": list(self.generate_s),
            "network_s": list(self.network_s),
            "serialise_s": list(self.serialise_s),
            "total_s": self.total_s,
            "weights_bytes": list(self.weights_bytes),
            "warnings": self.warnings,
        }
        return {key: value for key, value in found.items() if value not in (None, [])}


def messages(log: str) -> list[tuple[str | None, str]]:
    """Return level (``I``, ``W``, ``E``, ...; ``None``: none) and text of each line of the three programs."""
    found = []
    for line in log.splitlines():
        match = _LINE.match(line)
        if match is not None:
            level = match["level"]
            found.append((level[0] if level else None, match["text"]))
    return found


def parse_build(log: str) -> BuildLog:
    """Parse the log of ``trtllm-build``, or of ``trtllm-bench build``."""
    told = messages(log)
    texts = [text for _, text in told]
    memory = [float(match[1]) + float(match[2] or 0) for match in _matches(_MEMORY, texts)]
    capability = next(iter(_matches(_CAPABILITY, texts)), None)
    version = next(iter(_matches(_VERSION, texts)), None)
    totals = [_seconds(match) for match in _matches(_ALL, texts)]
    return BuildLog(
        version=None if version is None else version[1],
        compute_capability=None if capability is None else f"{capability[1]}.{capability[2]}",
        generate_s=tuple(value for match in _matches(_GENERATED, texts) if (value := float(match[1])) < _MOST),
        network_s=tuple(_seconds(match) for match in _matches(_NETWORK, texts)),
        serialise_s=tuple(_seconds(match) for match in _matches(_SERIALISED, texts)),
        total_s=totals[-1] if totals else None,
        host_mem_mib=tuple(value for value in memory if value < _MOST),
        weights_bytes=tuple(value for match in _matches(_WEIGHTS, texts) if (value := int(match[1][:16])) < _MOST),
        warnings=sum(level == "W" for level, _ in told),
        errors=tuple(text for level, text in told if level in ("E", "F")),
    )


def _matches(pattern: re.Pattern[str], texts: list[str]) -> list[re.Match[str]]:
    return [match for text in texts if (match := pattern.match(text)) is not None]


def _seconds(match: re.Match[str]) -> int:
    hours, minutes, seconds = (int(match[group]) for group in (1, 2, 3))
    return hours * 3600 + minutes * 60 + seconds
