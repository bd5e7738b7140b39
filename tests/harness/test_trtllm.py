"""The trtllm backend against stand-ins that check their command lines as the real tools do, and write what they write.

The real ones need a GPU and a container. Options, files and fields are those of TensorRT-LLM 1.2's sources.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from enginewatch_db.errors import BackendError, NotAvailableError, PlanError
from enginewatch_db.model import Phase
from enginewatch_db.tables import LLM_REQUESTS, SERVER_SAMPLES
from enginewatch_harness.backends import trtexec_find
from enginewatch_harness.backends.base import Context, Job
from enginewatch_harness.backends.trtllm import TrtllmBackend
from enginewatch_harness.backends.trtllm_dataset import dataset_lines
from enginewatch_harness.backends.trtllm_options import parse_options
from enginewatch_harness.load.spec import LoadSpec, Prefixes

BACKEND = TrtllmBackend()

STAND_INS = Path(__file__).parent.parent / "data" / "harness" / "trtllm"

Say = Callable[..., None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tools:
    """The stand-ins: ``say`` changes what they do."""

    say: Say
    calls: Path

    def call(self) -> list[str]:
        found: list[str] = json.loads(self.calls.read_text())
        return found


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tools:
    folder = tmp_path / "env" / "bin"
    folder.mkdir(parents=True)
    for name in ("trtllm-bench", "trtllm-build"):
        source = (STAND_INS / f"{name.replace('-', '_')}.py").read_text(encoding="utf-8")
        (folder / name).write_text(f"#!{sys.executable}\n{source}", encoding="utf-8")
        (folder / name).chmod(0o755)
    (tmp_path / "env" / "lib" / "python3.12" / "dist-packages" / "tensorrt_llm-1.2.1.dist-info").mkdir(parents=True)
    monkeypatch.setenv("TRTLLM_BENCH", str(folder / "trtllm-bench"))
    monkeypatch.setenv("TRTLLM_BUILD", str(folder / "trtllm-build"))
    monkeypatch.setattr(trtexec_find, "tool_output", lambda *_, **__: "NVIDIA H200")
    trtexec_find.gpu_name.cache_clear()

    def say(**what: Any) -> None:
        (folder / "say.json").write_text(json.dumps(what))

    say()
    return Tools(say=say, calls=folder / "calls.json")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(
        '{"architectures": ["LlamaForCausalLM"], "torch_dtype": "bfloat16", "vocab_size": 32000}'
    )
    (folder / "hf_quant_config.json").write_text('{"quantization": {"quant_algo": "FP8", "kv_cache_quant_algo": null}}')
    return folder


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    told = {"architecture": "LlamaForCausalLM", "dtype": "bfloat16", "vocab_size": 32000}
    quantised = {"quant_algo": "FP8", "kv_cache_quant_algo": "FP8"}
    (folder / "config.json").write_text(json.dumps(told | {"quantization": quantised, "mapping": {"world_size": 1}}))
    return folder


@pytest.fixture
def context(tmp_path: Path) -> Context:
    phases: list[Phase] = []
    return Context(
        work_dir=tmp_path / "work",
        t0_ns=time.monotonic_ns(),
        enter=phases.append,
        progress=lambda *_: None,
    )


def job_of(model: Path, *, precision: str = "fp8", load: LoadSpec | None = None, **options: object) -> Job:
    return Job(
        case_key="llama/trtllm/c4",
        workload="llama",
        model_path=model,
        model_name="llama",
        precision=precision,
        warmup_s=1.0,
        duration_s=5.0,
        seed=7,
        load=load or LoadSpec(mode="closed", concurrency=4, isl=32, osl=16),
        options=dict(options),
    )


def values(measurement: Any) -> dict[str, float | None]:
    return {item.metric: item.value for item in measurement.metrics}


def codes(measurement: Any) -> set[str]:
    return {item.code for item in measurement.reasons}


# --- finding


def test_the_version_is_that_of_the_package_beside_the_tool(tools: Tools) -> None:
    found = BACKEND.availability()
    assert (found.available, found.version, found.device) == (True, "1.2.1", "NVIDIA H200")


def test_an_absent_tool_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TRTLLM_BENCH", str(tmp_path / "none"))
    found = BACKEND.availability()
    assert not found.available
    assert "container" in (found.remedy or "")


# --- throughput


def test_a_throughput_run(tools: Tools, model: Path, context: Context) -> None:
    found = BACKEND.measure(job_of(model, num_requests=60), None, None, context)
    told = values(found)
    assert found.tables["llm_requests"].schema == LLM_REQUESTS
    assert found.tables["llm_requests"].num_rows == 60
    assert told["ttft_p50_ms"] == pytest.approx(0.123, abs=0.005)
    assert told["e2e_p50_ms"] == pytest.approx(0.392, abs=0.005)
    assert told["tpot_p50_ms"] == pytest.approx(0.27 / 15, abs=0.001)
    assert told["output_tokens_s"] == pytest.approx(60 * 16 / 0.00599, rel=0.01)
    assert told["itl_p50_ms"] is None
    assert (found.realised_precision, found.device, found.device_count) == ("fp8", "NVIDIA H200", 1)
    assert found.versions == {"tensorrt-llm": "1.2.1"}
    assert "imported" not in codes(found)
    assert "tail_undersampled" in codes(found)
    start, end = found.window_ns
    assert end - start == pytest.approx(5.99e6, rel=0.01)
    assert context.t0_ns < start < end < time.monotonic_ns()
    assert found.tables["llm_requests"]["sent_at_ns"][0].as_py() == start - context.t0_ns
    assert not any("clock" in note for note in found.notes)


def test_times_of_another_clock_are_moved_to_the_end_of_the_process(
    tools: Tools, model: Path, context: Context
) -> None:
    tools.say(skew_ns=-(10**15))
    found = BACKEND.measure(job_of(model, num_requests=60), None, None, context)
    assert any("clock is not this host's" in note for note in found.notes)
    assert context.t0_ns < found.window_ns[0] < found.window_ns[1] < time.monotonic_ns()
    assert found.tables["llm_requests"]["sent_at_ns"][0].as_py() == found.window_ns[0] - context.t0_ns


def test_effective_options_are_those_of_the_report(tools: Tools, model: Path, context: Context) -> None:
    tools.say(kv="FP8")
    found = BACKEND.measure(job_of(model, num_requests=40, max_batch_size=64), None, None, context)
    assert found.effective_options == {
        "command": "throughput",
        "engine": "pytorch",
        "streaming": True,
        "kv_cache": "fp8",
        "iteration_log": True,
        "warmup_requests": 4,
        "tp_size": 1,
        "pp_size": 1,
        "max_batch_size": 64,
        "max_num_tokens": 8192,
        "scheduling_policy": "GUARANTEED_NO_EVICT",
        "kv_cache_share": 0.9,
    }


def test_iterations_are_the_servers_samples(tools: Tools, model: Path, context: Context) -> None:
    found = BACKEND.measure(job_of(model, num_requests=60), None, None, context)
    samples = found.tables["server_samples"]
    assert samples.schema == SERVER_SAMPLES
    assert samples.num_rows == 50
    assert samples["source"].to_pylist() == ["trtllm"] * 50
    assert samples["phase"].to_pylist().count("measure") > 40
    told = values(found)
    assert told["server_running_mean"] == 4
    assert told["server_kv_cache_max_pct"] is not None
    assert max(samples["t_ns"].to_pylist()) == found.window_ns[1] - context.t0_ns


def test_without_an_iteration_log_the_servers_metrics_say_why(tools: Tools, model: Path, context: Context) -> None:
    found = BACKEND.measure(job_of(model, num_requests=40, iteration_log=False), None, None, context)
    assert "server_samples" not in found.tables
    absent = {item.metric: item.absent_reason for item in found.metrics}
    assert "no iteration log" in str(absent["server_running_mean"])


def test_without_streaming_there_is_no_ttft(tools: Tools, model: Path, context: Context) -> None:
    found = BACKEND.measure(job_of(model, num_requests=40, streaming=False), None, None, context)
    told = values(found)
    assert told["ttft_p50_ms"] is None
    assert told["tpot_p50_ms"] is None
    assert told["e2e_p50_ms"] == pytest.approx(0.392, abs=0.005)


def test_twenty_requests_flag_their_tail(tools: Tools, model: Path, context: Context) -> None:
    found = BACKEND.measure(job_of(model, num_requests=20), None, None, context)
    assert "tail_undersampled" in codes(found)
    nineteen = BACKEND.measure(job_of(model, num_requests=19), None, None, context)
    assert "too_few_samples" in codes(nineteen)


def test_the_command_line_is_the_plans(tools: Tools, model: Path, context: Context) -> None:
    options = {"tp": 2, "ep": 2, "kv_cache_dtype": "fp8", "chunked_context": False, "num_requests": 40}
    tools.say(kv="FP8")
    found = BACKEND.measure(job_of(model, **options), None, None, context)
    call = tools.call()
    assert call[:4] == ["--model", "llama", "--model_path", str(model)]
    assert call[call.index("--ep") + 1] == "2"
    assert "--disable_chunked_context" in call
    config = json.loads(Path(call[call.index("--extra_llm_api_options") + 1]).read_text())
    assert config["kv_cache_config"] == {
        "dtype": "fp8",
        "free_gpu_memory_fraction": 0.9,
        "enable_block_reuse": False,
    }
    assert found.device_count == 2
    assert "precision_not_realised" not in codes(found)


def test_a_model_by_name_is_not_a_path(tools: Tools, context: Context) -> None:
    BACKEND.measure(job_of(Path("acme/llama"), num_requests=40), None, None, context)
    assert tools.call()[:2] == ["--model", "acme/llama"]
    assert "--model_path" not in tools.call()


def test_no_answer_and_no_path_of_the_report_is_kept(tools: Tools, model: Path, context: Context) -> None:
    found = BACKEND.measure(job_of(model, num_requests=40), None, None, context)
    assert "a secret answer" not in repr(found.tables["llm_requests"].to_pylist())
    assert str(model) not in repr(found.effective_options) + repr(found.notes)


# --- latency


def test_a_latency_run_has_the_reports_numbers_only(tools: Tools, model: Path, context: Context) -> None:
    one = LoadSpec(mode="closed", concurrency=1, isl=32, osl=16)
    found = BACKEND.measure(job_of(model, load=one, command="latency", num_requests=40), None, None, context)
    told = {item.metric: item for item in found.metrics}
    assert "llm_requests" not in found.tables
    assert told["ttft_p50_ms"].value == pytest.approx(0.123, abs=0.005)
    assert told["ttft_p50_ms"].source == "trtllm-bench"
    assert any("process ended" in note for note in found.notes)
    assert found.effective_options["max_batch_size"] == 1


# --- precision


def test_a_checkpoint_of_another_precision_is_refused_before_it_is_loaded(
    tools: Tools, model: Path, context: Context
) -> None:
    with pytest.raises(BackendError, match="weights are fp8") as caught:
        BACKEND.measure(job_of(model, precision="fp4"), None, None, context)
    assert caught.value.code == "unsupported_precision"
    assert not tools.calls.exists()


def test_what_only_the_report_tells_is_a_reason(tools: Tools, context: Context) -> None:
    tools.say(quant="FP8", kv="FP8")
    named = job_of(Path("acme/llama"), precision="fp4", num_requests=40, kv_cache_dtype="nvfp4")
    found = BACKEND.measure(named, None, None, context)
    assert found.realised_precision == "fp8"
    (reason,) = [item for item in found.reasons if item.code == "precision_not_realised"]
    assert "plan asks for fp4" in reason.detail
    assert "plan asks for nvfp4" in reason.detail


def test_the_string_none_is_no_quantisation(tools: Tools, context: Context) -> None:
    tools.say(quant="None", kv="None")
    found = BACKEND.measure(job_of(Path("acme/llama"), precision="best", num_requests=40), None, None, context)
    assert found.realised_precision == "bf16"
    assert found.effective_options["kv_cache"] == "auto"


# --- failures


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ({"die": 1, "stderr": "torch.OutOfMemoryError: CUDA out of memory."}, "out_of_memory"),
        ({"die": 1, "stderr": "RuntimeError: No CUDA GPUs are available"}, "not_available"),
        ({"die": -9}, "killed"),
        ({"die": 3, "stderr": "who knows"}, "crashed"),
        ({"silent": True}, "load_failed"),
        ({"cut": 400}, "load_failed"),
        ({"keep": 10}, "load_failed"),
        ({"keep": 39}, "load_failed"),
        ({"report": {"performance": {"total_latency_ms": 1.0}}}, "load_failed"),
    ],
)
def test_failures(tools: Tools, model: Path, context: Context, said: dict[str, Any], code: str) -> None:
    tools.say(**said)
    with pytest.raises(BackendError) as caught:
        BACKEND.measure(job_of(model, num_requests=40), None, None, context)
    assert caught.value.code == code


def test_an_option_that_this_version_lacks(tools: Tools, model: Path, context: Context) -> None:
    with pytest.raises(BackendError, match="--new_option") as caught:
        BACKEND.measure(job_of(model, num_requests=40, bench_args=["--new_option"]), None, None, context)
    assert caught.value.code == "unknown_flag"


def test_a_crash_after_the_report_is_a_reason(tools: Tools, model: Path, context: Context) -> None:
    tools.say(after=139)
    assert "teardown_crash" in codes(BACKEND.measure(job_of(model, num_requests=40), None, None, context))


def test_a_report_of_an_earlier_run_is_not_this_ones(tools: Tools, model: Path, context: Context) -> None:
    BACKEND.measure(job_of(model, num_requests=40), None, None, context)
    tools.say(silent=True)
    with pytest.raises(BackendError):
        BACKEND.measure(job_of(model, num_requests=40), None, None, context)


@pytest.mark.parametrize(
    "load",
    [
        LoadSpec(mode="poisson", rate_rps=3.0),
        LoadSpec(mode="closed", turns=2),
        LoadSpec(mode="closed", think_time_s=1.0),
    ],
)
def test_a_load_that_the_tool_cannot_make_is_refused_with_the_plan(model: Path, load: LoadSpec) -> None:
    with pytest.raises(PlanError, match="trtllm-bench cannot make"):
        BACKEND.engine_options(job_of(model, load=load))


# --- engines


def built(checkpoint: Path, tmp_path: Path, context: Context, **options: object) -> tuple[Any, Path]:
    target = tmp_path / "cache" / "engine"
    target.parent.mkdir()
    job = job_of(checkpoint, engine="tensorrt", hf_model="acme/llama", num_requests=40, **options)
    return BACKEND.build(job, target, context), target


def test_an_engine_is_a_folder_that_is_described(
    tools: Tools, checkpoint: Path, tmp_path: Path, context: Context
) -> None:
    record, target = built(checkpoint, tmp_path, context, max_batch_size=8)
    assert sorted(item.name for item in target.iterdir()) == ["config.json", "rank0.engine"]
    assert record.size_bytes == sum(item.stat().st_size for item in target.iterdir())
    assert (record.realised_precision, record.tool_version, record.compute_capability) == ("fp8", "1.2.1", "9.0")
    assert record.peak_host_mem_mib == pytest.approx(16718.03)
    assert record.details["kv_cache"] == "fp8"
    assert record.details["build_config"]["max_batch_size"] == 8
    assert record.details["log"]["generate_s"] == [15.4544]
    assert [item.name for item in target.parent.iterdir()] == ["engine"]


def test_an_engine_is_run_and_asks_for_its_version(
    tools: Tools, checkpoint: Path, tmp_path: Path, context: Context
) -> None:
    record, target = built(checkpoint, tmp_path, context)
    job = job_of(checkpoint, engine="tensorrt", hf_model="acme/llama", num_requests=40)
    found = BACKEND.measure(job, record, target, context)
    assert found.effective_options["engine"] == "trt"
    call = tools.call()
    assert call[call.index("--engine_dir") + 1] == str(target)
    other = json.loads((target / "config.json").read_text()) | {"version": "1.1.0"}
    (target / "config.json").write_text(json.dumps(other))
    with pytest.raises(BackendError, match=r"1\.1\.0") as caught:
        BACKEND.measure(job, record, target, context)
    assert caught.value.code == "version_mismatch"


def test_tools_that_the_plan_names_are_in_the_key(tools: Tools, checkpoint: Path, tmp_path: Path) -> None:
    other = tmp_path / "other" / "bin"
    other.mkdir(parents=True)
    for name in ("trtllm-bench", "trtllm-build"):
        (other / name).write_text("#!/bin/sh\n", encoding="utf-8")
        (other / name).chmod(0o755)
    (other.parent / "lib" / "python3.12" / "site-packages" / "tensorrt_llm-1.3.0.dist-info").mkdir(parents=True)
    usual = BACKEND.engine_options(job_of(checkpoint, engine="tensorrt"))
    named = BACKEND.engine_options(job_of(checkpoint, engine="tensorrt", trtllm_build=str(other / "trtllm-build")))
    assert usual is not None
    assert named == {**usual, "trtllm_build": "1.3.0"}, "the key has the version of what measures: 1.2.1"
    assert BACKEND.availability().version == "1.2.1"
    assert BACKEND.availability_of({"trtllm_bench": str(other / "trtllm-bench")}).version == "1.3.0"
    assert not BACKEND.availability_of({"trtllm_bench": str(other / "none")}).available


@pytest.mark.parametrize(
    ("said", "code"),
    [({"build": "fails"}, "out_of_memory"), ({"ranks": 0}, "build_failed"), ({"ranks": 2}, "build_failed")],
)
def test_a_build_that_fails_leaves_nothing(
    tools: Tools, checkpoint: Path, tmp_path: Path, context: Context, said: dict[str, Any], code: str
) -> None:
    tools.say(**said)
    with pytest.raises(BackendError) as caught:
        built(checkpoint, tmp_path, context)
    assert caught.value.code == code
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_crash_after_the_engine_was_saved_goes_with_every_run_of_it(
    tools: Tools, checkpoint: Path, tmp_path: Path, context: Context
) -> None:
    tools.say(build_status=139)
    record, target = built(checkpoint, tmp_path, context)
    job = job_of(checkpoint, engine="tensorrt", hf_model="acme/llama", num_requests=40)
    assert "teardown_crash" in codes(BACKEND.measure(job, record, target, context))


def test_a_crash_in_the_middle_of_a_build_is_a_failure(
    tools: Tools, checkpoint: Path, tmp_path: Path, context: Context
) -> None:
    tools.say(build="cut", build_status=139)
    with pytest.raises(BackendError):
        built(checkpoint, tmp_path, context)


def test_what_an_engine_depends_on(tools: Tools, checkpoint: Path, model: Path) -> None:
    assert BACKEND.engine_options(job_of(model)) is None
    first = BACKEND.engine_options(job_of(checkpoint, engine="tensorrt"))
    assert first is not None
    assert first["max_seq_len"] == 56
    assert first != BACKEND.engine_options(job_of(checkpoint, engine="tensorrt", max_batch_size=8))


def test_a_checkpoint_for_engines_is_no_model_of_pytorch(tools: Tools, checkpoint: Path, context: Context) -> None:
    with pytest.raises(PlanError, match="engine"):
        BACKEND.measure(job_of(checkpoint), None, None, context)


def test_without_the_builder_nothing_is_built(
    tools: Tools, checkpoint: Path, tmp_path: Path, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRTLLM_BUILD", str(tmp_path / "none"))
    with pytest.raises(NotAvailableError):
        built(checkpoint, tmp_path, context)


# --- the dataset


def test_the_dataset_is_the_load() -> None:
    load = LoadSpec(mode="closed", isl=32, osl=16, isl_dist="uniform:16-48", prefixes=Prefixes(groups=2, tokens=8))
    lines = [json.loads(line) for line in dataset_lines(load, seed=7, requests=50, vocab_size=500)]
    assert [item["task_id"] for item in lines] == list(range(50))
    assert {item["output_tokens"] for item in lines} == {16}
    lengths = [len(item["input_ids"]) for item in lines]
    assert min(lengths) >= 16
    assert max(lengths) <= 48
    assert len(set(lengths)) > 5
    assert lines[0]["input_ids"][:8] == lines[2]["input_ids"][:8] != lines[1]["input_ids"][:8]
    assert lines[0]["input_ids"][8:] != lines[2]["input_ids"][8:]
    assert all(100 <= token < 500 for item in lines for token in item["input_ids"])
    again = [json.loads(line) for line in dataset_lines(load, seed=7, requests=50, vocab_size=500)]
    other = [json.loads(line) for line in dataset_lines(load, seed=8, requests=50, vocab_size=500)]
    assert lines == again != other


def test_prompts_of_another_seed_are_others() -> None:
    load = LoadSpec(mode="closed", isl=32, osl=16)
    one, other = (list(dataset_lines(load, seed=seed, requests=3, vocab_size=None)) for seed in (7, 8))
    assert not set(one) & set(other)


# --- options


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kv_cache_dtyp": "fp8"}, "kv_cache_dtype"),
        ({"engine": "onnx"}, "pytorch"),
        ({"kv_cache_dtype": "int3"}, "nvfp4"),
        ({"kv_cache_free_gpu_mem_fraction": 0}, "above 0"),
        ({"command": "latency", "max_batch_size": 3}, "belongs to trtllm-bench throughput"),
        ({"engine": "tensorrt", "kv_cache_dtype": "fp8"}, "cannot be chosen for an engine"),
        ({"llm_args": 3}, "a table"),
    ],
)
def test_bad_options_name_what_is_wrong(options: dict[str, Any], words: str) -> None:
    with pytest.raises(PlanError) as caught:
        parse_options(options)
    assert words in str(caught.value)


def test_requests_follow_the_streams() -> None:
    default = parse_options({})
    assert (default.requests(1, None), default.requests(64, None), default.requests(64, 30)) == (200, 1280, 30)
    assert parse_options({"num_requests": 5}).requests(64, 30) == 5
    assert (default.warmup(1), default.warmup(64)) == (2, 64)
