"""The load generator against a server of known timing: how exact it is, and what a token costs it.

Two ratios, each from one run on one machine. Cost: CPU per token of our client over that of a bare loop on
epoll, which parses nothing and only counts the bytes that begin an event; ours includes its lateness watch,
which ticks 200 times a second whatever the load. Exactness: the measured quantile over the true one, which the
server knows for each token.
"""

from __future__ import annotations

import http.client
import json
import selectors
import socket
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from enginewatch_harness import process
from enginewatch_harness.load.spec import LoadSpec
from enginewatch_harness.load.generator import run_load
from enginewatch_harness.load.metrics import measured, pooled_gaps_ns
from enginewatch_harness.load.target import RequestWriter, Target

STREAMS = (1, 32, 128)
TOKENS = 100
ROUNDS = 2
SCRIPT = {"ttft_ms": 50.0, "gap_ms": 10.0}
MS = 1e6


def start_server(folder: Path):
    server = process.start(
        [sys.executable, "-m", "enginewatch_harness.load.reference_server"],
        stdout=folder / "url",
        stderr=folder / "log",
    )
    while not (folder / "url").read_text().endswith("\n"):
        time.sleep(0.01)
    return server, (folder / "url").read_text().strip()


def truths(url: str) -> list[dict]:
    connection = http.client.HTTPConnection(url.removeprefix("http://"))
    connection.request("GET", "/truth")
    found = json.loads(connection.getresponse().read())["truths"]
    connection.close()
    return found


def ours(target: Target, streams: int):
    spec = LoadSpec(mode="closed", concurrency=streams, requests=ROUNDS * streams, isl=64, osl=TOKENS)
    result = run_load(target, spec, warmup_s=0, duration_s=1, seed=1, t0_ns=0)
    cpu_pct = next(item.value for item in result.metrics if item.metric == "client_cpu_pct")
    return result, cpu_pct / 100 * result.counts["window_s"] / (spec.requests * TOKENS)


def bare(target: Target, streams: int) -> float:
    """Return the CPU seconds per token of a loop that only counts."""
    request = RequestWriter(target, max_tokens=TOKENS).request(b"able " * 63)
    began = time.process_time()
    seen = 0
    for _ in range(ROUNDS):
        with selectors.EpollSelector() as selector:
            for _ in range(streams):
                sock = socket.create_connection(target.address())
                sock.setblocking(False)
                sock.send(request)
                selector.register(sock, selectors.EVENT_READ)
            while selector.get_map():
                for key, _ in selector.select():
                    data = key.fileobj.recv(65536)
                    seen += data.count(b'"text"')
                    if data.endswith(b"0\r\n\r\n"):
                        selector.unregister(key.fileobj)
                        key.fileobj.close()
    assert seen == ROUNDS * streams * TOKENS, seen
    return (time.process_time() - began) / seen


def level(url: str, streams: int) -> str:
    target = Target(url=url, model="m", body={"script": SCRIPT})
    before = len(truths(url))
    result, cost = ours(target, streams)
    true = truths(url)[before:]
    cost_bare = bare(target, streams)
    chosen = measured(result.requests)
    assert chosen.num_rows == ROUNDS * streams, result.reasons
    seen_ttft = chosen["ttft_ns"].to_numpy() / MS
    true_ttft = np.array([item["written_ns"][0] - item["arrived_ns"] for item in true]) / MS
    seen_itl = pooled_gaps_ns(chosen) / MS
    true_itl = np.concatenate([np.diff(item["written_ns"]) for item in true]) / MS
    cells = [f"{streams:>7}", f"{cost * 1e6:>9.1f}", f"{cost / cost_bare:>10.2f}"]
    for seen, known in ((seen_ttft, true_ttft), (seen_itl, true_itl)):
        for q in (0.5, 0.99):
            ratio = np.quantile(seen, q) / np.quantile(known, q)
            cells.append(f"{ratio:>8.3f} ({np.quantile(seen, q) - np.quantile(known, q):+.2f} ms)")
    return "  ".join(cells)


def main() -> None:
    print("Load client: CPU per token, over a bare epoll loop's; measured over true quantiles of TTFT and ITL")
    print("streams  us/token  x bare loop  TTFT p50           TTFT p99           ITL p50            ITL p99")
    with tempfile.TemporaryDirectory() as folder:
        server, url = start_server(Path(folder))
        try:
            for streams in STREAMS:
                print(level(url, streams), flush=True)
        finally:
            process.stop_group(server, 1)


if __name__ == "__main__":
    main()
