"""Options of the ``trtllm`` backend, as a plan spells them. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from enginewatch_db.errors import PlanError
from enginewatch_db.model import Json
from enginewatch_harness.backends import option_values as read
from enginewatch_harness.parse.trtllm_quant import KV_DTYPES

COMMANDS = ("throughput", "latency")
ENGINES = ("pytorch", "tensorrt", "_autodeploy")
POLICIES = ("guaranteed_no_evict", "max_utilization")
FEWEST_REQUESTS = 200
REQUESTS_PER_STREAM = 20
_MOST = 1 << 24
_OF_THROUGHPUT = ("max_batch_size", "max_num_tokens", "chunked_context", "scheduler_policy", "eos_id")
"""``trtllm-bench latency`` has none of them: it sets a batch of 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrtllmOptions:
    """Checked options.

    Attributes:
        command: ``throughput``, or ``latency`` (batch 1, one request at a time).
        engine: Backend of TensorRT-LLM: ``pytorch`` (its default since 1.0), ``_autodeploy``, or ``tensorrt``, which
            builds an engine with ``trtllm-build`` first.
        hf_model: Name or folder of the Hugging Face model with the tokenizer; ``None``: the plan's model itself.
        num_requests: Requests to measure; ``None``: 20 for each stream, and at least 200.
        warmup_requests: Requests before them; ``None``: one for each stream, and at least 2.
        streaming: Whether tokens are streamed: without, nothing knows TTFT and TPOT.
        tp: Tensor parallelism.
        pp: Pipeline parallelism.
        ep: Expert parallelism; ``None``: the tool's choice.
        kv_cache_free_gpu_mem_fraction: Share of the memory left by the model that the KV cache takes.
        kv_cache_dtype: ``fp8``, ``nvfp4`` or ``auto`` (the checkpoint's); ``None``: the tool's choice.
        max_batch_size: Most requests in a batch; ``None``: the tool's choice.
        max_num_tokens: Most tokens in a batch; ``None``: the tool's choice.
        max_seq_len: Most tokens of a request; ``None``: what the requests need.
        chunked_context: Whether prompts are cut into chunks; ``None``: the tool's choice, which changed in 1.x.
        scheduler_policy: ``guaranteed_no_evict`` or ``max_utilization``.
        eos_id: Token that ends an answer; -1: none, so that every answer has its full length.
        iteration_log: Whether each iteration of the scheduler is recorded.
        llm_args: Further arguments of the LLM API, for its configuration file.
        bench_args: Further arguments of ``trtllm-bench``'s command; last, so they win.
        build_args: Further arguments of ``trtllm-build``.
        max_input_len: Longest prompt of an engine; ``None``: the tool's choice.
        gemm_plugin: ``auto`` or a type for ``trtllm-build``; ``None``: the tool's choice.
        build_workers: Engines built at once.
        trtllm_bench: Path of the tool; ``None``: TRTLLM_BENCH, else looked up.
        trtllm_build: The same for ``trtllm-build`` (TRTLLM_BUILD).
        build_timeout_s: A build that takes longer is stopped.
        run_timeout_s: A benchmark that takes longer is stopped; loading the model is part of it.
    """

    command: str = "throughput"
    engine: str = "pytorch"
    hf_model: str | None = None
    num_requests: int | None = None
    warmup_requests: int | None = None
    streaming: bool = True
    tp: int = 1
    pp: int = 1
    ep: int | None = None
    kv_cache_free_gpu_mem_fraction: float = 0.9
    kv_cache_dtype: str | None = None
    max_batch_size: int | None = None
    max_num_tokens: int | None = None
    max_seq_len: int | None = None
    chunked_context: bool | None = None
    scheduler_policy: str = "guaranteed_no_evict"
    eos_id: int = -1
    iteration_log: bool = True
    llm_args: Json = field(default_factory=dict)
    bench_args: tuple[str, ...] = ()
    build_args: tuple[str, ...] = ()
    max_input_len: int | None = None
    gemm_plugin: str | None = None
    build_workers: int = 1
    trtllm_bench: str | None = None
    trtllm_build: str | None = None
    build_timeout_s: float = 7200.0
    run_timeout_s: float = 7200.0

    @property
    def builds(self) -> bool:
        """Whether an engine is needed."""
        return self.engine == "tensorrt"

    @property
    def streams(self) -> bool:
        """Whether tokens are streamed; the latency command always does."""
        return self.streaming or self.command == "latency"

    def requests(self, concurrency: int, wanted: int | None) -> int:
        """Return how many requests to measure.

        Args:
            concurrency: Streams of the load.
            wanted: What the load itself asks for; ``None``: nothing.
        """
        return self.num_requests or wanted or max(FEWEST_REQUESTS, REQUESTS_PER_STREAM * concurrency)

    def warmup(self, concurrency: int) -> int:
        """Return how many requests to send before."""
        return max(2, concurrency) if self.warmup_requests is None else self.warmup_requests


def parse_options(options: Json) -> TrtllmOptions:
    """Check the options of a plan.

    Raises:
        PlanError: An unknown option (names the nearest known one), a value of the wrong type or range, or an option
            that the command does not have.
    """
    known = [item.name for item in fields(TrtllmOptions)]
    for key in options:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.0)[0]
            raise PlanError(f"unknown trtllm option {key!r}", remedy=f"did you mean {near!r}?")
    default = TrtllmOptions()
    found = TrtllmOptions(
        command=read.choice(options, "command", default.command, COMMANDS),
        engine=read.choice(options, "engine", default.engine, ENGINES),
        hf_model=read.optional_text(options, "hf_model"),
        num_requests=read.optional_integer(options, "num_requests", low=1, high=_MOST),
        warmup_requests=read.optional_integer(options, "warmup_requests", low=0, high=_MOST),
        streaming=read.flag(options, "streaming", default.streaming),
        tp=read.integer(options, "tp", default.tp, low=1),
        pp=read.integer(options, "pp", default.pp, low=1),
        ep=read.optional_integer(options, "ep", low=1, high=_MOST),
        kv_cache_free_gpu_mem_fraction=_share(options, default.kv_cache_free_gpu_mem_fraction),
        kv_cache_dtype=read.choice(options, "kv_cache_dtype", "", KV_DTYPES) if "kv_cache_dtype" in options else None,
        max_batch_size=read.optional_integer(options, "max_batch_size", low=1, high=_MOST),
        max_num_tokens=read.optional_integer(options, "max_num_tokens", low=1, high=_MOST),
        max_seq_len=read.optional_integer(options, "max_seq_len", low=1, high=_MOST),
        chunked_context=read.flag(options, "chunked_context", False) if "chunked_context" in options else None,
        scheduler_policy=read.choice(options, "scheduler_policy", default.scheduler_policy, POLICIES),
        eos_id=read.integer(options, "eos_id", default.eos_id, low=-1),
        iteration_log=read.flag(options, "iteration_log", default.iteration_log),
        llm_args=_table(options, "llm_args"),
        bench_args=read.names(options, "bench_args"),
        build_args=read.names(options, "build_args"),
        max_input_len=read.optional_integer(options, "max_input_len", low=1, high=_MOST),
        gemm_plugin=read.optional_text(options, "gemm_plugin"),
        build_workers=read.integer(options, "build_workers", default.build_workers, low=1),
        trtllm_bench=read.optional_text(options, "trtllm_bench"),
        trtllm_build=read.optional_text(options, "trtllm_build"),
        build_timeout_s=read.positive(options, "build_timeout_s", default.build_timeout_s),
        run_timeout_s=read.positive(options, "run_timeout_s", default.run_timeout_s),
    )
    _check(found, options)
    return found


def _check(found: TrtllmOptions, options: Json) -> None:
    misplaced = [key for key in _OF_THROUGHPUT if key in options] if found.command == "latency" else []
    if misplaced:
        raise PlanError(
            f"option {misplaced[0]} belongs to trtllm-bench throughput, the plan asks for latency",
            remedy="remove it: the latency command runs a batch of 1",
        )
    if found.builds and found.kv_cache_dtype not in (None, "auto"):
        raise PlanError(
            f"kv_cache_dtype = {found.kv_cache_dtype!r} cannot be chosen for an engine: the checkpoint has it",
            remedy='convert the checkpoint with that KV cache, or use engine = "pytorch"',
        )
    # With max_seq_len for an engine, trtllm-bench ends in an assertion; trtllm-build takes it instead.


def _share(options: Json, default: float) -> float:
    value = read.positive(options, "kv_cache_free_gpu_mem_fraction", default)
    if not 0 < value <= 1:
        raise PlanError(
            f"option kv_cache_free_gpu_mem_fraction = {value!r} must be above 0 and at most 1",
            remedy="correct options in the plan",
        )
    return value


def _table(options: Json, key: str) -> Json:
    value = options.get(key, {})
    if not isinstance(value, Mapping):
        raise PlanError(f"option {key} = {value!r} must be a table", remedy="correct options in the plan")
    return dict(value)
