"""Request files: every format read right, every fault named by file and line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enginewatch_db.errors import UsageError
from enginewatch_harness.load import dataset_formats, datasets
from enginewatch_harness.load.datasets import read_dataset, sha256_of
from enginewatch_harness.load.spec import Dataset

DATA = Path(__file__).parents[1] / "data" / "harness" / "load"


def read(path: Path, *, turns: int = 1, format_: str | None = None, count=None):
    return read_dataset(Dataset(path=path, format=format_), turns=turns, count_answers=count)


def test_a_mooncake_trace():
    found = read(DATA / "mooncake.jsonl")
    assert found.format == "mooncake"
    assert found.count == 5
    assert list(found.at_ns) == [0, 140_000_000, 140_000_000, 905_000_000, 2_000_000_000]
    assert list(found.starts_ns()) == list(found.at_ns)
    assert list(found.inputs) == [1100, 1300, 40, 1536, 600]
    assert list(found.outputs) == [12, 40, 7, 1, 20]  # no output was recorded; one token is the least to ask for
    # The last request has a hash for its full block only: some writers leave out the part of a block.
    assert [list(found.blocks_of(place)) for place in range(5)] == [[0, 1, 2], [0, 1, 3], [4], [0, 5, 6], [7]]
    assert found.prompts == ()


def test_sharegpt_takes_the_first_question_or_the_session():
    single = read(DATA / "sharegpt.json")
    assert single.format == "sharegpt"
    assert single.prompts == ("Which river runs through Vienna?", "Count to three.", "The colour of the sky?")
    assert list(single.sessions) == [0, 1, 2, 3]
    assert single.at_ns is None
    several = read(DATA / "sharegpt.json", turns=4)
    assert list(several.sessions) == [0, 2, 3, 4]
    assert several.prompts[1] == 'And through "Basel", für alle Fälle?'
    assert several.histories == {3: (("system", "Answer in one word."),)}


def test_output_lengths_come_from_the_recorded_answers():
    guessed = read(DATA / "sharegpt.json")
    assert list(guessed.outputs) == [round(31 / 4), round(16 / 4), 1]
    assert "4.00" in guessed.notes[0]
    counted = read(DATA / "sharegpt.json", count=lambda texts: [len(text) // 2 for text in texts])
    assert counted.outputs[0] == pytest.approx(31 / 2, abs=1)


def test_own_jsonl_stands_alone_or_in_sessions():
    alone = read(DATA / "own.jsonl")
    assert alone.format == "jsonl"
    assert list(alone.at_ns) == [0, 250_000_000, 1_500_000_000, 2_000_000_000]
    assert list(alone.inputs) == [20, 30, 10, 0]
    together = read(DATA / "own.jsonl", turns=3)
    assert list(together.sessions) == [0, 2, 3, 4]
    assert list(together.inputs) == [20, 10, 30, 0]
    assert list(together.outputs) == [5, 7, 6, 8]
    assert list(together.delays_ns) == [0, 300_000_000, 0, 0]
    assert list(together.starts_ns()) == [0, 250_000_000, 2_000_000_000]


def test_own_texts_and_messages():
    found = read(DATA / "own_texts.jsonl")
    assert found.prompts == ('Say "hello" ✓', "Second")
    assert found.histories == {1: (("system", "Be brief."), ("user", "First"), ("assistant", "Yes"))}
    assert (list(found.inputs), list(found.outputs)) == ([0, 17], [4, 0])


def test_sessions_that_are_too_long_are_cut_and_say_so(tmp_path):
    path = tmp_path / "long.jsonl"
    path.write_text('{"session": 1, "input_tokens": 3}\n' * 5, encoding="utf-8")
    found = read(path, turns=2)
    assert list(found.sessions) == [0, 2]
    assert "3 requests of the dataset are left out" in found.notes[0]


TIMES = st.lists(st.integers(0, 10**7), min_size=1, max_size=30).map(sorted)


@settings(max_examples=40)
@given(times=TIMES, data=st.data())
def test_a_written_trace_is_read_back(tmp_path_factory, times, data):
    rows = []
    for time_ms in times:
        tokens = data.draw(st.integers(1, 3_000))
        size = data.draw(st.integers(tokens // 512, -(-tokens // 512)))
        hashes = data.draw(st.lists(st.integers(0, 2**40), min_size=size, max_size=size))
        rows.append({"timestamp": time_ms, "input_length": tokens, "output_length": 3, "hash_ids": hashes})
    path = tmp_path_factory.mktemp("trace") / "trace.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    found = read(path)
    assert [at_ns // 1_000_000 for at_ns in found.at_ns] == [time_ms - times[0] for time_ms in times]
    assert list(found.inputs) == [row["input_length"] for row in rows]
    assert [list(found.blocks_of(place)) for place in range(len(rows))] == [row["hash_ids"] for row in rows]


SAID = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)
TALKS = st.lists(
    st.lists(st.tuples(SAID, SAID), max_size=3),
    min_size=1,
    max_size=12,
).filter(any)


@settings(max_examples=40, deadline=None)
@given(talks=TALKS, chunk=st.integers(1, 60), indent=st.sampled_from([None, 1]), ascii_=st.booleans())
def test_a_list_of_conversations_may_be_cut_anywhere(tmp_path_factory, talks, chunk, indent, ascii_):
    document = [
        {
            "conversations": [
                {"from": role, "value": text} for pair in talk for role, text in zip(ROLES, pair, strict=True)
            ]
        }
        for talk in talks
    ]
    path = tmp_path_factory.mktemp("talks") / "talks.json"
    path.write_text(json.dumps(document, indent=indent, ensure_ascii=ascii_), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dataset_formats, "_CHUNK", chunk)
        found = read(path, turns=3)
    assert found.prompts == tuple(question for talk in talks for question, _ in talk)


ROLES = ("human", "gpt")


@pytest.mark.parametrize(
    ("text", "format_", "words"),
    [
        ("", None, "begins with b''"),
        ("\n\n", None, "begins with"),
        ("timestamp,input\n", None, "no JSON"),
        ("[]", None, "has no request in it"),
        ('{"timestamp": 1, "input_length": 5}\n{"timestamp": 0, "input_length": 5}', None, ":2: .*1 ms earlier"),
        ('{"timestamp": 1, "input_length": 5}\n{"timestamp": 2}', None, ":2 has no input_length"),
        ('{"timestamp": 1, "input_length": 5}\n{nonsense', None, ":2 is not JSON"),
        ('{"timestamp": 1, "input_length": 5}\n[1]', None, ":2 holds list"),
        ('{"timestamp": -1, "input_length": 5}', None, "timestamp = -1"),
        ('{"timestamp": NaN, "input_length": 5}', None, "timestamp = nan"),
        ('{"timestamp": 1e300, "input_length": 5}', None, "too large"),
        ('{"timestamp": 1, "input_length": 5.5}', None, "input_length = 5.5"),
        ('{"timestamp": 1, "input_length": 5, "hash_ids": [1.5]}', None, "whole numbers"),
        ('{"timestamp": 1, "input_length": 5, "hash_ids": 7}', None, "whole numbers"),
        ('{"timestamp": 1, "input_length": 600, "hash_ids": [1, 2, 3]}', None, "3 hash_ids for 600 tokens"),
        ('{"prompt": "a", "outputtokens": 3}', None, "did you mean 'output_tokens'"),
        ('{"prompt": "a", "zzz": 3}', None, "known keys: timestamp_ms"),
        ('{"prompt": "a", "messages": []}', None, "both prompt and messages"),
        ('{"at_s": 1, "timestamp_ms": 1}', None, "both timestamp_ms and at_s"),
        ('{"prompt": "a"}\n{"input_tokens": 3}', None, ":2: .*no text"),
        ('{"at_s": 1}\n{"input_tokens": 3}', None, ":2: .*no time"),
        ('{"input_tokens": 1}\n{"at_s": 3}', None, ":2: .*a time"),
        ('{"prompt": ""}', None, "prompt is no text"),
        ('{"messages": []}', None, "no list of messages"),
        ('{"messages": [{"role": "assistant", "content": "x"}]}', None, "end with the user's"),
        ('{"messages": [{"role": "user"}]}', None, "without 'role' and 'content'"),
        ('{"input_tokens": 3, "session": 1.5}', None, "session = 1.5"),
        ('{"input_tokens": true}', None, "input_tokens = True"),
        ('[{"conversations": 3}]', None, ":1 has no list 'conversations'"),
        ('[\n\n{"conversations": []},\n{"conversations": [{"from": "human"}]}]', None, ":4: a message"),
        ('[{"conversations": []},\n3]', None, ":2 is no object"),
        ('[{"conversations": []},\n', None, "ends inside its list"),
        ('[{"conversations": []},\n{"conv', None, ":2 is not JSON"),
        ('{"input_tokens": 3}', "mooncake", "has no timestamp"),
        ('{"input_tokens": 3}', "sharegpt", "no list 'conversations'"),
    ],
)
def test_faults_name_file_and_line(tmp_path, text, format_, words):
    path = tmp_path / "faulty.data"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=words) as caught:
        read(path, format_=format_)
    assert "faulty.data" in caught.value.message
    assert caught.value.remedy


def test_files_that_are_absent_or_no_text(tmp_path):
    with pytest.raises(UsageError, match=r"there is no dataset .*absent"):
        read(tmp_path / "absent")
    with pytest.raises(UsageError, match="absent"):
        sha256_of(tmp_path / "absent")
    (tmp_path / "latin").write_bytes(b'[{"conversations": [{"from": "human", "value": "\xe9"}]}]')
    with pytest.raises(UsageError, match="UTF-8"):
        read(tmp_path / "latin")


def test_more_text_than_is_kept_is_left_out_and_said(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "MOST_TEXT", 100)
    path = tmp_path / "big.jsonl"
    path.write_text("".join(json.dumps({"prompt": "x" * 30}) + "\n" for _ in range(9)), encoding="utf-8")
    found = read(path)
    assert found.count == 3
    assert "big.jsonl:4" in found.notes[-1]


def test_conversations_may_come_one_a_line(tmp_path):
    path = tmp_path / "lines.jsonl"
    talk = {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}
    path.write_text("\ufeff" + json.dumps(talk) + "\n" + json.dumps(talk) + "\n", encoding="utf-8")
    assert read(path).prompts == ("a", "a")
