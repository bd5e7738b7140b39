"""What servers say about themselves, read back: versions, precisions, metrics, failures. Pure."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginewatch_db.model import Phase
from enginewatch_db.tables import SERVER_SAMPLES
from enginewatch_harness.backends.openai_options import parse_options
from enginewatch_harness.targets import extensions, gpu, precision, prometheus, reach, trtllm_stats
from enginewatch_harness.targets.failures import diagnose, last_words
from enginewatch_harness.targets.identify import identify
from enginewatch_harness.targets.probe import Reply
from enginewatch_harness.targets.profiles import PROFILES, Launch, command_line, own_command, wants_config
from enginewatch_harness.targets.samples import Seen, to_table, understand
from enginewatch_harness.targets.scrape import Scrape, read, write
from enginewatch_harness.targets.summary import METRIC_KEYS, summarise_server
from enginewatch_harness.targets.watch import server_side

DATA = Path(__file__).parents[1] / "data" / "harness" / "targets"
S = 1_000_000_000


def recorded(name: str) -> str:
    path = DATA / name
    return gzip.decompress(path.read_bytes()).decode() if name.endswith(".gz") else path.read_text()


def says(answers: dict[str, object]):
    def ask(path: str) -> Reply | None:
        if path not in answers:
            return Reply(status=404, body=b"{}")
        answer = answers[path]
        return Reply(status=200, body=answer.encode() if isinstance(answer, str) else json.dumps(answer).encode())

    return ask


def scrape(second: float, body: str | bytes, *, status: int = 200) -> Scrape:
    data = body.encode() if isinstance(body, str) else body
    return Scrape(t_ns=round(second * S), took_ns=1_000_000, status=status, body=data)


def metrics(found) -> dict[str, float | None]:
    return {item.metric: item.value for item in found}


# --- who it is ----------------------------------------------------------------------------------------------


def test_a_recorded_vllm_is_recognised_with_its_version_models_and_context():
    ask = says({"/v1/models": recorded("vllm-0.20-models.json"), "/version": recorded("vllm-0.20-version.json")})
    found = identify(ask)
    assert (found.family, found.version, found.models, found.max_context) == ("vllm", "0.20.0", ("m7b",), 4096)


@pytest.mark.parametrize(
    ("answers", "family", "version"),
    [
        (
            {"/v1/models": {"data": [{"id": "m", "owned_by": "tensorrt_llm"}]}, "/version": {"version": "1.2.0"}},
            "trtllm",
            "1.2.0",
        ),
        (
            {
                "/v1/models": {"data": [{"id": "m", "owned_by": "sglang"}]},
                "/get_server_info": {"tp_size": 1, "version": "0.5.3"},
            },
            "sglang",
            "0.5.3",
        ),
        (
            {
                "/v1/models": {"data": [{"id": "m", "owned_by": "sglang"}]},
                "/server_info": {"tp_size": 1, "version": "0.5.23"},
            },
            "sglang",
            "0.5.23",
        ),
        ({"/v1/models": {"data": [{"id": "m", "owned_by": "lmdeploy"}]}}, "lmdeploy", None),
        ({"/v1/models": {"data": [{"id": "m", "owned_by": "MLC-LLM"}]}}, "mlc", None),
        (
            {
                "/v1/models": {"data": [{"id": "m", "owned_by": "system"}]},
                "/v1/version": {"release": "1.8.0", "api": "1.0"},
            },
            "nim",
            "1.8.0",
        ),
        (
            {
                "/v1/models": {"data": [{"id": "m", "owned_by": "me"}]},
                "/props": {"default_generation_settings": {"n_ctx": 512}, "build_info": "b9-abc"},
            },
            "llamacpp",
            "b9-abc",
        ),
        ({"/v1/models": {"data": [{"id": "gpt", "owned_by": "openai"}]}}, "openai", None),
        ({}, "openai", None),
        ({"/v1/models": "<html>"}, "openai", None),
        ({"/v1/models": {"data": None}}, "openai", None),
    ],
)
def test_each_server_is_recognised_by_what_it_says(answers, family, version):
    found = identify(says(answers))
    assert (found.family, found.version) == (family, version)


def test_a_server_that_does_not_answer_is_no_known_one():
    assert identify(lambda path: None).family == "openai"


def test_no_field_beyond_openais_goes_to_a_server_that_may_refuse_it():
    assert extensions.request_fields("openai") == {"temperature": 0}
    assert extensions.request_fields("transformers") == {"temperature": 0}
    assert extensions.request_fields("vllm", "0.20.0", salt="x") == {
        "temperature": 0,
        "ignore_eos": True,
        "cache_salt": "x",
    }
    assert "cache_salt" not in extensions.request_fields("vllm", "0.7.3", salt="x")
    assert "cache_salt" not in extensions.request_fields("vllm", None, salt="x")
    assert extensions.request_fields("llamacpp")["cache_prompt"] is False
    assert not extensions.keeps_no_prompts("sglang", "0.5")


# --- which precision ----------------------------------------------------------------------------------------


def test_the_recorded_log_of_vllm_tells_its_precision():
    found = precision.from_log("vllm", recorded("vllm-0.20-server.log.gz"))
    assert found is not None
    assert (found.precision, found.said) == ("bf16", "bfloat16")


@pytest.mark.parametrize(
    ("family", "log", "expected"),
    [
        ("vllm", "config: dtype=torch.bfloat16, max_seq_len=1, quantization=fp8, enforce_eager", "fp8"),
        ("vllm", "config: dtype=torch.float16, max_seq_len=1, quantization=awq_marlin, enforce_eager", "int4"),
        ("vllm", "config: dtype=torch.bfloat16, quantization=compressed-tensors, x", None),
        ("sglang", "Load weight end. elapsed=3 s, type=LlamaForCausalLM, dtype=torch.bfloat16, avail mem=1", "bf16"),
        ("sglang", "Load weight end. type=L, quant=fp8, dtype=torch.bfloat16, avail mem", "fp8"),
        ("llamacpp", "print_info: file type   = Q4_0", "q4_0"),
        ("llamacpp", "print_info: file type   = all F32", "fp32"),
        ("trtllm", "quant_config=QuantConfig(quant_algo=<QuantAlgo.FP8: 'FP8'>, x)", "fp8"),
        ("trtllm", "quant_algo=<QuantAlgo.W4A16_AWQ: 'W4A16_AWQ'>", "int4"),
        ("trtllm", "quant_algo=NVFP4, kv_cache_quant_algo=FP8", "fp4"),
    ],
)
def test_logs_tell_the_precision_of_the_weights(family, log, expected):
    found = precision.from_log(family, log)
    assert found is not None
    assert found.precision == expected


def test_an_unquantised_trtllm_says_none_and_tells_nothing():
    assert precision.from_log("trtllm", "quant_config=QuantConfig(quant_algo=None, kv_cache_quant_algo=None)") is None


def test_modelopt_tells_the_precision_beside_the_checkpoint():
    found = precision.from_hf_quant('{"quantization": {"quant_algo": "W4A16_AWQ", "kv_cache_quant_algo": "FP8"}}')
    assert found is not None
    assert (found.precision, found.where) == ("int4", "hf_quant_config.json")
    assert precision.from_hf_quant('{"quantization": {"quant_algo": null}}') is None


def test_a_log_of_another_server_tells_nothing():
    assert precision.from_log("lmdeploy", recorded("vllm-0.20-server.log.gz")) is None


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"torch_dtype": "bfloat16"}, "bf16"),
        ({"dtype": "float16"}, "fp16"),
        ({"text_config": {"dtype": "bfloat16"}}, "bf16"),
        ({"torch_dtype": "bfloat16", "quantization_config": {"quant_method": "fp8"}}, "fp8"),
        ({"torch_dtype": "float16", "quantization_config": {"quant_method": "gptq", "bits": 8}}, "int8"),
        ({"torch_dtype": "float16", "quantization_config": {"quant_method": "gptq", "bits": 4}}, "int4"),
        ({"torch_dtype": "bfloat16", "quantization_config": {"quant_method": "compressed-tensors"}}, None),
    ],
)
def test_a_checkpoint_tells_its_precision(config, expected):
    found = precision.from_config(json.dumps(config))
    assert found is not None
    assert found.precision == expected


@pytest.mark.parametrize("text", ["", "[1]", "{", "{}", '{"torch_dtype": "auto"}'])
def test_a_config_that_says_nothing_is_unknown(text):
    assert precision.from_config(text) is None


def test_sglangs_auto_is_a_wish_and_no_fact():
    assert precision.from_answers({"/server_info": {"dtype": "auto", "quantization": None}}) is None
    found = precision.from_answers({"/get_server_info": {"dtype": "auto", "quantization": "fp8"}})
    assert found is not None
    assert found.precision == "fp8"


# --- how it is started --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_listens_on_its_port_of_the_loopback_and_puts_the_plans_arguments_last(name):
    launch = Launch(model="/models/m", served="m", port=4321, args=("--extra", "1"), image="img:1.2", name="box")
    line = command_line(name, launch)
    assert line[-2:] == ["--extra", "1"]
    assert any("4321" in part for part in line)
    assert "127.0.0.1" in " ".join(line)
    assert ("docker" in line[0]) == PROFILES[name].container
    assert not any("s3cret" in part for part in line)


def test_precisions_become_flags_where_the_server_has_them():
    launch = Launch(model="m", served="m", port=1, precision="fp8", tensor_parallel=2)
    assert command_line("vllm", launch)[-2:] == ["--quantization", "fp8"]
    assert "--tensor-parallel-size" in command_line("vllm", launch)
    assert command_line("trtllm", launch)[-2:] == ["--tp_size", "2"]
    best = Launch(model="m", served="m", port=1)
    assert "--dtype" not in command_line("vllm", best)


def test_trtllm_gets_a_configuration_file_unless_the_plan_names_one():
    line = command_line("trtllm", Launch(model="m", served="m", port=1, config="/run/c.yaml", args=("--pp_size", "2")))
    assert line[-4:] == ["--extra_llm_api_options", "/run/c.yaml", "--pp_size", "2"]
    assert PROFILES["trtllm"].config == {"enable_iter_perf_stats": True}
    assert wants_config("trtllm", ("--pp_size", "2"))
    assert not wants_config("trtllm", ("--config", "mine.yaml"))
    assert not wants_config("trtllm", ("--extra_llm_api_options=mine.yaml",))
    assert not wants_config("trtllm", ("--backend", "tensorrt"))
    assert not wants_config("vllm", ())
    assert not wants_config(None, ())


def test_the_configuration_file_of_trtllm_is_written_before_it_starts(tmp_path):
    path = reach._config(parse_options({"profile": "trtllm"}), tmp_path)
    assert path is not None
    assert json.loads(path.read_text()) == {"enable_iter_perf_stats": True}
    assert reach._config(parse_options({"profile": "trtllm", "args": ["--config", "mine.yaml"]}), tmp_path) is None
    assert reach._config(parse_options({"profile": "vllm"}), tmp_path) is None
    assert reach._config(parse_options({"url": "http://127.0.0.1:1"}), tmp_path) is None


def test_llama_server_has_a_slot_and_a_context_for_each_request():
    line = command_line("llamacpp", Launch(model="m", served="m", port=1, concurrency=4, tokens=300))
    assert line[line.index("--parallel") + 1] == "4"
    assert line[line.index("--ctx-size") + 1] == str(4 * 512)


def test_own_commands_have_their_placeholders_filled_and_other_braces_left():
    parts = ("serve", "{model}", "--port={port}", '{"a": 1}')
    assert own_command(parts, Launch(model="m", served="s", port=7)) == ["serve", "m", "--port=7", '{"a": 1}']


# --- why it failed ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("log", "code"),
    [
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB", "out_of_memory"),
        (
            "ValueError: Free memory on device (9/79 GiB) on startup is less than desired GPU memory utilization",
            "out_of_memory",
        ),
        ("ValueError: No available memory for the cache blocks. Try increasing", "out_of_memory"),
        ("ggml_backend_cpu_buffer_type_alloc_buffer: failed to allocate buffer of size 123", "out_of_memory"),
        ("OSError: [Errno 98] Address already in use", "port_in_use"),
        ("vllm: error: unrecognized arguments: --frob", "unknown_flag"),
        ("Error: No such option: --frob", "unknown_flag"),
        ("OSError: foo/bar is not a local folder and is not a valid model identifier listed on", "model_missing"),
        ("safetensors_rust.SafetensorError: Error while deserializing header", "model_corrupt"),
        (
            "ValueError: Bfloat16 is only supported on GPUs with compute capability of at least 8.0",
            "unsupported_precision",
        ),
        ("error loading model: unknown model architecture: 'frob'", "unsupported_operator"),
        ("ModuleNotFoundError: No module named 'sglang'", "plugin_missing"),
    ],
)
def test_logs_of_failed_servers_become_codes(log, code):
    found = diagnose(f"INFO starting\n{log}\nINFO bye\n")
    assert found is not None
    assert found[0] == code
    assert log[:40] in last_words(f"INFO starting\n{log}\n")


def test_a_healthy_log_is_no_failure():
    assert diagnose(recorded("vllm-0.20-server.log.gz")) is None


# --- Prometheus text ----------------------------------------------------------------------------------------


def test_the_recorded_metrics_of_vllm_are_read():
    found = prometheus.parse(recorded("vllm-0.20-metrics-after.txt.gz"))
    assert prometheus.source_of(found) == "vllm"
    row = prometheus.columns(found, "vllm")
    assert row["prompt_tokens"] == 664034
    assert row["output_tokens"] == 165984
    assert row["requests_done"] == 1298  # over all reasons
    assert row["prefix_hit_tokens"] == 267264
    assert row["queue_count"] == 1298
    assert row["queue_time_ns"] == pytest.approx(561.5611516499949 * S)
    assert (row["requests_running"], row["requests_waiting"], row["kv_cache_used_pct"]) == (0, 0, 0)
    assert row["preemptions"] == 0


def test_engines_are_added_and_their_caches_averaged():
    text = "".join(
        f'vllm:num_requests_running{{engine="{engine}",model_name="m"}} {running}\n'
        f'vllm:kv_cache_usage_perc{{engine="{engine}",model_name="m"}} {used}\n'
        for engine, running, used in ((0, 3, 0.2), (1, 5, 0.6))
    )
    row = prometheus.columns(prometheus.parse(text), "vllm")
    assert row["requests_running"] == 8
    assert row["kv_cache_used_pct"] == pytest.approx(40)


@pytest.mark.parametrize(
    ("text", "source", "expected"),
    [
        (
            'sglang:num_running_reqs{priority=""} 3\nsglang:num_running_reqs{priority="1"} 3\n'
            'sglang:num_queue_reqs{tp_rank="0"} 2\nsglang:num_queue_reqs{tp_rank="1"} 2\nsglang:token_usage{} 0.5\n'
            'sglang:cached_tokens_total{cache_source="device"} 40\nsglang:cached_tokens_total{cache_source="host"} 5\n',
            "sglang",
            {"requests_running": 3, "requests_waiting": 2, "kv_cache_used_pct": 50, "prefix_hit_tokens": 45},
        ),
        (
            "trtllm_num_requests_running 7\ntrtllm_num_requests_waiting 1\ntrtllm_kv_cache_utilization 0.25\n",
            "trtllm",
            {"requests_running": 7, "requests_waiting": 1, "kv_cache_used_pct": 25},
        ),
        (
            'lmdeploy:num_requests_running{engine="0"} 2\nlmdeploy:gpu_cache_usage_perc{engine="0"} 0.125\n',
            "lmdeploy",
            {"requests_running": 2, "kv_cache_used_pct": 12.5},
        ),
        (
            "llamacpp:requests_processing 2\nllamacpp:requests_deferred 1\nllamacpp:tokens_predicted_total 34\n",
            "llamacpp",
            {"requests_running": 2, "requests_waiting": 1, "output_tokens": 34},
        ),
        (
            'nv_inference_request_success{model="a",version="1"} 10\nnv_inference_queue_duration_us{model="a"} 5000\n'
            'nv_trt_llm_request_metrics{model="a",request_type="active"} 4\n'
            'nv_trt_llm_request_metrics{model="a",request_type="max"} 64\n'
            'nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="fraction"} 0.5\n'
            'nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="max"} 900\n',
            "triton",
            {
                "requests_running": 4,
                "queue_time_ns": 5e6,
                "queue_count": 10,
                "kv_cache_used_pct": 50,
                "requests_done": 10,
            },
        ),
        ("num_requests_running 2\ngpu_cache_usage_perc 0.1\n", "nim", {"requests_running": 2, "kv_cache_used_pct": 10}),
    ],
)
def test_each_servers_names_are_known(text, source, expected):
    found = prometheus.parse(text)
    assert prometheus.source_of(found) == source
    assert prometheus.columns(found, source) == pytest.approx(expected)


def test_nan_infinity_negative_and_broken_lines_are_unknown_and_hide_nothing_else():
    text = (
        'vllm:num_requests_running NaN\nvllm:num_requests_waiting{a="b" 3\nvllm:kv_cache_usage_perc +Inf\n'
        "vllm:num_preemptions_total -1\nvllm:generation_tokens_total 5 1700000000000\n\x00\nvllm:prompt_tokens_total 4"
    )
    assert prometheus.columns(prometheus.parse(text), "vllm") == {"output_tokens": 5, "prompt_tokens": 4}


def test_text_that_is_no_metrics_has_no_source():
    assert prometheus.source_of(prometheus.parse("<html>process_cpu_seconds_total 1")) is None


label_text = st.text(
    st.characters(codec="utf-8", exclude_characters="\r\x85\u2028\u2029\x0b\x0c\x1c\x1d\x1e"), max_size=12
)


@given(
    st.lists(
        st.tuples(
            st.dictionaries(st.sampled_from(["model_name", "engine", "le"]), label_text, max_size=3), st.floats(0, 1e15)
        ),
        min_size=1,
        max_size=4,
    )
)
def test_what_a_server_writes_is_read_back_whatever_its_labels_hold(samples):
    def escaped(text: str) -> str:
        return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")

    lines = [
        "vllm:prompt_tokens_total{"
        + ",".join(f'{name}="{escaped(value)}"' for name, value in labels.items())
        + f"}} {number!r}"
        for labels, number in samples
    ]
    found = prometheus.parse("# TYPE vllm:prompt_tokens_total counter\n" + "\n".join(lines) + "\n")
    assert found["vllm:prompt_tokens_total"] == [(labels, number) for labels, number in samples]


@given(st.text(max_size=200) | st.from_regex(r"vllm:num_requests_running[^\n]{0,60}", fullmatch=True))
def test_no_text_breaks_the_parser(text):
    for values in prometheus.parse(text).values():
        assert all(math.isfinite(value) for _, value in values)


# --- TensorRT-LLM's draining statistics ---------------------------------------------------------------------


def iteration(number: int, *, at_ms: int | None = None, latency_ms: float = 10.0) -> dict[str, object]:
    found: dict[str, object] = {"iter": number, "iterLatencyMS": latency_ms, "numActiveRequests": number}
    if at_ms is not None:
        found["timestamp"] = f"11-20-2026 22:10:{at_ms // 1000:02d}.{at_ms % 1000:03d}000"
    return found


def test_iterations_are_placed_by_the_tightest_of_all_reads():
    # The server's clock is read at 1.000 s and 2.000 s ours; its last iterations ended 400 ms and 5 ms before.
    answers = [
        trtllm_stats.Drained(t_ns=1 * S, iterations=(iteration(1, at_ms=100), iteration(2, at_ms=600))),
        trtllm_stats.Drained(t_ns=2 * S, iterations=(iteration(3, at_ms=1995),)),
    ]
    assert [row["t_ns"] for row in trtllm_stats.rows(answers)] == [0.105 * S, 0.605 * S, 2.0 * S]


def test_without_a_clock_iterations_lie_behind_each_other_up_to_the_read():
    answers = [trtllm_stats.Drained(t_ns=S, iterations=(iteration(1), iteration(2, latency_ms=30), iteration(3)))]
    assert [row["t_ns"] for row in trtllm_stats.rows(answers)] == [0.96 * S, 0.99 * S, S]


@pytest.mark.parametrize("latency_ms", [math.inf, math.nan, 1e300, -1.0])
def test_a_latency_that_no_clock_shows_is_unknown_and_moves_no_iteration(latency_ms):
    items = trtllm_stats.parse(json.dumps([iteration(1), iteration(2, latency_ms=latency_ms)]))
    found = trtllm_stats.rows([trtllm_stats.Drained(t_ns=S, iterations=items)])
    assert [row["t_ns"] for row in found] == [S, S]
    assert "iteration_ns" not in found[1]
    assert to_table(Seen(source="trtllm", rows=found), t0_ns=0, phases=())["t_ns"].to_pylist() == [S, S]


def test_counters_run_over_all_answers():
    item = {
        **iteration(1),
        "newActiveRequestsQueueLatencyMS": 6.0,
        "numNewActiveRequests": 2,
        "numCompletedRequests": 1,
    }
    item["kvCacheStats"] = {
        "usedNumBlocks": 3,
        "maxNumBlocks": 12,
        "reusedBlocks": 1,
        "missedBlocks": 3,
        "tokensPerBlock": 8,
    }
    item["inflightBatchingStats"] = {"numScheduledRequests": 5}
    found = trtllm_stats.rows([trtllm_stats.Drained(t_ns=t, iterations=(item,)) for t in (S, 2 * S)])
    assert found[1]["queue_time_ns"] == 12e6
    assert (found[1]["queue_count"], found[1]["requests_done"]) == (4, 2)
    assert (found[0]["kv_cache_used_pct"], found[0]["prefix_hit_tokens"], found[0]["prefix_query_tokens"]) == (
        25,
        8,
        32,
    )
    assert found[0]["batch_size"] == 5


@pytest.mark.parametrize("text", ["", "{}", "[1]", "vllm:x 1", '[{"iter": 1}'])
def test_other_text_is_no_statistics(text):
    assert trtllm_stats.parse(text) is None


@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(["iter", "iterLatencyMS", "timestamp", "kvCacheStats", "numActiveRequests"]),
            st.none() | st.integers() | st.floats() | st.text(max_size=8) | st.just({}),
            max_size=5,
        )
    )
)
def test_no_statistics_break_the_reader(items):
    found = trtllm_stats.parse(json.dumps(items))
    assert found is not None
    rows = trtllm_stats.rows([trtllm_stats.Drained(t_ns=S, iterations=found)])
    assert all(math.isfinite(value) for row in rows for value in row.values())


# --- from answers to the table and the metrics --------------------------------------------------------------


def test_the_recorded_scrapes_become_rows_and_metrics():
    before, after = (recorded(f"vllm-0.20-metrics-{when}.txt.gz") for when in ("before", "after"))
    seen = understand([scrape(10, before), scrape(20, after)], path="/metrics")
    table = to_table(seen, t0_ns=5 * S, phases=((Phase.WARMUP, 9 * S), (Phase.MEASURE, 11 * S)))
    assert table.schema == SERVER_SAMPLES
    assert table["t_ns"].to_pylist() == [5 * S, 15 * S]
    assert table["phase"].to_pylist() == ["warmup", "measure"]
    assert table["source"].to_pylist() == ["vllm", "vllm"]
    found = metrics(summarise_server(table, (6 * S, 14 * S), absent=None))
    assert found["server_prefix_hit_pct"] == pytest.approx(100 * (267264 - 224) / (664034 - 480))
    assert found["server_queue_mean_ms"] == pytest.approx((561.5611516499949 - 9.5283e-05) / 1296 * 1e3)
    assert found["server_preemptions"] == 0
    assert found["server_running_mean"] is None  # no scrape fell into the window
    assert set(found) == set(METRIC_KEYS)


def table_of(rows: list[dict[str, float]], source: str = "vllm") -> pa.Table:
    return to_table(Seen(source=source, rows=rows), t0_ns=0, phases=())


def test_levels_are_taken_inside_the_measuring_phase():
    rows = [
        {"t_ns": t * S, "requests_waiting": w, "requests_running": w, "kv_cache_used_pct": w}
        for t, w in enumerate((99, 2, 6, 99))
    ]
    found = metrics(summarise_server(table_of(rows), (1 * S, 3 * S), absent=None))
    assert (found["server_waiting_mean"], found["server_waiting_max"], found["server_kv_cache_max_pct"]) == (4, 6, 6)


def test_counters_are_differenced_over_the_scrapes_that_enclose_the_phase():
    rows = [{"t_ns": t * S, "preemptions": p} for t, p in enumerate((0, 10, 11, 13, 90))]
    assert (
        metrics(summarise_server(table_of(rows), (round(1.5 * S), round(2.5 * S)), absent=None))["server_preemptions"]
        == 3
    )
    # Without scrapes outside, those inside tell most of it.
    assert metrics(summarise_server(table_of(rows[1:4]), (0, 9 * S), absent=None))["server_preemptions"] == 3


def test_iterations_weigh_as_long_as_they_lasted():
    rows = [{"t_ns": t * S, "requests_running": r, "iteration_ns": i} for t, r, i in ((1, 1, 30), (2, 5, 10))]
    found = metrics(summarise_server(table_of(rows, "trtllm"), (0, 9 * S), absent=None))
    assert found["server_running_mean"] == pytest.approx(2.0)


def test_a_restart_of_the_server_makes_its_counters_unknown():
    rows = [{"t_ns": t * S, "preemptions": p} for t, p in enumerate((5, 7, 0, 1))]
    found = {item.metric: item for item in summarise_server(table_of(rows), (1 * S, 2 * S), absent=None)}
    assert found["server_preemptions"].value is None
    assert "restarted" in str(found["server_preemptions"].absent_reason)


def test_what_is_absent_has_its_reason():
    seen = understand([scrape(1, b"", status=404)], path="/metrics")
    assert seen.absent == "the server has no /metrics (404)"
    found = summarise_server(None, (0, S), absent=seen.absent)
    assert {item.absent_reason for item in found} == {"the server has no /metrics (404)"}
    assert understand([], path="/m").absent == "/m was never scraped"
    assert "no metric that is known" in str(understand([scrape(1, "other 1")], path="/m").absent)
    assert "enable_iter_perf_stats" in str(understand([scrape(1, "[]")], path="/m").absent)
    quiet = summarise_server(table_of([{"t_ns": S, "requests_running": 1}]), (0, 2 * S), absent=None)
    assert "does not tell" in str({item.metric: item for item in quiet}["server_preemptions"].absent_reason)


def test_a_bad_scrape_among_good_ones_is_counted():
    good = "vllm:num_requests_running 1\n"
    seen = understand([scrape(1, good), scrape(2, b"timed out", status=0), scrape(3, good)], path="/metrics")
    assert len(seen.rows) == 2
    assert seen.notes == ("1 of 3 scrapes of /metrics brought nothing: /metrics did not answer: timed out",)


def test_kept_answers_survive_the_file_and_a_cut_one_is_left_out(tmp_path):
    path = tmp_path / "s.bin"
    sent = [scrape(1, "a\nb"), scrape(2, b"", status=0), scrape(3, b"\xff\n{")]
    with path.open("wb") as out:
        for item in sent:
            write(out, item)
    assert list(read(path)) == sent
    path.write_bytes(path.read_bytes()[:-3])
    assert list(read(path)) == sent[:2]
    assert list(read(tmp_path / "none")) == []


# --- what it runs on ----------------------------------------------------------------------------------------


def test_samples_belong_to_the_phases_by_the_loads_own_window():
    seen = Seen(source="vllm", rows=[{"t_ns": at, "requests_running": at} for at in (110.0, 117.0, 130.0, 137.0)])
    began = [(Phase.WARMUP, 105), (Phase.MEASURE, 120), (Phase.DRAIN, 140)]
    found = server_side(seen, t0_ns=100, began=began, window_ns=(115, 135))
    assert found.tables["server_samples"]["t_ns"].to_pylist() == [10, 17, 30, 37]
    assert found.tables["server_samples"]["phase"].to_pylist() == ["warmup", "measure", "measure", "drain"]
    mean = next(item for item in found.metrics if item.metric == "server_running_mean")
    assert (mean.value, mean.n) == ((117 + 130) / 2, 2)


def test_the_device_is_the_one_that_the_servers_processes_use():
    gpus = [("GPU-a", "NVIDIA H200"), ("GPU-b", "NVIDIA H200"), ("GPU-c", "NVIDIA L4")]
    used = [("10", "GPU-a"), ("11", "GPU-b"), ("99", "GPU-c")]
    found = gpu.choose(gpus, used, {10, 11}, family="vllm", count=1)
    assert (found.name, found.count) == ("NVIDIA H200", 2)
    # In a container the driver shows ids of another namespace.
    found = gpu.choose(gpus, [("4711", "GPU-a")], {10}, family="vllm", count=2)
    assert (found.name, found.count) == ("NVIDIA H200", 2)
    assert "H200" not in gpu.choose(gpus, [], {10}, family="llamacpp", count=1).name
