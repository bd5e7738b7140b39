"""The text of a commented plan for what a machine has. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What the plan is written for.

    Attributes:
        gpus: Product names of the NVIDIA GPUs; empty for the CPU default.
        trtexec: Version of trtexec; ``None`` when it is absent.
        onnx_precisions: What ONNX Runtime can build here, best known first.
        llamacpp: Whether the llama.cpp server can run here.
        cores: Cores that may be used.
    """

    gpus: tuple[str, ...]
    trtexec: str | None
    onnx_precisions: tuple[str, ...]
    llamacpp: bool
    cores: int


HEAD = """\
# A plan says what is measured, how often and under which load. Every key is described in docs/plan.md.
# Check it with `enginewatch run {name} --dry-run`, then run it with `enginewatch run {name}`.
# Written for: {machine}.

name = "{plan}"
repeats = 5       # runs of each case; the run is the unit of every verdict, so 5 or more
seed = 1          # order, inputs, prompts and arrivals are reproducible
# policy = "policy.toml"   # thresholds of the gate; without it the defaults of docs/verdict.md hold

[measure]
warmup_s = 0.3
duration_s = 0.8  # p99 needs 1,000 samples: raise this for slow models

[collector]
rate_hz = 10      # telemetry beside every run, in its own process

# [schedule]      # for `enginewatch schedule {name}`
# at = ["02:00"]  # or: every_minutes = 60
# jitter_s = 300
"""

ENGINES = """
# --- Engines on the CPU through ONNX Runtime -------------------------------------------------------------
# Replace `generate` by `path = "my.onnx"` (relative to this file) to watch your own model.

[[model]]
name = "convnet"
generate = "convnet"    # a small residual convolution network with random weights

[[model]]
name = "encoder"
generate = "transformer"   # a small transformer encoder with random weights

[[workload]]
name = "convnet"
model = "convnet"
backends = ["onnxruntime"]
precisions = [{convnet}]
batches = [1]
options = {{ threads = 1 }}   # one thread: the quiet protocol, for tracking; add a workload with more for capacity

[[workload]]
name = "encoder"
model = "encoder"
backends = ["onnxruntime"]
precisions = [{encoder}]
batches = [4]
options = {{ threads = 1 }}
"""

SERVER = """
# --- An LLM server: llama.cpp in its own process, loaded through its OpenAI endpoint ----------------------
# Replace `generate` by `path = "my.gguf"`.

[[model]]
name = "tiny-llama"
generate = "random-llama"   # a small random Llama, written in the precision of each case

[[workload]]
name = "chat"
model = "tiny-llama"
backends = ["llamacpp"]
precisions = ["fp16"]
duration_s = 1.2
options = {{ threads = {threads} }}

[[workload.load]]
mode = "closed"             # each stream sends its next request when one ends
concurrency = [1, 4, 8]
isl = 64                    # prompt tokens
osl = 32                    # output tokens

[[workload]]
name = "chat-open"          # open loop: requests arrive whatever the server does
model = "tiny-llama"
backends = ["llamacpp"]
precisions = ["fp16"]
duration_s = 3.0
options = {{ threads = {threads} }}

[[workload.load]]
mode = "poisson"
rate_rps = [8]
isl = 64
osl = 32

[[workload]]
name = "chat-formats"       # the same load in the other formats
model = "tiny-llama"
backends = ["llamacpp"]
precisions = ["fp32", "q8_0"]
duration_s = 1.2
options = {{ threads = {threads} }}

[[workload.load]]
mode = "closed"
concurrency = [4]
isl = 64
osl = 32
"""

TENSORRT = """
# --- Engines on the GPU through trtexec -------------------------------------------------------------------

[[workload]]
name = "encoder-trt"
model = "encoder"
backends = ["trtexec"]
precisions = ["fp32", "fp16"]
batches = [1, 8, 32]
warmup_s = 1.0
duration_s = 4.0
"""

TENSORRT_HINT = """
# --- TensorRT ----------------------------------------------------------------------------------------------
# {why}
# Then add a workload:
#
# [[workload]]
# name = "encoder-trt"
# model = "encoder"
# backends = ["trtexec"]
# precisions = ["fp32", "fp16"]
# batches = [1, 8, 32]
"""


def plan_text(machine: Machine, *, file_name: str) -> str:
    """Return a plan whose every workload can run on ``machine``; the rest is there as a comment."""
    described = ", ".join(machine.gpus) if machine.gpus else f"the CPU default ({machine.cores} cores, no GPU)"
    name = "gpu-default" if machine.gpus else "cpu-default"
    parts = [HEAD.format(name=file_name, machine=described, plan=name)]
    parts.append(
        ENGINES.format(
            convnet=_listed(machine, ("fp32", "fp16", "bf16", "int8")),
            encoder=_listed(machine, ("fp32", "int8", "int8_dynamic")),
        )
    )
    if machine.llamacpp:
        # A core is left for the load generator and the collector, so that the client is not the bottleneck.
        parts.append(SERVER.format(threads=max(1, machine.cores - 1)))
    if machine.trtexec is not None:
        parts.append(TENSORRT)
    else:
        why = "trtexec was not found: put it on PATH or name it in $TRTEXEC."
        parts.append(TENSORRT_HINT.format(why=why if machine.gpus else f"There is no GPU here. On one that has: {why}"))
    return "".join(parts)


def _listed(machine: Machine, wanted: tuple[str, ...]) -> str:
    chosen = [precision for precision in wanted if precision in machine.onnx_precisions] or ["fp32"]
    return ", ".join(f'"{precision}"' for precision in chosen)
