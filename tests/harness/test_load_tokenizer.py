"""Exact prompt lengths, with real tokenizers of every kind, trained here."""

from __future__ import annotations

import json
import pickle
import random
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enginewatch_db.errors import NotAvailableError, UsageError
from enginewatch_harness.load.exact import ExactWriter, MeasuredWriter, learn
from enginewatch_harness.load.tokenizer import TextCounter, open_tokenizer
from enginewatch_harness.load.words import WORDS

tokenizers = pytest.importorskip("tokenizers")
models, trainers = tokenizers.models, tokenizers.trainers
pre, processors = tokenizers.pre_tokenizers, tokenizers.processors

LONGEST = 3_000


def corpus():
    rng = random.Random(1)
    return [" ".join(rng.choices(WORDS, k=30)) for _ in range(300)]


def byte_level(size):
    made = tokenizers.Tokenizer(models.BPE())
    made.pre_tokenizer = pre.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    alphabet = pre.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=["<s>"], initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator(corpus(), trainer)
    made.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return made


def word_piece(size):
    made = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer = tokenizers.normalizers.BertNormalizer()
    made.pre_tokenizer = pre.BertPreTokenizer()
    made.decoder = tokenizers.decoders.WordPiece()
    special = ["[UNK]", "[CLS]", "[SEP]"]
    made.train_from_iterator(
        corpus(), trainers.WordPieceTrainer(vocab_size=size, special_tokens=special, show_progress=False)
    )
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    made.enable_truncation(32)  # as many files do; a server does not
    made.enable_padding(length=48)
    return made


def unigram(size):
    made = tokenizers.Tokenizer(models.Unigram())
    made.pre_tokenizer = pre.Metaspace()
    made.decoder = tokenizers.decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=size, special_tokens=["<unk>"], unk_token="<unk>", show_progress=False)
    made.train_from_iterator(corpus(), trainer)
    return made


def joining(size):
    """Nothing splits at spaces, so tokens reach over words."""
    made = tokenizers.Tokenizer(models.BPE())
    made.train_from_iterator(corpus(), trainers.BpeTrainer(vocab_size=size, show_progress=False))
    return made


MAKERS = {
    "bytes only": lambda: byte_level(257),
    "byte-level, small": lambda: byte_level(400),
    "byte-level": lambda: byte_level(3_000),
    "word pieces, small": lambda: word_piece(60),
    "word pieces": lambda: word_piece(3_000),
    "unigram, small": lambda: unigram(100),
    "unigram": lambda: unigram(1_500),
    "joining": lambda: joining(700),
}


class Made:
    def __init__(self, name):
        self.tokenizer = MAKERS[name]()
        self.counter = TextCounter(self.tokenizer)
        self.table = learn(self.counter)
        self.exact = ExactWriter(self.table, 3, longest=LONGEST)
        self.writer = self.exact if self.table.additive else MeasuredWriter(self.exact, self.counter.count)


@pytest.fixture(scope="module", params=MAKERS)
def made(request):
    return Made(request.param)


@settings(deadline=None, max_examples=80)
@given(number=st.integers(0, 10**8), tokens=st.integers(4, LONGEST))
def test_a_prompt_has_exactly_its_tokens(made, number, tokens):
    text, told = made.writer.joined([(number, tokens)])
    ids = made.tokenizer.encode(text).ids
    assert told == tokens == len(ids) - made.counter.added
    assert text == text.strip()
    assert made.writer.estimated is None


@settings(deadline=None, max_examples=40)
@given(number=st.integers(0, 10**6), tokens=st.integers(4, 600))
def test_the_count_survives_decoding(made, number, tokens):
    text, told = made.writer.joined([(number, tokens)])
    again = made.tokenizer.decode(made.tokenizer.encode(text).ids, skip_special_tokens=True)
    if again == text:  # word pieces that the vocabulary does not have come back as nothing
        assert made.counter.count(again) == told + made.counter.added
    else:
        assert made.tokenizer.token_to_id("[UNK]") is not None or made.table.additive is False


@settings(deadline=None, max_examples=60)
@given(group=st.integers(0, 50), shared=st.integers(4, 700), own=st.lists(st.integers(4, 300), min_size=2, max_size=2))
def test_a_shared_prefix_is_the_same_text_and_the_whole_is_exact(made, group, shared, own):
    texts = []
    for number, tokens in enumerate(own):
        text, told = made.writer.joined([(10**6 + group, shared), (number, tokens)])
        assert told == shared + tokens == made.counter.count(text) - made.counter.added
        texts.append(text)
    alone, _ = made.exact.joined([(10**6 + group, shared)])
    assert all(text.startswith(f"{alone} ") for text in texts)


@settings(deadline=None, max_examples=40)
@given(tokens=st.integers(1, 12), number=st.integers(0, 10**6))
def test_the_shortest_prompts_tell_how_long_they_are(made, tokens, number):
    text, told = made.writer.joined([(number, tokens)])
    assert tokens <= told <= tokens + 4
    assert made.counter.count(text) - made.counter.added == told


def test_which_tokenizers_add_up(made, request):
    assert made.table.additive == ("joining" not in request.node.callspec.params["made"])


def test_a_table_can_be_sent_to_another_process_and_writes_the_same(made):
    table = pickle.loads(pickle.dumps(made.table))  # noqa: S301 (made here)
    assert len(pickle.dumps(table)) < 100_000
    one, other = ExactWriter(made.table, 8, longest=500), ExactWriter(table, 8, longest=500)
    assert [one.joined([(n, 300)]) for n in range(20)] == [other.joined([(n, 300)]) for n in range(19, -1, -1)][::-1]


def test_prompts_of_a_tokenizer_all_differ(made):
    texts = [made.writer.joined([(number, 60)])[0] for number in range(0, 200_000, 1_000)]
    assert len(set(texts)) == len(texts)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "tokenizer.json"
    word_piece(400).save(str(path))
    return path


def test_a_tokenizer_is_read_from_its_file_or_folder_and_neither_cuts_nor_pads(file):
    text = " ".join(WORDS[:300])
    assert open_tokenizer(file).count(text) == open_tokenizer(file.parent).count(text) > 300
    counter = open_tokenizer(file)
    assert counter.added == 2
    assert counter.count("") == 2
    assert counter.count_answer(text) == counter.count(text) - 2
    assert counter.count_all([text, "", "able"]) == [counter.count(text), 2, counter.count("able")]
    assert counter.count_answers([text, ""]) == [counter.count_answer(text), 0]


def test_what_is_no_tokenizer_is_refused_with_the_file(tmp_path):
    with pytest.raises(UsageError, match=r"there is no tokenizer at .*tokenizer.json"):
        open_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text(json.dumps({"version": "1.0"}), encoding="utf-8")
    with pytest.raises(UsageError, match=r"tokenizer.json holds no tokenizer"):
        open_tokenizer(tmp_path)
    with pytest.raises(TypeError, match="str"):
        TextCounter("x")


def test_without_the_package_the_extra_is_named(file, monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(NotAvailableError, match=r"enginewatch\[tokenizers\]"):
        open_tokenizer(file)


def test_neither_numpy_nor_tokenizers_is_imported_for_a_plain_closed_loop():
    code = (
        "import sys\n"
        "from enginewatch_harness.load.spec import LoadSpec\n"
        "from enginewatch_harness.load.synthetic import build_workload\n"
        "build_workload(LoadSpec(mode='closed', isl=512), 1).request(3)\n"
        "print([name for name in ('numpy', 'tokenizers', 'pyarrow', 'pydantic') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
