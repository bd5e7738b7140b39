"""The ``config.json`` of TensorRT-LLM's checkpoints and engines, and ModelOpt's ``hf_quant_config.json``. Pure.

``trtllm-build`` writes ``version``, ``pretrained_config`` and ``build_config`` beside ``rankN.engine``; a checkpoint
for it is the ``pretrained_config`` alone; a Hugging Face folder has ``architectures`` and ``torch_dtype`` (``dtype``
in Transformers 5). Engines are tied to the version that built them, and to the GPU.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from enginewatch_db.errors import BackendError
from enginewatch_db.model import Json
from enginewatch_harness.parse.trtllm_quant import Quantisation, quantisation

CONFIG = "config.json"
HF_QUANT = "hf_quant_config.json"
_MOST = 2**53
_BUILD_KEYS = (
    "max_input_len",
    "max_seq_len",
    "max_batch_size",
    "max_beam_width",
    "max_num_tokens",
    "opt_num_tokens",
    "kv_cache_type",
    "strongly_typed",
    "weight_sparsity",
    "use_refit",
    "use_strip_plan",
    "profiling_verbosity",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """What a ``config.json`` says of a model or an engine.

    Attributes:
        kind: ``engine``, ``checkpoint`` (for ``trtllm-build``) or ``hf``.
        version: Version of TensorRT-LLM that built the engine; ``None`` elsewhere.
        architecture: ``LlamaForCausalLM``.
        quantisation: Precision of weights and KV cache.
        vocab_size: Tokens of the vocabulary; ``None`` where unsaid.
        world_size: GPUs that an engine or checkpoint is cut for; 1 elsewhere.
        mapping: ``tp_size``, ``pp_size`` and the like, where they are above 1.
        build: Limits and switches that the engine was built with.
        plugins: Plugins that are on.
    """

    kind: str
    version: str | None = None
    architecture: str | None = None
    quantisation: Quantisation = field(default_factory=Quantisation)
    vocab_size: int | None = None
    world_size: int = 1
    mapping: Json = field(default_factory=dict)
    build: Json = field(default_factory=dict)
    plugins: Json = field(default_factory=dict)


def parse_config(text: str, where: str) -> ModelConfig:
    """Parse a ``config.json``.

    Raises:
        BackendError: It is no JSON object, or says nothing of a model (``model_corrupt``).
    """
    try:
        value: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _corrupt(where, f"cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise _corrupt(where, "is no JSON object")
    if "build_config" in value or "pretrained_config" in value:
        return _engine(value, where)
    if isinstance(value.get("architecture"), str):
        return _checkpoint(value, kind="checkpoint")
    return _hugging_face(value)


def parse_hf_quant(text: str, base: Quantisation | None = None) -> Quantisation | None:
    """Return what ``hf_quant_config.json`` says; ``None`` where it says nothing of quantisation.

    Args:
        text: The file.
        base: What ``config.json`` beside it says: the element type comes from there.
    """
    try:
        value: Any = json.loads(text)
    except (ValueError, RecursionError):
        return None
    found = value.get("quantization") if isinstance(value, dict) else None
    if not isinstance(found, dict):
        return None
    dtype = base.dtype if base is not None else None
    return quantisation(found.get("quant_algo"), found.get("kv_cache_quant_algo"), dtype)


def _corrupt(where: str, why: str) -> BackendError:
    return BackendError(f"{where} {why}", code="model_corrupt", remedy="build or download it again")


def _engine(value: Json, where: str) -> ModelConfig:
    inside, build = value.get("pretrained_config"), value.get("build_config")
    if not isinstance(inside, dict) or not isinstance(build, dict):
        raise _corrupt(where, "is an engine's, and has no pretrained_config and build_config")
    found = _checkpoint(inside, kind="engine")
    plugins = build.get("plugin_config")
    return ModelConfig(
        kind="engine",
        version=_text(value.get("version")),
        architecture=found.architecture,
        quantisation=found.quantisation,
        vocab_size=found.vocab_size,
        world_size=found.world_size,
        mapping=found.mapping,
        build=_scalars({key: build.get(key) for key in _BUILD_KEYS}),
        plugins=_scalars(plugins) if isinstance(plugins, dict) else {},
    )


def _checkpoint(value: Json, *, kind: str) -> ModelConfig:
    quant = value.get("quantization")
    quant = quant if isinstance(quant, dict) else {}
    mapping = value.get("mapping")
    sizes = {
        key: size
        for key, item in (mapping.items() if isinstance(mapping, dict) else ())
        if str(key).endswith("_size") and (size := _count(item)) is not None and size > 1
    }
    product = sizes.get("tp_size", 1) * sizes.get("pp_size", 1) * sizes.get("cp_size", 1)
    return ModelConfig(
        kind=kind,
        architecture=_text(value.get("architecture")),
        quantisation=quantisation(quant.get("quant_algo"), quant.get("kv_cache_quant_algo"), value.get("dtype")),
        vocab_size=_count(value.get("vocab_size")),
        world_size=sizes.get("world_size", product),
        mapping=sizes,
    )


def _hugging_face(value: Json) -> ModelConfig:
    nested = value.get("text_config")
    inner: Mapping[str, Any] = nested if isinstance(nested, dict) else {}
    names = value.get("architectures")
    quant = value.get("quantization_config")
    quant = quant if isinstance(quant, dict) else {}
    dtype = next((value_ for key in ("dtype", "torch_dtype") if (value_ := value.get(key) or inner.get(key))), None)
    return ModelConfig(
        kind="hf",
        architecture=_text(names[0]) if isinstance(names, list) and names else None,
        quantisation=quantisation(_hf_algo(quant), quant.get("kv_cache_quant_algo"), dtype),
        vocab_size=_count(value.get("vocab_size") or inner.get("vocab_size")),
    )


def _hf_algo(quant: Mapping[str, Any]) -> str | None:
    """Return TensorRT-LLM's name for a checkpoint's own quantisation (``ModelConfig.load_hf_quant_config``)."""
    method = quant.get("quant_method")
    if isinstance(quant.get("quant_algo"), str):
        return str(quant["quant_algo"])
    if method == "fp8":
        return "FP8_BLOCK_SCALES" if quant.get("weight_block_size") else "FP8"
    if method == "mxfp4":
        return "W4A16_MXFP4"
    bits = quant.get("bits") or quant.get("w_bit")
    if method in ("awq", "gptq") and bits in (4, 8):
        return f"W{bits}A16_{str(method).upper()}"
    return str(method) if isinstance(method, str) else None


def _scalars(values: Mapping[str, Any]) -> Json:
    """Return what is set; no paths: they are of the machine that built."""
    return {
        key: item
        for key, item in sorted(values.items())
        if isinstance(item, bool | int | float | str) and item is not False and not _is_path(item)
    }


def _is_path(value: object) -> bool:
    return isinstance(value, str) and ("/" in value or "\\" in value)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value not in ("", "None") else None


def _count(value: object) -> int | None:
    whole = isinstance(value, int) and not isinstance(value, bool) and 0 < value < _MOST
    return value if whole and isinstance(value, int) else None
