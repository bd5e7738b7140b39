"""The devices of a real host: are they those that the driver lists, and does a process see the one it is given?"""

from __future__ import annotations

import ctypes.util
import importlib.util
import os
import re
import shutil
import subprocess
import sys

import pytest

from enginewatch_collector.backends.nvml_devices import list_devices, visible
from enginewatch_harness.gpu_choice import environment

HAS_GPU = ctypes.util.find_library("nvidia-ml") is not None and shutil.which("nvidia-smi") is not None
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not HAS_GPU, reason="needs an NVIDIA GPU")]


def test_the_driver_lists_the_same_uuids_and_products():
    text = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True).stdout
    found = list_devices()
    assert [device.uuid for device in found] == re.findall(r"UUID: ((?:GPU|MIG)-[0-9a-f-]+)", text)
    gpus = [device for device in found if device.parent_uuid is None]
    assert [gpu.name for gpu in gpus] == re.findall(r"^GPU \d+: (.+) \(UUID", text, flags=re.MULTILINE)
    assert all(device.memory_mib and device.compute_capability and device.driver for device in found)


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="needs torch")
def test_a_process_sees_the_device_that_it_is_given_and_no_other():
    device = visible(None, list_devices())[-1]
    code = "import torch; p = torch.cuda.get_device_properties(0); print(torch.cuda.device_count(), p.name, p.uuid)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment(device.uuid)},
        capture_output=True,
        text=True,
        check=True,
    )
    count, *name, uuid = done.stdout.split()
    assert (count, " ".join(name)) == ("1", device.name)
    assert device.parent_uuid is not None or uuid in device.uuid
