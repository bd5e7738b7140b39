"""The backend ``torch_compile``: the model through ``torch.compile`` (TorchDynamo and TorchInductor)."""

from __future__ import annotations

import time
from typing import Any

from enginewatch_db.errors import BackendError
from enginewatch_db.metrics import MetricValue
from enginewatch_db.validity import Reason
from enginewatch_harness.backends.base import Context, Job
from enginewatch_harness.backends.torch_eager import Ready, TorchBackend
from enginewatch_harness.backends.torch_options import GRAPH_MODES

_FIRST_CALLS = 3
"""The first compiles, with CUDA graphs the second records and the third replays."""


class TorchCompileBackend(TorchBackend):
    """Measures a model that ``torch.compile`` has compiled for the case's shapes, in this process."""

    name = "torch_compile"

    def _compile(self, job: Job, ready: Ready, context: Context) -> None:
        torch, mode = ready.torch, ready.options.compile_mode
        if ready.model.source == "torchscript":
            raise BackendError(
                f"{job.model_path.name} is TorchScript, which torch.compile cannot see into",
                code="unsupported_operator",
                remedy="give the model as ONNX or as a torch.export file (.pt2)",
            )
        counters = _counters(torch)
        counters.clear()
        chosen = {} if mode == "default" else {"mode": mode}
        compiled = torch.compile(ready.module, dynamic=False, **chosen)
        graphed = mode in GRAPH_MODES and ready.device == "cuda"
        ready.module = _stepping(torch, compiled) if graphed else compiled
        began = time.monotonic_ns()
        for _ in range(_FIRST_CALLS):
            ready.call()
        if ready.device == "cuda":
            torch.cuda.synchronize()
        seconds = (time.monotonic_ns() - began) / 1e9
        ready.compiled = lambda: int(counters["stats"]["unique_graphs"])
        _tell(ready, counters, seconds, graphed=graphed)
        ready.effective = {"compile_mode": mode, "cuda_graph": graphed and not _skipped(counters)}


def _counters(torch: Any) -> Any:  # noqa: ANN401 - torch is given
    import importlib

    return importlib.import_module("torch._dynamo.utils").counters if torch else None


def _stepping(torch: Any, compiled: Any) -> Any:  # noqa: ANN401
    """Mark the begin of each inference: outputs of the one before may then be overwritten by the replay."""
    mark = torch.compiler.cudagraph_mark_step_begin

    def step(*tensors: Any) -> Any:  # noqa: ANN401
        mark()
        return compiled(*tensors)

    return step


def _skipped(counters: Any) -> int:  # noqa: ANN401
    return int(counters["inductor"]["cudagraph_skips"])


def _tell(ready: Ready, counters: Any, seconds: float, *, graphed: bool) -> None:  # noqa: ANN401
    breaks = {str(why): int(count) for why, count in counters["graph_break"].items()}
    hits, misses = (int(counters["inductor"][name]) for name in ("fxgraph_cache_hit", "fxgraph_cache_miss"))
    cached = hits > 0 and misses == 0
    ready.metrics += [
        MetricValue(
            metric="compile_time_s",
            value=None if cached else seconds,
            absent_reason=f"the compiled code came from the cache, in {seconds:.1f} s" if cached else None,
        ),
        MetricValue(metric="compile_graphs", value=float(counters["stats"]["unique_graphs"])),
        MetricValue(metric="compile_graph_breaks", value=float(sum(breaks.values()))),
    ]
    ready.notes += [f"graph break: {' '.join(why.split())[:200]} ({count}x)" for why, count in breaks.items()]
    if graphed and _skipped(counters):
        ready.reasons.append(
            Reason(code="cuda_graph_failed", detail=f"torch.compile left {_skipped(counters)} graphs uncaptured")
        )
