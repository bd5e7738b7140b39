"""Reading what trtexec leaves behind, against the limit: decoding the same JSON with the standard library alone."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Callable
from pathlib import Path

from enginewatch_ci.layers.facts import layer_facts
from enginewatch_ci.layers.waterfall import diff_layers
from enginewatch_harness.parse.inspector import parse_layers
from enginewatch_harness.parse.trtexec_check import check_agreement
from enginewatch_harness.parse.trtexec_json import latency_samples, parse_profile, parse_times
from enginewatch_harness.parse.trtexec_layers import layers_table
from enginewatch_harness.parse.trtexec_log import parse_log

DATA = Path(__file__).parent.parent / "tests" / "data" / "harness" / "trtexec"
REPEATS = 7


def read(name: str) -> bytes:
    return gzip.decompress((DATA / f"{name}.gz").read_bytes())


def best_s(work: Callable[[], object]) -> float:
    """Return the shortest of some repeats: what the machine can do when nothing is in the way."""
    found = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        work()
        found.append(time.perf_counter() - began)
    return min(found)


def main() -> None:
    """Print each reader's time over that of ``json.loads``, or over its input's size."""
    times, out, err = (read(f"resnet50-fp16-b1.{name}") for name in ("times.json", "stdout.log", "stderr.log"))
    text = times.decode()
    log = parse_log(out, err)
    warmup_ms = log.options.warmup_ms or 0.0
    limit_s = best_s(lambda: json.loads(text))

    def samples() -> None:
        parsed = parse_times(text, warmup_ms=warmup_ms)
        check_agreement(parsed, log.summary, streams=log.options.streams)
        latency_samples(parsed, offset_ns=0)

    queries = text.count("latencyMs")
    print(f"times.json of {queries} queries, checked against the log: {best_s(samples) / limit_s:.2f} x json.loads")
    lines = out.count(b"\n")
    log_s = best_s(lambda: parse_log(out, err))
    print(f"log of {lines} lines: {log_s / lines * 1e6:.1f} µs a line, {log_s / limit_s:.2f} x json.loads of the times")

    layers_text, profile_text = (read(f"resnet50-fp16-b8.{name}").decode() for name in ("layers.json", "profile.json"))
    json_s = best_s(lambda: json.loads(layers_text, strict=False))
    joined_s = best_s(lambda: layers_table(parse_profile(profile_text), parse_layers(layers_text)))
    print(f"layers joined with profile, traffic and operations: {joined_s / json_s:.1f} x json.loads of the layers")
    engines = []
    for name in ("fp32-b8", "fp16-b8"):
        profile, layers = (read(f"resnet50-{name}.{kind}.json").decode() for kind in ("profile", "layers"))
        engines.append(layer_facts(layers_table(parse_profile(profile), parse_layers(layers)).to_pylist()))
    diff_s = best_s(lambda: diff_layers(*engines))
    print(f"two engines of {len(engines[0])} layers aligned and compared: {diff_s * 1e3:.1f} ms")


if __name__ == "__main__":
    main()
