"""The llama.cpp backend with the real server and small random models."""

import http.client
import json
import os
import select
import shlex
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

from enginewatch_db import tables
from enginewatch_db.errors import BackendError, PlanError
from enginewatch_db.model import Phase
from enginewatch_harness.backends.base import Context, Job
from enginewatch_harness.backends.llamacpp import LlamaCppBackend, load_target, server_settings
from enginewatch_harness.backends.llamacpp_options import (
    Cores,
    LlamaCppOptions,
    default_threads,
    parse_options,
    split_cores,
)
from enginewatch_harness.backends.llamacpp_process import ServerProcess
from enginewatch_harness.backends.llamacpp_server import Settings, arguments, parse
from enginewatch_harness.gguf_model import LlamaShape, write_random_llama
from enginewatch_harness.load.generator import run_load
from enginewatch_harness.load.spec import LoadSpec
from enginewatch_harness.load.spec_json import read_spec

SHAPE = {"n_layers": 2, "n_embd": 64, "n_heads": 2, "n_kv_heads": 1, "n_ff": 96}
SMALL = LlamaShape(**SHAPE)
BACKEND = LlamaCppBackend()


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("models") / "small.gguf"
    write_random_llama(path, precision="fp16", shape=SMALL)
    return path


@pytest.fixture
def make_context(tmp_path):
    def build(enter=lambda phase: None, progress=lambda count, median_ms: None) -> Context:
        return Context(work_dir=tmp_path, t0_ns=time.monotonic_ns(), enter=enter, progress=progress)

    return build


def job(model: Path, *, load=None, options=None, precision="fp16", **changes) -> Job:
    facts = {
        "case_key": "chat/llamacpp/fp16/c2",
        "workload": "chat",
        "model_path": model,
        "model_name": "small",
        "precision": precision,
        "warmup_s": 0.0,
        "duration_s": 30.0,
        "seed": 1,
        "load": load or LoadSpec(mode="closed", concurrency=2, requests=6, isl=24, osl=8),
        "options": {"threads": 1, **(options or {})},
    }
    return Job(**(facts | changes))


def servers() -> list[psutil.Process]:
    children = psutil.Process().children(recursive=True)
    return [child for child in children if any("llamacpp_server" in part for part in child.cmdline())]


def test_availability_names_version_and_precisions():
    found = BACKEND.availability()
    assert found.available
    assert found.version
    assert found.precisions == ("fp32", "fp16", "bf16", "q8_0", "q4_0")


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16", "q8_0", "q4_0"])
def test_a_generated_model_is_built_served_and_measured(tmp_path, make_context, precision):
    phases = []
    context = make_context(enter=phases.append)
    order = job(Path("random-llama"), precision=precision, options={"generate": "random-llama", **SHAPE})
    assert BACKEND.engine_options(order)["shape"]["n_layers"] == 2
    engine = BACKEND.build(order, tmp_path / "engine", context)
    assert engine.realised_precision == precision
    assert engine.size_bytes == (tmp_path / "engine").stat().st_size
    assert engine.build_time_s > 0
    assert not engine.cached
    measured = BACKEND.measure(order, engine, tmp_path / "engine", context)
    assert phases == [Phase.LOAD, Phase.WARMUP, Phase.MEASURE, Phase.DRAIN]
    table = measured.tables["llm_requests"]
    assert table.schema == tables.LLM_REQUESTS
    assert table["status"].to_pylist() == ["ok"] * 6
    # Every token has text of its own, so it is an event; and prompts have exactly the wanted length.
    assert table["content_events"].to_pylist() == table["output_tokens"].to_pylist() == [8] * 6
    assert table["prompt_tokens"].to_pylist() == [24] * 6
    assert table["finish_reason"].to_pylist() == ["length"] * 6
    assert min(table["ttft_ns"].to_pylist()) > 0
    assert all(row["first_byte_at_ns"] > row["sent_at_ns"] > 0 for row in table.to_pylist())
    found = {item.metric: item for item in measured.metrics}
    assert found["load_time_s"].value > 0
    assert found["ttft_p50_ms"].n == 6
    assert measured.realised_precision == precision
    assert 24 <= measured.counts["output_tokens"] <= 48  # less what came while the load ran down
    assert measured.effective_options == {
        "threads": 1,
        "parallel": 2,
        "endpoint": "completions",
        "prompt_cache": False,
        "pinned": len(os.sched_getaffinity(0)) > 1,
    }
    assert "xllamacpp" in measured.versions
    assert servers() == []


def test_a_given_gguf_is_used_as_it_is(model, make_context):
    order = job(model, load=LoadSpec(mode="poisson", concurrency=16, rate_rps=60.0, requests=8, isl=16, osl=4))
    assert BACKEND.engine_options(order) is None
    with pytest.raises(BackendError, match="nothing to build"):
        BACKEND.build(order, model.parent / "other", make_context())
    measured = BACKEND.measure(order, None, None, make_context())
    assert measured.tables["llm_requests"]["status"].to_pylist() == ["ok"] * 8
    assert measured.effective_options["parallel"] == 8
    assert all(at is not None for at in measured.tables["llm_requests"]["intended_at_ns"].to_pylist())


def test_the_chat_endpoint_streams_as_many_tokens(model, make_context):
    measured = BACKEND.measure(job(model, options={"endpoint": "chat"}), None, None, make_context())
    table = measured.tables["llm_requests"]
    assert table["content_events"].to_pylist() == [8] * 6
    assert min(table["prompt_tokens"].to_pylist()) > 24  # the chat template adds tokens


def test_the_same_prompt_is_not_answered_from_a_cache(model, tmp_path):
    settings = Settings(model=model, parallel=1, ctx=512, threads=1)
    with ServerProcess(settings, tmp_path) as server:
        url = server.wait_until_ready(30).url
        cached = [ask(url, "able about above across act")["usage"] for _ in range(3)]
    assert [usage.get("prompt_tokens_details", {}).get("cached_tokens", 0) for usage in cached] == [0, 0, 0]


def ask(url: str, prompt: str, **more) -> dict:
    host, port = url.removeprefix("http://").split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=30)
    try:
        body = {"prompt": prompt, "max_tokens": 4, "temperature": 1.0, "ignore_eos": True, **more}
        connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        found = json.loads(answer.read())
    finally:
        connection.close()
    assert answer.status == 200, found
    return found


@pytest.mark.parametrize("prompt", ["Grüße, 世界! \U0001f680 \t x²", "", "ZZZ 123 <s> </s>", "a" * 300])
def test_any_text_has_tokens_and_hot_sampling_never_ends_early(model, tmp_path, prompt):
    with ServerProcess(Settings(model=model, ctx=1024), tmp_path) as server:
        url = server.wait_until_ready(30).url
        found = ask(url, prompt, max_tokens=40, temperature=2.0, ignore_eos=False)
    assert found["usage"]["completion_tokens"] == 40
    assert found["choices"][0]["finish_reason"] == "length"
    assert "\N{REPLACEMENT CHARACTER}" not in found["choices"][0]["text"]


def test_an_injected_delay_is_in_every_gap(model, tmp_path):
    options = LlamaCppOptions(threads=1, inject_delay_ms=8.0)
    load = LoadSpec(mode="closed", concurrency=2, requests=4, isl=8, osl=6)
    with ServerProcess(server_settings(model, load, options), tmp_path) as server:
        url = server.wait_until_ready(30).url
        target = load_target(url, "small", options)
        result = run_load(target, load, warmup_s=0, duration_s=9, seed=0, t0_ns=0)
    rows = result.requests.to_pylist()
    assert [row["status"] for row in rows] == ["ok"] * 4
    # Six tokens: the last one is released at least six delays after it was asked for.
    assert all(row["e2e_ns"] >= 6 * 8_000_000 for row in rows)
    assert all(row["ttft_ns"] >= 8_000_000 for row in rows)


def test_the_backend_says_that_it_delayed(model, make_context):
    order = job(model, options={"inject_delay_ms": 1.0})
    assert any("1 ms" in note for note in BACKEND.measure(order, None, None, make_context()).notes)


def test_a_server_killed_under_load_fails_the_run_and_keeps_what_was_measured(model, make_context, tmp_path):
    killed = []

    def progress(count, median_ms):
        if count and not killed:
            killed.extend(process.pid for process in servers())
            os.kill(killed[0], signal.SIGKILL)

    order = job(model, load=LoadSpec(mode="closed", concurrency=2, isl=16, osl=16), duration_s=600.0)
    with pytest.raises(BackendError) as caught:
        BACKEND.measure(order, None, None, make_context(progress=progress))
    assert caught.value.code == "server_died"
    assert "killed by SIGKILL" in str(caught.value)
    kept = pq.read_table(tmp_path / "llm_requests.partial.parquet")
    assert "ok" in kept["status"].to_pylist()
    assert set(kept["error_class"].to_pylist()) & {"connect_refused", "reset", "no_response", "half_stream"}
    assert servers() == []


def test_a_taken_port_is_named(model, make_context):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(BackendError, match=str(port)) as caught:
            BACKEND.measure(job(model, options={"port": port}), None, None, make_context())
    assert caught.value.code == "port_in_use"
    assert "port = 0" in caught.value.remedy


def test_a_given_port_is_used(model, tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with ServerProcess(Settings(model=model, port=port), tmp_path) as server:
        assert server.wait_until_ready(30).url == f"http://127.0.0.1:{port}"


def test_the_server_ends_with_its_context(model, tmp_path):
    with ServerProcess(Settings(model=model), tmp_path) as server:
        server.wait_until_ready(30)
        process = psutil.Process(server.pid)
        assert os.getpgid(server.pid) == server.pid
        assert server.ended() is None
    assert not process.is_running()


def test_the_server_ends_with_its_parent_even_when_that_is_killed(model, tmp_path):
    code = f"""
    import signal, sys
    from pathlib import Path
    from enginewatch_harness.backends.llamacpp_process import ServerProcess
    from enginewatch_harness.backends.llamacpp_server import Settings
    with ServerProcess(Settings(model=Path({str(model)!r})), Path({str(tmp_path)!r})) as server:
        server.wait_until_ready(60)
        print(server.pid, flush=True)
        signal.pause()
    """
    parent = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE)
    try:
        descriptor = os.pidfd_open(int(parent.stdout.readline()))
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    assert poll.poll(20_000), "the server outlived its parent"
    os.close(descriptor)


def test_a_model_that_is_missing_or_corrupt(model, make_context, tmp_path):
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(model.read_bytes()[:-1000])
    for path, code in ((tmp_path / "none.gguf", "model_missing"), (cut, "model_corrupt")):
        with pytest.raises(BackendError, match=path.name) as caught:
            BACKEND.measure(job(path), None, None, make_context())
        assert caught.value.code == code


def test_what_the_server_itself_cannot_load_is_told_with_its_log(model, tmp_path):
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(model.read_bytes()[:-1000])
    with ServerProcess(Settings(model=cut), tmp_path) as server, pytest.raises(BackendError) as caught:
        server.wait_until_ready(30)
    assert caught.value.code == "model_corrupt"
    assert "corrupted or incomplete" in str(caught.value)


def test_a_server_that_is_not_ready_in_time(model, tmp_path):
    with ServerProcess(Settings(model=model), tmp_path) as server, pytest.raises(BackendError) as caught:
        server.wait_until_ready(0.0)
    assert caught.value.code == "server_not_ready"
    assert "ready_timeout_s" in caught.value.remedy


def test_a_server_that_crashes_while_it_loads(model, tmp_path):
    with ServerProcess(Settings(model=model, threads=1), tmp_path) as server:
        os.kill(server.pid, signal.SIGKILL)
        with pytest.raises(BackendError, match="killed by SIGKILL") as caught:
            server.wait_until_ready(30)
    assert caught.value.code == "crashed"


def test_requests_that_never_end_fail_the_run(model, make_context):
    load = LoadSpec(mode="closed", concurrency=1, requests=2, isl=16, osl=20_000)
    with pytest.raises(BackendError, match=r"no end within 0\.2 s") as caught:
        BACKEND.measure(job(model, load=load, options={"request_timeout_s": 0.2}), None, None, make_context())
    assert caught.value.code == "load_failed"


def test_what_the_server_refuses_is_an_error_in_its_own_words(model, tmp_path):
    load = LoadSpec(mode="closed", requests=2, isl=400, osl=4)
    with ServerProcess(Settings(model=model, ctx=256), tmp_path) as server:
        target = load_target(server.wait_until_ready(30).url, "small", LlamaCppOptions())
        result = run_load(target, load, warmup_s=0, duration_s=9, seed=0, t0_ns=0)
    assert result.requests["error_class"].to_pylist() == ["http_error"] * 2
    assert result.requests["http_status"].to_pylist() == [400] * 2
    assert "context size" in result.requests["error"].to_pylist()[0]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"precision": "q8_0"}, "unsupported_precision"),
        ({"load": LoadSpec(mode="closed", isl=131_000, osl=100)}, "shape_outside_profile"),
    ],
)
def test_a_model_that_does_not_fit_the_case(model, make_context, changes, code):
    with pytest.raises(BackendError) as caught:
        BACKEND.measure(job(model, **changes), None, None, make_context())
    assert caught.value.code == code


def test_best_takes_the_model_in_any_precision(model, make_context):
    measured = BACKEND.measure(job(model, precision="best"), None, None, make_context())
    assert measured.realised_precision == "fp16"


def test_an_engine_workload_is_refused(model, make_context):
    order = Job(**{**{name: getattr(job(model), name) for name in Job.__slots__}, "load": None})
    with pytest.raises(BackendError, match="needs a load"):
        BACKEND.measure(order, None, None, make_context())


def test_the_command_starts_the_same_server_and_load(model, make_context):
    lines = BACKEND.measure(job(model), None, None, make_context()).command.splitlines()
    server = shlex.split(lines[0].partition("| ")[2])
    settings = parse(server[3:])
    assert settings.model == model
    assert (settings.port, settings.parallel, settings.threads) == (8080, 2, 1)
    load = shlex.split(lines[1])
    assert load[1:3] == ["-m", "enginewatch_harness.load"]
    assert read_spec(load[load.index("--spec") + 1]) == job(model).load
    assert json.loads(load[load.index("--body") + 1]) == load_target("http://h:1", "m", LlamaCppOptions()).body


def test_settings_survive_the_command_line():
    settings = Settings(
        model=Path("a b.gguf"), port=1, parallel=2, ctx=3, threads=4, http_threads=5, cores=(1, 3), delay_ms=0.25
    )
    assert parse(arguments(settings)) == settings


def test_server_and_client_have_cores_of_their_own_where_there_is_one_to_spare():
    assert split_cores({0, 1, 4, 7}, LlamaCppOptions(threads=2)) == Cores(client=(0, 1), server=(4, 7))
    assert split_cores({0, 1}, LlamaCppOptions(threads=2)) == Cores()
    assert split_cores({0, 1}, LlamaCppOptions(threads=1, pin=False)) == Cores()


def test_the_server_stays_on_its_cores(model, tmp_path):
    core = max(os.sched_getaffinity(0))
    with ServerProcess(Settings(model=model, cores=(core,)), tmp_path) as server:
        server.wait_until_ready(30)
        threads = Path(f"/proc/{server.pid}/task").iterdir()
        assert {tuple(os.sched_getaffinity(int(thread.name))) for thread in threads} == {(core,)}


def test_a_slot_a_context_and_a_thread_for_each_request_in_progress():
    closed = server_settings(Path("m"), LoadSpec(mode="closed", concurrency=5, isl=200, osl=60), LlamaCppOptions())
    assert (closed.parallel, closed.ctx, closed.http_threads) == (5, 5 * 512, 14)
    assert closed.threads == default_threads() >= 1
    opened = server_settings(Path("m"), LoadSpec(mode="poisson", concurrency=256, rate_rps=1.0), LlamaCppOptions())
    assert (opened.parallel, opened.http_threads) == (8, 268)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"thread": 1}, "'threads'"),
        ({"threads": 0}, "at least 1"),
        ({"threads": True}, "at least 1"),
        ({"parallel": "2"}, "parallel"),
        ({"pin": 1}, "true or false"),
        ({"port": 70_000}, "65535"),
        ({"endpoint": "embed"}, "completions, chat"),
        ({"generate": "random-bert"}, "random-llama"),
        ({"ready_timeout_s": 0}, "above 0"),
        ({"request_timeout_s": 1e300}, "above 0 and up to 1000000"),
        ({"inject_delay_ms": -1}, "from 0 to 1000000"),
        ({"inject_delay_ms": float("inf")}, "from 0 to 1000000"),
        ({"n_embd": 100}, "of 256"),
        ({"n_kv_heads": 3}, "divisor"),
        ({"n_ff": 100}, "multiple of 32"),
    ],
)
def test_options_that_cannot_be_obeyed_are_refused(options, words):
    with pytest.raises(PlanError, match=words):
        parse_options(options)
