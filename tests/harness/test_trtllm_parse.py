"""What TensorRT-LLM writes: configurations, build logs, iterations, requests, reports; and how it fails."""

from __future__ import annotations

import contextlib
import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enginewatch_db.errors import BackendError
from enginewatch_harness.backends.trtllm_results import read_report
from enginewatch_harness.importers.metrics import judge_import
from enginewatch_harness.parse.trtllm_build import parse_build
from enginewatch_harness.parse.trtllm_config import parse_config, parse_hf_quant
from enginewatch_harness.parse.trtllm_failures import failure
from enginewatch_harness.parse.trtllm_iterations import parse_lines, parse_printed
from enginewatch_harness.parse.trtllm_quant import Quantisation, quantisation, unrealised
from enginewatch_harness.parse.trtllm_requests import parse_requests
from enginewatch_harness.targets import trtllm_stats

DATA = Path(__file__).parent.parent / "data" / "harness" / "importers"

BUILD_LOG = """\
[TensorRT-LLM] TensorRT-LLM version: 1.0.0
[04/29/2026-11:03:30] [TRT-LLM] [I] Compute capability: (9, 0)
[04/29/2026-11:03:31] [TRT-LLM] [W] Parameter dtype is None, using default dtype: DataType.FLOAT
[TensorRT-LLM][INFO] Refreshed the MPI local session
[04/29/2026-11:03:51] [TRT] [I] Engine generation completed in 15.4544 seconds.
[04/29/2026-11:03:51] [TRT] [I] Total Weights Memory: 8134053232 bytes
[04/29/2026-11:04:07] [TRT-LLM] [I] Total time of building Unnamed Network 0: 00:00:31
[04/29/2026-11:04:07] [TRT-LLM] [I] Build phase peak memory: 10421.96 MB, children: 6296.07 MB
[04/29/2026-11:04:08] [TRT-LLM] [I] Serializing engine to /data/someone/engine/rank0.engine...
[04/29/2026-11:04:09] [TRT-LLM] [I] Engine serialized. Total time: 00:00:01
[04/29/2026-11:04:09] [TRT-LLM] [I] Total time of building all engines: 00:01:34
"""

ENGINE = {
    "version": "1.2.1",
    "pretrained_config": {
        "architecture": "LlamaForCausalLM",
        "dtype": "bfloat16",
        "vocab_size": 128256,
        "quantization": {"quant_algo": "FP8", "kv_cache_quant_algo": "FP8", "group_size": 128},
        "mapping": {"world_size": 2, "tp_size": 2, "pp_size": 1, "gpus_per_node": 8},
    },
    "build_config": {
        "max_input_len": 1024,
        "max_seq_len": 2048,
        "max_batch_size": 64,
        "max_num_tokens": 8192,
        "kv_cache_type": "PAGED",
        "lora_config": {"lora_dir": ["/data/someone/lora"]},
        "input_timing_cache": "/data/someone/model.cache",
        "plugin_config": {"gemm_plugin": "auto", "nccl_plugin": None, "paged_kv_cache": True, "dll": "/data/x.so"},
    },
}

STATS = {
    "iter": 3,
    "iterLatencyMS": 7.5,
    "timestamp": "11-21-2026 22:10:33.123456",
    "numActiveRequests": 4,
    "numQueuedRequests": 1,
    "numCompletedRequests": 0,
    "kvCacheStats": {
        "usedNumBlocks": 10,
        "maxNumBlocks": 40,
        "tokensPerBlock": 32,
        "reusedBlocks": 1,
        "missedBlocks": 3,
    },
    "inflightBatchingStats": {"numScheduledRequests": 4, "numContextRequests": 1, "numCtxTokens": 96},
    "specDecodingStats": None,
}

PRINTED = {
    "since 1.1": "[08/19/2026-14:11:49] [TRT-LLM] [I] [_torch][RANK 0] iter = 2, global_rank = 0, rank = 0, "
    "num_scheduled_requests = 3, kv_cache_util = 0.250, currank_total_requests = 0/1, host_step_time = 4.08ms, "
    "prev_device_step_time = N/A, timestamp = 2026-08-19 14:11:49, states = {'num_ctx_requests': 1, "
    "'num_ctx_tokens': 4, 'num_generation_tokens': 0, 'cached_kv_tokens': 0}",
    "1.0": "[08/19/2025-14:11:49] [TRT-LLM] [I] iter = 2, global_rank = 0, rank = 0, currank_total_requests = 1/1, "
    "host_step_time = 4.08ms, prev_device_step_time = 243.13ms, timestamp = 2025-08-19 14:11:49, "
    "num_scheduled_requests: 3, states = {'num_ctx_requests': 1, 'num_ctx_tokens': 4, 'num_generation_tokens': 0}",
    "0.20": "[05/19/2025-14:11:49] [TRT-LLM] [I] iter = 2, global_rank = 0, rank = 0, currank_total_requests = 1/1, "
    "elapsed_time = 0.00408s, timestamp = 2025-05-19 14:11:49, num_scheduled_requests: 3, "
    "states = {'num_ctx_requests': 1, 'num_ctx_tokens': 4, 'num_generation_tokens': 0}",
}


@pytest.fixture(scope="module")
def golden_report() -> str:
    return (DATA / "trtllm-1.2-report.json").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def golden_log() -> dict[str, str]:
    return {path.stem.removeprefix("trtllm-"): path.read_text(encoding="utf-8") for path in DATA.glob("trtllm-*.log")}


def request(number: int, **changes: object) -> dict[str, object]:
    start = 10**15 + number * 1_000_000
    return {
        "id": number,
        "num_input_tokens": 128,
        "error_tokens": 0,
        "start_timestamp": start,
        "first_token_timestamp": start + 40_000_000,
        "end_timestamp": start + 355_000_000,
        "decode_iteration": 63,
        "num_total_output_tokens": 64,
        "time_to_first_token": 40_000_000,
        "intertoken_latency": 5_000_000.0,
        "output": "words",
        "output_tokens": 64,
    } | changes


# --- quantisation


@pytest.mark.parametrize(
    ("algo", "precision"),
    [
        ("FP8", "fp8"),
        ("FP8_BLOCK_SCALES", "fp8"),
        ("NVFP4", "fp4"),
        ("W4A16_AWQ", "int4"),
        ("W4A8_AWQ", "int4"),
        ("W8A16", "int8"),
        ("W8A8_SQ_PER_CHANNEL_PER_TOKEN_PLUGIN", "int8"),
        ("QuantAlgo.NVFP4", "fp4"),
        ("MIXED_PRECISION", None),
        ("None", "bf16"),
        (None, "bf16"),
        ("NO_QUANT", "bf16"),
    ],
)
def test_quant_algo_in_a_plans_words(algo: str | None, precision: str | None) -> None:
    assert quantisation(algo, "None", "torch.bfloat16").precision == precision


def test_what_was_asked_for_and_what_runs() -> None:
    fp8 = quantisation("FP8", "FP8", "bfloat16")
    assert unrealised("fp8", "fp8", fp8) is None
    assert unrealised("best", None, fp8) is None
    assert "weights are fp8 (FP8), the plan asks for fp4" in str(unrealised("fp4", None, fp8))
    assert "the KV cache is fp8, the plan asks for nvfp4" in str(unrealised("fp8", "nvfp4", fp8))
    assert "not quantised" in str(unrealised("bf16", "fp8", quantisation(None, None, "bfloat16")))
    assert unrealised("fp8", None, Quantisation()) is None  # nothing was told


def test_mixed_precision_keeps_its_own_name() -> None:
    assert quantisation("MIXED_PRECISION", None, "bfloat16").said == "mixed_precision"


# --- configurations


def test_engine_config() -> None:
    found = parse_config(json.dumps(ENGINE), "config.json")
    assert (found.kind, found.version, found.architecture) == ("engine", "1.2.1", "LlamaForCausalLM")
    assert found.quantisation == Quantisation(algo="FP8", kv_cache="fp8", dtype="bfloat16")
    assert (found.world_size, found.mapping["tp_size"], found.vocab_size) == (2, 2, 128256)
    assert found.build["max_batch_size"] == 64
    assert found.plugins == {"gemm_plugin": "auto", "paged_kv_cache": True}


def test_no_path_of_the_builders_machine_is_kept() -> None:
    assert "/data" not in repr(parse_config(json.dumps(ENGINE), "config.json"))


def test_checkpoint_and_hugging_face_configs() -> None:
    checkpoint = parse_config(json.dumps(ENGINE["pretrained_config"]), "config.json")
    assert (checkpoint.kind, checkpoint.quantisation.precision) == ("checkpoint", "fp8")
    plain = parse_config('{"architectures": ["LlamaForCausalLM"], "torch_dtype": "float16", "vocab_size": 9}', "c")
    assert (plain.kind, plain.quantisation.precision, plain.vocab_size) == ("hf", "fp16", 9)
    awq = '{"dtype": "float16", "quantization_config": {"quant_method": "awq", "bits": 4}}'
    assert parse_config(awq, "c").quantisation.algo == "W4A16_AWQ"
    nested = parse_config('{"text_config": {"dtype": "bfloat16", "vocab_size": 7}}', "c")
    assert (nested.quantisation.precision, nested.vocab_size) == ("bf16", 7)


def test_hf_quant_config_of_modelopt() -> None:
    text = '{"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "NVFP4", "kv_cache_quant_algo": "FP8"}}'
    found = parse_hf_quant(text, quantisation(None, None, "bfloat16"))
    assert found == Quantisation(algo="NVFP4", kv_cache="fp8", dtype="bfloat16")
    assert parse_hf_quant("{}") is None
    assert parse_hf_quant("{") is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"build_config": {}}', '{"pretrained_config": 1, "build_config": 2}'])
def test_damaged_config_is_a_coded_failure(text: str) -> None:
    with pytest.raises(BackendError) as caught:
        parse_config(text, "config.json")
    assert caught.value.code == "model_corrupt"


# --- build log


def test_build_log() -> None:
    found = parse_build(BUILD_LOG)
    assert (found.version, found.compute_capability) == ("1.0.0", "9.0")
    assert found.generate_s == (15.4544,)
    assert (found.network_s, found.serialise_s, found.total_s) == ((31,), (1,), 94)
    assert found.peak_host_mem_mib == pytest.approx(16718.03)
    assert found.weights_bytes == (8134053232,)
    assert found.warnings == 1
    assert found.details()["total_s"] == 94


def test_two_ranks_and_errors() -> None:
    again = BUILD_LOG + BUILD_LOG.replace("15.4544", "16.5") + "[TRT] [E] 2: [x.cpp::y::1] Error Code 2\n"
    found = parse_build(again)
    assert found.generate_s == (15.4544, 16.5)
    assert found.errors == ("2: [x.cpp::y::1] Error Code 2",)


@settings(max_examples=80, deadline=None)
@given(cut=st.integers(0, len(BUILD_LOG)), seed=st.integers(0, 1000))
def test_a_cut_or_shuffled_build_log_gives_no_wrong_number(cut: int, seed: int) -> None:
    whole, lines = parse_build(BUILD_LOG), BUILD_LOG[:cut].splitlines()
    random.Random(seed).shuffle(lines)
    found = parse_build("\n".join(lines))
    for name in ("version", "compute_capability", "total_s", "peak_host_mem_mib"):
        assert getattr(found, name) in (None, getattr(whole, name))
    for name in ("generate_s", "network_s", "serialise_s", "host_mem_mib", "weights_bytes"):
        assert set(getattr(found, name)) <= set(getattr(whole, name))


# --- failures


@pytest.mark.parametrize(
    ("log", "status", "code"),
    [
        ("Error: No such option: --extra_llm_api_options", 2, "unknown_flag"),
        ("trtllm-build: error: unrecognized arguments: --config c", 2, "unknown_flag"),
        ("Error: Invalid value for '--backend': 'trt' is not one of 'pytorch'", 2, "unknown_flag"),
        ("Error: Invalid value for '--engine_dir': Path 'x' does not exist.", 2, "model_missing"),
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB", 1, "out_of_memory"),
        (
            "[TRT] [E] [defaultAllocator.cpp::allocate::31] Error Code 1: Cuda Runtime (out of memory)",
            1,
            "out_of_memory",
        ),
        ("RuntimeError: No CUDA GPUs are available", 1, "not_available"),
        ("[TRT] [E] IRuntime::deserializeCudaEngine: Version tag does not match. Current 239", 1, "version_mismatch"),
        ("generated on an incompatible device", 1, "wrong_device"),
        ("RuntimeError: Engine supports a max sequence of 512. Provided dataset", 1, "shape_outside_profile"),
        ("AssertionError: Unsupported model architecture: FooForCausalLM", 1, "unsupported_operator"),
        ("OSError: x is not a local folder and is not a valid model identifier listed on", 1, "model_missing"),
        ("OSError: [Errno 28] No space left on device", 1, "disk_full"),
        ("Loading weights", -9, "killed"),
        ("Loading weights", 137, "killed"),
        ("ValueError: a thing that nobody knows", 1, "crashed"),
        ("", 1, "crashed"),
    ],
)
def test_failures_have_a_code_and_a_remedy(log: str, status: int, code: str) -> None:
    found = failure(f"a line\n{log}\n", status, what="case", tool="trtllm-bench", otherwise="crashed")
    assert found.code == code
    assert found.remedy


# --- iterations


@pytest.mark.parametrize("write", [json.dumps, str], ids=["json", "python"])
def test_iteration_log_as_json_and_as_python_dict(write: object) -> None:
    text = f"{write(STATS)}\n{write(STATS | {'iter': 1})}\n"  # type: ignore[operator]
    found = parse_lines(text)
    assert [item["iter"] for item in found.items] == [1, 3]
    assert found.items[1] == STATS
    assert found.lost == 0


def test_other_ranks_and_damaged_lines_are_counted() -> None:
    text = "\n".join(
        [json.dumps(STATS), json.dumps(STATS | {"attentionDpRank": 1}), "{'iter': 4, 'iterLa", "[]", "nan"]
    )
    found = parse_lines(text)
    assert (len(found.items), found.others, found.lost) == (1, 1, 3)


@pytest.mark.parametrize("line", PRINTED.values(), ids=PRINTED)
def test_printed_iterations_of_each_version(line: str) -> None:
    (item,) = parse_printed(f"noise\n{line}\n").items
    assert item["iter"] == 2
    assert item["iterLatencyMS"] == pytest.approx(4.08)
    assert item["inflightBatchingStats"] == {"numScheduledRequests": 3, "numContextRequests": 1, "numCtxTokens": 4}
    assert ("kvCacheStats" in item) == ("kv_cache_util" in line)


def test_printed_lines_of_another_rank_are_left_out() -> None:
    line = PRINTED["since 1.1"]
    found = parse_printed("\n".join([line, line.replace("global_rank = 0", "global_rank = 1")]))
    assert (len(found.items), found.others) == (1, 1)


@settings(max_examples=60, deadline=None)
@given(cut=st.integers(1, 400), version=st.sampled_from(sorted(PRINTED)))
def test_a_cut_printed_line_is_lost(cut: int, version: str) -> None:
    line = PRINTED[version]
    assert parse_printed(line[:-cut] if cut < len(line) else "").items == ()


@settings(max_examples=60, deadline=None)
@given(cut=st.integers(0, 10_000), seed=st.integers(0, 100), python=st.booleans())
def test_a_cut_or_shuffled_iteration_log_gives_no_wrong_number(cut: int, seed: int, python: bool) -> None:
    known = [STATS | {"iter": number, "iterLatencyMS": number * 1.5} for number in range(12)]
    text = "".join(f"{item if python else json.dumps(item)}\n" for item in known)
    lines = text[: cut % (len(text) + 1)].splitlines()
    random.Random(seed).shuffle(lines)
    found = parse_lines("\n".join(lines))
    assert [item["iter"] for item in found.items] == sorted(item["iter"] for item in found.items)
    assert all(item in known for item in found.items)


# --- requests


def test_requests_are_read_by_their_stamps() -> None:
    first, second = parse_requests(json.dumps([request(1), request(0)]), "requests.json")
    assert (first.sent_at_ns, second.sent_at_ns) == (10**15, 10**15 + 1_000_000)
    assert (first.first_ns, first.last_ns) == (40_000_000, 355_000_000)
    assert (first.prompt_tokens, first.output_tokens) == (128, 64)


def test_without_streaming_there_is_no_first_token() -> None:
    plain = request(0, first_token_timestamp=-1, time_to_first_token=0.0, intertoken_latency=1.6e13)
    (found,) = parse_requests(json.dumps([plain]), "requests.json")
    assert found.first_ns is None
    assert found.last_ns == 355_000_000


def test_a_request_without_an_end_failed() -> None:
    broken = parse_requests(json.dumps([request(0, end_timestamp=-1), request(1, error_tokens=2)]), "r")
    assert [item.error_class for item in broken] == ["unfinished", "tool_error"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[",
        "[]",
        "{}",
        "[1]",
        json.dumps([request(0, start_timestamp="soon")]),
        json.dumps([request(0, end_timestamp=5)]),
        json.dumps([request(0, first_token_timestamp=5)]),
        json.dumps([request(0, num_input_tokens=1.5)]),
    ],
)
def test_a_damaged_request_file_is_a_coded_failure(text: str) -> None:
    with pytest.raises(BackendError) as caught:
        parse_requests(text, "requests.json")
    assert caught.value.code == "load_failed"


@settings(max_examples=60, deadline=None)
@given(cut=st.integers(0, 5_000))
def test_a_cut_request_file_never_gives_a_number(cut: int) -> None:
    text = json.dumps([request(number) for number in range(8)])
    with pytest.raises(BackendError):
        parse_requests(text[: cut % len(text)], "requests.json")


# --- the report


def test_strings_none_and_meaningless_rates(golden_report: str) -> None:
    found = read_report(golden_report, "")
    assert found.quantisation == Quantisation(algo="FP8", kv_cache=None, dtype="bfloat16")
    assert "ep_size" not in found.effective
    assert not any("issue" in key for key in found.effective)
    assert found.run.told["tpot_p50_ms"] == pytest.approx(5.461695)
    assert found.run.told["tokens_s_per_user"] == pytest.approx(1000 / 5.461695, rel=1e-4)


def test_bursts_do_not_spoil_the_speed_per_user(golden_report: str) -> None:
    spoiled = json.loads(golden_report)
    spoiled["streaming_metrics"]["token_output_speed_tok_s"] = 127_762.0
    spoiled["streaming_metrics"]["gen_tps_percentiles"]["p99"] = 127_762.0
    assert read_report(json.dumps(spoiled), "").run.told == read_report(golden_report, "").run.told


def test_user_paths_are_in_nothing_that_is_kept(golden_report: str) -> None:
    told = json.loads(golden_report)
    told["engine"] |= {"engine_dir": "/data/someone/engine", "model_path": "/data/someone/model"}
    told["dataset"]["dataset_path"] = "/data/someone/data.jsonl"
    found = read_report(json.dumps(told), "")
    assert "/data" not in repr(found)


@pytest.mark.parametrize("name", ["0.16-throughput", "0.19-streaming", "0.21-throughput", "1.2-streaming"])
def test_label_sets_of_every_version_are_read_from_the_log(golden_log: dict[str, str], name: str) -> None:
    found = read_report(None, golden_log[name])
    assert found.run.completed == 40
    assert found.run.told["requests_s"] == pytest.approx(20.8247, abs=1e-3)
    assert found.run.told["output_tokens_s"] == pytest.approx(1332.78, abs=0.1)
    assert found.quantisation.said == "fp8"


def test_a_number_that_was_cut_is_no_number(golden_log: dict[str, str]) -> None:
    text = golden_log["1.2-streaming"]
    cut = text[: text.index("666.3892") + 1]
    assert read_report(None, cut).run.told["output_tokens_s_per_gpu"] == pytest.approx(666.389, abs=1e-3)


def test_without_the_number_of_gpus_there_is_no_rate_per_gpu(golden_log: dict[str, str]) -> None:
    lines = golden_log["1.2-streaming"].splitlines(keepends=True)
    text = "".join(line for line in lines if not line.startswith(("TP Size", "Per GPU Output")))
    assert "output_tokens_s_per_gpu" not in read_report(None, text).run.told


@settings(max_examples=60, deadline=None)
@given(cut=st.integers(0, 100_000), seed=st.none() | st.integers(0, 100))
def test_a_cut_or_shuffled_log_gives_no_wrong_number(golden_log: dict[str, str], cut: int, seed: int | None) -> None:
    text = golden_log["1.2-streaming"]
    whole = read_report(None, text)
    text = text[: cut % (len(text) + 1)]
    if seed is not None:
        lines = text.splitlines(keepends=True)
        random.Random(seed).shuffle(lines)
        text = "".join(lines)
    try:
        found = read_report(None, text)
    except BackendError:
        return
    assert found.run.told.keys() <= whole.run.told.keys()
    # A rate per GPU is divided here where the line with the tool's own, rounded, is missing.
    assert all(value == pytest.approx(whole.run.told[key], rel=1e-6) for key, value in found.run.told.items())
    assert found.effective.items() <= whole.effective.items()


@settings(max_examples=40, deadline=None)
@given(cut=st.integers(0, 100_000))
def test_a_cut_report_file_is_a_coded_failure(golden_report: str, cut: int) -> None:
    with pytest.raises(BackendError):
        read_report(golden_report[: cut % len(golden_report)] or " ", "")


ODD = st.sampled_from([None, "None", "", -1, 0, 1e300, float("nan"), True, [], {}, "12", 10**30])


@settings(max_examples=100, deadline=None)
@given(place=st.integers(0, 10_000), odd=ODD, part=st.sampled_from(["report", "request", "iteration", "engine"]))
def test_an_odd_value_anywhere_is_a_coded_failure_or_harmless(
    golden_report: str, place: int, odd: object, part: str
) -> None:
    whole = {"report": json.loads(golden_report), "request": [request(0)], "iteration": STATS, "engine": ENGINE}[part]
    changed = json.loads(json.dumps(whole))
    slots: list[tuple[Any, Any]] = []
    walk = [changed]
    while walk:
        node = walk.pop()
        keys = list(node) if isinstance(node, dict) else list(range(len(node))) if isinstance(node, list) else []
        slots += [(node, key) for key in keys]
        walk += [node[key] for key in keys]
    node, key = slots[place % len(slots)]
    node[key] = odd
    text = json.dumps(changed)
    with contextlib.suppress(BackendError):
        if part == "report":
            judge_import(read_report(text, "").run)
        elif part == "request":
            parse_requests(text, "requests.json")
        elif part == "engine":
            parse_config(text, "config.json")
        else:
            rows = trtllm_stats.rows([trtllm_stats.Drained(t_ns=10**9, iterations=tuple(parse_lines(text).items))])
            assert all(value == value for row in rows for value in row.values())
