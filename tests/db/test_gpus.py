"""The table of GPU peaks and the look-up by product name."""

from __future__ import annotations

import pytest

from enginewatch_db.gpus import find_gpu, known_gpus


@pytest.mark.parametrize(
    ("product", "name"),
    [
        ("NVIDIA H200", "H200 SXM"),
        ("NVIDIA H200 NVL", "H200 NVL"),
        ("NVIDIA H100 80GB HBM3", "H100 SXM5"),
        ("NVIDIA H100 PCIe", "H100 PCIe"),
        ("NVIDIA A100-SXM4-80GB", "A100 80GB SXM4"),
        ("NVIDIA L40", "L40"),
        ("NVIDIA L40S", "L40S"),
        ("Tesla T4", "T4"),
        ("NVIDIA A10", "A10"),
        ("NVIDIA A10G", "A10G"),
        ("NVIDIA GeForce RTX 4090", "RTX 4090"),
        ("NVIDIA B200", "B200 HGX"),
        ("NVIDIA GB200", "GB200"),
    ],
)
def test_a_product_is_found_by_the_drivers_name(product, name):
    assert find_gpu(product).name == name


@pytest.mark.parametrize(
    "product", ["NVIDIA H100 80GB HBM3 MIG 1g.10gb", "AMD EPYC 9654 96-Core Processor", "", "NVIDIA H2000"]
)
def test_what_has_no_peaks_is_not_found(product):
    assert find_gpu(product) is None


def test_the_h200_is_as_its_data_sheet_says():
    gpu = find_gpu("NVIDIA H200")
    assert (gpu.dram_bytes_per_s, gpu.l2_bytes, gpu.sms) == (4.8e12, 50 * 2**20, 132)
    assert gpu.peaks["fp16"] == gpu.peaks["bf16"] == pytest.approx(989.4e12)
    assert gpu.peaks["int8"] == pytest.approx(1979e12)
    assert gpu.peaks["fp32"] == pytest.approx(67e12)
    assert "fp4" not in gpu.peaks


def test_volta_and_turing_have_no_bf16():
    assert {spec.name for spec in known_gpus() if "bf16" not in spec.peaks and "fp16" in spec.peaks} == {
        "V100 SXM2",
        "V100 PCIe",
        "T4",
    }


def test_the_table_is_sound():
    assert len(known_gpus()) == 36
    for spec in known_gpus():
        assert all(value > 0 for value in spec.peaks.values())
        assert spec.dram_bytes_per_s is None or 1e11 < spec.dram_bytes_per_s < 1e13
        order = [spec.peaks[dtype] for dtype in ("fp32", "fp16", "fp8", "fp4") if dtype in spec.peaks]
        assert order == sorted(order), spec.name
        assert spec.sources or spec.unsourced
