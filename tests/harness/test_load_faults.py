"""A server that does everything wrong: every request is accounted for by its class, none lost, none double."""

import threading
from collections import Counter

import pytest
import uvloop

from enginewatch_harness.load.generator import prepare, run_load
from enginewatch_harness.load.reference_server import ReferenceServer
from enginewatch_harness.load.spec import LoadSpec, Prefixes
from enginewatch_harness.load.synthetic import SyntheticWorkload
from enginewatch_harness.load.target import Target

REQUESTS = 2_000
STREAMS = 64
TIMEOUT_S = 0.5
SEED = 5

SCRIPTS = [
    ({}, None),
    ({"split_bytes": 1, "text": " \u00e9\u6f22\U0001f600", "role_event": True}, None),
    ({"pack": 3}, None),
    ({"close_after": True}, None),
    ({"status": 429}, "rate_limited"),
    ({"status": 500}, "http_error"),
    ({"status": 503}, "unavailable"),
    ({"reset_after": 0}, "reset"),
    ({"reset_after": 2}, "reset"),
    ({"cut_after": 2}, "half_stream"),
    ({"stall_after": 1}, "timeout"),
    ({"silent": True}, "timeout"),
    ({"error_after": 2}, "stream_error"),
    ({"bad_json_after": 1, "split_bytes": 3}, "stream_error"),
    ({"bad_chunk_after": 1}, "bad_response"),
    ({"streaming": False}, "not_streaming"),
    ({"done": False, "finish": False}, "half_stream"),
]
AT_DEATH = {"connect_refused", "connect_failed", "reset", "no_response", "half_stream"}


class Liar:
    """Deals the scripts out in turn, dies once, and is back a moment later."""

    def __init__(self):
        self.dealt = {}
        self.prompts = Counter()
        self.server = ReferenceServer(loop_factory=uvloop.new_event_loop, tokenizes=False, script=self.script)
        self.died = threading.Event()
        self.back = threading.Timer(0.3, self.server.come_back)

    def script(self, body):
        self.prompts[body["prompt"]] += 1
        script, expected = SCRIPTS[len(self.dealt) % len(SCRIPTS)]
        self.dealt[body["prompt"]] = expected
        return script

    def progress(self, count, median_ms):
        if count > 200 and not self.died.is_set():
            self.died.set()
            self.server.die()
            self.back.start()


@pytest.mark.parametrize("processes", [1, 2])
def test_two_thousand_requests_to_a_server_that_does_everything_wrong(processes):
    liar = Liar()
    spec = LoadSpec(
        mode="closed",
        concurrency=STREAMS,
        requests=REQUESTS,
        isl=12,
        osl=5,
        processes=processes,
        prefixes=Prefixes(groups=1_000_000, tokens=1),  # so that each request says its number
    )
    with liar.server as server:
        target = Target(url=server.url, model="m", timeout_s=TIMEOUT_S, outage_s=60.0)
        result = run_load(target, spec, warmup_s=0, duration_s=1, seed=SEED, t0_ns=0, on_progress=liar.progress)
        numbers = {}
        workload = SyntheticWorkload(prepare(target, spec, SEED))
        for number in range(REQUESTS + STREAMS * 10):
            numbers[workload.request(number).prompt] = number
        liar.back.join()
    rows = {row["prefix_group"]: row for row in result.requests.to_pylist()}
    assert len(rows) == result.requests.num_rows == REQUESTS  # none lost, none double
    assert set(liar.prompts.values()) == {1}  # and none was sent twice
    seen = {numbers[prompt]: expected for prompt, expected in liar.dealt.items()}
    assert set(seen) <= set(rows)
    at_death = 0
    for number, row in rows.items():
        assert (row["status"] == "ok") is (row["error_class"] is None)
        if number in seen and row["error_class"] == seen[number]:
            assert (row["e2e_ns"] is None) is (seen[number] is not None)
            continue
        # What the script does not explain, the death of the server does.
        assert row["error_class"] in AT_DEATH
        at_death += number in seen
    assert at_death <= STREAMS
    classes = Counter(row["error_class"] for row in rows.values())
    assert set(classes) >= {expected for _, expected in SCRIPTS} | {"connect_refused"}
    latencies = [row for row in rows.values() if row["status"] == "ok"]
    assert all(row["ttft_ns"] > 0 and row["e2e_ns"] >= row["ttft_ns"] for row in latencies)
    codes = {reason.code for reason in result.reasons}
    assert "requests_failed" in codes
    assert "server_died" not in codes  # it came back
