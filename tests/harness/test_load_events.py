"""What events say, and the shape that lets most of them be read without a parser."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginewatch_harness.load.events import (
    EventFacts,
    learn,
    read_generate,
    read_infer,
    read_openai,
    spelt,
)
from enginewatch_harness.load.sse import SseSplitter

DATA = Path(__file__).parents[1] / "data" / "harness" / "load"


@pytest.mark.parametrize(
    ("event", "content"),
    [
        ({"choices": [{"text": " x"}]}, True),
        ({"choices": [{"text": ""}]}, False),
        ({"choices": [{"delta": {"role": "assistant"}}]}, False),
        ({"choices": [{"delta": {"role": "assistant", "content": ""}}]}, False),
        ({"choices": [{"delta": {"role": "assistant", "content": None}}]}, False),
        ({"choices": [{"delta": {"content": "x"}}]}, True),
        ({"choices": [{"delta": {"reasoning_content": "x"}}]}, True),
        ({"choices": [{"delta": {"reasoning": "x"}}]}, True),
        ({"choices": [{"delta": {"tool_calls": [{"index": 0}]}}]}, True),
        ({"choices": [{"delta": {"tool_calls": []}}]}, False),
        ({"choices": [{"delta": {}}]}, False),
        ({"choices": [{"text": ""}, {"text": "second choice"}]}, True),
        ({"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}}, False),
        ({"choices": None}, False),
        ({"choices": ["odd"]}, False),
        ({}, False),
    ],
)
def test_what_counts_as_content(event, content):
    assert bool(read_openai(json.dumps(event).encode()).text) is content


def test_content_finish_and_usage_may_share_an_event():
    event = {
        "choices": [{"text": "x", "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7},
    }
    assert read_openai(json.dumps(event).encode()) == EventFacts(
        text="x", finish_reason="stop", prompt_tokens=3, output_tokens=4
    )


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b'{"error": {"message": "no memory", "code": 500}}', "no memory"),
        (b'{"error": "plain"}', "plain"),
        (b"{half", "not JSON"),
        (b"[1]", "not an object"),
        (b"\xff\xfe\xfd", "not JSON"),
    ],
)
def test_errors_in_the_stream_are_told(data, words):
    fact = read_openai(data)
    assert words in fact.error
    assert not fact.text


@given(st.binary(max_size=60))
def test_reading_never_raises(data):
    read_openai(data)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["choices", "delta", "text", "content", "usage", "completion_tokens", "error"]), inner
            )
        ),
        max_leaves=12,
    )
)
def test_reading_odd_json_never_raises(value):
    fact = read_openai(json.dumps(value).encode())
    assert fact.output_tokens is None or fact.output_tokens >= 0


def chunk(text, *, kind="text", ascii_only=True, spaces=False, **more):
    said = {"text": text} if kind == "text" else {"delta": {kind: text}}
    event = {"id": "cmpl-1", "object": "x", "choices": [{"index": 0, **said, "logprobs": None, "finish_reason": None}]}
    separators = (", ", ": ") if spaces else (",", ":")
    return json.dumps({**event, **more}, ensure_ascii=ascii_only, separators=separators).encode()


@pytest.mark.parametrize("logprob", ["NaN", "-Infinity", "Infinity"])
def test_numbers_that_pythons_servers_write_and_json_does_not_know_break_no_answer(logprob):
    event = b'{"choices": [{"text": " a", "logprobs": {"token_logprobs": [%s]}}]}' % logprob.encode()
    assert read_openai(event) == EventFacts(text=" a")


def test_half_of_a_surrogate_pair_is_text_whose_other_half_comes_next():
    event = rb'{"choices": [{"text": "\ud83d"}]}'
    assert read_openai(event) == EventFacts(text="\ud83d")


KINDS = st.sampled_from(["text", "content", "reasoning_content", "reasoning"])


@given(first=st.text(min_size=1), later=st.text(), kind=KINDS, ascii_only=st.booleans(), spaces=st.booleans())
def test_an_event_that_fits_a_shape_says_its_text_and_no_more(first, later, kind, ascii_only, spaces):
    spelling = {"kind": kind, "ascii_only": ascii_only, "spaces": spaces}
    try:
        taught, event = chunk(first, **spelling), chunk(later, **spelling)
    except UnicodeEncodeError:  # a lone surrogate cannot be sent as it is
        return
    learnt = learn(taught, read_openai)
    assert learnt is not None
    shape, family = learnt
    assert family.shape(taught) == shape
    assert shape.reasoning is kind.startswith("reasoning")
    assert shape.holds(taught) is ('"' not in json.dumps(first)[1:-1])
    if shape.holds(event):
        assert read_openai(event) == EventFacts(text=later, reasoning=shape.reasoning)
        assert spelt(shape.text(event)) == later
    else:
        assert later == "" or '"' in json.dumps(later)[1:-1]


@given(
    text=st.text(st.characters(codec="utf-8"), min_size=1),
    more=st.sampled_from(["usage", "finish", "error", "role", "two"]),
)
def test_an_event_that_says_more_fits_no_shape(text, more):
    shape, family = learn(chunk(" plain"), read_openai)
    event = json.loads(chunk(text))
    if more == "usage":
        event["usage"] = {"prompt_tokens": 1, "completion_tokens": 2}
    elif more == "finish":
        event["choices"][0]["finish_reason"] = "stop"
    elif more == "error":
        event["error"] = {"message": text}
    elif more == "role":
        event["choices"][0]["role"] = "assistant"
    else:
        event["choices"].append({"index": 1, "text": "x"})
    encoded = json.dumps(event, separators=(",", ":")).encode()
    assert not shape.holds(encoded)
    assert family.shape(encoded) is None


@given(
    id_text=st.text(max_size=12),
    created=st.integers() | st.floats(allow_nan=False) | st.text(max_size=4),
    text=st.text(min_size=1),
)
def test_a_family_knows_events_of_other_answers_and_nothing_else(id_text, created, text):
    _, family = learn(chunk(" plain", created=1_763_740_000), read_openai)
    event = json.loads(chunk(text))
    event |= {"id": id_text, "created": created}
    encoded = json.dumps(event, separators=(",", ":")).encode()
    shape = family.shape(encoded)
    if shape is not None:
        assert read_openai(encoded) == EventFacts(text=text)
        assert spelt(shape.text(encoded)) == text
    else:
        assert not (id_text.isascii() and id_text.isalnum() and isinstance(created, int) and created >= 0)


@pytest.mark.parametrize(
    "event",
    [
        chunk("x", usage={"prompt_tokens": 1, "completion_tokens": 1}),
        chunk("x", error={"message": "y"}),
        b'{"choices":[{"text":"a"},{"text":"b"}]}',
        b'{"choices":[{"text":"a","finish_reason":"stop"}]}',
        b'{"choices":[{"delta":{"tool_calls":[{"content":"a"}]}}]}',
        b'{"other":{"text":"a"}}',
        b"{half",
        b'{"choices":[{"text":"a"}],\n"id":1}',
    ],
)
def test_what_teaches_no_shape(event):
    assert learn(event, read_openai) is None


def test_all_but_the_edges_of_a_recorded_stream_fit_the_shape_of_its_first_token():
    for kind, tokens in (("chat", 48), ("completions", 48)):
        lines = [line.encode() for _, line in json.loads((DATA / f"vllm-0.20-sse-{kind}.json").read_text())]
        splitter = SseSplitter()
        events = [event for line in lines for event in splitter.feed(line)]
        shape = next(learnt[0] for event in events if (learnt := learn(event, read_openai)) is not None)
        fitting = sum(shape.holds(event) for event in events)
        assert tokens - 6 <= fitting < tokens  # the last one gives the finish reason; quotes are parsed


def test_reasoning_is_told_from_what_the_user_sees():
    assert read_openai(chunk("why", kind="reasoning_content")).reasoning
    assert not read_openai(chunk("so", kind="content")).reasoning


def test_cached_prompt_tokens_come_from_the_usage_block():
    usage = {"prompt_tokens": 9, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 8}}
    assert read_openai(json.dumps({"choices": [], "usage": usage}).encode()).cached_tokens == 8


def test_triton_events_and_answers():
    assert read_generate(b'{"model_name":"m","text_output":" a"}') == EventFacts(text=" a")
    assert read_generate(b'{"error":"out of memory"}').error == "out of memory"
    assert (
        read_infer(b'{"outputs":[{"name":"x","data":["no"]},{"name":"text_output","data":[["a"],"b"]}]}').text == "ab"
    )
    assert read_infer(b'{"outputs":[]}').text == ""
    assert learn(b'{"model_name":"m","text_output":" a"}', read_generate) is not None


def test_deep_nesting_is_an_error_not_a_crash():
    assert read_openai(b"[" * 200_000).error is not None
