"""Which GPUs and slices there are: the real nvidia-ml-py on a fake library."""

import os

import pytest

from enginewatch_collector.backends.nvml_devices import GpuDevice, list_devices, visible
from enginewatch_collector.backends.registry import BackendOptions
from enginewatch_collector.config import CollectorConfig
from enginewatch_collector.quality import QualityLog
from enginewatch_db.errors import NotAvailableError

GPU0, GPU1 = (f"GPU-0000000{i}-0000-0000-0000-000000000000" for i in (0, 1))
MIG0, MIG1 = (f"MIG-5111ce0{i}-0000-5000-8000-000000000000" for i in (0, 1))


def test_gpus_are_listed_with_their_facts(fake_nvml):
    fake_nvml.configure("gpus=2;mixed=1")
    first, second = list_devices()
    assert first == GpuDevice(
        uuid=GPU0, name="Fake H200", index=0, memory_mib=143_771, compute_capability="9.0", driver="580.159.04"
    )
    assert (second.uuid, second.name, second.index) == (GPU1, "Fake L4", 1)
    assert fake_nvml.count("shutdowns") == 1


def test_slices_follow_their_gpu_which_cannot_be_used_itself(fake_nvml):
    fake_nvml.configure("gpus=2;mig=2")
    parent, first, second, other = list_devices()
    assert parent.mig_enabled
    assert not other.mig_enabled
    assert first == GpuDevice(
        uuid=MIG0,
        name="Fake H200 MIG 1g.18gb",
        index=0,
        memory_mib=16_384,
        compute_capability="9.0",
        parent_uuid=GPU0,
        mig_profile="1g.18gb",
        gpu_instance=7,
        driver="580.159.04",
    )
    assert (second.uuid, second.gpu_instance, second.gpu_uuid) == (MIG1, 8, GPU0)
    assert [device.uuid for device in visible(None, list_devices())] == [MIG0, MIG1, GPU1]


def test_without_a_driver_the_code_and_what_to_do_are_told(fake_nvml):
    fake_nvml.configure("init_error=9")
    with pytest.raises(NotAvailableError, match=r"no NVIDIA driver answers: driver_not_loaded.*nvidia-smi must work"):
        list_devices()


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        ("1", [GPU1]),
        ("1,0", [GPU1, MIG0]),
        (MIG1, [MIG1]),
        ("MIG-5111ce01,GPU-00000001", [MIG1, GPU1]),
        (GPU0, [MIG0]),
        ("GPU-0", []),
        ("1,7,0", [GPU1]),
        ("1,1", [GPU1]),
        ("-1", []),
        ("", []),
    ],
)
def test_cuda_visible_devices_is_read_as_cuda_reads_it(fake_nvml, selection, expected):
    fake_nvml.configure("gpus=2;mig=2")
    assert [device.uuid for device in visible(selection, list_devices())] == expected


def test_one_gpu_alone_is_sampled_where_a_run_is_bound_to_it(fake_nvml, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    fake_nvml.configure("gpus=2")
    backend = fake_nvml.backend(gpu_uuid=GPU1)
    backend.open(log := QualityLog())
    backend.close()
    assert [facts["uuid"] for facts in backend.devices()] == [GPU1]
    assert log.events == []


def test_a_slice_is_sampled_through_its_gpu_and_its_own_instance(fake_nvml):
    fake_nvml.configure(f"mig=2;pid={os.getpid()}")
    for instance, processes in ((7, 0), (8, 1)):
        backend = fake_nvml.backend(gpu_uuid=GPU0, gpu_instance=instance)
        backend.open(log := QualityLog())
        backend.read_fast()
        fake_nvml.clock_is(fake_nvml.now_ns + 200_000_000)
        (reading,) = backend.read_fast()
        (slow,) = backend.read_slow()
        backend.close()
        assert reading.values["sm_active_pct"] == pytest.approx(95.9)
        (facts,) = backend.devices()
        assert (facts["uuid"], facts["gpu_instance"]) == (GPU0, instance)
        assert len(facts["processes_start"]) == processes
        assert (facts["memory_mib"], slow.values["gpu_mem_used_mib"]) == (16_384, 93 + instance)
        assert log.events[0]["kind"] == "mig_parent_sampled"
        assert "whole GPU" in log.events[0]["why"]


def test_what_is_to_be_sampled_reaches_the_collector_process(tmp_path):
    options = BackendOptions(owner_pid=1, gpu_uuid=GPU0, gpu_instance=7)
    config = CollectorConfig(out_dir=tmp_path, backends=("auto",), rate_hz=10.0, options=options)
    assert CollectorConfig.from_json(config.to_json()) == config
