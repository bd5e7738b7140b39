"""Launch profiles: how each server is started, seen to be ready, and asked about itself. Pure.

Checked against the sources or documentation of the versions that ``Profile.checked`` names; docs/targets.md says which
of them were really run. Every server listens on the loopback interface only.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field

from enginewatch_db.errors import PlanError

HOST = "127.0.0.1"
CONTEXT_STEP = 256
"""llama.cpp pads each slot's context to this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """What a server is started with.

    Attributes:
        model: Path of the model, or its name for a server that fetches it.
        served: What the model shall be called in requests.
        port: Loopback port.
        precision: As the plan asks; ``best`` leaves it to the checkpoint.
        tensor_parallel: GPUs that share each layer.
        concurrency: Requests in progress at most.
        tokens: Tokens of a request, prompt and answer.
        args: Further arguments.
        image: Container image.
        name: Name of the container.
        config: Path of the file with ``Profile.config``; ``None``: the plan's arguments name another.
    """

    model: str
    served: str
    port: int
    precision: str = "best"
    tensor_parallel: int = 1
    concurrency: int = 1
    tokens: int = 0
    args: tuple[str, ...] = ()
    image: str | None = None
    name: str = "enginewatch"
    config: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """How one server is launched.

    Attributes:
        family: A name of ``identify.FAMILIES``.
        command: Builds the command line, without ``Launch.args``.
        ready: Path that answers 200 when requests can be sent.
        metrics: Paths that may hold its metrics, tried in this order.
        precisions: Requested precision → arguments that ask for it; others are the checkpoint's.
        version: Command that prints its version; empty where the running server is asked.
        container: Whether it runs in a container, whose image the plan names.
        names_model: Whether it takes the name that requests use; else it makes one up itself.
        checked: Version of the project that this follows.
        config: What its configuration file must say, so that it shows its metrics.
        config_flags: Arguments that name such a file, the one of every version first.
    """

    family: str
    command: Callable[[Launch], list[str]]
    ready: str
    checked: str
    metrics: tuple[str, ...] = ("/metrics",)
    precisions: dict[str, tuple[str, ...]] = field(default_factory=dict)
    version: tuple[str, ...] = ()
    container: bool = False
    names_model: bool = True
    config: dict[str, bool] = field(default_factory=dict)
    config_flags: tuple[str, ...] = ()


def _dtypes(flag: str, **names: str) -> dict[str, tuple[str, ...]]:
    return {precision: (flag, name) for precision, name in names.items()}


def _vllm(launch: Launch) -> list[str]:
    return [
        *("vllm", "serve", launch.model, "--host", HOST, "--port", str(launch.port)),
        *("--served-model-name", launch.served, "--tensor-parallel-size", str(launch.tensor_parallel)),
    ]


def _sglang(launch: Launch) -> list[str]:
    return [
        *(sys.executable, "-m", "sglang.launch_server", "--model-path", launch.model),
        *("--host", HOST, "--port", str(launch.port), "--served-model-name", launch.served),
        *("--tp-size", str(launch.tensor_parallel), "--enable-metrics"),
    ]


def _trtllm(launch: Launch) -> list[str]:
    return [
        *("trtllm-serve", launch.model, "--host", HOST, "--port", str(launch.port)),
        *("--tp_size", str(launch.tensor_parallel)),
    ]


def _lmdeploy(launch: Launch) -> list[str]:
    return [
        *("lmdeploy", "serve", "api_server", launch.model, "--server-name", HOST),
        *("--server-port", str(launch.port), "--model-name", launch.served, "--tp", str(launch.tensor_parallel)),
    ]


def _mlc(launch: Launch) -> list[str]:
    command = ["mlc_llm", "serve", launch.model, "--host", HOST, "--port", str(launch.port)]
    shards = launch.tensor_parallel
    return [*command, "--overrides", f"tensor_parallel_shards={shards}"] if shards > 1 else command


def _transformers(launch: Launch) -> list[str]:
    return ["transformers", "serve", launch.model, "--host", HOST, "--port", str(launch.port)]


def _llama_server(launch: Launch) -> list[str]:
    each = -(-(launch.tokens + 32) // CONTEXT_STEP) * CONTEXT_STEP
    return [
        *("llama-server", "--model", launch.model, "--host", HOST, "--port", str(launch.port)),
        *("--alias", launch.served, "--parallel", str(launch.concurrency)),
        *("--ctx-size", str(each * launch.concurrency), "--metrics"),
    ]


def _docker(launch: Launch, inside: int) -> list[str]:
    gpus = "all" if launch.tensor_parallel == 1 else f'"device={",".join(map(str, range(launch.tensor_parallel)))}"'
    return [
        *("docker", "run", "--rm", "--name", launch.name, "--gpus", gpus, "--shm-size", "16g"),
        *("--publish", f"{HOST}:{launch.port}:{inside}"),
    ]


def _nim(launch: Launch) -> list[str]:
    # A variable without a value is handed on from the environment: the key stays out of every command line.
    return [
        *_docker(launch, 8000),
        *("--env", "NGC_API_KEY", "--env", f"NIM_SERVED_MODEL_NAME={launch.served}", str(launch.image)),
    ]


def _triton(launch: Launch) -> list[str]:
    return [
        *_docker(launch, 9000),
        *("--env", "HF_TOKEN", "--volume", f"{launch.model}:/models:ro", str(launch.image)),
        *("python3", "/opt/tritonserver/python/openai/openai_frontend/main.py", "--host", "0.0.0.0"),  # noqa: S104
        *("--openai-port", "9000", "--model-repository", "/models"),
    ]


PROFILES: dict[str, Profile] = {
    "vllm": Profile(
        family="vllm",
        command=_vllm,
        ready="/health",
        precisions={
            **_dtypes("--dtype", fp32="float32", fp16="float16", bf16="bfloat16"),
            "fp8": ("--quantization", "fp8"),
        },
        checked="vLLM 0.20.0",
    ),
    "sglang": Profile(
        family="sglang",
        command=_sglang,
        ready="/health",
        precisions={
            **_dtypes("--dtype", fp32="float32", fp16="float16", bf16="bfloat16"),
            "fp8": ("--quantization", "fp8"),
        },
        checked="SGLang 0.5",
    ),
    "trtllm": Profile(
        family="trtllm",
        command=_trtllm,
        ready="/health",
        # The Prometheus text comes first: reading the other one takes the statistics away from everyone else.
        metrics=("/prometheus/metrics", "/metrics"),
        names_model=False,
        # Not return_perf_metrics: with it, newer servers take the iterations themselves, and /metrics is empty.
        config={"enable_iter_perf_stats": True},
        config_flags=("--extra_llm_api_options", "--config"),
        checked="TensorRT-LLM 1.2",
    ),
    "lmdeploy": Profile(
        family="lmdeploy",
        command=_lmdeploy,
        ready="/health",
        precisions=_dtypes("--dtype", fp16="float16", bf16="bfloat16"),
        version=("lmdeploy", "--version"),
        checked="LMDeploy 0.11",
    ),
    "mlc": Profile(
        family="mlc",
        command=_mlc,
        ready="/v1/models",
        names_model=False,
        checked="MLC-LLM main",
    ),
    "nim": Profile(
        family="nim",
        command=_nim,
        ready="/v1/health/ready",
        metrics=("/v1/metrics", "/metrics"),
        container=True,
        checked="NIM for LLMs 1.x and 2.0",
    ),
    "triton": Profile(
        family="triton",
        command=_triton,
        ready="/health/ready",
        container=True,
        names_model=False,
        checked="Triton 25.x",
    ),
    "transformers": Profile(
        family="transformers",
        command=_transformers,
        ready="/health",
        precisions=_dtypes("--dtype", fp32="float32", fp16="float16", bf16="bfloat16"),
        version=("transformers", "version"),
        names_model=False,
        checked="Transformers 5.23.0",
    ),
    "llamacpp": Profile(
        family="llamacpp",
        command=_llama_server,
        ready="/health",
        checked="llama.cpp b11549",
    ),
}
"""Name in a plan → profile."""


def command_line(name: str, launch: Launch) -> list[str]:
    """Return the whole command line of a profile, with the plan's own arguments last: they win.

    Raises:
        PlanError: There is no such profile.
    """
    if name not in PROFILES:
        raise PlanError(f"there is no profile {name!r}", remedy=f"known: {', '.join(PROFILES)}")
    profile = PROFILES[name]
    file = [profile.config_flags[0], launch.config] if profile.config_flags and launch.config is not None else []
    return [*profile.command(launch), *file, *profile.precisions.get(launch.precision, ()), *launch.args]


def wants_config(name: str | None, args: tuple[str, ...]) -> bool:
    """Return whether a server is to get a configuration file of ours: the plan's own goes before it."""
    flags = () if name is None else PROFILES[name].config_flags
    own = any(item.partition("=")[0] in flags for item in args)
    # TensorRT engines always tell their iterations, and refuse the key.
    engine = any(item.removeprefix("--backend=") in ("trt", "tensorrt") for item in args)
    return bool(flags) and not own and not engine


def metrics_paths(family: str) -> tuple[str, ...]:
    """Return where a server of this family may have its metrics, in the order to try."""
    return next((item.metrics for item in PROFILES.values() if item.family == family), ("/metrics",))


def own_command(parts: tuple[str, ...], launch: Launch) -> list[str]:
    """Return a plan's own command with its placeholders filled: ``{port}``, ``{model}``, ``{served}``, ``{name}``."""
    values = {"port": str(launch.port), "model": launch.model, "served": launch.served, "name": launch.name}
    filled = []
    for part in parts:
        for key, value in values.items():
            part = part.replace(f"{{{key}}}", value)
        filled.append(part)
    return filled
