"""Peaks of GPU products by their name: what a roofline and a check against the specification need."""

from __future__ import annotations

import csv
import functools
import re
from dataclasses import dataclass
from importlib import resources

_MIG = re.compile(r"\bMIG\b")
_TFLOPS = 1e12


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuSpec:
    """One product, as its data sheet and measurements by others state it; what is not known is ``None``.

    Attributes:
        name: Product, for example ``H200 SXM``.
        architecture: For example ``Hopper``.
        compute_capability: For example ``9.0``.
        sms: Streaming multiprocessors.
        dram_bytes_per_s: Peak of the memory.
        l2_bytes: Size of the L2 cache.
        peaks: Dtype → dense operations per second, without sparsity; a multiply-add is two. ``fp32`` is that of the
            CUDA cores, all others that of the tensor cores with fp32 (integers: int32) accumulation.
        fp16_accumulate_peak: As ``peaks["fp16"]`` with fp16 accumulation, where that differs in the table.
        sources: Keys of the sources, explained in docs/layers.md.
        unsourced: Values that no source states or that were derived.
        notes: What to know before trusting it.
    """

    name: str
    architecture: str
    compute_capability: str
    sms: int | None
    dram_bytes_per_s: float | None
    l2_bytes: int | None
    peaks: dict[str, float]
    fp16_accumulate_peak: float | None
    sources: str
    unsourced: str
    notes: str


def find_gpu(product: str) -> GpuSpec | None:
    """Return the peaks of a product by the name that the driver gives, for example ``NVIDIA H200``.

    ``None`` for a product that the table does not know, a CPU, or a MIG slice, which has a part of the peaks only.
    """
    if _MIG.search(product):
        return None
    return next((spec for pattern, spec in _table() if pattern.search(product.strip())), None)


def known_gpus() -> tuple[GpuSpec, ...]:
    """Return all products of the table."""
    return tuple(spec for _, spec in _table())


@functools.cache
def _table() -> tuple[tuple[re.Pattern[str], GpuSpec], ...]:
    text = resources.files("enginewatch_db").joinpath("gpu_specs.csv").read_text(encoding="utf-8")
    return tuple((re.compile(row["product_regex"]), _spec(row)) for row in csv.DictReader(text.splitlines()))


def _spec(row: dict[str, str]) -> GpuSpec:
    bandwidth, cache, sms = _number(row, "dram_gb_s"), _number(row, "l2_mib"), _number(row, "sms")
    return GpuSpec(
        name=row["name"],
        architecture=row["architecture"],
        compute_capability=row["compute_capability"],
        sms=None if sms is None else int(sms),
        dram_bytes_per_s=None if bandwidth is None else bandwidth * 1e9,
        l2_bytes=None if cache is None else round(cache * 2**20),
        peaks=_peaks(row),
        fp16_accumulate_peak=_scaled(row, "fp16_fp16_accumulate_tflops"),
        sources=row["sources"],
        unsourced=row["unsourced_or_derived"],
        notes=row["notes"],
    )


def _peaks(row: dict[str, str]) -> dict[str, float]:
    columns = {
        "fp32": "fp32_tflops",
        "tf32": "tf32_tflops",
        "fp16": "fp16_tflops",
        "int8": "int8_tops",
        "fp8": "fp8_tflops",
        "fp4": "fp4_tflops",
    }
    found = {dtype: _scaled(row, column) for dtype, column in columns.items()}
    if float(row["compute_capability"]) >= 8.0:  # Volta's and Turing's tensor cores know no bf16
        found["bf16"] = found["fp16"]
    return {dtype: value for dtype, value in found.items() if value is not None}


def _scaled(row: dict[str, str], column: str) -> float | None:
    value = _number(row, column)
    return None if value is None else value * _TFLOPS


def _number(row: dict[str, str], column: str) -> float | None:
    return float(row[column]) if row[column] else None
