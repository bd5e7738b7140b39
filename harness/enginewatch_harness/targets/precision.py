"""What precision a server really runs, read back from what it says or logs. Pure.

Weights decide the name: vLLM logs ``dtype=torch.bfloat16, ..., quantization=None`` when its engine starts (0.20.0);
SGLang answers ``dtype`` and ``quantization`` in its server info and logs ``quant=fp8, ... dtype=torch.bfloat16`` when
the weights are loaded; llama.cpp logs ``file type = Q4_0`` (``ftype`` in its first lines); and a checkpoint's
``config.json`` holds ``torch_dtype`` (``dtype`` in Transformers 5) and ``quantization_config``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from enginewatch_db.model import Json
from enginewatch_harness.parse import trtllm_quant
from enginewatch_harness.parse.trtllm_config import parse_hf_quant

DTYPES: dict[str, str] = {
    "float32": "fp32",
    "float": "fp32",
    "float16": "fp16",
    "half": "fp16",
    "bfloat16": "bf16",
}
METHODS: dict[str, str] = {
    "fp8": "fp8",
    "fbgemm_fp8": "fp8",
    "ptpc_fp8": "fp8",
    "modelopt": "fp8",
    "modelopt_fp8": "fp8",
    "w8a8_fp8": "fp8",
    "modelopt_fp4": "fp4",
    "nvfp4": "fp4",
    "mxfp4": "fp4",
    "petit_nvfp4": "fp4",
    "w8a8_int8": "int8",
    "experts_int8": "int8",
    "awq": "int4",
    "awq_marlin": "int4",
    **{name.lower(): precision for name, precision in trtllm_quant.WEIGHTS.items()},
}
"""Name of a quantisation method → precision of its weights. A method that has several widths is not here."""

_VLLM = re.compile(r"\bdtype=torch\.(\w+).*?\bquantization=([\w-]+)")
_SGLANG_QUANT = re.compile(r"\bquant=([\w-]+)")
_SGLANG_DTYPE = re.compile(r"Load weight end.*?\bdtype=torch\.(\w+)")
_GGUF = re.compile(r"\b(?:file type|ftype)\s*=\s*(?:all )?([A-Z0-9_]+)")
_TRTLLM_ALGO = re.compile(r"quant_algo=<?(?:QuantAlgo\.)?(\w+)")
_GGUF_DTYPES = {"F32": "fp32", "F16": "fp16", "BF16": "bf16"}


@dataclass(frozen=True, slots=True, kw_only=True)
class PrecisionRead:
    """A precision that was read back.

    Attributes:
        precision: In enginewatch's words; ``None`` where the method has no one width.
        said: The words of the server.
        where: Where it says so.
    """

    precision: str | None
    said: str
    where: str


def named(dtype: str | None, method: str | None, where: str) -> PrecisionRead | None:
    """Return the precision of weights with this element type and quantisation method, each ``None`` where unsaid."""
    dtype = (dtype or "").removeprefix("torch.").lower()
    method = (method or "").lower()
    if method in ("", "none", "null"):
        precision = DTYPES.get(dtype)
        return None if precision is None else PrecisionRead(precision=precision, said=dtype, where=where)
    said = f"{method} ({dtype})" if dtype else method
    return PrecisionRead(precision=METHODS.get(method), said=said, where=where)


def from_answers(said: Mapping[str, Json]) -> PrecisionRead | None:
    """Return the precision by SGLang's server info; ``None`` where no answer tells."""
    for path in ("/server_info", "/get_server_info"):
        info = said.get(path, {})
        dtype, method = info.get("dtype"), info.get("quantization")
        if isinstance(dtype, str):
            # "auto" is what was asked for, not what it became.
            return named(None if dtype == "auto" else dtype, method if isinstance(method, str) else None, path)
    return None


def from_log(family: str, log: str) -> PrecisionRead | None:
    """Return the precision by a server's log; ``None`` where it does not say."""
    if family in ("vllm", "nim") and (found := _VLLM.search(log)):
        return named(found[1], found[2], "log")
    if family == "sglang" and (found := _SGLANG_DTYPE.search(log)):
        method = _SGLANG_QUANT.search(log)
        return named(found[1], None if method is None else method[1], "log")
    if family == "llamacpp" and (found := _GGUF.search(log)):
        kind = found[1]
        return PrecisionRead(precision=_GGUF_DTYPES.get(kind, kind.lower()), said=kind, where="log")
    if family == "trtllm" and (found := _TRTLLM_ALGO.search(log)):
        return named(None, found[1], "log")
    return None


def from_hf_quant(text: str) -> PrecisionRead | None:
    """Return the precision by ModelOpt's ``hf_quant_config.json``; ``None`` where it does not say."""
    found = parse_hf_quant(text)
    return None if found is None or found.algo is None else named(None, found.algo, "hf_quant_config.json")


def from_config(text: str) -> PrecisionRead | None:
    """Return the precision of a checkpoint by its ``config.json``; ``None`` where it does not say."""
    try:
        config: Any = json.loads(text)
    except ValueError:
        return None
    if not isinstance(config, dict):
        return None
    nested = config.get("text_config")
    dtype = config.get("dtype") or config.get("torch_dtype")
    if dtype is None and isinstance(nested, dict):
        dtype = nested.get("dtype") or nested.get("torch_dtype")
    quantization = config.get("quantization_config")
    method: str | None = None
    if isinstance(quantization, dict):
        method = str(quantization.get("quant_method") or quantization.get("quant_algo") or "unknown").lower()
        bits = quantization.get("bits") or quantization.get("w_bit")
        if method in ("awq", "gptq") and bits in (4, 8):
            return PrecisionRead(precision=f"int{bits}", said=f"{method} {bits} bit", where="config.json")
    return named(dtype if isinstance(dtype, str) else None, method, "config.json")
