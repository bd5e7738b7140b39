"""``enginewatch load`` against a real server of known capacity, and its command line."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import threading

import pytest
from rich.console import Console

from enginewatch_db.connect import Reader
from enginewatch_db.errors import ExitCode, UsageError
from enginewatch_db.ingest import IngestReport
from enginewatch_db.model import Failure, RunStatus
from enginewatch_db.validity import Reason
from enginewatch_harness import cli, events
from enginewatch_harness.commands import load_given, load_rows, load_server, load_summary
from enginewatch_harness.commands.load import exit_code
from enginewatch_harness.commands.load import load as load_command
from enginewatch_harness.commands.load_cases import (
    attained_of,
    client_is_harmless,
    level_of,
    name_of,
    suffix,
    throughput_of,
)
from enginewatch_harness.commands.load_given import Given, loads_of
from enginewatch_harness.commands.load_live import LiveLoad, PlainLoad
from enginewatch_harness.commands.load_session import LoadTest, prepare_test
from enginewatch_harness.load import calibrate_run
from enginewatch_harness.load.calibrate import Limit
from enginewatch_harness.load.knee import Knee, NoKnee
from enginewatch_harness.load.search import Attained, KneeSearch, Limits, SloSearch
from enginewatch_harness.load.spec import LoadSpec
from enginewatch_harness.session_request import SessionOutcome


class SlotServer:
    """Each of its slots streams a token every ``gap_ms``; more requests wait for a slot."""

    def __init__(self, *, slots: int, gap_ms: float = 2.0, models: tuple[str, ...] = ("m",), **odd: object) -> None:
        self.slots, self.gap_s, self.models = slots, gap_ms / 1000, models
        self.streams, self.key = odd.get("streams", True), odd.get("key")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> SlotServer:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _listen(self) -> None:
        self._free = asyncio.Semaphore(self.slots)
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=1024)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def _stop(self) -> None:
        self._server.close()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            while head := (await reader.readuntil(b"\r\n\r\n")).decode():
                lengths = [int(line[15:]) for line in head.split("\r\n") if line.lower().startswith("content-length:")]
                body = await reader.readexactly(lengths[0]) if lengths else b""
                if self.key is not None and f"Bearer {self.key}" not in head:
                    self._whole(writer, 401, {"error": "no key"})
                else:
                    await self._answer(head.split()[1], body, writer)
        writer.close()

    async def _answer(self, path: str, body: bytes, writer: asyncio.StreamWriter) -> None:
        if path == "/v1/models":
            self._whole(writer, 200, {"data": [{"id": name, "owned_by": "test"} for name in self.models]})
            return
        if path != "/v1/completions":
            self._whole(writer, 404, {})
            return
        asked = json.loads(body)["max_tokens"]
        if not self.streams:
            self._whole(writer, 200, {"choices": [{"text": " x" * asked, "finish_reason": "length"}]})
            return
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        async with self._free:
            due = self._loop.time()
            for number in range(asked):
                due += self.gap_s
                await asyncio.sleep(max(0, due - self._loop.time()))
                end = "length" if number == asked - 1 else None
                self._event(writer, {"choices": [{"index": 0, "text": f" t{number}", "finish_reason": end}]})
        self._event(writer, {"choices": [], "usage": {"prompt_tokens": 8, "completion_tokens": asked}})
        writer.write(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")

    def _event(self, writer: asyncio.StreamWriter, data: object) -> None:
        text = f"data: {json.dumps(data)}\n\n".encode()
        writer.write(b"%x\r\n%b\r\n" % (len(text), text))

    def _whole(self, writer: asyncio.StreamWriter, status: int, data: object) -> None:
        text = json.dumps(data).encode()
        head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n"
        writer.write(head.encode() + text)


SHORT = ("--isl", "8", "--osl", "8", "--duration-s", "0.4", "--warmup-s", "0.1")


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        cli.main(["load", *arguments])
    return int(end.value.code or 0)


@pytest.fixture
def store(tmp_path, monkeypatch):
    """An empty folder to work in, as a user has it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ENGINEWATCH_STORE", raising=False)
    return tmp_path / ".enginewatch"


def test_a_ladder_alone_in_an_empty_folder_is_measured_shown_and_stored(store, capsys):
    with SlotServer(slots=4) as server:
        code = call(server.url + "/v1/", "--concurrency", "2,8", "--repeats", "2", *SHORT, "--slo", "ttft_ms=1000")
    said = capsys.readouterr()
    assert code in (0, ExitCode.UNFIT)  # a busy host makes the client late, which is what it says then
    assert "2 streams" in said.out
    assert "8 streams" in said.out
    assert "goodput" in said.out
    assert "run 4/4" in said.err
    assert f"stored in {store}" in said.err
    with Reader.open(store) as opened:
        found = opened.console("SELECT plan_name, case_key, repeat, status, session_id FROM runs ORDER BY order_idx")
    rows = [tuple(row.values()) for row in found.to_pylist()]
    assert len(rows) == 4
    assert {row[0] for row in rows} == {"load-127.0.0.1-" + server.url.rpartition(":")[2]}
    assert sorted((row[1], row[2]) for row in rows) == [
        (f"m/openai/best/c{streams}-i8-o8", repeat) for streams in (2, 8) for repeat in (0, 1)
    ]
    assert {row[3] for row in rows} == {"ok"}
    assert len({row[4] for row in rows}) == 1


def test_json_is_one_document_and_a_search_asks_for_its_levels(store, capsys):
    with SlotServer(slots=3) as server:
        code = call(
            server.url, "--find", "knee", "--concurrency", "1-16", "--max-runs", "6", *SHORT, "--json", "--no-store"
        )
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert code in (0, ExitCode.UNFIT)
    assert found["schema_version"] == 1
    assert found["model"] == "m"
    assert found["store"] is None
    assert found["runs"] <= 6
    assert found["levels"][0]["level"] == 1
    assert found["levels"][0]["metrics"]["output_tokens_s"]["value"] > 0
    assert found["knee"] is not None
    assert not store.exists()


def test_interrupted_it_keeps_what_was_measured_and_ends_with_130(tmp_path):
    with SlotServer(slots=4) as server:
        command = [sys.executable, "-m", "enginewatch_harness.cli", "load", server.url, "--concurrency", "1,2,3,4"]
        child = subprocess.Popen(
            [*command, *SHORT], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        lines = []
        for line in child.stderr:
            lines.append(line)
            if line.startswith("run 1/12"):
                child.send_signal(signal.SIGINT)
                break
        out, err = child.communicate()
    assert child.returncode == ExitCode.INTERRUPTED, "".join(lines) + err
    assert "the finished runs are in" in err
    assert "stream" in out
    with Reader.open(tmp_path / ".enginewatch") as opened:
        assert opened.console("SELECT * FROM runs").num_rows >= 1


@pytest.mark.parametrize(
    ("odd", "arguments", "code", "words"),
    [
        ({"models": ("a", "b")}, (), ExitCode.USAGE, "has 2 models: 'a', 'b'"),
        ({"models": ()}, (), ExitCode.USAGE, "lists no model"),
        ({"models": ("llama-8b",)}, ("--model", "lama-8b"), ExitCode.USAGE, "did you mean --model llama-8b?"),
        ({"key": "secret"}, (), ExitCode.USAGE, "--api-key-env"),
        ({}, ("--find", "slo"), ExitCode.USAGE, "needs an objective"),
        ({}, ("--isl", "long"), ExitCode.USAGE, "--isl 'long' is not a length"),
        ({}, ("--rate", "1", "--concurrency", "1"), ExitCode.USAGE, "exclude each other"),
        ({}, ("--body", "[1]"), ExitCode.USAGE, "--body must be a JSON object"),
        ({}, ("--api-key-env", "NOT_SET_ANYWHERE"), ExitCode.USAGE, "NOT_SET_ANYWHERE"),
        ({}, ("--slo", "ttft=1"), ExitCode.USAGE, "unknown objective --slo ttft"),
    ],
)
def test_mistakes_are_told_in_one_line_before_anything_runs(store, capsys, odd, arguments, code, words):
    with SlotServer(slots=1, **odd) as server:
        assert call(server.url, *arguments) == code
    said = capsys.readouterr()
    assert words in said.err
    assert "Traceback" not in said.err
    assert len(said.err.strip().splitlines()) <= 2
    assert not store.exists()


@pytest.mark.parametrize("number", ["inf", "nan", "-inf"])
@pytest.mark.parametrize("option", ["--duration-s", "--request-timeout-s", "--outage-s"])
def test_a_number_that_is_none_is_refused(store, capsys, option, number):
    assert call("http://127.0.0.1:1", option, number) == ExitCode.USAGE
    assert option in capsys.readouterr().err
    assert not store.exists()


def test_a_server_that_is_not_there_or_not_one(store, capsys):
    assert call("127.0.0.1:9") == ExitCode.FAILED
    assert "no server answers at http://127.0.0.1:9" in capsys.readouterr().err
    assert call("ftp://x") == ExitCode.USAGE
    assert "there is no load over ftp://" in capsys.readouterr().err
    assert call() == ExitCode.USAGE
    assert "Missing argument 'URL'" in capsys.readouterr().err


def test_a_server_that_does_not_stream_fails_with_the_reason(store, capsys):
    with SlotServer(slots=1, streams=False) as server:
        assert call(server.url, "--concurrency", "1", "--repeats", "1", *SHORT) == ExitCode.FAILED
    assert "load_failed" in capsys.readouterr().err


@pytest.mark.parametrize("streams", [True, False])
def test_without_a_store_only_the_logs_of_failed_runs_are_left(store, tmp_path, monkeypatch, capsys, streams):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    with SlotServer(slots=1, streams=streams) as server:
        code = call(server.url, "--concurrency", "1", "--repeats", "1", "--no-store", *SHORT)
    left = list(scratch.rglob("llm_requests.partial.parquet"))
    if streams:
        assert code != ExitCode.FAILED
        assert list(scratch.glob("enginewatch-load-*")) == []
    else:
        assert code == ExitCode.FAILED
        assert len(left) == 1
        assert str(left[0].parents[3]) in capsys.readouterr().err


def test_calibrate_is_a_word_of_its_own(capsys):
    assert call("calibrate", "--help") == 0
    assert " load calibrate [OPTIONS]" in capsys.readouterr().out
    if len(os.sched_getaffinity(0)) < 64:
        assert call("calibrate", "--processes", "64") == ExitCode.UNFIT
        assert "cores" in capsys.readouterr().err


@pytest.mark.parametrize(("streams", "code"), [((0, 0), ExitCode.UNFIT), ((0, 64), 0), ((64, 64), 0)])
def test_a_host_that_drives_no_step_is_unfit(store, monkeypatch, capsys, streams, code):
    # What is found depends on the machine; here it is given.
    found = [(Limit(processes=1, streams=most, tokens_s=94.0 * most, by="client", why="x"), []) for most in streams]
    monkeypatch.setattr(calibrate_run, "run_calibration", lambda *args, **options: found)
    assert call("calibrate") == code
    assert ("Free the machine" in capsys.readouterr().out) == (0 in streams)
    assert len(json.loads((store / calibrate_run.FILE).read_text())["limits"]) == 2


@pytest.mark.parametrize(
    ("text", "root"),
    [
        ("localhost:8000", "http://localhost:8000"),
        ("http://h:1/", "http://h:1"),
        ("https://h/v1", "https://h"),
        ("h:1/v1/chat/completions", "http://h:1"),
        ("http://h:1/team/v1/", "http://h:1/team"),
        ("[::1]:80", "http://[::1]:80"),
    ],
)
def test_urls_as_people_paste_them(text, root):
    assert load_server.root_url(text) == root


@pytest.mark.parametrize("text", ["", "http://", "h:port", "http://u:p@h:1", "http://h:1/?a=1", "ws://h"])
def test_what_is_no_url_is_refused(text):
    with pytest.raises(UsageError):
        load_server.root_url(text)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("512", (512, None)),
        ("uniform:128-512", (320, "uniform:128-512")),
        ("normal:512:64", (512, "normal:64")),
        ("lognormal:300:0.5", (300, "lognormal:0.5")),
        ("data", (512, "data")),
        ("data:99", (99, "data")),
    ],
)
def test_lengths(text, found):
    assert load_given.lengths_of(text, "--isl") == found


def test_modes_and_levels():
    assert loads_of(Given()).levels == (1, 8, 32)
    poisson = loads_of(Given(rate="2-8"))
    assert (poisson.mode, poisson.by_rate, poisson.levels) == ("poisson", True, (2, 4, 8))
    spec = poisson.spec(4)
    assert (spec.rate_rps, spec.concurrency, spec.mode) == (4, 1024, "poisson")
    steps = loads_of(Given(steps="2:10,8:5.5"))
    assert (steps.mode, steps.spec(0).steps) == ("steps", ((2, 10), (8, 5.5)))
    assert max(loads_of(Given(find="knee")).levels) == 256
    for wrong in (
        Given(mode="poisson"),
        Given(mode="closed", rate="1"),
        Given(mode="gamma", concurrency="3"),
        Given(steps="2:10", find="knee"),
        Given(steps="2;10"),
        Given(prefixes="8"),
        Given(speed=2.0),
        Given(slo=("ttft_ms",)),
    ):
        with pytest.raises(UsageError):
            loads_of(wrong)


def test_keys_say_what_differs():
    assert suffix(LoadSpec(mode="closed", concurrency=8)) == "c8-i64-o32"
    assert suffix(LoadSpec(mode="gamma", rate_rps=2.5, burstiness=2)) == "gamma2.5rps-b2-i64-o32"
    assert suffix(LoadSpec(mode="closed", isl_dist="uniform:8-16", turns=3)) == "c1-i64~uniform-8-16-o32-t3"
    assert level_of(LoadSpec(mode="poisson", rate_rps=2.5)) == "2.5 req/s"
    assert name_of("meta-llama/Llama-3.1-8B") == "meta-llama-Llama-3.1-8B"
    assert name_of("///") == "unnamed"


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0, "0"), (0.012345, "0.012"), (1.23456, "1.235"), (123.456, "123.5"), (98_765.4, "98,770")],
)
def test_numbers(value, text):
    assert load_rows.number(value) == text


def metrics(**values: float) -> dict[str, float]:
    return {"output_tokens_s": 100.0, "tokens_s_per_user": 50.0, "e2e_p50_ms": 100.0, **values}


@pytest.fixture
def load_run(make_run):
    """A run of a load with given metrics and reasons."""
    from dataclasses import replace

    from enginewatch_db.metrics import MetricValue

    def build(key: str = "c1", reasons: tuple[str, ...] = (), failure: Failure | None = None, **values: float):
        record, _ = make_run()
        found = tuple(MetricValue(metric=name, value=value) for name, value in metrics(**values).items())
        return replace(
            record,
            case_key=key,
            metrics=() if failure else found,
            reasons=tuple(Reason(code=code) for code in reasons),
            failure=failure,
            status=RunStatus.FAILED if failure else RunStatus.OK,
        )

    return build


CASES = {"c1": LoadSpec(mode="closed", concurrency=1), "c8": LoadSpec(mode="closed", concurrency=8)}


def found_of(records, **changes) -> load_summary.Found:
    base = {"by_rate": False, "search": None, "knee": None, "slo": {}, "slo_share": 95.0}
    return load_summary.Found(rows=tuple(load_rows.rows_of(records, CASES)), **{**base, **changes})


def test_exit_codes(load_run):
    good, bound = load_run(), load_run(reasons=("client_bound",))
    bad = load_run(failure=Failure(code="load_failed", message="no"))
    assert exit_code((good, bad)) == 0
    assert exit_code((bad,)) == ExitCode.FAILED
    assert exit_code(()) == ExitCode.FAILED
    assert exit_code((bound, bad)) == ExitCode.UNFIT
    assert exit_code((bound,), answered=True) == 0
    assert exit_code((bound, good)) == 0


def test_the_options_of_a_search_reach_it(store):
    def search(*arguments: str):
        context = load_command.make_context("load", [server.url, *arguments])
        return prepare_test(context.params, environment={}).search

    with SlotServer(slots=1) as server:
        knee = search("--find", "knee", "--concurrency", "2-16", "--tolerance-pct", "5", "--max-runs", "7")
        slo = search("--find", "slo", "--slo", "ttft_ms=9", "--rate", "1-4", "--slo-share", "90", "--repeats", "2")
        assert search("--concurrency", "1,2") is None
    assert isinstance(knee, KneeSearch)
    assert knee.limits == Limits(low=2, high=16, whole=True, max_runs=7, tolerance=0.05)
    assert isinstance(slo, SloSearch)
    assert (slo.target, slo.max_repeats) == (0.9, 2)
    assert (slo.limits.low, slo.limits.high, slo.limits.whole) == (1, 4, False)


def test_only_a_search_that_closed_in_on_it_has_an_answer():
    def answered(search) -> bool:
        given = Given()
        return LoadTest(
            server=None, given=given, loads=loads_of(given), source=None, search=search, request=None
        ).answered

    limits = Limits(low=1, high=64, whole=True)
    assert not answered(None)
    assert not answered(KneeSearch(limits=limits))
    assert not answered(KneeSearch(limits=limits, answer=NoKnee(code="x", why="because")))
    search = SloSearch(limits=limits)
    search.feed(search.ask(), [Attained(good=1000, total=1000)])
    assert search.answer().passes == 1
    assert not answered(search)  # what load is too much, nobody knows yet
    while asked := search.ask():
        search.feed(asked, [Attained(good=1000 if asked[0].level <= 5 else 100, total=1000)])
    assert answered(search)


def test_a_late_client_leaves_the_throughput_of_long_requests(load_run):
    late = {"client_cpu_pct": 5.0, "loop_lateness_p99_ms": 4.0}
    assert throughput_of(load_run(reasons=("client_bound",), **late), by_rate=False) == 100.0
    short = load_run(reasons=("client_bound",), **{**late, "e2e_p50_ms": 50.0})
    assert not client_is_harmless(short)
    assert throughput_of(short, by_rate=False) is None
    busy = load_run(reasons=("client_bound",), **{**late, "client_cpu_pct": 95.0})
    assert throughput_of(busy, by_rate=False) is None
    assert throughput_of(load_run(reasons=("load_not_steady",)), by_rate=False) == 100.0
    assert throughput_of(load_run(reasons=("server_died",)), by_rate=False) is None
    assert throughput_of(load_run(reasons=("client_bound", "server_died"), **late), by_rate=False) is None


def test_what_meets_the_slo_in_spite_of_a_late_client_counts(load_run):
    from dataclasses import replace

    def run(share: float, *reasons: str, **values: float):
        late = {"client_cpu_pct": 5.0, "loop_lateness_p99_ms": 4.0, "goodput_pct": share, **values}
        record = load_run(reasons=reasons, **late)
        return replace(record, metrics=tuple(replace(item, n=200) for item in record.metrics))

    def read(record, *, by_rate: bool = False):
        return attained_of(record, by_rate=by_rate, target=0.95)

    assert read(run(97.0)) == Attained(good=194, total=200)
    assert read(run(50.0)) == Attained(good=100, total=200)
    assert read(run(97.0, "client_bound")) == Attained(good=194, total=200)
    assert read(run(50.0, "client_bound")) is None
    assert read(run(97.0, "client_bound", client_cpu_pct=99.0)) is None
    assert read(run(97.0, "load_not_steady")) == Attained(good=194, total=200)
    assert read(run(97.0, "load_not_steady"), by_rate=True) == Attained(good=0, total=200)
    assert read(load_run()) is None


def test_the_summary_says_what_dominates_what(load_run):
    records = [load_run("c1", output_tokens_s=value, tokens_s_per_user=value / 2) for value in (100.0, 101.0, 99.0)] + [
        load_run("c8", output_tokens_s=value, tokens_s_per_user=value / 4) for value in (50.0, 51.0, 49.0)
    ]
    lines = load_summary.frontier_lines(found_of(records))
    assert "1 stream: 100.00 [97.54, 102.5] tok/s" in lines[1]
    assert "dominated: more of both at 1 stream" in lines[2]
    content = load_summary.as_json(found_of(records), records, label="x")
    assert [level["on_frontier"] for level in content["levels"]] == [True, False]
    assert content["label"] == "x"
    json.dumps(content)


def test_the_summary_tells_the_knee_its_interval_and_its_doubts(load_run):
    knee = Knee(
        load=8.1, ci_low=6.0, ci_high=10.0, throughput=800, slope_before=1, slope_after=0, sharpness=16,
        residual_sd=0.02, points=12,
    )  # fmt: skip
    search = KneeSearch(limits=Limits(low=1, high=64, whole=True), answer=knee, spent=12)
    text = "\n".join(load_summary.knee_lines(found_of([load_run(reasons=("client_bound",))], knee=knee, search=search)))
    assert "Knee: 8.10 streams [6.00, 10.0]" in text
    assert "wider than ±10%" in text
    assert "late in 1 of " in text
    assert load_summary.knee_lines(found_of([], knee=NoKnee(code="x", why="because"))) == ["No knee: because."]


def test_the_summary_tells_the_slo_limit(load_run):
    search = SloSearch(limits=Limits(low=1, high=64, whole=True))
    while asked := search.ask():
        search.feed(asked, [Attained(good=1000 if asked[0].level <= 5 else 100, total=1000)])
    text = "\n".join(load_summary.slo_lines(found_of([], search=search, slo={"ttft_ms": 200.0})))
    assert "Highest load that meets the SLO (95 % of requests with ttft ≤ 200 ms): 5 streams; 6 miss it" in text
    assert "5 streams: 100.0% good" in text


def test_a_level_is_told_by_its_valid_runs_and_without_one_by_all_that_brought_numbers(load_run):
    bad = load_run(reasons=("server_died",), output_tokens_s=10.0)
    failed = load_run(failure=Failure(code="timeout", message="slow"))
    [row] = load_rows.rows_of([load_run(output_tokens_s=100.0), bad, failed], CASES)
    assert row.middle("output_tokens_s") == 100.0
    assert load_rows.state_of(row) == "1 of 3 valid: timeout, server_died"
    [row] = load_rows.rows_of([bad, failed], CASES)
    assert row.middle("output_tokens_s") == 10.0


def test_troubles_are_told_once_with_what_to_do(load_run):
    failure = Failure(code="load_failed", message="no request completed", remedy="try one by hand")
    lines = load_summary.trouble_lines(
        [load_run(failure=failure), load_run(failure=failure), load_run(reasons=("client_bound", "host_busy"))]
    )
    assert lines[0] == "load_failed: no request completed → try one by hand"
    assert [line.split(",")[0] for line in lines[1:]] == ["client_bound", "host_busy"]
    assert "does not count" in lines[1]
    assert "counts with care" in lines[2]


def test_a_calibration_tells_within_or_beyond(load_run):
    records = [load_run(output_tokens_s=1000.0, client_processes=2.0)]
    limit = Limit(processes=2, streams=10, tokens_s=600.0, by="client", why="x")
    assert "500.0 tok/s per process, within" in load_summary.within_line(records, limit)
    assert "beyond" in load_summary.within_line([load_run(output_tokens_s=700.0)], limit)


def test_the_calibration_of_as_many_processes_is_looked_up(load_run, workspace):
    limits = [
        Limit(processes=n, streams=8, tokens_s=rate, by="client", why="x") for n, rate in ((1, 900.0), (4, 300.0))
    ]
    records = (load_run(output_tokens_s=1000.0, client_processes=2.0),)
    content = calibrate_run.as_json([(limit, []) for limit in limits], host=records[0].host, at="now")
    calibrate_run.store(workspace.root, content)
    test = LoadTest(server=None, given=Given(), loads=None, source=None, search=None, request=None)
    report = IngestReport(ingested=(), known=(), quarantined={})
    outcome = SessionOutcome(session_id="s", records=records, ingested=report, wall_s=1.0, stage_s={})
    said = "\n".join(test.closing(outcome, workspace))
    assert "500.0 tok/s per process, beyond the 300.0 tok/s" in said
    assert "shown to drive" not in "\n".join(test.closing(outcome, None))


def test_progress_in_lines_and_in_a_live_table(load_run, capsys):
    happened = [
        events.Started(session_id="s", plan_name="p", cases=2, total=2, done=0, estimate_s=5),
        events.RunStarted(case_key="c1", repeat=0, number=1, total=2, eta_s=5),
        events.RunProgress(case_key="c1", n=7, median_ms=12.0),
        events.RunFinished(record=load_run("c1"), number=1, total=2, wall_s=1.0),
        events.RunFinished(
            record=load_run("c8", failure=Failure(code="timeout", message="slow")), number=2, total=2, wall_s=1.0
        ),
        events.Note(text="by the way"),
    ]
    for make in (PlainLoad, LiveLoad):
        with make(CASES, with_slo=False, about="load on x") as show:
            for event in happened:
                show(event)
        said = capsys.readouterr().err
        assert "load on x; up to 2 runs" in said
        assert "failed (timeout): slow" in said
        assert "by the way" in said
    with PlainLoad(CASES, with_slo=False, about="") as show:
        show(happened[3])
    assert "run 1/2 1 stream: 100.0 out tok/s" in capsys.readouterr().err


@pytest.mark.parametrize("width", [60, 80, 100, 120, 160])
def test_a_narrow_window_leaves_columns_out_and_cuts_no_number(load_run, width):
    values = {"ttft_p50_ms": 1234.5, "ttft_p99_ms": 2345.6, "itl_p50_ms": 12.3, "itl_p99_ms": 123.4, "goodput_pct": 99}
    records = [load_run(key, e2e_p99_ms=23_456.7, requests_s=1.5, requests_failed_pct=0, **values) for key in CASES]
    rows = load_rows.rows_of(records, CASES)
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(load_rows.table_of(rows, with_slo=True, width=width))
    text = console.export_text()
    assert "…" not in text
    assert {"load", "out", "TTFT", "state"} <= set(text.split())
    assert ("req/s" in text) == (width >= 120)


def test_at_any_width_the_state_has_room_and_more_width_shows_no_less(load_run):
    rows = load_rows.rows_of([load_run(key, requests_s=1.5, e2e_p99_ms=23_456.7) for key in CASES], CASES)
    shown = 0
    for width in range(60, 161):
        console = Console(width=width, record=True, file=io.StringIO())
        table = load_rows.table_of(rows, with_slo=True, width=width, now={"c1": "x" * load_rows.STATE_WIDTH})
        console.print(table)
        text = console.export_text()
        assert "x" * load_rows.STATE_WIDTH in text
        assert "…" not in text
        assert len(table.columns) >= shown
        shown = len(table.columns)
    assert shown == len(load_rows.columns_of(rows, with_slo=True)) + 1


def test_a_narrow_table_keeps_the_rate_that_was_achieved_and_whole_reasons(load_run):
    cases = {"r5": LoadSpec(mode="poisson", rate_rps=5.0, concurrency=64)}
    values = {
        "ttft_p50_ms": 1234.5,
        "ttft_p99_ms": 2345.6,
        "itl_p50_ms": 12.3,
        "itl_p99_ms": 123.4,
        "requests_s": 4.567,
    }
    rows = load_rows.rows_of([load_run("r5", reasons=("host_busy", "tail_undersampled"), **values)], cases)
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(load_rows.table_of(rows, with_slo=False, width=80))
    text = console.export_text()
    assert "4.567" in text
    assert "tail_undersampled" in text
