"""The trtexec parsers on every recorded file of TensorRT 8.6 (tests/data/harness/trtexec), against golden results."""

from __future__ import annotations

import dataclasses
import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest

from enginewatch_db.errors import FAILURE_CODES, BackendError
from enginewatch_db.tables import LATENCY_SAMPLES, LAYERS
from enginewatch_harness.parse.trtexec_check import check_agreement
from enginewatch_harness.parse.trtexec_json import latency_samples, parse_profile, parse_times, summarise_times
from enginewatch_harness.parse.trtexec_layers import fingerprint, layers_table, parse_layers, realised_precision
from enginewatch_harness.parse.trtexec_log import TrtexecLog, judge_build, judge_run, parse_log
from enginewatch_harness.parse.trtexec_summary import coefficient_of_variation_pct

DATA = Path(__file__).parent.parent / "data" / "harness" / "trtexec"
GOLDEN = DATA / "golden.json"
ALL = sorted(path.stem for path in DATA.glob("*.rc"))
RUNS = [name for name in ALL if name.startswith(("resnet50", "quiet"))]
PROFILED = sorted(path.name.removesuffix(".profile.json.gz") for path in DATA.glob("*.profile.json.gz"))
BY_THE_WAY = [name for name in PROFILED if name.startswith("resnet50")]
"""Profiled in the run that was measured, so that its log has the table too."""
TOLERANCE = 1e-4


def read(name: str) -> bytes:
    return gzip.decompress((DATA / f"{name}.gz").read_bytes())


def recorded(name: str) -> tuple[TrtexecLog, int]:
    log = parse_log(read(f"{name}.stdout.log"), read(f"{name}.stderr.log"))
    return log, int((DATA / f"{name}.rc").read_text())


def recorded_times(name: str):
    log, _ = recorded(name)
    return parse_times(read(f"{name}.times.json").decode(), warmup_ms=log.options.warmup_ms)


def described(name: str) -> dict:
    """What is compared with the golden file."""
    log, returncode = recorded(name)
    facts = dataclasses.asdict(log)
    del facts["lines"], facts["sections"]
    facts["returncode"] = returncode
    facts["reasons"] = [dataclasses.asdict(reason) for reason in log.reasons()]
    facts["notes"] = log.notes()
    try:
        judge = judge_build if name.startswith("build") else judge_run
        options = {"engine_saved": True} if name.startswith("build") else {}
        facts["outcome"] = [reason.code for reason in judge(log, returncode, what=name, **options)]
    except BackendError as error:
        facts["outcome"] = {"code": error.code, "message": error.message, "remedy": error.remedy}
    if name in PROFILED:
        layers = parse_layers(read(f"{name}.layers.json").decode())
        profile = parse_profile(read(f"{name}.profile.json").decode())
        facts["layers"] = {
            "count": len(layers),
            "iterations": profile.count,
            "realised": realised_precision(layers, profile),
            "fingerprint": fingerprint(layers),
            "slowest": max(profile.layers, key=lambda layer: layer.time_ms).name,
        }
    return json.loads(json.dumps(facts))


def test_the_samples_are_there():
    assert len(RUNS) == 12
    assert len(PROFILED) == 7
    assert sum(name.startswith("fail") for name in ALL) == 7
    assert sum(path.stat().st_size for path in DATA.iterdir()) < 2.5e6


@pytest.mark.parametrize("name", ALL)
def test_golden(name):
    found = described(name)
    if os.environ.get("ENGINEWATCH_UPDATE_GOLDEN"):
        golden = json.loads(GOLDEN.read_text()) if GOLDEN.is_file() else {}
        GOLDEN.write_text(json.dumps({**golden, name: found}, indent=1, sort_keys=True) + "\n")
    assert found == json.loads(GOLDEN.read_text())[name]


@pytest.mark.parametrize("name", RUNS)
def test_recomputed_summary_agrees_with_the_tools(name):
    summary = recorded(name)[0].summary
    own = summarise_times(recorded_times(name), summary.latencies["Latency"].percentiles)
    assert own.queries == summary.queries
    assert own.throughput_qps == pytest.approx(summary.throughput_qps, rel=TOLERANCE)
    assert own.walltime_s == pytest.approx(summary.walltime_s, rel=TOLERANCE)
    assert own.gpu_time_s == pytest.approx(summary.gpu_time_s, rel=TOLERANCE)
    for line, stats in own.latencies.items():
        said = summary.latencies[line]
        for field in ("min_ms", "max_ms", "mean_ms", "median_ms"):
            assert getattr(stats, field) == pytest.approx(getattr(said, field), rel=TOLERANCE), (line, field)
        assert set(said.percentiles) - {50} == {90, 95, 99}
        for level, value in said.percentiles.items():
            assert stats.percentiles[level] == pytest.approx(value, rel=1e-6), (line, level)


@pytest.mark.parametrize("name", RUNS)
def test_file_and_log_agree(name):
    log, _ = recorded(name)
    check_agreement(recorded_times(name), log.summary, streams=log.options.streams)


@pytest.mark.parametrize("name", RUNS)
def test_own_coefficient_of_variation_agrees_with_the_warning(name):
    log, _ = recorded(name)
    cov_pct = coefficient_of_variation_pct(recorded_times(name).compute_ms)
    warned = {reason.code: reason.detail for reason in log.reasons()}
    assert ("gpu_time_unstable" in warned) == (cov_pct > 2.5)
    if cov_pct > 2.5:
        assert warned["gpu_time_unstable"] == f"coefficient of variation {cov_pct:.3g} %"


@pytest.mark.parametrize("name", RUNS)
def test_samples_become_a_table(name):
    times = recorded_times(name)
    table = latency_samples(times, offset_ns=7)
    assert table.schema == LATENCY_SAMPLES
    starts = table["start_ns"].to_numpy()
    assert (np.diff(starts) >= 0).all()
    assert starts[0] - 7 == round(times.start_h2d_ms[0] * 1e6)
    parts = sum(table[column].to_numpy() for column in ("gpu_ns", "h2d_ns", "d2h_ns"))
    np.testing.assert_allclose(table["latency_ns"].to_numpy(), parts, atol=20)
    assert table["stream"].null_count == table.num_rows


@pytest.mark.parametrize("name", BY_THE_WAY)
def test_layers_join_times_with_tactics(name):
    profile = parse_profile(read(f"{name}.profile.json").decode())
    layers = parse_layers(read(f"{name}.layers.json").decode())
    table = layers_table(profile, layers)
    assert table.schema == LAYERS
    assert table.num_rows == len(profile.layers) == len(layers) == 155
    assert sum(table["time_pct"].to_pylist()) == pytest.approx(100, abs=0.01)
    assert set(table["calls"].to_pylist()) == {profile.count}
    rows = {row["name"]: row for row in table.to_pylist()}
    first = rows["/conv1/Conv + /relu/Relu"]
    assert first["layer_type"] == "CaskConvolution"
    assert first["tactic"].startswith("sm")
    assert first["dtype"] == ("fp16" if "fp16" in name else "fp32")


@pytest.mark.parametrize("name", BY_THE_WAY)
def test_the_printed_table_agrees_with_the_json(name):
    printed = recorded(name)[0].profile()
    exported = parse_profile(read(f"{name}.profile.json").decode())
    assert printed.count == exported.count
    timed = [layer for layer in exported.layers if layer.time_ms > 0]
    assert [layer.name for layer in printed.layers] == [layer.name for layer in timed]
    for said, exact in zip(printed.layers, timed, strict=True):
        assert said.time_ms == pytest.approx(exact.time_ms, abs=0.006)
        assert said.average_ms == pytest.approx(exact.average_ms, abs=6e-5)
        assert said.median_ms == pytest.approx(exact.median_ms, abs=6e-5)


def test_fingerprints_tell_engines_and_shapes_apart():
    prints = {name: fingerprint(parse_layers(read(f"{name}.layers.json").decode())) for name in PROFILED}
    assert len(set(prints.values())) == len(PROFILED)


def test_a_run_without_its_passed_line_fails():
    log, _ = recorded("resnet50-fp16-b8")
    cut = dataclasses.replace(log, passed=False)
    with pytest.raises(BackendError) as caught:
        judge_run(cut, 0, what="run")
    assert caught.value.code == "crashed"
    with pytest.raises(BackendError) as caught:
        judge_run(cut, -9, what="run")
    assert caught.value.code == "killed"
    assert "SIGKILL" in caught.value.message


def test_a_run_without_its_summary_fails():
    log, _ = recorded("resnet50-fp16-b8")
    with pytest.raises(BackendError) as caught:
        judge_run(dataclasses.replace(log, summary=None), 0, what="run")
    assert caught.value.code == "no_samples"


@pytest.mark.parametrize("returncode", [-11, 139])
def test_a_teardown_crash_is_a_reason_and_no_failure(returncode):
    log, _ = recorded("build-resnet50-fp16")
    assert [reason.code for reason in judge_build(log, returncode, engine_saved=True, what="b")] == ["teardown_crash"]
    run, _ = recorded("resnet50-fp16-b8")
    assert [reason.code for reason in judge_run(run, returncode, what="r")] == ["teardown_crash"]
    with pytest.raises(BackendError) as caught:
        judge_build(log, returncode, engine_saved=False, what="b")
    assert caught.value.code == "killed"


def test_the_crash_of_a_failed_build_stays_a_failure():
    log, returncode = recorded("fail-missing-onnx")
    assert returncode == -11
    with pytest.raises(BackendError, match="Could not open file models/none") as caught:
        judge_build(log, returncode, engine_saved=False, what="b")
    assert caught.value.code == "model_missing"


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("fail-flag", "unknown_flag"),
        ("fail-missing-onnx", "model_missing"),
        ("fail-shape", "shape_outside_profile"),
        ("fail-truncated-engine", "engine_corrupt"),
        ("fail-no-gpu", "driver_insufficient"),
        ("fail-version-flag", "model_missing"),
    ],
)
def test_recorded_failures_have_a_code_and_a_remedy(name, code):
    log, returncode = recorded(name)
    with pytest.raises(BackendError) as caught:
        judge_run(log, returncode, what="case")
    assert caught.value.code == code
    assert code in FAILURE_CODES
    assert caught.value.remedy
    assert caught.value.message.startswith("case: ")


def test_a_merged_capture_reads_the_same():
    out, err = read("resnet50-fp16-b1.stdout.log"), read("resnet50-fp16-b1.stderr.log")
    apart, merged = parse_log(out, err), parse_log(out + err)
    assert apart.summary == merged.summary
    assert apart.reasons() == merged.reasons()
    assert apart.options == merged.options


@pytest.mark.parametrize("returncode", [1, -11])
def test_an_operator_that_the_parser_refuses_is_named_with_the_reason(returncode):
    """Recorded on an H200: TensorRT 8.6 with a model of operator set 19, whose ReduceMean it does not understand."""
    log = parse_log(read("opset19-encoder-int8.stdout.log"), read("opset19-encoder-int8.stderr.log"))
    with pytest.raises(BackendError, match=r"importGemm: .*GEMM must have 2D inputs!") as caught:
        judge_build(log, returncode, engine_saved=False, what="build")
    assert caught.value.code == "unsupported_operator"
    assert "operator set" in caught.value.remedy
