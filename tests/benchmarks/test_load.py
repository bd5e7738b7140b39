"""The load benchmark measures right: what its mock server knows and what clients report belong together."""

from __future__ import annotations

import http.client
import json
import socket
import struct

import numpy as np
import pytest
from benchmarks.load import clients, report
from benchmarks.load.host import CannotRunError, Used, build, compiler, run_client, serving
from benchmarks.load.measure import Figures, figures, of_the_load
from benchmarks.load.truth import Seen, Truth, errors, join, read_truth, seen_from_times

TTFT_NS, GAP_NS = 2_000_000, 500_000
FAST = ("--ttft-us", str(TTFT_NS // 1000), "--gap-us", str(GAP_NS // 1000))
STREAMS, REQUESTS, TOKENS = 4, 12, 16

needs_cc = pytest.mark.skipif(compiler() is None, reason="no C compiler (cc, gcc or clang)")


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    return build(tmp_path_factory.mktemp("programs"))


def _body(**more):
    return json.dumps({"model": "m", "prompt": "one two", "max_tokens": TOKENS, "stream": True, **more})


def _post(url, path, body, headers=None):
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=10)
    connection.request("POST", path, body, headers or {})
    answer = connection.getresponse().read().decode()
    connection.close()
    return answer


def _events(answer):
    return [part.removeprefix("data: ") for part in answer.split("\n\n") if part]


@needs_cc
@pytest.mark.parametrize("client", [clients.OURS, clients.C, clients.ASYNCIO], ids=lambda client: client.name)
def test_each_request_of_a_client_is_one_of_the_servers(client, programs, tmp_path):
    with serving(programs, tmp_path, core=None, options=FAST) as server:
        job = clients.Job(
            url=server.url,
            port=server.port,
            streams=STREAMS,
            requests=REQUESTS,
            isl=64,
            osl=TOKENS,
            folder=tmp_path,
            programs=programs,
        )
        used = run_client(programs, client.command(job), tmp_path, core=None)
    assert used.status == 0, (tmp_path / "client.err").read_text()
    seen = client.read(job)
    pairs = join(seen, server.truths)
    assert len(seen) == len(pairs) == len(server.truths) == REQUESTS
    assert len({truth.connection for truth in server.truths}) <= STREAMS, "connections are kept alive"
    for item, truth in pairs:
        assert truth.written_ns.size == item.gaps_ns.size + 1 == TOKENS
        assert (truth.late_ns(TTFT_NS, GAP_NS) >= 0).all(), "no token is early"
        assert item.ttft_ns >= truth.ttft_ns - 1000, "nothing is seen before it was written"
    found = figures(seen, server.truths, used, server.lateness, job)
    assert found.requests == REQUESTS
    assert found.ttft_p50_ms is not None
    assert 0 < found.cpu_start_s + found.cpu_s_per_m * REQUESTS * TOKENS / 1e6 == pytest.approx(used.cpu_s)


@needs_cc
def test_no_event_of_the_c_client_is_older_than_its_write(programs, tmp_path):
    with serving(programs, tmp_path, core=None, options=FAST) as server:
        job = clients.Job(
            url=server.url,
            port=server.port,
            streams=1,
            requests=2,
            isl=1,
            osl=TOKENS,
            folder=tmp_path,
            programs=programs,
        )
        run_client(programs, clients.C.command(job), tmp_path, core=None)
    for item, truth in join(clients.C.read(job), server.truths):
        times = item.start_ns + item.ttft_ns + np.concatenate([[0], np.cumsum(item.gaps_ns)])
        assert (times >= truth.written_ns).all()
        assert truth.arrived_ns <= truth.read_ns <= truth.written_ns[0]
        assert item.start_ns <= truth.arrived_ns + 1000


@needs_cc
def test_the_server_speaks_both_endpoints_and_knows_request_ids(programs, tmp_path):
    with serving(programs, tmp_path, core=None, options=FAST) as server:
        chat = _events(_post(server.url, "/v1/chat/completions", _body(stream_options={"include_usage": True})))
        plain = _events(_post(server.url, "/v1/completions", _body(), {"X-Request-Id": "mine"}))
        whole = json.loads(_post(server.url, "/v1/completions", _body(stream=False)))
        connection = http.client.HTTPConnection(server.url.removeprefix("http://"))
        connection.request("GET", "/v1/models")
        models = json.loads(connection.getresponse().read())
        connection.request("GET", "/truth")
        so_far = read_truth(connection.getresponse().read())
        connection.close()
    parsed = [json.loads(event) for event in chat[:-1]]
    assert chat[-1] == plain[-1] == "[DONE]"
    assert parsed[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert [bool(event["choices"][0]["delta"]["content"]) for event in parsed[1:-1]] == [True] * TOKENS
    assert [event["choices"][0]["finish_reason"] for event in parsed[:-1]] == [None] * TOKENS + ["length"]
    assert parsed[-1]["usage"]["completion_tokens"] == TOKENS
    assert [bool(json.loads(event)["choices"][0]["text"]) for event in plain[:-1]] == [True] * TOKENS
    assert whole["choices"][0]["text"] == " token" * TOKENS
    assert models["data"][0]["id"] == "m"
    assert [truth.request_id for truth in server.truths] == ["", "mine", ""]
    assert [truth.serial for truth in so_far] == [0, 1, 2]


@needs_cc
def test_a_request_in_pieces_and_one_broken_off(programs, tmp_path):
    body = _body().encode()
    request = b"POST /v1/completions HTTP/1.1\r\nhost: m\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
    with serving(programs, tmp_path, core=None, options=(*FAST[:2], "--gap-us", "60000000")) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as left:
            for byte in request:
                left.send(bytes([byte]))
            answer = b""
            while b'"text"' not in answer:
                answer += left.recv(4096)
        _post(server.url, "/v1/completions", _body(max_tokens=1))
    broken, after = server.truths
    assert (broken.wanted, broken.written_ns.size) == (TOKENS, 1)
    assert (after.wanted, after.written_ns.size) == (1, 1)
    assert of_the_load([Seen(key=None, ttft_ns=1, gaps_ns=None)], [broken, after]) == [after]


@needs_cc
def test_a_client_that_fails_or_hangs_is_told(programs, tmp_path):
    assert run_client(programs, ["false"], tmp_path, core=None).status == 1
    assert run_client(programs, ["/no/such/program"], tmp_path, core=None).status == 127
    with pytest.raises(CannotRunError, match="had not ended after 0 s"):
        run_client(programs, ["sleep", "60"], tmp_path, core=None, timeout_s=0)


def _truth(serial, arrived, times, request_id=""):
    return Truth(
        serial=serial,
        connection=0,
        order=serial,
        request_id=request_id,
        arrived_ns=arrived,
        read_ns=arrived,
        ended_ns=times[-1],
        wanted=len(times),
        written_ns=np.array(times),
    )


def test_errors_are_measured_minus_true():
    truths = [_truth(n, 1000 * n, [1000 * n + 50_000_000, 1000 * n + 60_000_000]) for n in range(10)]
    seen = [
        seen_from_times(n, 1000 * n, np.array([1000 * n + 50_300_000, 1000 * n + 60_500_000]))
        for n in reversed(range(10))
    ]
    found = errors(seen, truths)
    for quantile in (0.5, 0.99):
        assert found.ttft_ms[quantile] == pytest.approx(0.3)
        assert found.paired_ttft_ms[quantile] == pytest.approx(0.3)
        assert found.itl_ms[quantile] == pytest.approx(0.2)
    assert errors([Seen(key=None, ttft_ns=51_000_000, gaps_ns=None)], truths[:1]).itl_ms is None
    with pytest.raises(LookupError, match="'99'"):
        join([Seen(key="99", ttft_ns=1, gaps_ns=None)], truths)
    with pytest.raises(LookupError):
        join([seen[0], seen[0]], truths)


def test_the_truth_file_reads_back():
    data = struct.pack("=QIIqqqII64s", 7, 3, 2, 10, 11, 99, 4, 2, b"abc") + struct.pack("=2q", 20, 30)
    (found,) = read_truth(data)
    assert (found.serial, found.connection, found.order, found.request_id, found.ended_ns) == (7, 3, 2, "abc", 99)
    assert (found.arrived_ns, found.read_ns, found.wanted, found.ttft_ns) == (10, 11, 4, 10)


def test_cpu_before_the_first_request_is_start_up():
    used = Used(began_ns=0, cpu_s=5.0, peak_mb=1.0, cpu_until=((10, 1.0), (20, 3.0)), status=0)
    assert [used.cpu_at(at) for at in (-1, 0, 5, 15, 20, 21)] == [0.0, 0.0, 0.5, 2.0, 3.0, 5.0]


def _figures(**changes):
    plain = dict.fromkeys(Figures.__slots__, 1.0) | changes
    return Figures(**plain)


def test_goals_say_met_not_met_and_not_measured():
    table = {
        (1024, "ours"): _figures(cpu_s_per_m=8.0, ttft_p50_ms=-0.4, offered_pct=99.5),
        (1024, "c"): _figures(cpu_s_per_m=7.0),
    }
    judged = {item["goal"]: item["met"] for item in report.goals(table)}
    assert judged["1,024 streams: % of the offered tokens/s"] is True
    assert judged["1,024 streams: |TTFT error| p50, ms"] is False
    assert judged["1,024 streams: CPU per token over the C client's"] is True
    assert judged["1,024 streams: tokens/s over AIPerf's, one core each"] is None
    assert judged["128 streams: AIPerf's |TTFT error| p50 over ours"] is None
    assert all(
        "met" in report.goal_line(item) or "not measured" in report.goal_line(item) for item in report.goals(table)
    )
