"""Whatever happens to what trtexec left behind: a coded failure or the recording's truth, nothing else."""

from __future__ import annotations

import functools
import gzip
import json
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enginewatch_db.errors import FAILURE_CODES, BackendError
from enginewatch_harness.parse.trtexec_check import check_agreement, whole_options
from enginewatch_harness.parse.trtexec_json import parse_profile, parse_times
from enginewatch_harness.parse.trtexec_layers import parse_layers
from enginewatch_harness.parse.trtexec_lines import decode
from enginewatch_harness.parse.trtexec_log import judge_build, judge_run, parse_log
from enginewatch_harness.parse.trtexec_output import parse_output
from enginewatch_harness.parse.trtexec_reasons import contradictions

DATA = Path(__file__).parent.parent / "data" / "harness" / "trtexec"
RUN, BUILD = "resnet50-fp32-b32", "build-resnet50-fp16"
ASKED = {"cuda_graph": False, "spin_wait": False, "data_transfers": True, "streams": 1} | {
    "multithreading": False,
    "idle_ms": 0.0,
    "sleep_ms": 0.0,
    "expose_dma": False,
}
"""What the recording RUN was asked for."""

FACTS = (
    "parse_time_s",
    "build_time_s",
    "deserialize_time_s",
    "engine_size_mib",
    "peak_cpu_mib",
    "peak_gpu_mib",
    "process_mib",
    "host_persistent_bytes",
    "scratch_bytes",
    "activation_bytes",
)


@functools.cache
def read(name: str) -> bytes:
    return gzip.decompress((DATA / f"{name}.gz").read_bytes())


def attempt(act):
    """Return what it gives, or ``None`` for a coded failure; anything else goes through."""
    try:
        return act()
    except BackendError as error:
        failure = error
    assert failure.code in FAILURE_CODES
    assert failure.message
    return None


def outcome(stdout: bytes, stderr: bytes, returncode: int, times: bytes):
    """What the backend makes of a run: samples, and what goes into its identity."""
    log = parse_log(stdout, stderr)
    log.reasons()
    log.notes()
    log.profile()
    log.bindings()
    judge_run(log, returncode, what="run")
    assert log.options == whole_options(log.options, ASKED, printed=True, what="run")
    found = parse_times(decode(times), warmup_ms=500.0 if log.options.warmup_ms is None else log.options.warmup_ms)
    check_agreement(found, log.summary, streams=log.options.streams)
    return log, found


@functools.cache
def truth():
    return outcome(read(f"{RUN}.stdout.log"), read(f"{RUN}.stderr.log"), 0, read(f"{RUN}.times.json"))


def holds(stdout: bytes, stderr: bytes, returncode: int, times: bytes) -> bool:
    """Whether the outcome is the truth; ``False``: a coded failure. Anything else fails the test."""
    result = attempt(lambda: outcome(stdout, stderr, returncode, times))
    if result is None:
        return False
    log, found = result
    true_log, true = truth()
    same = log.effective_options() == true_log.effective_options()
    assert same or contradictions(log.options, ASKED), "another series, and nobody says so"
    assert len(found.latency_ms) == len(true.latency_ms)
    for name in ("latency_ms", "compute_ms", "h2d_ms", "d2h_ms"):
        # Damage below the file's own six digits cannot be told from rounding.
        np.testing.assert_allclose(getattr(found, name), getattr(true, name), rtol=2e-5, atol=2e-5)
    assert found.walltime_s == pytest.approx(true.walltime_s, rel=2e-4)
    summary = log.summary
    for name, stats in summary.latencies.items():
        if name != "Enqueue Time" and name in true_log.summary.latencies:
            assert stats.median_ms == pytest.approx(true_log.summary.latencies[name].median_ms, rel=1e-4)
            assert stats.max_ms == pytest.approx(true_log.summary.latencies[name].max_ms, rel=1e-4)
    return True


def shuffled(raw: bytes, seed: int) -> bytes:
    lines = raw.splitlines(keepends=True)
    random.Random(seed).shuffle(lines)
    return b"".join(lines)


seeds = st.integers(0, 2**32)


def test_the_recording_itself_holds():
    assert holds(read(f"{RUN}.stdout.log"), read(f"{RUN}.stderr.log"), 0, read(f"{RUN}.times.json"))


@settings(max_examples=8, deadline=None)
@given(seeds)
def test_lines_in_any_order(seed):
    stdout = shuffled(read(f"{RUN}.stdout.log"), seed)
    assert holds(stdout, b"", 0, read(f"{RUN}.times.json"))
    log = parse_log(stdout)
    told = log.options.effective()
    true = truth()[0].options.effective()
    assert told == {name: true[name] for name in told}, "an option is as it was, or it is not known"


OPTIONS = (b"CUDA Graph", b"Spin-wait", b"Data transfers", b"Inference Streams", b"Idle time", b"Sleep time")


@pytest.mark.parametrize("name", [*OPTIONS, b"Multithreading", b"ExposeDMA"])
def test_a_lost_option_is_damage_where_the_tool_prints_it(name):
    lines = read(f"{RUN}.stdout.log").splitlines(keepends=True)
    lost = b"".join(line for line in lines if b"] [I] " + name + b": " not in line)
    assert len(lost) < sum(map(len, lines))
    options = parse_log(lost).options
    with pytest.raises(BackendError, match="does not tell") as caught:
        whole_options(options, ASKED, printed=True, what="run")
    assert caught.value.code == "results_damaged"
    filled = whole_options(options, ASKED, printed=False, what="run")
    assert filled.effective() == truth()[0].options.effective(), "as asked for, where it may not be printed"


@settings(max_examples=30, deadline=None)
@given(st.sets(st.integers(40, 75), min_size=1, max_size=4), st.integers(0, 255))
def test_lines_of_the_options_that_were_lost_or_altered(places, byte):
    lines = read(f"{RUN}.stdout.log").splitlines(keepends=True)
    for place in sorted(places, reverse=True):
        if byte % 2:
            del lines[place]
        else:
            lines[place] = lines[place][:-3] + bytes([byte]) + lines[place][-2:]
    holds(b"".join(lines), b"", 0, read(f"{RUN}.times.json"))


@settings(max_examples=20, deadline=None)
@given(st.floats(0, 1), st.booleans())
def test_a_log_that_is_cut_off(share, merged):
    stdout, stderr = read(f"{RUN}.stdout.log"), read("resnet50-fp16-b8.stderr.log")
    whole = stdout + stderr if merged else stdout
    cut = whole[: int(share * len(whole))]
    held = holds(cut, b"" if merged else stderr, 0, read(f"{RUN}.times.json"))
    assert held == (b"&&&& PASSED" in cut and b" # " in cut.rsplit(b"&&&& PASSED", 1)[-1])
    assert not holds(cut, b"", -9, read(f"{RUN}.times.json")) or held


def test_no_cut_makes_a_shorter_number():
    """Every prefix of the lines that end in a number without a unit after it, and of the summary."""
    raw = read(f"{BUILD}.stdout.log")
    true = parse_log(raw).build
    for words in (b"Parse time: ", b"Total Host Persistent Memory: ", b"Engine built in ", b"CPU 52 MiB, GPU 2"):
        start = raw.index(words)
        for end in range(start, raw.index(b"\n", start) + 1):
            found = parse_log(raw[:end]).build
            assert all(getattr(found, name) in (None, getattr(true, name)) for name in FACTS if name != "process_mib")
    raw = read(f"{RUN}.stdout.log")
    start = raw.index(b"Throughput: ")
    true_summary = truth()[0].summary
    for end in range(start, raw.index(b"Total GPU Compute", start), 3):
        found_summary = parse_log(raw[:end]).summary
        if found_summary is not None:
            assert found_summary.throughput_qps == true_summary.throughput_qps
            for name, stats in found_summary.latencies.items():
                assert stats == true_summary.latencies[name]


@settings(max_examples=8, deadline=None)
@given(st.floats(0, 0.99999))
def test_times_that_are_cut_off(share):
    raw = read(f"{RUN}.times.json")
    assert not holds(read(f"{RUN}.stdout.log"), b"", 0, raw[: int(share * len(raw))].rstrip())


@settings(max_examples=10, deadline=None)
@given(st.data())
def test_times_that_lost_queries_and_were_closed_again(data):
    lines = read(f"{RUN}.times.json").splitlines(keepends=True)
    drop = data.draw(st.sets(st.integers(2, len(lines) - 2), min_size=1, max_size=3))
    kept = b"".join(line for index, line in enumerate(lines) if index not in drop)
    assert not holds(read(f"{RUN}.stdout.log"), b"", 0, kept), "the log counts the queries"


@pytest.mark.parametrize("key", ["startH2dMs", "endComputeMs", "h2dMs", "computeMs", "d2hMs", "latencyMs", "endD2hMs"])
def test_a_query_that_contradicts_itself(key):
    """Without a summary to compare with: every duration is in the file twice."""
    records = json.loads(read(f"{RUN}.times.json"))[:50]
    assert len(parse_times(json.dumps(records), warmup_ms=500).latency_ms) == 50
    records[7][key] += 0.2
    with pytest.raises(BackendError, match="contradicts itself") as caught:
        parse_times(json.dumps(records), warmup_ms=500)
    assert caught.value.code == "results_damaged"


@settings(max_examples=6, deadline=None)
@given(seeds)
def test_times_in_any_order(seed):
    first, *lines, last = read(f"{RUN}.times.json").decode().splitlines()
    records = [line.lstrip(", ") for line in lines]
    random.Random(seed).shuffle(records)
    raw = "\n".join([first, ",\n".join(records), last]).encode()
    assert holds(read(f"{RUN}.stdout.log"), b"", 0, raw)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_one_damaged_byte_anywhere(data):
    """A byte of the log or of the times becomes another one, most often a digit: the worst there is."""
    stdout, times = read(f"{RUN}.stdout.log"), read(f"{RUN}.times.json")
    byte = data.draw(st.sampled_from(b"0123456789.") | st.integers(0, 255))
    if data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(times) - 1))
        times = times[:at] + bytes([byte]) + times[at + 1 :]
    else:
        start = stdout.index(b"=== Inference Options")
        at = data.draw(st.integers(start, len(stdout) - 1))
        stdout = stdout[:at] + bytes([byte]) + stdout[at + 1 :]
    holds(stdout, b"", 0, times)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=40), st.sampled_from([b"\n", b"", b"\xff\xfe", b"[I] "]))
def test_streams_that_run_into_each_other(places, glue):
    """Errors and warnings written into the middle of lines, in bytes that are no UTF-8."""
    stdout = read(f"{RUN}.stdout.log")
    for place in sorted((place % len(stdout) for place in places), reverse=True):
        stdout = stdout[:place] + glue + b"[07/07/2026-02:10:45] [W] \xe9 warning" + glue + stdout[place:]
    holds(stdout, b"", 0, read(f"{RUN}.times.json"))


@settings(max_examples=15, deadline=None)
@given(seeds, st.floats(0, 1))
def test_builds_in_any_order_and_cut_off(seed, share):
    raw = shuffled(read(f"{BUILD}.stdout.log"), seed)
    raw = raw[: int(share * len(raw))]
    true = parse_log(read(f"{BUILD}.stdout.log")).build
    log = parse_log(raw, read(f"{BUILD}.stderr.log"))
    for name in FACTS:
        if name != "process_mib":  # the most of the lines that are left
            assert getattr(log.build, name) in (None, getattr(true, name))
    if attempt(lambda: judge_build(log, -11, engine_saved=True, what="build")) is not None:
        assert b"Skipped inference phase" in raw or b"&&&& PASSED" in raw


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_damaged_profile(data):
    raw = read("resnet50-fp16-b8.profile.json").decode()
    true = parse_profile(raw)
    kind = data.draw(st.sampled_from(["cut", "drop", "byte"]))
    at = data.draw(st.integers(0, len(raw) - 1))
    if kind == "cut":
        raw = raw[:at]
    elif kind == "drop":
        lines = raw.splitlines(keepends=True)
        del lines[at % len(lines)]
        raw = "".join(lines)
    else:
        raw = raw[:at] + data.draw(st.sampled_from("0123456789.x}")) + raw[at + 1 :]
    found = attempt(lambda: parse_profile(raw))
    if found is None:
        return
    assert kind != "cut" or raw.rstrip().endswith("]")
    total = sum(layer.time_ms for layer in true.layers)
    assert sum(layer.time_ms for layer in found.layers) == pytest.approx(total, rel=5e-4)
    if len(found.layers) == len(true.layers):
        for said, exact in zip(found.layers, true.layers, strict=True):
            assert said.time_ms == pytest.approx(exact.time_ms, rel=5e-4, abs=2e-4 * total)


@settings(max_examples=15, deadline=None)
@given(st.floats(0, 0.9999))
def test_layer_information_that_is_cut_off(share):
    raw = read("resnet50-fp16-b8.layers.json").decode().rstrip()
    with pytest.raises(BackendError):
        parse_layers(raw[: int(share * len(raw))])


OUTPUTS = """[
  { "name" : "a"
  , "dimensions" : "2x2"
  , "values" : [ 1.5, -2.25e-05, nan, 1024 ]
  }
, { "name" : "b"
  , "dimensions" : "3"
  , "values" : [ 10, 20, 30 ]
  }
]
"""


def test_no_cut_of_the_outputs_reads_as_outputs():
    whole = parse_output(OUTPUTS)
    assert {name: array.shape for name, array in whole.items()} == {"a": (2, 2), "b": (3,)}
    for end in range(len(OUTPUTS.rstrip())):
        with pytest.raises(BackendError) as caught:
            parse_output(OUTPUTS[:end])
        assert caught.value.code == "results_damaged"


@settings(max_examples=40, deadline=None)
@given(st.integers(0, len(OUTPUTS) - 1), st.characters(codec="ascii", exclude_characters="0123456789.-+e\n"))
def test_outputs_with_a_foreign_character(at, character):
    found = attempt(lambda: parse_output(OUTPUTS[:at] + character + OUTPUTS[at + 1 :])) or {}
    numbers = [value for array in found.values() for value in array.ravel().tolist() if value == value]
    assert set(numbers) <= {1.5, float(np.float32(-2.25e-05)), 1024, 10, 20, 30}
