"""Time the layers of a loaded engine with TensorRT's profiler."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from enginewatch_db.errors import MeasurementError
from enginewatch_harness.backends.tensorrt_layers import LayerTimes
from enginewatch_harness.backends.tensorrt_runner import Runner
from enginewatch_harness.parse.trtexec_json import Profile

_WARMUP = 5
_INFERENCES = 50


def profile_layers(runner: Runner) -> Profile:
    """Return times per layer over some inferences, each of them waited for.

    The context must have no CUDA graph: it would hide the layers.

    Raises:
        MeasurementError: ``no_samples``: the profiler heard nothing.
        BackendError: An inference failed.
    """
    for _ in range(_WARMUP):
        runner.enqueue()
    runner.cuda.synchronize(runner.stream)
    times = LayerTimes()
    profiler = _profiler(runner.module, times)
    runner.kept.append(profiler)
    runner.context.enqueue_emits_profile = False  # else enqueueing waits for the inference and reports
    runner.context.profiler = profiler
    for _ in range(_INFERENCES):
        runner.enqueue()
        runner.cuda.synchronize(runner.stream)
        runner.context.report_to_profiler()
    if not times.times_ms:
        raise MeasurementError("the profiler reported no layer", code="no_samples")
    return times.profile(_INFERENCES)


def _profiler(module: ModuleType, times: LayerTimes) -> Any:  # noqa: ANN401 - TensorRT ships no types
    class Profiler(module.IProfiler):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            module.IProfiler.__init__(self)

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            times.report(layer_name, ms)

    return Profiler()
