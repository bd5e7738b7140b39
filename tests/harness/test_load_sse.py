"""Splitting and reading event streams: recorded ones of vLLM, and any, in arbitrary pieces."""

import json
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginewatch_harness.load.events import read_openai
from enginewatch_harness.load.sse import SseSplitter

DATA = Path(__file__).parents[1] / "data" / "harness" / "load"


def recorded(kind: str) -> list[tuple[float, bytes]]:
    lines = json.loads((DATA / f"vllm-0.20-sse-{kind}.json").read_text())
    return [(at_s, line.encode()) for at_s, line in lines]


def split(pieces) -> list[bytes]:
    splitter = SseSplitter()
    return [event for piece in pieces for event in splitter.feed(piece)] + splitter.flush()


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(stream), *(place % (len(stream) + 1) for place in places)})
    return [stream[a:b] for a, b in pairwise(edges)]


@pytest.mark.parametrize(("kind", "events"), [("chat", 51), ("completions", 50)])
@given(places=st.lists(st.integers(0, 20_000), max_size=60))
def test_recorded_streams_read_the_same_in_any_pieces(kind, events, places):
    stream = b"".join(line for _, line in recorded(kind))
    found = split(cut(stream, places))
    facts = [read_openai(data) for data in found]
    assert len(found) == events  # 48 tokens, the usage, the end marker, and in chat the role
    assert sum(bool(fact.text) for fact in facts) == 48
    assert [fact.finish_reason for fact in facts if fact.finish_reason] == ["length"]
    assert [(fact.prompt_tokens, fact.output_tokens) for fact in facts if fact.output_tokens] == [(240, 48)]
    assert [fact.done for fact in facts] == [False] * (events - 1) + [True]
    assert not any(fact.error for fact in facts)


def test_the_recorded_role_event_is_not_a_token():
    lines = [line for _, line in recorded("chat")]
    facts = [read_openai(data) for data in split(lines)]
    assert [bool(fact.text) for fact in facts[:3]] == [False, True, True]


@st.composite
def streams(draw):
    """Any event stream: what it says, and bytes that say it."""
    newline = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    text = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=12)
    events, lines = [], ["\ufeff"] if draw(st.booleans()) else [""]
    for _ in range(draw(st.integers(0, 6))):
        data = draw(st.lists(text, min_size=0, max_size=3))
        others = st.sampled_from([": ping", "id: 7", "event: x", "retry: 1", "nonsense"])
        lines += [noise + newline for noise in draw(st.lists(others, max_size=2))]
        space = draw(st.sampled_from([" ", ""]))
        lines += [f"data:{space}{line}{newline}" for line in data]
        lines += [newline] * draw(st.integers(1, 3))
        if data:
            # One space after the colon belongs to the field's syntax.
            kept = data if space else [line.removeprefix(" ") for line in data]
            events.append("\n".join(kept).encode())
    return events, "".join(lines).encode()


@given(stream=streams(), places=st.lists(st.integers(0, 2_000), max_size=30))
def test_any_stream_in_any_pieces(stream, places):
    events, raw = stream
    assert split(cut(raw, places)) == events


@given(places=st.lists(st.integers(0, 200), max_size=10))
def test_events_come_as_soon_as_their_last_byte(places):
    splitter = SseSplitter()
    stream = b"data: a\n\ndata: b\r\n\r\ndata: c\r\rdata: d\n\n"
    # A carriage return ends a line already; the line feed after it adds nothing.
    ends = {9: b"a", 19: b"b", 29: b"c", 38: b"d"}
    fed = 0
    for piece in cut(stream, places):
        due = [data for end, data in ends.items() if fed < end <= fed + len(piece)]
        assert splitter.feed(piece) == due
        fed += len(piece)


def test_the_last_event_may_lack_its_empty_line():
    assert split([b"data: x\n\ndata: [DONE]\n"]) == [b"x", b"[DONE]"]
    assert split([b"data: x\n\n: bye\n"]) == [b"x"]
