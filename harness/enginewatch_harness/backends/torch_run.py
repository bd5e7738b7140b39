"""Run a torch module: its device and number format, one inference with CUDA events, outputs as numpy arrays."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from enginewatch_db.errors import NotAvailableError
from enginewatch_harness.backends.torch_options import DTYPES, TorchOptions


def choose_device(torch: Any, wanted: str) -> str:  # noqa: ANN401 - torch is given
    """Return ``cpu`` or ``cuda``.

    Raises:
        NotAvailableError: ``cuda`` is asked for and torch cannot use it.
    """
    usable = torch.cuda.is_available()
    if wanted == "cuda" and not usable:
        built = torch.version.cuda
        why = (
            f"torch {torch.__version__} was built without CUDA" if built is None else f"no GPU works with CUDA {built}"
        )
        raise NotAvailableError(
            f"torch_device = 'cuda': {why}", remedy="install a CUDA build of torch and a driver, or set 'cpu'"
        )
    return "cuda" if usable and wanted != "cpu" else "cpu"


def settle_arithmetic(torch: Any, precision: str, threads: int) -> None:  # noqa: ANN401
    """Set what is global in torch: threads, and whether fp32 products may use TF32 (only for ``tf32``)."""
    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    # On by default for convolutions: an fp32 baseline that silently runs in TF32 would make every speed-up too small.
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    torch.manual_seed(0)


@contextmanager
def inference(torch: Any, precision: str, device: str, options: TorchOptions) -> Iterator[None]:  # noqa: ANN401
    """Hold inference mode, and autocast where the options ask for it."""
    cast = torch.autocast(device, dtype=getattr(torch, DTYPES[precision])) if options.autocast else nullcontext()
    with torch.inference_mode(), cast:
        yield


def to_device(
    torch: Any,  # noqa: ANN401
    inputs: dict[str, NDArray[Any]],
    device: str,
    float_type: Any,  # noqa: ANN401 - torch.dtype
) -> list[Any]:
    """Return the inputs as tensors on the device; fp32 values in ``float_type``."""
    tensors = [torch.from_numpy(np.array(values, copy=True)) for values in inputs.values()]
    return [
        tensor.to(device=device, dtype=float_type if tensor.dtype == torch.float32 else tensor.dtype)
        for tensor in tensors
    ]


def to_arrays(torch: Any, result: Any, names: tuple[str, ...]) -> dict[str, NDArray[Any]]:  # noqa: ANN401
    """Return a module's result by name; nested results are flattened, bf16 comes as fp32."""
    flat = list(_tensors(torch, result))
    found = names if len(names) == len(flat) else tuple(f"output_{index}" for index in range(len(flat)))
    arrays = {}
    for name, tensor in zip(found, flat, strict=True):
        plain = tensor.detach().to("cpu")
        arrays[name] = (plain.float() if plain.dtype == torch.bfloat16 else plain).numpy()
    return arrays


def _tensors(torch: Any, result: Any) -> Iterator[Any]:  # noqa: ANN401
    if isinstance(result, torch.Tensor):
        yield result
    elif isinstance(result, dict):
        for item in result.values():
            yield from _tensors(torch, item)
    elif isinstance(result, list | tuple):
        for item in result:
            yield from _tensors(torch, item)


@dataclass(slots=True, kw_only=True)
class Inference:
    """One inference that ends when its results are there; on a GPU with the time between two CUDA events.

    Attributes:
        call: Starts the work.
        result: What the last call returned.
        events: Start and end event, used again and again; ``None`` on the CPU.
        gpu_ns: Time between the events of each inference that ``keep`` was called after.
    """

    call: Callable[[], Any]
    result: Any = None
    events: tuple[Any, Any] | None = None
    gpu_ns: array[int] = field(default_factory=lambda: array("q"))

    def run(self) -> None:
        """Do one inference."""
        if self.events is None:
            self.result = self.call()
            return
        begin, end = self.events
        begin.record()
        self.result = self.call()
        end.record()
        end.synchronize()

    def keep(self) -> None:
        """Read the events of the last inference: outside its time, since reading costs microseconds."""
        if self.events is not None:
            self.gpu_ns.append(round(self.events[0].elapsed_time(self.events[1]) * 1e6))
