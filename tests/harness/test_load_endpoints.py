"""Every endpoint, whole answers, TLS and sessions, against the reference server."""

import json
import ssl
from itertools import pairwise

import pytest
import trustme
import uvloop

from enginewatch_db.errors import UsageError
from enginewatch_harness.load.endpoints import ENDPOINTS
from enginewatch_harness.load.generator import run_load
from enginewatch_harness.load.reference_server import ReferenceServer
from enginewatch_harness.load.spec import LoadSpec
from enginewatch_harness.load.target import RequestWriter, Target
from enginewatch_harness.load.workload import PlannedRequest


@pytest.fixture
def server():
    with ReferenceServer(loop_factory=uvloop.new_event_loop) as running:
        yield running


def load(server, spec=None, *, script=None, **target):
    spec = spec or LoadSpec(mode="closed", concurrency=2, requests=4, isl=8, osl=5)
    aim = Target(url=server.url, model="m", body={"script": script or {}}, timeout_s=30, **target)
    return run_load(aim, spec, warmup_s=0, duration_s=1, seed=3, t0_ns=0)


@pytest.mark.parametrize("endpoint", ["completions", "chat", "triton-generate"])
def test_every_endpoint_streams(server, endpoint):
    rows = load(server, endpoint=endpoint).requests.to_pylist()
    assert [row["error"] for row in rows] == [None] * 4
    assert [row["content_events"] for row in rows] == [5] * 4
    assert all(row["ttft_ns"] > 0 and len(row["itl_ns"]) == 4 for row in rows)
    counted = 5 if ENDPOINTS[endpoint].counted else None
    assert [row["output_tokens"] for row in rows] == [counted] * 4


@pytest.mark.parametrize("endpoint", list(ENDPOINTS))
def test_every_endpoint_answers_whole_without_a_first_token(server, endpoint):
    result = load(server, endpoint=endpoint, stream=False, script={"ttft_ms": 5})
    rows = result.requests.to_pylist()
    assert [row["error"] for row in rows] == [None] * 4
    assert all(row["ttft_ns"] is row["itl_ns"] is row["tpot_ns"] is None for row in rows)
    assert all(row["e2e_ns"] >= 5_000_000 for row in rows)
    found = {item.metric: item for item in result.metrics}
    assert found["ttft_p50_ms"].value is None
    assert found["e2e_p50_ms"].value >= 5


def test_a_stream_of_triton_that_breaks_off_is_no_answer(server):
    rows = load(server, endpoint="triton-generate", script={"cut_after": 2}).requests.to_pylist()
    assert {row["error_class"] for row in rows} == {"half_stream"}


def test_reasoning_is_timed_apart(server):
    result = load(server, endpoint="chat", script={"reasoning": 3, "gap_ms": 4})
    for row in result.requests.to_pylist():
        assert row["ttfo_ns"] == row["ttft_ns"] + sum(row["itl_ns"][:3])
    assert {item.metric: item for item in result.metrics}["ttfo_p50_ms"].value > 12


def test_sessions_carry_their_history(server):
    spec = LoadSpec(mode="closed", concurrency=2, requests=12, isl=8, osl=3, turns=3)
    result = load(server, spec, endpoint="chat", script={"text": ' "\u00e9" '})
    sessions = {}
    for truth in server.truths:
        messages = truth.body["messages"]
        sessions.setdefault(messages[0]["content"], []).append(messages)
    assert len(result.requests) == len(server.truths) == 12
    for turns in sessions.values():
        for number, messages in enumerate(turns):
            assert [message["role"] for message in messages] == ["user", "assistant"] * number + ["user"]
            if number:
                assert messages[: 2 * number - 1] == turns[number - 1]
                assert messages[2 * number - 1]["content"] == ' "\u00e9" 0 "\u00e9" 1 "\u00e9" 2'
    assert {row["turn"] for row in result.requests.to_pylist()} == {0, 1, 2}


def test_turns_need_an_endpoint_with_history(server):
    with pytest.raises(UsageError, match="no history"):
        load(server, LoadSpec(mode="closed", turns=2, requests=2))


def test_streams_pause_between_their_requests(server):
    spec = LoadSpec(mode="closed", concurrency=1, requests=5, isl=4, osl=1, think_time_s=0.02)
    rows = load(server, spec).requests.to_pylist()
    pauses = [b["sent_at_ns"] - a["sent_at_ns"] - a["e2e_ns"] for a, b in pairwise(rows)]
    assert sum(pauses) > 10_000_000  # the mean of four is 80 ms; a twentieth of that is rarer than one in a million


def test_a_trace_ends_the_load_with_its_last_arrival(server, tmp_path):
    from enginewatch_harness.load.spec import Dataset

    trace = tmp_path / "trace.jsonl"
    lines = [{"timestamp": 40 * at, "input_length": 6, "output_length": 1 + at % 3} for at in range(8)]
    trace.write_text("".join(json.dumps(line) + "\n" for line in lines))
    spec = LoadSpec(mode="trace", concurrency=8, dataset=Dataset(path=trace, speed=4.0))
    result = run_load(Target(url=server.url, model="m"), spec, warmup_s=0, duration_s=60, seed=0, t0_ns=0)
    rows = result.requests.to_pylist()
    assert [row["asked_output_tokens"] for row in rows] == [line["output_length"] for line in lines]
    first = rows[0]["intended_at_ns"]
    assert [row["intended_at_ns"] - first for row in rows] == [10_000_000 * at for at in range(8)]
    assert {row["phase"] for row in rows} == {"measure"}
    assert result.window_ns[1] - result.window_ns[0] <= 71_000_000


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.mark.parametrize("trusted", [True, False])
def test_tls(authority, tmp_path, trusted):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    ca_file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    spec = LoadSpec(mode="closed", concurrency=2, requests=4, isl=8, osl=5)
    with ReferenceServer(loop_factory=uvloop.new_event_loop, tls=context) as server:
        assert server.url.startswith("https://")
        rows = load(server, spec, ca_file=ca_file if trusted else None).requests.to_pylist()
        unverified = load(server, spec, verify_tls=False).requests["status"].to_pylist()
    assert {row["error_class"] for row in rows} == {None if trusted else "tls_failed"}
    if trusted:
        assert [row["content_events"] for row in rows] == [5] * 4
        assert [row["prompt_tokens"] for row in rows] == [8] * 4  # the tokenizer was asked over TLS too
    assert unverified == ["ok"] * 4


def body_of(request):
    head, _, body = request.partition(b"\r\n\r\n")
    assert int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0]) == len(body)
    return head.split(b"\r\n")[0], json.loads(body)


@pytest.mark.parametrize("endpoint", list(ENDPOINTS))
def test_requests_are_spelt_exactly(endpoint):
    text = 'a "quoted" \\ line\n\u00e9\U0001f600 -7654321 @@text@@'
    writer = RequestWriter(Target(url="https://h/base/", model="org/m", endpoint=endpoint, body={"top_p": 0.5}))
    line, body = body_of(writer.request(PlannedRequest(prompt=text, output_tokens=77)))
    assert line.startswith(b"POST /base/v")
    assert text in _leaves(body)
    assert 77 in _leaves(body)
    assert body["top_p"] == 0.5
    if "triton" in endpoint:
        assert b"/org%2Fm/" in line


def _leaves(value):
    if isinstance(value, dict):
        return [leaf for item in value.values() for leaf in _leaves(item)]
    return [leaf for item in value for leaf in _leaves(item)] if isinstance(value, list) else [value]


def test_an_answer_can_be_asked_for_no_more_and_no_less():
    asked = PlannedRequest(prompt="x", output_tokens=9)
    _, body = body_of(RequestWriter(Target(url="http://h", model="m", min_tokens=True)).request(asked))
    assert (body["max_tokens"], body["min_tokens"]) == (9, 9)
    _, plain = body_of(RequestWriter(Target(url="http://h", model="m")).request(asked))
    assert "min_tokens" not in plain


@pytest.mark.parametrize("url", ["h:1", "ftp://h", "http://", "http://h:99999", "http://h/?q=1"])
def test_urls_that_cannot_be_measured(url):
    with pytest.raises(UsageError, match="cannot be measured"):
        RequestWriter(Target(url=url, model="m"))


def test_a_header_cannot_smuggle_another():
    with pytest.raises(UsageError, match="line break"):
        RequestWriter(Target(url="http://h", model="m", headers={"X": "a\r\nY: b"}))


def test_certificates_that_cannot_be_read(tmp_path):
    with pytest.raises(UsageError, match="certificates"):
        Target(url="https://h", model="m", ca_file=tmp_path / "none.pem").tls()
