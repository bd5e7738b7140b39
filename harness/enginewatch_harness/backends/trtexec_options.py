"""Options of the trtexec backend, as a plan spells them. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from enginewatch_db.model import Json
from enginewatch_harness.backends import option_values as read

PROTOCOLS = ("quiet", "classic")
"""``quiet``: CUDA graph, spin-wait, no transfers (0.13 % run-to-run on an H200). ``classic``: none of them (5 %)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrtexecOptions:
    """Checked options.

    Attributes:
        trtexec: Path of the tool; ``None``: looked up.
        protocol: Which set of measuring options.
        optimization_level: Builder optimisation level, 0 to 5; ``None``: the tool's default.
        workspace_mib: Limit of the builder's workspace; ``None``: the device's memory.
        timing_cache: File of tactic timings, read and written by builds; ``None``: none, so builds vary.
        device: CUDA device index.
        max_batch: Largest batch of the optimisation profile; ``None``: exactly the case's shapes.
        streams: Inferences in flight at once; above 1 latencies include waiting.
        build_timeout_s: A build that takes longer is stopped.
        profile: Time layers in a process of its own after measuring.
        accuracy: Compare the outputs with the fp32 reference's after measuring.
    """

    trtexec: str | None = None
    protocol: str = "quiet"
    optimization_level: int | None = None
    workspace_mib: int | None = None
    timing_cache: str | None = None
    device: int = 0
    max_batch: int | None = None
    streams: int = 1
    build_timeout_s: float = 3600.0
    profile: bool = True
    accuracy: bool = True


def parse_options(options: Json) -> TrtexecOptions:
    """Check the options of a plan.

    Raises:
        PlanError: An unknown option (names the nearest known one), or a value of the wrong type or range.
    """
    read.refuse_unknown(options, "trtexec")
    default = TrtexecOptions()
    return TrtexecOptions(
        trtexec=read.optional_text(options, "trtexec"),
        protocol=read.choice(options, "protocol", default.protocol, PROTOCOLS),
        optimization_level=read.optional_integer(options, "optimization_level", low=0, high=5),
        workspace_mib=read.optional_integer(options, "workspace_mib", low=1, high=1 << 20),
        timing_cache=read.optional_text(options, "timing_cache"),
        device=read.integer(options, "device", default.device, low=0),
        max_batch=read.optional_integer(options, "max_batch", low=1, high=1 << 16),
        streams=read.integer(options, "streams", default.streams, low=1),
        build_timeout_s=read.positive(options, "build_timeout_s", default.build_timeout_s),
        profile=read.flag(options, "profile", default.profile),
        accuracy=read.flag(options, "accuracy", default.accuracy),
    )
