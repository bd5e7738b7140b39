"""The CUDA runtime through ``cuda-bindings`` on a real GPU: what the TensorRT backends need of it."""

from __future__ import annotations

import numpy as np
import pytest

from enginewatch_db.errors import BackendError
from enginewatch_harness.backends.tensorrt_cuda import Cuda, open_cuda

pytestmark = pytest.mark.gpu


@pytest.fixture
def cuda() -> Cuda:
    try:
        found = open_cuda()
        found.device_count()
    except BackendError as error:
        pytest.skip(f"no CUDA: {error}")
    found.use(0, spin=True)
    return found


def test_copies_go_there_and_back_in_order_and_are_timed(cuda):
    stream, start, end = cuda.stream(), cuda.event(spin=True), cuda.event(spin=False)
    there, back = cuda.host_array(1 << 24), cuda.host_array(1 << 24)
    there[:] = np.arange(there.size, dtype=np.uint32).astype(np.uint8)
    address = cuda.allocate(there.nbytes)
    cuda.record(start, stream)
    cuda.upload(address, there, stream)
    cuda.download(back, address, stream)
    cuda.record(end, stream)
    cuda.wait(end)
    np.testing.assert_array_equal(there, back)
    assert 10_000 < cuda.elapsed_ns(start, end) < 1_000_000_000
    cuda.free(address)
    cuda.free_host(there)
    cuda.free_host(back)
    cuda.end_stream(stream)


def test_captured_work_runs_when_it_is_launched_and_not_before(cuda):
    stream = cuda.stream()
    there, back = cuda.host_array(4096), cuda.host_array(4096)
    address = cuda.allocate(4096)
    there[:], back[:] = 7, 0
    cuda.begin_capture(stream)
    cuda.upload(address, there, stream)
    cuda.download(back, address, stream)
    graph = cuda.end_capture(stream)
    assert not back.any()
    cuda.launch(graph, stream)
    cuda.synchronize(stream)
    assert set(back) == {7}


def test_the_device_says_its_name_and_what_it_cannot_do(cuda):
    device = cuda.device(0)
    assert "NVIDIA" in device.name
    assert float(device.compute_capability) >= 5.0
    assert device.memory_mib > 1000
    with pytest.raises(BackendError) as error:
        cuda.allocate(1 << 50)
    assert error.value.code == "out_of_memory"
    cuda.forget_error()
