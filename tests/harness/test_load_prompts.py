"""Prompts: seeded, all different, of the wanted length."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginewatch_db.errors import UsageError
from enginewatch_harness.load.prompts import SEQUENCE_WORDS, PromptSource, calibrate
from enginewatch_harness.load.target import RequestWriter, Target
from enginewatch_harness.load.words import WORDS

SOURCE = PromptSource(5, longest_words=SEQUENCE_WORDS)


@given(number=st.integers(0, 10**7), words=st.integers(1, SEQUENCE_WORDS))
def test_a_prompt_has_its_words(number, words):
    parts = SOURCE.prompt(number, words).split(b" ")
    assert len(parts) == words
    assert set(parts) <= {word.encode() for word in WORDS}


def test_prompts_differ_and_repeat_with_their_seed():
    prompts = [SOURCE.prompt(number, 12) for number in range(5_000)]
    assert len(set(prompts)) == 5_000
    again = PromptSource(5, longest_words=20)
    assert [again.prompt(number, 12) for number in range(50)] == prompts[:50]
    assert PromptSource(6, longest_words=20).prompt(0, 12) != prompts[0]


def test_longer_than_the_sequence_and_impossible_lengths():
    source = PromptSource(1, longest_words=200_000)
    assert len(source.prompt(12_345, 200_000).split()) == 200_000
    for words in (0, 400_000):
        with pytest.raises(ValueError, match=str(words)):
            source.prompt(0, words)


def test_words_are_distinct_and_plain():
    assert len(set(WORDS)) == len(WORDS)
    assert all(word.isascii() and word.isalpha() and word.islower() for word in WORDS)


@given(isl=st.integers(8, 3_000), per_word=st.floats(0.6, 2.5), added=st.integers(0, 5))
def test_calibration_finds_the_words_for_any_tokenizer(isl, per_word, added):
    def count(text: str) -> int:
        return round(len(text.split()) * per_word) + added

    found = calibrate(isl, SOURCE, count, longest_words=SEQUENCE_WORDS)
    assert abs(found.tokens_mean - isl) <= max(1.0, per_word)
    assert found.tokens_mean == pytest.approx(count(" ".join(["x"] * found.words)))


def test_calibration_cannot_go_below_one_word():
    found = calibrate(1, SOURCE, lambda text: 10 + len(text.split()), longest_words=SEQUENCE_WORDS)
    assert (found.words, found.tokens_mean) == (1, 11)


@pytest.mark.parametrize("endpoint", ["completions", "chat"])
def test_a_request_is_http_with_json(endpoint):
    target = Target(
        url="http://127.0.0.1:81/", model="m", endpoint=endpoint, body={"top_k": 1}, headers={"X-Who": "me"}
    )
    head, _, body = RequestWriter(target, max_tokens=7).request(b"one two").partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    path = {"completions": "/v1/completions", "chat": "/v1/chat/completions"}[endpoint]
    assert lines[0] == f"POST {path} HTTP/1.1"
    headers = dict(line.split(": ") for line in lines[1:])
    assert headers["Host"] == "127.0.0.1:81"
    assert headers["X-Who"] == "me"
    assert int(headers["Content-Length"]) == len(body)
    said = json.loads(body)
    text = said["prompt"] if endpoint == "completions" else said["messages"][0]["content"]
    assert text == "one two"
    assert said["max_tokens"] == 7
    assert said["stream"] is True
    assert said["stream_options"] == {"include_usage": True}
    assert said["top_k"] == 1


@pytest.mark.parametrize("url", ["https://host", "host:80", "http://", "http://host/v1", "ftp://host"])
def test_a_url_that_cannot_be_measured_is_refused(url):
    with pytest.raises(UsageError, match="http://host:port"):
        Target(url=url, model="m").address()


def test_an_unknown_endpoint_is_refused():
    with pytest.raises(UsageError, match="completions, chat"):
        RequestWriter(Target(url="http://h:1", model="m", endpoint="embed"), max_tokens=1)
