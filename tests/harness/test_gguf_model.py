"""Random GGUF models: deterministic, atomic, read back, and refused when they are broken."""

import gguf
import numpy as np
import pytest

from enginewatch_db.errors import BackendError
from enginewatch_harness.gguf_model import (
    TENSOR_TYPES,
    LlamaShape,
    read_facts,
    sha256_of,
    vocabulary,
    write_random_llama,
)
from enginewatch_harness.load.words import WORDS

SMALL = LlamaShape(n_layers=2, n_embd=64, n_heads=2, n_kv_heads=1, n_ff=96)


@pytest.mark.parametrize(("precision", "kind"), [(name, kind.name) for name, kind in TENSOR_TYPES.items()])
def test_what_is_written_is_read_back(tmp_path, precision, kind):
    path = tmp_path / "model"
    facts = write_random_llama(path, precision=precision, shape=SMALL)
    assert facts == read_facts(path)
    assert facts.precision == precision
    assert facts.architecture == "llama"
    assert facts.n_vocab == len(vocabulary()[0])
    assert facts.context_length == SMALL.context_length
    assert facts.size_bytes == path.stat().st_size
    matrices, vectors = 2 + 7 * SMALL.n_layers, 1 + 2 * SMALL.n_layers
    expected = {kind: matrices + vectors} if kind == "F32" else {kind: matrices, "F32": vectors}
    assert facts.tensor_types == expected
    per_layer = 64 * 64 * 2 + 32 * 64 * 2 + 96 * 64 * 3 + 2 * 64
    assert facts.n_params == 2 * facts.n_vocab * 64 + SMALL.n_layers * per_layer + 64
    assert [item.name for item in tmp_path.iterdir()] == ["model"]


def test_bytes_depend_on_the_seed_alone(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_random_llama(tmp_path / name, precision="q8_0", seed=seed, shape=SMALL)
    assert sha256_of(tmp_path / "a") == sha256_of(tmp_path / "b") != sha256_of(tmp_path / "c")
    facts = [read_facts(tmp_path / name) for name in "abc"]
    assert facts[0].structure == facts[2].structure


def test_these_very_bytes(tmp_path):
    """The weights come from a bit stream that NumPy keeps stable: another hash here means another model."""
    write_random_llama(tmp_path / "m", precision="fp32", seed=5, shape=SMALL)
    reader = gguf.GGUFReader(tmp_path / "m")
    weights = next(tensor.data for tensor in reader.tensors if tensor.name == "blk.1.ffn_up.weight")
    assert weights[0, :3].tolist() == [-0.1071714460849762, 0.14311286807060242, 0.013753273524343967]


def test_weights_are_finite_with_the_stated_spread(tmp_path):
    write_random_llama(tmp_path / "m", precision="fp32", shape=SMALL)
    weights = {tensor.name: np.array(tensor.data) for tensor in gguf.GGUFReader(tmp_path / "m").tensors}
    assert all(np.isfinite(values).all() for values in weights.values())
    assert weights["blk.0.attn_q.weight"].std() == pytest.approx(64**-0.5, rel=0.05)
    assert weights["blk.0.attn_q.weight"].mean() == pytest.approx(0, abs=0.01)
    # The constant channel: nothing writes to it, and it holds down what must not be generated.
    assert (weights["token_embd.weight"][:, 0] == 4).all()
    for layer in range(SMALL.n_layers):
        assert (weights[f"blk.{layer}.attn_output.weight"][0] == 0).all()
        assert (weights[f"blk.{layer}.ffn_down.weight"][0] == 0).all()
    held_down = 3 + 256
    assert (weights["output.weight"][:held_down, 0] < 0).all()
    assert (weights["output.weight"][held_down:, 0] == 0).all()


def test_the_vocabulary_has_every_word_every_beginning_and_every_byte():
    tokens, types = vocabulary()
    assert len(tokens) == len(types) == len(set(tokens))
    assert len(tokens) % 256 == 0
    for word in WORDS:
        assert all(f"▁{word[:end]}" in tokens for end in range(len(word) + 1))
    assert types.count(gguf.TokenType.BYTE) == 256
    assert tokens[types.index(gguf.TokenType.BYTE)] == "<0x00>"


def test_an_unknown_precision_is_refused(tmp_path):
    with pytest.raises(BackendError, match="fp32, fp16, bf16, q8_0, q4_0") as caught:
        write_random_llama(tmp_path / "m", precision="fp8")
    assert caught.value.code == "unsupported_precision"
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(gguf.GGUFWriter, "write_tensors_to_file", full)
    with pytest.raises(OSError, match="No space"):
        write_random_llama(tmp_path / "m", precision="fp32", shape=SMALL)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("keep", [0, 3, 20, 5_000, 60_000, -1])
def test_a_truncated_file_is_corrupt(tmp_path, keep):
    path = tmp_path / "m"
    write_random_llama(path, precision="fp16", shape=SMALL)
    whole = path.read_bytes()
    path.write_bytes(whole[: keep if keep >= 0 else len(whole) - 1])
    with pytest.raises(BackendError) as caught:
        read_facts(path)
    assert caught.value.code == "model_corrupt"
    assert str(path) in str(caught.value)


def test_another_file_and_no_file(tmp_path):
    (tmp_path / "text").write_text("not a model, but long enough to have a header " * 10)
    for name, code in (("text", "model_corrupt"), ("absent", "model_missing"), (".", "model_missing")):
        with pytest.raises(BackendError) as caught:
            read_facts(tmp_path / name)
        assert caught.value.code == code
