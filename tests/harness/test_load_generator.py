"""The whole generator against a server of known timing: exact counts, order and classes; lower bounds of times."""

import json
import socket
import time
from pathlib import Path

import numpy as np
import pytest
import uvloop

from enginewatch_db.errors import UsageError
from enginewatch_db.metrics import METRICS
from enginewatch_db.model import Phase
from enginewatch_harness.load import connection
from enginewatch_harness.load.__main__ import main
from enginewatch_harness.load.generator import run_load
from enginewatch_harness.load.metrics import start_ns
from enginewatch_harness.load.reference_server import ReferenceServer
from enginewatch_harness.load.spec import Dataset, LoadSpec, Prefixes
from enginewatch_harness.load.spec_json import read_spec, write_spec
from enginewatch_harness.load.target import Target

MS = 1_000_000


@pytest.fixture(params=["completions", "chat"])
def endpoint(request):
    return request.param


@pytest.fixture
def server():
    with ReferenceServer(loop_factory=uvloop.new_event_loop) as running:
        yield running


def load(
    server, spec=None, *, warmup_s=0.0, duration_s=5.0, timeout_s=30.0, endpoint="completions", script=None, **calls
):
    spec = spec or LoadSpec(mode="closed", concurrency=1, requests=4, isl=12, osl=6)
    target = Target(url=server.url, model="m", endpoint=endpoint, body={"script": script or {}}, timeout_s=timeout_s)
    return run_load(target, spec, warmup_s=warmup_s, duration_s=duration_s, seed=11, t0_ns=0, **calls)


def content_times(table):
    """Return each completed request's content times on the monotonic clock, from the stored latencies."""
    begins = start_ns(table)
    rows = zip(begins, table["ttft_ns"].to_pylist(), table["itl_ns"].to_pylist(), strict=True)
    return [begin + ttft + np.concatenate([[0], np.cumsum(gaps)]) for begin, ttft, gaps in rows]


def test_every_token_is_seen_once_in_order_and_never_before_it_was_written(server, endpoint):
    result = load(server, endpoint=endpoint, script={"role_event": True, "ttft_ms": 5, "gap_ms": 2})
    table = result.requests
    assert table["status"].to_pylist() == ["ok"] * 4
    assert table["phase"].to_pylist() == ["measure"] * 4
    assert table["content_events"].to_pylist() == table["output_tokens"].to_pylist() == [6] * 4
    assert table["finish_reason"].to_pylist() == ["length"] * 4
    assert table["http_status"].to_pylist() == [200] * 4
    assert table["new_connection"].to_pylist() == [False] * 4  # opened beforehand, then kept
    assert len(server.truths) == 4
    for truth, seen, sent, first_byte, ttft in zip(
        server.truths,
        content_times(table),
        table["sent_at_ns"].to_pylist(),
        table["first_byte_at_ns"].to_pylist(),
        table["ttft_ns"].to_pylist(),
        strict=True,
    ):
        assert sent <= truth.arrived_ns
        assert (seen >= np.array(truth.written_ns)).all()
        assert (np.diff(seen) >= 0).all()
        assert ttft >= 5 * MS  # the role event came at once, and is no token
        assert first_byte - sent <= ttft
        assert seen[-1] - sent >= (5 + 5 * 2) * MS
    begin, end = result.window_ns
    assert begin <= server.truths[0].arrived_ns
    assert result.counts["output_tokens"] == 24
    assert result.counts["completed"] == 4
    assert result.counts["tokens_per_event"] == 1
    assert (end - begin) / 1e9 == pytest.approx(result.counts["window_s"])


def test_all_llm_metrics_are_there(server):
    result = load(server)
    expected = {key for key, item in METRICS.items() if item.kind.value == "llm"}
    assert {item.metric for item in result.metrics} == expected
    found = {item.metric: item for item in result.metrics}
    assert found["ttft_p50_ms"].n == 4
    assert found["itl_p50_ms"].n == 20
    assert found["requests_failed_pct"].value == 0
    assert found["client_cpu_pct"].value is None or found["client_cpu_pct"].value > 0  # absent in a short window


def test_prompts_are_calibrated_seeded_and_all_different(server):
    result = load(server)
    prompts = [truth.body["prompt"] for truth in server.truths]
    assert len(set(prompts)) == 4
    assert {len(prompt.split()) for prompt in prompts} == {11}  # the tokenizer adds one token
    assert result.requests["prompt_tokens"].to_pylist() == [12] * 4
    assert any("counted by the server" in note for note in result.notes)
    load(server)
    assert [truth.body["prompt"] for truth in server.truths[4:]] == prompts


def test_without_a_tokenizer_the_length_is_an_estimate():
    with ReferenceServer(tokenizes=False) as server:
        result = load(server)
    assert len(server.truths[0].body["prompt"].split()) == 12
    assert "estimate" in result.notes[0]


def test_phases_in_order_and_requests_in_their_phase(server):
    phases = []
    spec = LoadSpec(mode="closed", concurrency=3, isl=8, osl=4)
    result = load(server, spec, warmup_s=0.1, duration_s=0.3, script={"ttft_ms": 3}, on_phase=phases.append)
    assert phases == [Phase.WARMUP, Phase.MEASURE, Phase.DRAIN]
    begin, end = result.window_ns
    assert end - begin == 300 * MS
    assert {item.metric: item for item in result.metrics}["client_cpu_pct"].value > 0
    begins = start_ns(result.requests)
    names = result.requests["phase"].to_pylist()
    assert names == sorted(names, key=["warmup", "measure", "drain"].index)
    assert set(names) >= {"warmup", "measure"}
    earliest = {"warmup": 0, "measure": begin, "drain": end}
    assert all(at >= earliest[name] for at, name in zip(begins, names, strict=True))
    rows = result.requests.to_pylist()
    assert {row["status"] for row in rows if row["phase"] != "drain"} == {"ok"}
    assert {row["error_class"] for row in rows if row["phase"] == "drain"} <= {None, "cancelled"}
    assert {row["stream"] for row in rows} == {0, 1, 2}


def test_a_closed_loop_never_has_more_in_flight_than_its_streams(server):
    load(server, LoadSpec(mode="closed", concurrency=3, requests=12, isl=8, osl=4))
    marks = sorted(
        [(truth.arrived_ns, 1) for truth in server.truths] + [(truth.written_ns[-1], -1) for truth in server.truths]
    )
    in_flight = np.cumsum([step for _, step in marks])
    assert in_flight.max() <= 3
    assert len(server.truths) == 12


@pytest.mark.parametrize("mode", ["poisson", "constant"])
def test_an_open_loop_keeps_its_schedule_whatever_the_server_does(server, mode):
    spec = LoadSpec(mode=mode, concurrency=64, rate_rps=200, requests=30, isl=8, osl=3)
    result = load(server, spec, script={"ttft_ms": 40, "gap_ms": 5})
    rows = result.requests.to_pylist()
    assert len(rows) == 30
    assert all(row["status"] == "ok" and row["stream"] is None for row in rows)
    intended = [row["intended_at_ns"] for row in rows]
    assert intended == sorted(intended)
    assert all(row["sent_at_ns"] >= row["intended_at_ns"] for row in rows)
    if mode == "constant":
        assert np.diff(intended).tolist() == [5 * MS] * 29
    # Latency counts from the intended time, and the server needs 40 ms: so far more are in flight than one.
    assert all(row["ttft_ns"] >= 40 * MS + row["sent_at_ns"] - row["intended_at_ns"] for row in rows)
    found = {item.metric: item for item in result.metrics}
    assert found["send_lateness_p99_ms"].n == 30


def test_waiting_for_a_connection_is_lateness_and_makes_the_run_client_bound(server):
    spec = LoadSpec(mode="constant", concurrency=1, rate_rps=500, requests=8, isl=8, osl=2)
    result = load(server, spec, script={"ttft_ms": 20})
    rows = result.requests.to_pylist()
    assert rows[-1]["sent_at_ns"] - rows[-1]["intended_at_ns"] >= 100 * MS  # seven times 20 ms, less 14 ms
    assert rows[-1]["ttft_ns"] >= 120 * MS
    assert "client_bound" in {reason.code for reason in result.reasons}


def test_events_of_one_read_share_their_time(server):
    result = load(server, script={"pack": 3, "gap_ms": 4})
    for gaps in result.requests["itl_ns"].to_pylist():
        assert [gaps[index] for index in (0, 1, 3, 4)] == [0] * 4
        assert gaps[2] > 0
    found = {item.metric: item for item in result.metrics}
    assert found["zero_gap_pct"].value == pytest.approx(80)


def test_a_server_that_packs_tokens_is_told_by_its_usage(server):
    result = load(server, script={"tokens_per_event": 3})
    assert result.requests["output_tokens"].to_pylist() == [18] * 4
    assert result.counts["output_tokens"] == pytest.approx(72)
    assert result.counts["tokens_per_event"] == pytest.approx(3)


FAULTS = [
    ({"status": 500}, "http_error", 0, "HTTP 500: scripted failure"),
    ({"status": 429}, "rate_limited", 0, "HTTP 429"),
    ({"status": 503}, "unavailable", 0, "HTTP 503"),
    ({"bad_json_after": 2}, "stream_error", 2, "not JSON"),
    ({"bad_chunk_after": 2}, "bad_response", 2, "chunk size"),
    ({"stall_after": 2}, "timeout", 2, "2 content events"),
    ({"streaming": False}, "not_streaming", 0, "application/json"),
    ({"error_after": 2}, "stream_error", 2, "scripted error"),
    ({"cut_after": 0}, "no_response", 0, "without an answer"),
    ({"cut_after": 3}, "half_stream", 3, "after 3 content events"),
    ({"reset_after": 0}, "reset", 0, "reset"),
    ({"reset_after": 3}, "reset", 3, "reset"),
    ({"done": False, "finish": False}, "half_stream", 6, "after 6 content events"),
    ({"silent": True}, "timeout", 0, "0.5 s"),
    ({"gap_ms": 10_000}, "timeout", 1, "1 content events"),
]


@pytest.mark.parametrize(("script", "error_class", "events", "words"), FAULTS)
def test_every_fault_has_its_class_and_no_latency(server, script, error_class, events, words):
    spec = LoadSpec(mode="closed", concurrency=2, requests=2, isl=8, osl=6)
    result = load(server, spec, script=script, timeout_s=0.5 if error_class == "timeout" else 30)
    for row in result.requests.to_pylist():
        assert (row["status"], row["error_class"], row["content_events"]) == ("error", error_class, events)
        assert words in row["error"]
        assert row["ttft_ns"] is row["e2e_ns"] is row["tpot_ns"] is row["itl_ns"] is None
    assert [reason.code for reason in result.reasons] == ["requests_failed", "too_few_samples"]
    assert f"2 of 2 requests: 2 {error_class}" in result.reasons[0].detail
    found = {item.metric: item for item in result.metrics}
    assert found["requests_failed_pct"].value == 100
    assert found["ttft_p50_ms"].value is None


def test_a_stream_may_end_without_its_marker_if_it_gave_a_finish_reason(server):
    assert load(server, script={"done": False}).requests["status"].to_pylist() == ["ok"] * 4


def test_a_server_that_closes_after_each_answer_costs_no_failure(server):
    spec = LoadSpec(mode="closed", concurrency=1, requests=12, isl=8, osl=6)
    result = load(server, spec, script={"close_after": True})
    rows = result.requests.to_pylist()
    assert [row["status"] for row in rows] == ["ok"] * 12
    # Once the habit is known, the next connection is opened while the one before is busy.
    assert result.counts["resent"] < 6
    assert sum(row["new_connection"] for row in rows) < 6
    assert all(row["connect_ns"] > 0 for row in rows if row["new_connection"])


def test_a_port_where_nothing_listens():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
        result = run_load(
            Target(url=url, model="m"),
            LoadSpec(mode="closed", concurrency=2, requests=3),
            warmup_s=0,
            duration_s=1,
            seed=0,
            t0_ns=0,
        )
    assert result.requests["error_class"].to_pylist() == ["connect_refused"] * 3
    assert [reason.code for reason in result.reasons] == ["requests_failed", "too_few_samples"]


def test_a_host_that_does_not_exist():
    result = run_load(
        Target(url="http://no-such-host.invalid:1", model="m"),
        LoadSpec(mode="closed", requests=1),
        warmup_s=0,
        duration_s=1,
        seed=0,
        t0_ns=0,
    )
    assert result.requests["error_class"].to_pylist() == ["connect_failed"]


def test_a_server_that_dies_under_load_ends_it_with_a_reason(server):
    dying = []

    def progress(count, median_ms):
        if count and not dying:
            dying.append(median_ms)
            server.die()

    spec = LoadSpec(mode="closed", concurrency=3, isl=8, osl=5)
    result = load(server, spec, duration_s=600.0, on_progress=progress)
    assert dying[0] >= 5  # the running median: 1 ms and four gaps of 1 ms
    codes = {reason.code for reason in result.reasons}
    assert {"server_died", "requests_failed"} <= codes
    classes = set(result.requests["error_class"].to_pylist())
    assert "connect_refused" in classes
    assert classes <= {None, "connect_refused", "reset", "no_response", "half_stream", "cancelled"}
    found = {item.metric: item for item in result.metrics}
    assert found["ttft_p50_ms"].n >= 1  # what was measured before stays
    assert result.window_ns[1] < result.window_ns[0] + 600 * 10**9
    assert result.window_ns[1] <= time.monotonic_ns()


def test_a_hopeless_server_is_given_up_on(server, monkeypatch):
    monkeypatch.setattr("enginewatch_harness.load.driver.GIVE_UP_AFTER", 3)
    monkeypatch.setattr("enginewatch_harness.load.driver.ERROR_PAUSE_NS", 1_000_000)
    spec = LoadSpec(mode="closed", concurrency=2, isl=8, osl=5)
    result = load(server, spec, duration_s=600.0, script={"status": 503})
    assert 6 <= result.requests.num_rows <= 8
    assert any("6 requests in a row failed" in note for note in result.notes)


def test_a_target_that_cannot_be_obeyed_is_refused_before_anything_is_sent(server):
    with pytest.raises(UsageError, match="burst"):
        load(server, LoadSpec(mode="burst"))
    with pytest.raises(UsageError, match="ftp"):
        run_load(
            Target(url="ftp://127.0.0.1:1", model="m"),
            LoadSpec(mode="closed"),
            warmup_s=0,
            duration_s=1,
            seed=0,
            t0_ns=0,
        )
    assert server.truths == []


def test_the_load_by_hand(server, capsys, tmp_path):
    kept = tmp_path / "requests.parquet"
    argv = ["--url", server.url, "--model", "m", "--requests", "3", "--isl", "8", "--osl", "4", "--warmup-s", "0"]
    assert main([*argv, "--requests-to", str(kept)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["counts"]["completed"] == 3
    assert found["metrics"]["ttft_p50_ms"]["n"] == 3
    assert kept.stat().st_size > 0
    assert main(["--url", "ftp://x", "--model", "m"]) == 2
    assert "http://host:port" in capsys.readouterr().err


def test_a_load_by_hand_that_no_flags_can_tell(server, capsys):
    spec = LoadSpec(
        mode="gamma", rate_rps=200, burstiness=2, concurrency=8, requests=5, isl=8, osl=4, slo={"e2e_ms": 1}
    )
    argv = ["--url", server.url, "--model", "m", "--warmup-s", "0", "--spec", write_spec(spec)]
    assert main(argv) == 0
    assert json.loads(capsys.readouterr().out)["metrics"]["goodput_pct"]["n"] == 5
    assert main([*argv, "--isl", "9"]) == 2
    assert "--isl beside --spec" in capsys.readouterr().err


SPECS = [
    LoadSpec(
        mode="steps",
        steps=((1.5, 2), (3, 4)),
        dataset=Dataset(path=Path("a b"), speed=2),
        prefixes=Prefixes(groups=2, tokens=3),
    ),
    LoadSpec(mode="closed", tokenizer=Path("t.json"), turns=3, slo={"ttft_ms": 1.5}, isl_dist="normal:2"),
]


@pytest.mark.parametrize("spec", SPECS)
def test_a_load_survives_its_text(spec):
    assert read_spec(write_spec(spec)) == spec


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "JSON"),
        ("[1]", "the load"),
        ('{"isl": 4}', "mode"),
        ('{"mode": "closed", "isl": "x"}', "isl"),
        ('{"osls": 1}', "osls"),
    ],
)
def test_text_that_is_no_load(text, said):
    with pytest.raises(UsageError, match=said):
        read_spec(text)


def test_tokens_of_one_read_have_no_latency_between_them(server):
    spec = LoadSpec(mode="closed", concurrency=2, requests=24, isl=8, osl=6, slo={"tpot_ms": 0.001})
    result = load(server, spec, script={"pack": 6})
    assert set(result.requests["tpot_ns"].to_pylist()) == {None}
    found = {item.metric: item for item in result.metrics}
    assert found["itl_p50_ms"].value is found["tpot_p50_ms"].value is None
    assert "one read" in found["itl_p50_ms"].absent_reason
    assert found["goodput_pct"].value == 0  # what cannot be told is not good
    assert found["ttft_p50_ms"].value > 0


def test_the_last_arrival_is_inside_the_window_that_it_ends(server):
    spec = LoadSpec(mode="steps", steps=((100, 0.12),), burstiness=0, concurrency=16, isl=8, osl=2)
    result = load(server, spec)
    assert result.requests["status"].to_pylist() == ["ok"] * 12
    found = {item.metric: item for item in result.metrics}
    assert found["requests_in_flight"].n == 12
    assert result.window_ns[1] - result.window_ns[0] == 110 * MS + 1


def test_an_abort_of_ours_and_an_error_answer_do_not_end_keep_alive(server):
    seen = []

    def script(body):
        seen.append(1)
        if len(seen) == 5:
            return {"silent": True}
        return {"status": 503} if len(seen) == 9 else {}

    server.script = script
    spec = LoadSpec(mode="constant", concurrency=16, rate_rps=50, requests=40, isl=8, osl=2)
    rows = load(server, spec, timeout_s=0.2).requests.to_pylist()
    assert sorted({row["error_class"] or "" for row in rows}) == ["", "timeout", "unavailable"]
    assert sum(row["new_connection"] for row in rows) <= 2


def test_a_reset_of_a_request_that_came_is_its_failure_and_not_sent_again(server, monkeypatch):
    """Long after the last answer, a reset is no habit of closing, though no connection has been used twice yet."""
    monkeypatch.setattr(connection, "CLOSED_BY_ANSWER_NS", MS)  # so that 143 ms are long on a busy machine too
    server.script = lambda body: {"reset_after": 0} if len(server.truths) % 2 else {}
    spec = LoadSpec(mode="constant", concurrency=1, rate_rps=7, requests=8, isl=8, osl=2)
    result = load(server, spec)
    assert len(server.truths) == 8  # none was sent twice
    assert result.requests["error_class"].to_pylist() == [None, "reset"] * 4
    assert result.counts["resent"] == 0


def test_a_proxy_that_ends_every_fourth_connection_politely_keeps_the_others_alive(server):
    used = set()

    def script(body):
        used.update(server.connections)
        return {"says_close": len(server.truths) % 4 == 3}

    server.script = script
    spec = LoadSpec(mode="closed", concurrency=1, requests=12, isl=8, osl=2)
    rows = load(server, spec).requests.to_pylist()
    assert [row["status"] for row in rows] == ["ok"] * 12
    assert sum(row["new_connection"] for row in rows) <= 3
    assert len(used) <= 4


def test_an_answer_cut_within_a_surrogate_pair_goes_into_the_next_turn_as_it_came(server):
    server.script = lambda body: {"text": "\ud83d"}
    spec = LoadSpec(mode="closed", concurrency=1, requests=2, turns=2, isl=8, osl=1)
    rows = load(server, spec, endpoint="chat").requests.to_pylist()
    assert [row["status"] for row in rows] == ["ok", "ok"]
    said = [message["content"] for message in server.truths[1].body["messages"] if message["role"] == "assistant"]
    assert said == ["\ud83d0"]
