"""One inference as the measuring protocol wants it: with or without CUDA graph, with or without transfers."""

from __future__ import annotations

from typing import Any

from enginewatch_db.errors import BackendError
from enginewatch_db.validity import Reason
from enginewatch_harness.backends.tensorrt_loop import Elapsed
from enginewatch_harness.backends.tensorrt_module import is_rtx
from enginewatch_harness.backends.tensorrt_runner import Runner


class Query:
    """Runs one inference at a time and tells its times.

    Args:
        runner: The loaded engine, its inputs set.
        spin: Wait by asking again and again; else the thread sleeps.
        transfers: Copy inputs in and outputs out each time.
    """

    def __init__(self, runner: Runner, *, spin: bool, transfers: bool) -> None:
        self._runner, self._cuda, self._transfers = runner, runner.cuda, transfers
        self._first, self._start, self._end, self._last = (self._cuda.event(spin=spin) for _ in range(4))
        self._graph: Any = None
        self.graphed: bool | str = False

    def use_graph(self) -> Reason | None:
        """Replay a CUDA graph from now on; return why not, where that fails.

        At least one inference must have run: the first one allocates, which cannot be captured. TensorRT-RTX captures
        by itself, since its kernels change while it runs (``WHOLE_GRAPH_CAPTURE``), and does not tell whether it did.
        """
        if is_rtx(self._runner.module):
            self.graphed = "whole_graph_capture"
            return None
        try:
            self._graph = self._capture()
        except BackendError as error:
            self._cuda.forget_error()
            return Reason(code="cuda_graph_failed", detail=error.message)
        self.graphed = True
        return None

    def _capture(self) -> Any:  # noqa: ANN401 - the bindings ship no types
        stream = self._runner.stream
        self._cuda.begin_capture(stream)
        try:
            self._runner.enqueue()
        except BackendError:
            self._end_failed_capture()
            raise
        return self._cuda.end_capture(stream)

    def _end_failed_capture(self) -> None:
        try:
            self._cuda.end_capture(self._runner.stream)
        except BackendError:  # the capture is broken, which is known already
            return

    def _launch(self) -> None:
        if self._graph is None:
            self._runner.enqueue()
        else:
            self._cuda.launch(self._graph, self._runner.stream)

    def infer(self) -> None:
        """Run one inference and wait for it."""
        cuda, stream = self._cuda, self._runner.stream
        if self._transfers:
            cuda.record(self._first, stream)
            self._runner.upload()
        cuda.record(self._start, stream)
        self._launch()
        cuda.record(self._end, stream)
        if self._transfers:
            self._runner.download()
            cuda.record(self._last, stream)
            cuda.wait(self._last)
        else:
            cuda.wait(self._end)

    def elapsed(self) -> Elapsed:
        """Return the times of the last inference on the GPU."""
        gpu_ns = self._cuda.elapsed_ns(self._start, self._end)
        if not self._transfers:
            return gpu_ns, None, None
        return (
            gpu_ns,
            self._cuda.elapsed_ns(self._first, self._start),
            self._cuda.elapsed_ns(self._end, self._last),
        )

    def burst(self, size: int) -> int:
        """Run so many inferences back to back, and return the GPU time of all of them in ns."""
        cuda, stream = self._cuda, self._runner.stream
        cuda.record(self._start, stream)
        for _ in range(size):
            self._launch()
        cuda.record(self._end, stream)
        cuda.wait(self._end)
        return cuda.elapsed_ns(self._start, self._end)
