"""The backend for any OpenAI server, against llama.cpp's: behind a URL, and launched by a command of the plan's."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
import time
from pathlib import Path

import psutil
import pytest
import uvloop

from enginewatch_collector.buffer import TelemetryBuffer
from enginewatch_db.errors import BackendError, PlanError
from enginewatch_db.metrics import MetricValue
from enginewatch_db.model import Phase, PhaseMark
from enginewatch_harness.assemble import Stamp, Telemetry, finished_run
from enginewatch_harness.backends.base import ChoosesDevice, Context, Job, Measurement
from enginewatch_harness.backends.llamacpp import LlamaCppBackend
from enginewatch_harness.backends.llamacpp_process import ServerProcess
from enginewatch_harness.backends.llamacpp_server import Settings
from enginewatch_harness.backends.openai import OpenAiBackend, served_model
from enginewatch_harness.backends.openai_options import headers_of, parse_options
from enginewatch_harness.commands.load_cases import CaseMaker
from enginewatch_harness.commands.load_given import Given, loads_of
from enginewatch_harness.gguf_model import LlamaShape, write_random_llama
from enginewatch_harness.load.reference_server import ReferenceServer
from enginewatch_harness.load.spec import LoadSpec
from enginewatch_harness.model_folder import folder_sha256
from enginewatch_harness.plan_file import ModelTable
from enginewatch_harness.prepare import Prepared
from enginewatch_harness.targets import probe
from enginewatch_harness.targets.identify import ServerFacts
from enginewatch_harness.targets.profiles import PROFILES
from enginewatch_harness.targets.reach import read_precision
from enginewatch_harness.targets.server import Command, LaunchedServer, free_port
from enginewatch_harness.targets.watch import per_gpu

BACKEND = OpenAiBackend()
SMALL = LlamaShape(n_layers=2, n_embd=64, n_heads=2, n_kv_heads=2, n_ff=64)
FAKE = Path(__file__).parents[1] / "data" / "harness" / "targets" / "fake_server.py"
MARK = "1536"  # tells the launched server from the one of the fixture
MODULE = "enginewatch_harness.backends.llamacpp_server"
LAUNCH = f"tail -f /dev/null | {sys.executable} -m {MODULE} --model {{model}} --port {{port}} --parallel 2 --ctx 1536"


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("models") / "small.gguf"
    write_random_llama(path, precision="fp16", shape=SMALL)
    return path


@pytest.fixture(scope="module")
def url(model, tmp_path_factory):
    settings = Settings(model=model, parallel=2, ctx=1024, metrics=True)
    with ServerProcess(settings, tmp_path_factory.mktemp("server")) as server:
        yield server.wait_until_ready(60).url


@pytest.fixture
def measure(tmp_path):
    def run(*, enter=lambda phase: None, progress=lambda count, median_ms: None, **changes):
        context = Context(work_dir=tmp_path, t0_ns=time.monotonic_ns(), enter=enter, progress=progress)
        return BACKEND.measure(job(**changes), None, None, context)

    return run


def job(**changes) -> Job:
    facts = {
        "case_key": "chat/openai/best/c2",
        "workload": "chat",
        "model_path": Path("small"),
        "model_name": "small",
        "precision": "best",
        "warmup_s": 0.1,
        "duration_s": 30.0,
        "seed": 1,
        "load": LoadSpec(mode="closed", concurrency=2, requests=20, isl=16, osl=8),
    }
    return Job(**(facts | changes))


def values(measurement) -> dict[str, float | None]:
    return {item.metric: item.value for item in measurement.metrics}


def descendants(marker: str) -> list[psutil.Process]:
    found = psutil.Process().children(recursive=True)
    return [item for item in found if item.is_running() and any(marker in part for part in item.cmdline())]


def test_a_server_behind_a_url_is_measured_and_watched(url, measure):
    phases = []
    found = measure(enter=phases.append, options={"url": url + "/v1", "scrape_hz": 200, "device_name": "Test CPU"})
    assert found.counts["completed"] >= 20
    assert phases[:2] == [Phase.LOAD, Phase.WARMUP]
    assert found.device == "Test CPU"
    assert found.effective_options == {"server": "llamacpp", "endpoint": "completions"}
    assert found.command is None
    told = values(found)
    assert told["load_time_s"] is None
    assert 0 < told["server_running_mean"] <= 2
    assert told["server_preemptions"] is None
    samples = found.tables["server_samples"]
    assert set(samples["source"].to_pylist()) == {"llamacpp"}
    assert {"measure"} <= set(samples["phase"].to_pylist())
    done = [count for count in samples["output_tokens"].to_pylist() if count is not None]
    assert done == sorted(done)
    assert done[-1] - done[0] >= 20 * 8
    requests = found.tables["llm_requests"]
    assert min(requests["ttft_ns"].drop_null().to_pylist()) > 0
    assert set(requests["output_tokens"].drop_null().to_pylist()) == {8}  # ignore_eos was sent
    assert descendants("targets.scrape") == []


def test_metrics_may_be_left_alone(url, measure):
    found = measure(options={"url": url, "server_metrics": "off"})
    absent = next(item for item in found.metrics if item.metric == "server_running_mean")
    assert absent.value is None
    assert "switched off" in str(absent.absent_reason)
    assert "server_samples" not in found.tables


def test_a_server_is_launched_for_the_run_and_gone_after_it(model, measure, tmp_path):
    found = measure(
        model_path=model, options={"command": ["sh", "-c", LAUNCH], "server": "llamacpp", "ready_path": "/health"}
    )
    assert found.counts["completed"] >= 20
    assert 0 < values(found)["load_time_s"] < 60
    assert found.device is not None
    assert found.device_count == 1
    assert str(model) in str(found.command)
    assert (tmp_path / "server.stdout.log").exists()
    assert descendants(MARK) == []


def test_a_launched_server_that_is_killed_under_load_fails_the_run(model, measure):
    killed = []

    def kill(count: int, median_ms: float | None) -> None:
        if count and not killed:
            killed.extend(item.pid for item in descendants(MARK) if item.name().startswith("python"))
            for pid in killed:
                os.kill(pid, signal.SIGKILL)

    with pytest.raises(BackendError, match="died under load") as caught:
        measure(
            model_path=model,
            progress=kill,
            load=LoadSpec(mode="closed", concurrency=2, isl=16, osl=400),
            options={"command": ["sh", "-c", LAUNCH], "ready_path": "/health", "server_metrics": "off"},
        )
    assert caught.value.code == "server_died"
    assert "partial" in caught.value.message
    assert descendants(MARK) == []


def test_a_server_that_runs_another_precision_is_refused(measure, tmp_path):
    port = free_port()
    line = [sys.executable, str(FAKE), "{port}", "ok"]
    with pytest.raises(BackendError, match=r"runs fp8 \(bfloat16\) weights \(log\), the plan asks for bf16") as caught:
        measure(precision="bf16", options={"command": line, "port": port, "server": "vllm"})
    assert caught.value.code == "unsupported_precision"
    assert descendants("fake_server") == []


def test_a_request_that_the_server_has_no_context_for_is_refused(url, measure):
    load = LoadSpec(mode="closed", concurrency=1, requests=1, isl=500, osl=100)
    with pytest.raises(BackendError, match=r"600 tokens .* exceed the server's context of 512") as caught:
        measure(load=load, options={"url": url})
    assert caught.value.code == "shape_outside_profile"


def test_a_url_where_nobody_answers(measure):
    with pytest.raises(BackendError, match="no server answers") as caught:
        measure(options={"url": f"http://127.0.0.1:{free_port()}"})
    assert caught.value.code == "server_not_ready"


def test_a_taken_port_is_named(url, measure):
    port = int(url.rpartition(":")[2])
    with pytest.raises(BackendError, match=f"port {port} .* is taken") as caught:
        measure(options={"command": ["x", "{port}"], "port": port})
    assert caught.value.code == "port_in_use"


def test_prompts_are_new_where_a_cache_may_hold_the_last_runs(tmp_path, url, measure):
    """A server that does not say that it forgets must not be asked the same twice."""
    seeds = {
        note
        for _ in range(2)
        for note in measure(options={"url": url, "server": "openai", "body": {"ignore_eos": True}}).notes
        if "seed" in note
    }
    assert len(seeds) == 2
    kept = measure(options={"url": url, "server": "openai", "fresh_prompts": False, "body": {"ignore_eos": True}})
    assert not any("seed" in note for note in kept.notes)


def test_keys_come_from_the_environment_and_stay_out_of_the_result(tmp_path, monkeypatch, measure):
    port = free_port()
    ask = probe.asker(f"http://127.0.0.1:{port}")
    command = Command(argv=(sys.executable, str(FAKE), str(port), "key"), ready="/health", what="fake")
    with LaunchedServer(command, tmp_path, ask) as server:
        server.wait_until_ready(20)
        options = {"url": f"http://127.0.0.1:{port}", "api_key_env": "FAKE_KEY", "server_metrics": "off"}
        with pytest.raises(PlanError, match=r"\$FAKE_KEY, which is unset"):
            measure(options=options)
        monkeypatch.setenv("FAKE_KEY", "s3cret")
        # It has a model for those who have the key, and no endpoint for completions.
        with pytest.raises(BackendError, match="no request of the measuring phase completed") as caught:
            measure(options=options)
    assert "s3cret" not in str(caught.value)
    assert headers_of(parse_options(options), {"FAKE_KEY": "k"}) == {"Authorization": "Bearer k"}


@pytest.mark.parametrize(
    ("listed", "wanted", "path", "expected"),
    [
        (("a",), None, "x", "a"),
        (("a", "b"), "b", "x", "b"),
        (("a", "org/b"), None, "org/b", "org/b"),
        ((), "b", "x", "b"),
    ],
)
def test_the_model_is_the_plans_or_the_only_one(listed, wanted, path, expected):
    options = parse_options({"url": "http://h", **({"served_model": wanted} if wanted else {})})
    facts = ServerFacts(family="vllm", models=listed)
    assert served_model(job(model_path=Path(path)), options, facts) == expected


def test_a_launched_server_that_lists_nothing_has_what_it_was_started_with():
    facts = ServerFacts(family="transformers")
    assert served_model(job(model_path=Path("/m/x")), parse_options({"profile": "transformers"}), facts) == "/m/x"


@pytest.mark.parametrize(
    ("listed", "wanted", "text"),
    [(("a", "b"), None, "'a', 'b'"), (("a",), "b", "no model 'b'; it lists 'a'"), ((), None, "lists no model")],
)
def test_a_model_that_cannot_be_told_is_an_error_that_names_them(listed, wanted, text):
    options = parse_options({"url": "http://h", **({"served_model": wanted} if wanted else {})})
    with pytest.raises(BackendError, match=text):
        served_model(job(), options, ServerFacts(family="vllm", models=listed))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "it has none"),
        ({"url": "http://h", "profile": "vllm"}, "it has url, profile"),
        ({"url": "h:8000"}, "no URL"),
        ({"url": "http://me:s3cret@h"}, "api_key_env"),
        ({"profile": "vlm"}, "one of vllm"),
        ({"profile": "nim"}, "runs a container"),
        ({"command": ["serve"]}, "no {port}"),
        ({"url": "http://h", "args": ["-x"]}, "belongs to a profile"),
        ({"url": "http://h", "servd_model": "x"}, "served_model"),
        ({"url": "http://h", "endpoint": "chats"}, "one of"),
        ({"url": "http://h", "api_key_env": "sk-abc123"}, "name of an environment variable"),
        ({"url": "http://h", "headers_env": {"X Key": "V"}}, "names of headers"),
        ({"profile": "vllm", "env": {"HF_TOKEN": "hf_abc"}}, "looks like a secret"),
        ({"profile": "vllm", "scrape_hz": 0}, "above 0"),
        ({"profile": "vllm", "port": 70_000}, "at most 65535"),
    ],
)
def test_bad_options_are_refused_and_secrets_are_not_repeated(options, text):
    with pytest.raises(PlanError) as caught:
        parse_options(options)
    assert text in str(caught.value)
    assert not any(secret in str(caught.value) for secret in ("sk-abc123", "hf_abc", "s3cret"))


@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_is_an_option(name):
    image = {"image": "img:1"} if PROFILES[name].container else {}
    assert parse_options({"profile": name, **image}).family == PROFILES[name].family


def test_the_device_is_the_plans_until_it_is_read_back():
    assert isinstance(BACKEND, ChoosesDevice)
    assert BACKEND.device_of({"url": "http://h"}) == "unknown"
    assert BACKEND.device_of({"url": "http://h", "device_name": "NVIDIA H200"}) == "NVIDIA H200"
    assert BACKEND.availability().available
    assert BACKEND.engine_options(job(options={"url": "http://h"})) is None
    with pytest.raises(PlanError):
        BACKEND.engine_options(job(options={"urll": "http://h"}))


def test_a_job_without_a_load_is_refused(measure):
    with pytest.raises(BackendError, match="needs a load"):
        measure(load=None, options={"url": "http://127.0.0.1:1"})


PLAN = """
name = "served"
repeats = 1
[measure]
warmup_s = 0.05
duration_s = 0.4
[[model]]
name = "small"
served = "org/small"
[[workload]]
name = "chat"
model = "small"
backends = ["openai"]
precisions = ["best"]
options = {{ url = "{url}", device_name = "Test CPU", scrape_hz = 20, body = {{ top_p = 0.5 }} }}
[[workload.load]]
concurrency = [2]
isl = 16
osl = 8
"""


def test_a_plan_with_a_served_model_runs_and_is_stored(url, tmp_path, run_plan, workspace):
    from enginewatch_db.connect import Reader

    path = tmp_path / "plan.toml"
    path.write_text(PLAN.format(url=url))
    outcome = run_plan(path)
    record = outcome.records[0]
    assert record.failure is None
    assert (record.identity.device, record.identity.model, record.identity.model_sha256) == ("Test CPU", "small", None)
    assert "url" not in record.identity.options
    assert record.identity.options["body"] == '{"top_p": 0.5}'
    with Reader.open(workspace) as reader:
        found = reader.console("SELECT count(*) AS n FROM server_samples").to_pylist()
    assert found[0]["n"] >= 2


def test_a_served_model_is_no_file_for_an_engine(tiny_plan, run_plan):
    with pytest.raises(PlanError, match="needs a model file"):
        run_plan(tiny_plan(source='served = "org/net"', repeats=1))


def test_a_model_folder_is_hashed_by_its_small_files_and_the_sizes_of_the_large(tmp_path):
    (tmp_path / "config.json").write_text('{"a": 1}')
    (tmp_path / "w.safetensors").write_bytes(b"1234")
    first = folder_sha256(tmp_path)
    assert folder_sha256(tmp_path) == first
    (tmp_path / "w.safetensors").write_bytes(b"12345")
    second = folder_sha256(tmp_path)
    (tmp_path / "config.json").write_text('{"a": 2}')
    assert len({first, second, folder_sha256(tmp_path)}) == 3


def test_a_measurements_device_crosses_the_process_boundary(tmp_path, url, measure):
    from enginewatch_harness.wire import WorkResult, read_result, write_result

    found = dataclasses.replace(measure(options={"url": url}), device="NVIDIA H200", device_count=2)
    write_result(tmp_path, WorkResult(measurement=found))
    back = read_result(tmp_path)
    assert back is not None
    assert back.measurement is not None
    assert (back.measurement.device, back.measurement.device_count) == ("NVIDIA H200", 2)


def test_the_rate_per_gpu_follows_from_their_number(url, measure):
    found = values(measure(options={"url": url, "device_name": "NVIDIA H200", "gpus": 4, "server_metrics": "off"}))
    if found["output_tokens_s"] is not None:
        assert found["output_tokens_s_per_gpu"] == pytest.approx(found["output_tokens_s"] / 4)
    known = per_gpu([MetricValue(metric="output_tokens_s", value=100.0)], 4)
    assert {item.metric: item.value for item in known}["output_tokens_s_per_gpu"] == 25
    assert len(per_gpu([MetricValue(metric="output_tokens_s", value=100.0)], None)) == 1


def test_the_processes_of_a_server_behind_a_url_are_no_strangers_on_its_gpu():
    buffer = TelemetryBuffer()
    for tick in range(41):
        buffer.add_row("nvml", "gpu0", tick * 100_000_000, {"sm_clock_mhz": 1980})
    seen = [{"kind": "foreign_process", "device": "gpu0", "pid": pid, "name": "x", "when": "start"} for pid in (41, 42)]
    maker = CaseMaker(
        loads=loads_of(Given()),
        model=ModelTable(name="m", served="m"),
        options={},
        precision="best",
        warmup_s=0.0,
        duration_s=4.0,
    )
    record, _ = finished_run(
        Stamp(
            run_id="r", session_id="s", plan_name="p", repeat=0, order_idx=0, started_at="now",
            environment={}, host={}, session={},
        ),
        Prepared(case=maker.case(1), availability=BACKEND.availability(), device="unknown", model_sha256=None),
        Measurement(tables={}, window_ns=(0, 4_000_000_000), device="NVIDIA H200", own_pids=(41,)),
        ended_at="later",
        t0_ns=0,
        phases=(PhaseMark(name=Phase.MEASURE, start_ns=0, end_ns=4_000_000_000),),
        engine=None,
        sentinel_ns=(),
        telemetry=Telemetry(
            table=buffer.to_table(),
            quality={"rate_hz": 10.0, "events": seen},
            devices=({"name": "NVIDIA H200", "source": "nvml"},),
        ),
        preflight=(),
    )  # fmt: skip
    strangers = [reason.detail for reason in record.reasons if reason.code == "foreign_process"]
    assert len(strangers) == 1
    assert "pid 42" in strangers[0]
    assert "pid 41" not in strangers[0]


def test_a_server_on_no_gpu_has_no_rate_per_gpu(url, measure):
    found = measure(options={"url": url, "server_metrics": "off"})
    assert found.device is not None
    assert found.device_count == 1
    assert values(found)["output_tokens_s"] is not None
    assert values(found)["output_tokens_s_per_gpu"] is None


@pytest.mark.parametrize(
    ("family", "endpoint", "asked"),
    [
        ("vllm", "completions", 8),
        ("sglang", "chat", 8),
        ("vllm", "triton-generate", None),
        ("llamacpp", "completions", None),
        ("openai", "chat", None),
    ],
)
def test_min_tokens_go_to_the_servers_and_endpoints_that_know_them(measure, family, endpoint, asked):
    options = {"server": family, "endpoint": endpoint, "served_model": "m", "server_metrics": "off"}
    with ReferenceServer(loop_factory=uvloop.new_event_loop) as server:
        found = measure(options={"url": server.url, **options})
    assert len(server.truths) >= 20
    assert {truth.body.get("min_tokens") for truth in server.truths} == {asked}
    assert any("min_tokens as many" in note for note in found.notes) == (asked is not None)


def test_llama_cpp_tells_about_itself_when_asked_to(model, tmp_path):
    context = Context(work_dir=tmp_path, t0_ns=time.monotonic_ns(), enter=lambda p: None, progress=lambda *_: None)
    asked = job(model_path=model, precision="fp16", options={"threads": 1, "server_metrics": True})
    found = LlamaCppBackend().measure(asked, None, None, context)
    samples = found.tables["server_samples"]
    assert samples.num_rows >= 2  # before the load and after it
    done = samples["output_tokens"].to_pylist()
    assert done[-1] - done[0] >= 20 * 8
    quiet = LlamaCppBackend().measure(
        job(model_path=model, precision="fp16", options={"threads": 1}), None, None, context
    )
    assert "server_samples" not in quiet.tables
    assert any("server_metrics = true" in str(item.absent_reason) for item in quiet.metrics)


@pytest.mark.parametrize(
    ("config", "asked", "expected"),
    [
        ({"torch_dtype": "bfloat16"}, False, "bf16"),
        ({"torch_dtype": "bfloat16"}, True, None),  # the command line asked for another type: nobody says what runs
        ({"torch_dtype": "bfloat16", "quantization_config": {"quant_method": "fp8"}}, True, "fp8"),
    ],
)
def test_a_checkpoint_is_believed_where_the_command_line_did_not_overrule_it(tmp_path, config, asked, expected):
    (tmp_path / "config.json").write_text(json.dumps(config))

    class Silent:
        def log_head(self) -> str:
            return ""

    found = read_precision(ServerFacts(family="lmdeploy"), Silent(), tmp_path, asked=asked)
    assert (None if found is None else found.precision) == expected
