"""What was recorded, and how the demo arranges it in plans, sessions and cases. Pure."""

from __future__ import annotations

from dataclasses import dataclass

RECORDED_ON = "2026-11-20"
HOSTNAME = "recorded-h200"
ORIGIN = f"recorded on one NVIDIA H200, {RECORDED_ON}, not measured on this machine"
UNDATED = "recorded on one NVIDIA H200, day not recorded, not measured on this machine"

RESNET_PLAN = "h200-resnet50"
ENCODER_PLAN = "h200-encoder-builds"
LLAMA_PLAN = "h200-llama7b-vllm"
PLANS = (RESNET_PLAN, ENCODER_PLAN, LLAMA_PLAN)

BUILDS = {"fp16": "build-resnet50-fp16", "fp32": "build-resnet50-fp32"}
"""Precision → name of the recording of its engine's build."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineRun:
    """One run of trtexec.

    Attributes:
        name: Of its files, and of its phase in the telemetry.
        session: Which session of the plan it is put into.
        repeat: Which repeat of its case there.
        layers: Whether its layers and their times were kept.
    """

    name: str
    precision: str
    batch: int
    session: str
    repeat: int = 0
    layers: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerRun:
    """One load of ``vllm bench serve``; its name is that of its file, and of its phase in the telemetry."""

    name: str


FIRST, AGAIN = "first-look", "same-engine-again"

ENGINE_RUNS = (
    EngineRun(name="resnet50-fp16-b1", precision="fp16", batch=1, session=FIRST),
    EngineRun(name="resnet50-fp16-b8", precision="fp16", batch=8, session=FIRST),
    EngineRun(name="resnet50-fp16-b32", precision="fp16", batch=32, session=FIRST),
    EngineRun(name="resnet50-fp32-b8", precision="fp32", batch=8, session=FIRST),
    EngineRun(name="resnet50-fp32-b32", precision="fp32", batch=32, session=FIRST),
    EngineRun(name="resnet50-fp16-b8-rep0", precision="fp16", batch=8, session=FIRST, repeat=1, layers=False),
    EngineRun(name="resnet50-fp16-b8-rep1", precision="fp16", batch=8, session=FIRST, repeat=2, layers=False),
    EngineRun(name="resnet50-fp16-b8-rep2", precision="fp16", batch=8, session=AGAIN, repeat=0, layers=False),
    EngineRun(name="resnet50-fp16-b8-rep3", precision="fp16", batch=8, session=AGAIN, repeat=1, layers=False),
    EngineRun(name="resnet50-fp16-b8-rep4", precision="fp16", batch=8, session=AGAIN, repeat=2, layers=False),
)
"""In the order in which they ran. The two sessions hold the same engine: what differs between them is noise."""

SERVER_RUNS = tuple(
    ServerRun(name=f"bf16-{name}") for name in ("c1-rinf", "c16-rinf", "c64-rinf", "c256-rinf", "c256-r20")
)
"""In the order in which they ran: closed loops of 1 to 256 streams, and an open loop of 20 requests per second."""
