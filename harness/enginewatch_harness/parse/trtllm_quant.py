"""TensorRT-LLM's names of quantisation, and the precisions of a plan that they stand for. Pure.

Names: ``QuantAlgo`` of ``tensorrt_llm/quantization/mode.py`` (0.17 to 1.2) and ModelOpt's of ``hf_quant_config.json``.
A plan names the precision of *weights*; activations may be wider (``W4A16_AWQ``) and the KV cache is its own choice.
"""

from __future__ import annotations

from dataclasses import dataclass

WEIGHTS: dict[str, str] = {
    "FP8": "fp8",
    "FP8_PER_CHANNEL_PER_TOKEN": "fp8",
    "FP8_BLOCK_SCALES": "fp8",
    "FP8_PB_WO": "fp8",
    "NVFP4": "fp4",
    "NVFP4_AWQ": "fp4",
    "W4A8_NVFP4_FP8": "fp4",
    "W4A16_MXFP4": "fp4",
    "W4A8_MXFP4_FP8": "fp4",
    "W4A8_MXFP4_MXFP8": "fp4",
    "W4A16": "int4",
    "W4A16_AWQ": "int4",
    "W4A16_GPTQ": "int4",
    "W4A8_AWQ": "int4",
    "W4A8_QSERVE_PER_GROUP": "int4",
    "W4A8_QSERVE_PER_CHANNEL": "int4",
    "INT8": "int8",
    "W8A16": "int8",
    "W8A16_GPTQ": "int8",
    "W8A8_SQ_PER_CHANNEL": "int8",
    "W8A8_SQ_PER_TENSOR_PLUGIN": "int8",
    "W8A8_SQ_PER_CHANNEL_PER_TOKEN_PLUGIN": "int8",
    "W8A8_SQ_PER_CHANNEL_PER_TENSOR_PLUGIN": "int8",
    "W8A8_SQ_PER_TENSOR_PER_TOKEN_PLUGIN": "int8",
}
"""``quant_algo`` → precision of its weights; ``MIXED_PRECISION`` has no one width and is not here."""

DTYPES: dict[str, str] = {
    "float32": "fp32",
    "float16": "fp16",
    "half": "fp16",
    "bfloat16": "bf16",
}
KV_DTYPES = ("auto", "fp8", "nvfp4")
"""What ``kv_cache_config.dtype`` takes."""

_NOTHING = frozenset({"", "none", "null", "no_quant", "auto"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantisation:
    """What a checkpoint, an engine or a report says of its precision.

    Attributes:
        algo: ``quant_algo`` as written (``W4A16_AWQ``); ``None`` where weights are not quantised.
        kv_cache: Type of the KV cache in small letters (``fp8``); ``None``: that of the activations.
        dtype: Element type of what is not quantised (``bfloat16``); ``None`` where unsaid.
    """

    algo: str | None = None
    kv_cache: str | None = None
    dtype: str | None = None

    @property
    def precision(self) -> str | None:
        """Precision of the weights in a plan's words; ``None`` where it is unsaid or has no one width."""
        if self.algo is not None:
            return WEIGHTS.get(self.algo.upper())
        return None if self.dtype is None else DTYPES.get(self.dtype)

    @property
    def said(self) -> str | None:
        """What to store as realised: the plan's word, else TensorRT-LLM's own in small letters."""
        return self.precision or (self.algo.lower() if self.algo else self.dtype)


def quantisation(algo: object, kv_cache: object, dtype: object) -> Quantisation:
    """Return what three values of a JSON say; the strings ``None`` and ``auto`` say nothing, as null does."""
    kv, kind = _word(kv_cache), _word(dtype)
    return Quantisation(
        algo=_word(algo),
        kv_cache=kv.lower() if kv else None,
        dtype=kind.removeprefix("torch.").lower() if kind else None,
    )


def _word(value: object) -> str | None:
    if not isinstance(value, str):
        return None
    # A Python enum that was printed: "QuantAlgo.FP8".
    text = value.strip().rpartition("QuantAlgo.")[2]
    return None if text.lower() in _NOTHING else text


def unrealised(precision: str, kv_cache: str | None, found: Quantisation) -> str | None:
    """Return how what runs differs from what was asked for; ``None`` where it does not, or is not told.

    Args:
        precision: As the plan asks; ``best`` takes what there is.
        kv_cache: Type of the KV cache that the plan asks for; ``None`` or ``auto`` takes what there is.
        found: What was read back.
    """
    differs = []
    if precision != "best" and found.said is not None and found.said != precision:
        named = found.algo or found.dtype
        differs.append(f"weights are {found.said} ({named}), the plan asks for {precision}")
    if kv_cache not in (None, "auto") and found.kv_cache != kv_cache:
        differs.append(f"the KV cache is {found.kv_cache or 'not quantised'}, the plan asks for {kv_cache}")
    return "; ".join(differs) or None
