"""Which version of trtexec knows which flag. Pure data, and the question.

Read from ``AllOptions::parse`` (samples/common/sampleOptions.cpp) in NVIDIA/TensorRT at every tag from 8.5.1 to 11.1.
Flags that all of them know are not listed. TensorRT 9 was released for few platforms and its public tags differ;
9.2 is its own line, and is taken here as the others of 9.
"""

from __future__ import annotations

from dataclasses import dataclass

from enginewatch_db.errors import BackendError


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Versions that know a flag.

    Attributes:
        since: First one (major, minor); ``None``: before 8.5.
        until: First one that ends with ``Unknown option``; ``None``: still known.
        idle_since: First one that accepts it and does nothing; ``None``: none.
    """

    since: tuple[int, int] | None = None
    until: tuple[int, int] | None = None
    idle_since: tuple[int, int] | None = None

    def knows(self, version: tuple[int, int]) -> bool:
        """Return whether this version accepts the flag."""
        return (self.since is None or version >= self.since) and (self.until is None or version < self.until)

    def words(self) -> str:
        """Return the versions in words."""
        parts = [f"since {_dotted(self.since)}"] if self.since else []
        parts += [f"until before {_dotted(self.until)}"] if self.until else []
        return " and ".join(parts) or "in every version"


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"


_WEAK = Span(until=(11, 0))
FLAGS: dict[str, Span] = {
    # Precision: gone with weakly typed networks.
    "--fp16": _WEAK,
    "--int8": _WEAK,
    "--best": _WEAK,
    "--calib": _WEAK,
    "--precisionConstraints": _WEAK,
    "--layerPrecisions": _WEAK,
    "--layerOutputTypes": _WEAK,
    "--fp8": Span(since=(8, 6), until=(11, 0)),
    "--bf16": Span(since=(9, 1), until=(11, 0)),
    "--int4": Span(since=(10, 1), until=(11, 0)),
    "--stronglyTyped": Span(since=(9, 1), idle_since=(11, 0)),
    # Measuring: 11.0 turned the defaults around and brought flags to turn them back.
    "--useCudaGraph": Span(idle_since=(11, 0)),
    "--useSpinWait": Span(idle_since=(11, 0)),
    "--noDataTransfers": Span(idle_since=(11, 0)),
    "--separateProfileRun": Span(idle_since=(11, 0)),
    "--noCudaGraph": Span(since=(11, 0)),
    "--noSpinWait": Span(since=(11, 0)),
    "--includeDataTransfers": Span(since=(11, 0)),
    "--infStreams": Span(since=(8, 6)),
    "--batch": Span(until=(9, 0)),
    # Building.
    "--skipInference": Span(since=(8, 6)),
    "--buildOnly": Span(until=(10, 0)),
    "--workspace": Span(until=(10, 0)),
    "--heuristic": Span(until=(10, 0)),
    "--minTiming": Span(until=(10, 0)),
    "--builderOptimizationLevel": Span(since=(8, 6)),
    "--maxAuxStreams": Span(since=(8, 6)),
    "--hardwareCompatibilityLevel": Span(since=(8, 6)),
    "--versionCompatible": Span(since=(8, 6)),
    "--excludeLeanRuntime": Span(since=(8, 6)),
    "--staticPlugins": Span(since=(8, 6)),
    "--errorOnTimingCacheMiss": Span(since=(9, 1)),
    "--maxTactics": Span(since=(10, 4)),
    "--monitorMemory": Span(since=(10, 6)),
    "--tilingOptimizationLevel": Span(since=(10, 8)),
    "--l2LimitForTiling": Span(since=(10, 8)),
    # Looking.
    "--getPlanVersionOnly": Span(since=(9, 1)),
    "--loadRefOutputs": Span(since=(11, 1)),
    "--accuracyAlgorithm": Span(since=(11, 1)),
    "--accuracyThreshold": Span(since=(11, 1)),
}

VALUES: dict[tuple[str, str], Span] = {
    ("--hardwareCompatibilityLevel", "sameComputeCapability"): Span(since=(10, 9)),
    ("--memPoolSize", "tacticSharedMem"): Span(since=(10, 0)),
}
"""Values that came later than their flag."""


RTX_ONLY = frozenset({"--runtimeCacheFile"})
"""Flags of ``tensorrt_rtx`` that no trtexec has (NVIDIA's guide "Working with Runtime Cache")."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A tool of the family that was found.

    Attributes:
        path: The executable.
        version: Its version, for example ``8.6.0``: of TensorRT, or of TensorRT-RTX where ``rtx``.
        rtx: Whether it is ``tensorrt_rtx``: strongly typed only, and numbered on its own.
        listed: Flags that its ``--help`` lists; asked where ``rtx``, whose source is not public.
    """

    path: str
    version: str
    rtx: bool = False
    listed: frozenset[str] = frozenset()

    @property
    def major(self) -> int:
        """Major version of the product."""
        return int(self.version.split(".")[0])

    @property
    def number(self) -> tuple[int, int]:
        """Major and minor version."""
        major, minor, *_ = (*self.version.split("."), "0")
        return int(major), int(minor)

    @property
    def product(self) -> str:
        """Name and version for messages."""
        return f"TensorRT{'-RTX' if self.rtx else ''} {self.version}"

    def knows(self, flag: str, value: str | None = None) -> bool:
        """Return whether this version accepts a flag, and this value of it."""
        if self.rtx:
            return flag in self.listed
        if flag in RTX_ONLY:
            return False
        spans = [FLAGS.get(flag, Span()), VALUES.get((flag, value or ""), Span())]
        return all(span.knows(self.number) for span in spans)

    def idle(self, flag: str) -> bool:
        """Return whether this version accepts a flag without effect: what it asks for is the default."""
        span = FLAGS.get(flag, Span())
        if self.rtx:
            return self.knows("--noCudaGraph")
        return span.idle_since is not None and self.number >= span.idle_since

    @property
    def strongly_typed_only(self) -> bool:
        """Whether the precision must be in the graph."""
        return self.rtx or self.major >= 11


def require(tool: Tool, flag: str, option: str, value: str | None = None) -> None:
    """Check that the version at hand can do what an option of the plan asks for.

    Raises:
        BackendError: ``unknown_flag``; names the option, the flag, the version and the versions that know it.
    """
    if tool.knows(flag, value):
        return
    shown = f"{flag}={value}" if (flag, value) in VALUES else flag
    if tool.rtx:
        words, remedy = "its --help does not list it", f"take {option} out of the plan for tensorrt_rtx"
    elif flag in RTX_ONLY:
        words, remedy = "only tensorrt_rtx has it", f"take {option} out of the plan for trtexec"
    else:
        span = VALUES.get((flag, value or "")) or FLAGS[flag]
        words = f"trtexec knows it {span.words()}"
        remedy = f"take {option} out of the plan for this version, or measure with another TensorRT"
    raise BackendError(
        f"option {option} needs {shown}, which {tool.product} does not know: {words}",
        code="unknown_flag",
        remedy=remedy,
    )
