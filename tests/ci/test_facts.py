from __future__ import annotations

import pytest

from enginewatch_ci.facts import is_cpu


@pytest.mark.parametrize(
    "device",
    [
        "AMD EPYC 7763 64-Core Processor (2 cores)",
        "Intel(R) Xeon(R) Platinum 8480C",
        "unknown (1 core)",
        "x86_64 CPU",
        "Neoverse-N1",
    ],
)
def test_cpus(device):
    assert is_cpu(device)


@pytest.mark.parametrize("device", ["NVIDIA H200", "NVIDIA GeForce RTX 5090", "Orin (nvgpu)", "remote", ""])
def test_not_cpus(device):
    assert not is_cpu(device)


def test_an_arm_is_titled_by_its_newest_session(lab, to_arm):
    arm = to_arm(lab.session(label="v1", commit="3f9c1d2aaabbb"))
    assert "v1 3f9c1d2aaa (2026-03-01 13:00 UTC)" in arm.title
    assert arm.newest.short in arm.title
