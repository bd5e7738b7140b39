"""Small random Llama models in llama.cpp's GGUF, and facts read back from any GGUF.

The model computes nonsense at the cost of a real one of its size: every weight matrix is read for every
token. Two details make it a fair load. Its vocabulary holds the words of the prompts, so a prompt of n words
is n tokens (and one more, which begins the text). And one channel of the residual stream is constant, from
which the output layer subtracts for the end-of-text, control and byte tokens: so generation never ends early,
and every token has text of its own and is streamed as an event.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray

from enginewatch_db.errors import BackendError
from enginewatch_harness.load.words import WORDS

Floats = NDArray[np.float32]

TENSOR_TYPES: dict[str, gguf.GGMLQuantizationType] = {
    "fp32": gguf.GGMLQuantizationType.F32,
    "fp16": gguf.GGMLQuantizationType.F16,
    "bf16": gguf.GGMLQuantizationType.BF16,
    "q8_0": gguf.GGMLQuantizationType.Q8_0,
    "q4_0": gguf.GGMLQuantizationType.Q4_0,
}
"""Precisions that ``write_random_llama`` writes → type of the weight matrices; vectors stay F32."""

_FILE_TYPES = {
    "fp32": gguf.LlamaFileType.ALL_F32,
    "fp16": gguf.LlamaFileType.MOSTLY_F16,
    "bf16": gguf.LlamaFileType.MOSTLY_BF16,
    "q8_0": gguf.LlamaFileType.MOSTLY_Q8_0,
    "q4_0": gguf.LlamaFileType.MOSTLY_Q4_0,
}
_PRECISION_NAMES = {"F32": "fp32", "F16": "fp16", "BF16": "bf16"}
_SPECIAL = ("<unk>", "<s>", "</s>")
_PAD_VOCAB_TO = 256
_CONSTANT_CHANNEL = 0
_CONSTANT = 4.0
_SUPPRESSION = -16.0
"""Weight from the constant channel to a suppressed token's logit: some 20 below the others' spread of 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LlamaShape:
    """Dimensions of a Llama model; the default has 8 million weights.

    Attributes:
        n_layers: Transformer blocks.
        n_embd: Width; a multiple of 32 times ``n_heads``, so that rows split into whole q8_0 blocks.
        n_heads: Attention heads.
        n_kv_heads: Key and value heads (grouped-query attention); divides ``n_heads``.
        n_ff: Width of the feed-forward block; a multiple of 32.
        context_length: Tokens that the model says it was trained for.
    """

    n_layers: int = 8
    n_embd: int = 256
    n_heads: int = 8
    n_kv_heads: int = 4
    n_ff: int = 704
    context_length: int = 131_072


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufFacts:
    """What a GGUF file holds.

    Attributes:
        architecture: ``general.architecture``, for example ``llama``.
        precision: Type of most weights in enginewatch's words (``fp32``, ``fp16``, ``bf16``, ``q8_0``, ``q4_k``).
        tensor_types: Type → number of tensors.
        n_params: Weights in all tensors.
        n_vocab: Tokens; ``None`` where the file has no tokenizer.
        context_length: Tokens that it was trained for; ``None`` where it does not say.
        size_bytes: Size of the file.
        structure: Hash of the names, types and dimensions of all tensors.
    """

    architecture: str
    precision: str
    tensor_types: dict[str, int]
    n_params: int
    n_vocab: int | None
    context_length: int | None
    size_bytes: int
    structure: str


def vocabulary() -> tuple[list[str], list[int]]:
    """Return the tokens of the random model and their types (``gguf.TokenType``).

    SentencePiece merges pairs into longer pieces as long as the vocabulary has them, so each word comes with
    all of its beginnings; single characters and the 256 bytes take any other text.
    """
    pieces = [
        f"\N{LOWER ONE EIGHTH BLOCK}{text}" for text in sorted({w[:end] for w in WORDS for end in range(len(w) + 1)})
    ]
    characters = [chr(code) for code in range(33, 127)]
    tokens = [*_SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), *characters, *pieces]
    fill = -len(tokens) % _PAD_VOCAB_TO
    tokens += [f"\N{LOWER ONE EIGHTH BLOCK}w{number}" for number in range(fill)]
    types = [gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.CONTROL]
    types += [gguf.TokenType.BYTE] * 256
    types += [gguf.TokenType.NORMAL] * (len(tokens) - len(types))
    return tokens, [int(kind) for kind in types]


def _uniform(rng: np.random.PCG64, shape: tuple[int, ...], std: float) -> Floats:
    """Draw from the raw bit stream, which NumPy keeps stable for ever (NEP 19); its distributions may change."""
    count = int(np.prod(shape))
    bits = np.asarray(rng.random_raw((count + 1) // 2), dtype="<u8").view("<u4")[:count]
    centred = (bits >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24) - np.float32(0.5)
    return (centred * np.float32(std * 12**0.5)).reshape(shape)


def _tensors(shape: LlamaShape, n_vocab: int, seed: int) -> dict[str, Floats]:
    rng = np.random.PCG64(seed)
    n, kv, ff = shape.n_embd, shape.n_embd // shape.n_heads * shape.n_kv_heads, shape.n_ff
    # GPT-2's scaling of what is added to the residual stream keeps its size independent of the depth.
    added = (2 * shape.n_layers) ** -0.5
    found: dict[str, Floats] = {"token_embd.weight": _uniform(rng, (n_vocab, n), 1.0)}
    found["token_embd.weight"][:, _CONSTANT_CHANNEL] = _CONSTANT
    for layer in range(shape.n_layers):
        name = f"blk.{layer}."
        found[name + "attn_norm.weight"] = np.ones(n, np.float32)
        found[name + "attn_q.weight"] = _uniform(rng, (n, n), n**-0.5)
        found[name + "attn_k.weight"] = _uniform(rng, (kv, n), n**-0.5)
        found[name + "attn_v.weight"] = _uniform(rng, (kv, n), n**-0.5)
        found[name + "attn_output.weight"] = _uniform(rng, (n, n), added * n**-0.5)
        found[name + "ffn_norm.weight"] = np.ones(n, np.float32)
        found[name + "ffn_gate.weight"] = _uniform(rng, (ff, n), n**-0.5)
        found[name + "ffn_up.weight"] = _uniform(rng, (ff, n), n**-0.5)
        found[name + "ffn_down.weight"] = _uniform(rng, (n, ff), added * ff**-0.5)
        for matrix in ("attn_output.weight", "ffn_down.weight"):
            found[name + matrix][_CONSTANT_CHANNEL] = 0
    found["output_norm.weight"] = np.ones(n, np.float32)
    found["output.weight"] = _uniform(rng, (n_vocab, n), n**-0.5)
    found["output.weight"][:, _CONSTANT_CHANNEL] = 0
    found["output.weight"][: len(_SPECIAL) + 256, _CONSTANT_CHANNEL] = _SUPPRESSION
    return found


def _describe(writer: Any, shape: LlamaShape, precision: str) -> int:  # noqa: ANN401 (gguf ships no types)
    tokens, types = vocabulary()
    writer.add_name(f"random-llama-{precision}")
    writer.add_file_type(int(_FILE_TYPES[precision]))
    if precision.startswith("q"):
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_context_length(shape.context_length)
    writer.add_embedding_length(shape.n_embd)
    writer.add_block_count(shape.n_layers)
    writer.add_feed_forward_length(shape.n_ff)
    writer.add_head_count(shape.n_heads)
    writer.add_head_count_kv(shape.n_kv_heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(shape.n_embd // shape.n_heads)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([-float(index) for index in range(len(tokens))])
    writer.add_token_types(types)
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    return len(tokens)


def write_random_llama(path: Path, *, precision: str, seed: int = 0, shape: LlamaShape | None = None) -> GgufFacts:
    """Write a random Llama model as GGUF: the same bytes for the same arguments on any machine.

    The file appears under its name only when it is complete and on the disk.

    Args:
        path: File to write; replaced where it exists.
        precision: A key of ``TENSOR_TYPES``.
        seed: Seed of the weights.
        shape: Dimensions; ``LlamaShape()`` where ``None``.

    Raises:
        BackendError: ``precision`` cannot be written (code ``unsupported_precision``).
    """
    if precision not in TENSOR_TYPES:
        raise BackendError(
            f"a random GGUF cannot be written in precision {precision!r}",
            code="unsupported_precision",
            remedy=f"use one of {', '.join(TENSOR_TYPES)}",
        )
    kind, shape = TENSOR_TYPES[precision], shape or LlamaShape()
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    writer = gguf.GGUFWriter(None, "llama")
    n_vocab = _describe(writer, shape, precision)
    for name, values in _tensors(shape, n_vocab, seed).items():
        own = kind if values.ndim > 1 else gguf.GGMLQuantizationType.F32
        writer.add_tensor(name, gguf.quants.quantize(values, own), raw_dtype=own)
    try:
        writer.write_header_to_file(partial)
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        _sync(partial)
        partial.replace(path)
        _sync(path.parent)
    finally:
        writer.close()
        partial.unlink(missing_ok=True)
    return read_facts(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_facts(path: Path) -> GgufFacts:
    """Read back what a GGUF file holds: every tensor's type, and that all of its data are there.

    Raises:
        BackendError: The file does not exist (code ``model_missing``), or is no GGUF, or is truncated
            (code ``model_corrupt``).
    """
    if not path.is_file():
        raise BackendError(f"no model file {path}", code="model_missing", remedy="check the model's path in the plan")
    try:
        reader = gguf.GGUFReader(path)
        architecture = str(reader.fields["general.architecture"].contents())
        context = reader.fields.get(f"{architecture}.context_length")
        tokens = reader.fields.get("tokenizer.ggml.tokens")
        counts: dict[str, int] = {}
        weights: dict[str, int] = {}
        structure = hashlib.sha256()
        for tensor in reader.tensors:
            name = str(tensor.tensor_type.name)
            counts[name] = counts.get(name, 0) + 1
            weights[name] = weights.get(name, 0) + int(tensor.n_elements)
            structure.update(f"{tensor.name} {name} {tensor.shape.tolist()}\n".encode())
        most = max(weights, key=lambda name: weights[name])
    except (ValueError, KeyError, IndexError, OSError, OverflowError, UnicodeDecodeError, MemoryError) as error:
        raise BackendError(
            f"model file {path} is not a complete GGUF: {type(error).__name__}: {error}",
            code="model_corrupt",
            remedy="copy or convert it again",
        ) from error
    return GgufFacts(
        architecture=architecture,
        precision=_PRECISION_NAMES.get(most, most.lower()),
        tensor_types=counts,
        n_params=sum(weights.values()),
        n_vocab=None if tokens is None else len(tokens.data),
        context_length=None if context is None else int(context.contents()),
        size_bytes=path.stat().st_size,
        structure=structure.hexdigest(),
    )


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
