"""One connection, fed bytes in any pieces: the fast way and the exact way say the same."""

import json
import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginewatch_harness.load.answer import Lessons
from enginewatch_harness.load.connection import Connection
from enginewatch_harness.load.endpoints import ENDPOINTS
from enginewatch_harness.load.exchange import ErrorClass, Exchange
from enginewatch_harness.load.workload import PlannedRequest

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


class Wire:
    def __init__(self):
        self.sent = []
        self.aborted = self.closed = False

    def write(self, data):
        self.sent.append(data)

    def abort(self):
        self.aborted = True

    def close(self):
        self.closed = True

    def get_extra_info(self, name):
        """Have no socket: then nothing that was written waits to be acknowledged."""


class Pool:
    """The owner: keeps what comes back."""

    def __init__(self, endpoint="completions", streaming=True):
        self.wire = ENDPOINTS[endpoint]
        self.streaming, self.keep_text, self.lessons, self.reuse_works = streaming, True, Lessons(), False
        self.back, self.again = [], []

    def finished(self, connection, exchange, *, reusable):
        self.back.append((exchange, reusable))

    def lost(self, connection):
        self.back.append((None, False))

    def resend(self, exchange):
        self.again.append(exchange)


def opened(pool, *, new_connection=True):
    connection = Connection(pool)
    connection.connection_made(Wire())
    planned = PlannedRequest(prompt="p", output_tokens=1)
    exchange = Exchange(idx=0, phase="measure", planned=planned, message=b"POST", new_connection=new_connection)
    connection.send(exchange)
    return connection, exchange


def event(text, key="text", **more):
    said = {"text": text} if key == "text" else {"delta": {key: text}}
    choice = {"index": 0, **said, "finish_reason": more.pop("finish", None)}
    return f"data: {json.dumps({'id': 'a', 'choices': [choice], **more}, ensure_ascii=False)}\n\n".encode()


def chunk(body):
    return b"%x\r\n%b\r\n" % (len(body), body)


def cut(stream, places):
    edges = sorted({0, len(stream), *(place % (len(stream) + 1) for place in places)})
    return [stream[a:b] for a, b in pairwise(edges)]


TEXTS = st.lists(st.text(st.characters(codec="utf-8"), min_size=1, max_size=6), min_size=1, max_size=12)


@given(texts=TEXTS, per_chunk=st.integers(1, 3), places=st.lists(st.integers(0, 5_000), max_size=40))
def test_any_pieces_give_every_token_once_and_the_exact_text(texts, per_chunk, places):
    events = [event(text) for text in texts[:-1]] + [event(texts[-1], finish="length")]
    chunks = [chunk(b"".join(events[at : at + per_chunk])) for at in range(0, len(events), per_chunk)]
    usage = chunk(b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":%d}}\n\n' % len(texts))
    stream = HEAD + b"".join(chunks) + usage + chunk(b"data: [DONE]\n\n") + END
    pool = Pool()
    connection, exchange = opened(pool)
    for piece in cut(stream, places):
        connection.data_received(piece)
    assert pool.back == [(exchange, True)]
    assert exchange.error is None
    assert exchange.text == "".join(texts)
    assert len(exchange.content_ns) == len(texts)
    assert list(exchange.content_ns) == sorted(exchange.content_ns)
    assert (exchange.finish_reason, exchange.output_tokens, exchange.prompt_tokens) == ("length", len(texts), 3)
    assert exchange.visible_ns == exchange.content_ns[0]


def test_one_event_a_read_skips_the_parser_once_the_shape_is_known(monkeypatch):
    pool = Pool()
    connection, exchange = opened(pool)
    connection.data_received(HEAD)
    connection.data_received(chunk(event(" one")))
    parsed = []
    exact = Connection._parse
    monkeypatch.setattr(Connection, "_parse", lambda self, data, at: (parsed.append(data), exact(self, data, at)))
    for _ in range(3):
        connection.data_received(chunk(event(" two")))
    connection.data_received(chunk(event(" three")) + chunk(event(" four")))
    assert parsed == []
    connection.data_received(chunk(event(' "five"')))
    connection.data_received(chunk(event("", finish="stop")))
    assert len(parsed) == 2
    connection.data_received(END)
    assert exchange.text == ' one two two two three four "five"'
    assert len(exchange.content_ns) == 7
    assert exchange.ok


def test_reasoning_comes_before_what_the_user_sees():
    pool = Pool("chat")
    connection, exchange = opened(pool)
    connection.data_received(HEAD)
    for text in ("think", " more", " yet"):
        connection.data_received(chunk(event(text, key="reasoning_content")))
    assert (exchange.reasoned, exchange.visible_ns) == (True, None)
    for text in ("so", " it", " is"):
        connection.data_received(chunk(event(text, key="content")))
    connection.data_received(chunk(event("", key="content", finish="stop")) + END)
    assert exchange.visible_ns == exchange.content_ns[3]
    assert exchange.text == "think more yetso it is"


@given(where=st.integers(0, 400), junk=st.binary(min_size=1, max_size=8))
def test_altered_bytes_end_in_one_report_and_never_in_an_exception(where, junk):
    stream = HEAD + b"".join(chunk(event(f" {number}")) for number in range(4)) + chunk(b"data: [DONE]\n\n") + END
    at = where % len(stream)
    pool = Pool()
    connection, exchange = opened(pool)
    connection.data_received(stream[:at])
    connection.data_received(junk + stream[at:])
    connection.connection_lost(None)
    assert [found for found, _ in pool.back if found is not None] == [exchange]


@pytest.mark.parametrize(
    ("stream", "error_class"),
    [
        (HEAD + chunk(event(" a")) + b"zz\r\n", ErrorClass.BAD_RESPONSE),
        (HEAD + chunk(event(" a")) + chunk(b"data: {half\n\n") + END, ErrorClass.STREAM_ERROR),
        (b"HTTP/1.1 429 No\r\nContent-Length: 2\r\n\r\n{}", ErrorClass.RATE_LIMITED),
        (b"HTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\n{}", ErrorClass.UNAVAILABLE),
        (b"HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\n{}", ErrorClass.HTTP_ERROR),
        (
            HEAD + chunk(event(" a")) + chunk(event("", finish="abort")) + chunk(b"data: [DONE]\n\n") + END,
            ErrorClass.STREAM_ERROR,
        ),
        (HEAD + chunk(b'data: {"object":"error","message":"out of memory"}\n\n') + END, ErrorClass.STREAM_ERROR),
        (b"HTTP/1.1 302 Go\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n", ErrorClass.HTTP_ERROR),
        (b"nonsense\r\n\r\n", ErrorClass.BAD_RESPONSE),
    ],
)
def test_answers_that_are_none(stream, error_class):
    pool = Pool()
    connection, exchange = opened(pool)
    connection.data_received(stream)
    assert [found for found, _ in pool.back] == [exchange]
    assert exchange.error_class is error_class


def test_bytes_that_answer_no_request_close_the_connection():
    pool = Pool()
    connection, _ = opened(pool)
    connection.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nContent-Type: text/event-stream\r\n\r\n")
    assert pool.back[0][0].error_class is ErrorClass.HALF_STREAM
    connection.data_received(b"HTTP/1.1 200 OK\r\n\r\n")
    assert connection._transport.aborted


RESET = ConnectionResetError("reset by peer")


@pytest.mark.parametrize(
    ("idle", "reached", "error", "habit", "proven", "error_class"),
    [
        (True, False, None, False, True, None),  # it had closed the idle connection when the request came
        (True, False, BrokenPipeError(), False, True, None),
        (True, True, None, False, True, ErrorClass.NO_RESPONSE),  # it took the request, and then closed
        (True, False, RESET, False, True, ErrorClass.RESET),
        (True, True, None, True, False, None),  # it closes after each answer
        (True, False, RESET, True, False, None),
        (True, True, None, True, True, ErrorClass.NO_RESPONSE),  # it keeps others alive: that is no habit
        (True, False, RESET, True, True, ErrorClass.RESET),
        (False, False, None, False, False, ErrorClass.NO_RESPONSE),  # a connection of its own had not been idle
        (False, False, RESET, False, False, ErrorClass.RESET),
    ],
)
def test_a_request_is_sent_again_only_where_the_server_had_closed_before(
    idle, reached, error, habit, proven, error_class
):
    pool = Pool()
    connection, exchange = opened(pool, new_connection=not idle)
    connection.answered_ns = time.monotonic_ns() + 3_600_000_000_000 if habit else None
    pool.reuse_works = proven
    if reached:
        connection.eof_received()
    connection.connection_lost(error)
    assert exchange.error_class is error_class
    assert pool.again == ([exchange] if error_class is None else [])
    assert (exchange in [found for found, _ in pool.back]) == (error_class is not None)


@pytest.mark.parametrize(
    ("endpoint", "answer"),
    [
        ("completions", {"choices": [{"text": " ab", "finish_reason": "stop"}], "usage": {"completion_tokens": 2}}),
        ("chat", {"choices": [{"message": {"content": " ab"}, "finish_reason": "stop"}]}),
        ("triton-generate", {"text_output": " ab"}),
        ("triton-infer", {"outputs": [{"name": "text_output", "data": [" ab"]}]}),
    ],
)
def test_a_whole_answer_has_an_end_and_no_token_times(endpoint, answer):
    pool = Pool(endpoint, streaming=False)
    connection, exchange = opened(pool)
    body = json.dumps(answer).encode()
    connection.data_received(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
    )
    connection.data_received(body[:7])
    connection.data_received(body[7:])
    assert pool.back == [(exchange, True)]
    assert exchange.ok
    assert exchange.text == " ab"
    assert not exchange.streamed
    assert len(exchange.content_ns) == 0
    assert exchange.end_ns > 0
