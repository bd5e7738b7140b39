"""Fixtures of the dashboard's tests: seeded stores, and pages opened on them."""

from __future__ import annotations

import importlib.util
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from streamlit.testing.v1 import AppTest

from enginewatch_dashboards.launch import APP
from enginewatch_db import ids, model
from enginewatch_db.connect import Reader
from enginewatch_db.ingest import ingest
from enginewatch_db.judgements import accept, store
from enginewatch_db.workspace import Workspace


def _load_seed(name: str = "seeded_store"):
    # pytest's importlib mode has no package of tests to import from.
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def seed():
    """The functions that write sessions, see ``seeded_store.py``."""
    return _load_seed()


@pytest.fixture(scope="session")
def ladder_seed():
    """The functions that write load levels, see ``ladder_store.py``."""
    return _load_seed("ladder_store")


@pytest.fixture(scope="session")
def ladder(tmp_path_factory, ladder_seed) -> SimpleNamespace:
    """A store with a ladder of loads of two precisions (``.workspace``, ``.runs``); read only."""
    workspace = Workspace(tmp_path_factory.mktemp("ladder") / "ew").create()
    ladder_seed.write_ladder(workspace, levels=(1, 16, 256), repeats=3)
    ingest(workspace)
    return SimpleNamespace(workspace=workspace, runs=run_ids(workspace))


@pytest.fixture(scope="session")
def engine_seed():
    """The functions that write engines with layers, see ``engine_store.py``."""
    return _load_seed("engine_store")


@pytest.fixture(scope="session")
def engines(tmp_path_factory, seed, engine_seed) -> SimpleNamespace:
    """A judged store of engines with recorded layers (``.workspace``, ``.runs`` by case: with and without layers)."""
    workspace = Workspace(tmp_path_factory.mktemp("engines") / "ew").create()
    engine_seed.write_engines(seed, workspace)
    ingest(workspace)
    found = [
        engine_seed.accuracy_finding(seed.session_id(1), "resnet50/trtexec/fp16/b8", value=0.0004, limit=0.01),
        engine_seed.accuracy_finding(seed.session_id(1), "convnet/onnxruntime/int8/b1", value=0.21, limit=0.1),
    ]
    accept(workspace, "nightly", seed.session_id(1), by="ana", reason="release 1.4")
    store(workspace, seed.session_id(1), baseline_session=None, comparisons=[], findings=found)
    with Reader.open(workspace) as reader:
        rows = reader.console("SELECT case_key, repeat, run_id::VARCHAR AS run_id FROM runs").to_pylist()
    return SimpleNamespace(
        workspace=workspace, runs={(row["case_key"], row["repeat"] == 0): row["run_id"] for row in rows}
    )


# fmt: off
VERDICTS = (
    ("encoder/onnxruntime/int8/b8", "latency_p50_ms", "regressed", 0.118, 2.1, "all of it lies beyond 5 %"),
    ("encoder/onnxruntime/int8/b8", "latency_p99_ms", "regressed", 0.109, 2.25, "all of it lies beyond 5 %"),
    ("encoder/onnxruntime/fp32/b8", "latency_p50_ms", "unchanged", 0.004, 5.2, "all of it lies within 5 %"),
    ("encoder/onnxruntime/fp32/b8", "latency_p99_ms", "inconclusive", 0.042, 5.6, "it reaches across 5 %"),
    ("resnet50/trtexec/fp16/b8", "latency_p50_ms", "unchanged", -0.002, 0.91, "all of it lies within 5 %"),
    ("resnet50/trtexec/fp16/b32", "latency_p50_ms", "improved", -0.081, 2.3, "all of it lies beyond 5 %"),
    ("llama-7b/openai/bf16/c64", "output_tokens_s", "unchanged", 0.003, 1108.0, "all of it lies within 5 %"),
    ("decoder/onnxruntime/fp32/b1", "latency_p50_ms", "failed", None, 3.0, "every run failed: no such operator"),
)
FINDINGS = (
    ("comparison", "critical", "encoder/onnxruntime/int8/b8", "latency_p50_ms", "gate",
     {}, "encoder int8 b8 became 11.8 % slower (latency p50)", "compare the two sessions"),
    ("bottleneck", "info", "llama-7b/openai/bf16/c1", "dram_bw_mean_pct_of_peak", "R7",
     {}, "decode is bound by DRAM bandwidth: 63 % of peak at concurrency 1", "batch more requests"),
    ("validity", "warning", "llama-7b/openai/bf16/c64", "power_capped_time_pct", "power",
     {}, "the power cap held the SM clock down at concurrency 64", "raise the limit, or accept it"),
    ("threshold", "info", "encoder/onnxruntime/int8/b8", "latency_p99_ms", "limit.latency_p99_ms",
     {"state": "met", "limit_ms": 200}, "encoder/onnxruntime/int8/b8: p99 of latency 2.49 ms < 200 ms", None),
    ("threshold", "warning", "encoder/onnxruntime/int8/b8", "throughput_qps", "limit.tokens_vs_baseline",
     {"state": "breached"}, "encoder/onnxruntime/int8/b8: inferences/s −10.6 % (regressed)", "compare both sessions"),
    ("threshold", "info", "resnet50/trtexec/fp16/b32", "sm_active_mean_pct", "limit.sm_active_pct",
     {"state": "breached", "limit_pct": 70}, "resnet50/trtexec/fp16/b32: SM activity 56 % ≤ 70 %", None),
    ("threshold", "info", "encoder/onnxruntime/int8/b8", "sm_active_mean_pct", "limit.sm_active_pct",
     {"state": "not_evaluable"}, "encoder/onnxruntime/int8/b8: SM activity is not evaluable: it runs on a CPU", None),
    ("threshold", "info", "llama-7b/openai/bf16/c1", "dram_bw_mean_pct_of_peak", "limit.dram_bw_max_pct",
     {"state": "met", "limit_pct": 102}, "llama-7b/openai/bf16/c1: memory bandwidth 63 % of peak, within spec", None),
)
# fmt: on


def _comparison(seed, key: str, metric: str, verdict: str, rel: float | None, value: float, why: str):
    spec = next((case for case in seed.CASES if case.key == key), None)
    effect = rel is not None and model.Effect(
        rel=rel, ci_low=rel - 0.016, ci_high=rel + 0.016, confidence=0.95, n_baseline=3, n_candidate=3, method="welch-t"
    )
    return model.Comparison(
        case_key=key,
        series_id=ids.series_id(seed.identity(spec)) if spec else None,
        metric=metric,
        verdict=model.Verdict(verdict),
        why=why,
        threshold_rel=0.05,
        baseline_value=value,
        candidate_value=None if rel is None else value * (1 + rel),
        effect=effect or None,
    )


def _finding(session_id, kind, severity, case, metric, detector, evidence, title, remedy):
    return model.Finding(
        kind=model.FindingKind(kind),
        severity=model.Severity(severity),
        title=title,
        session_id=session_id,
        detector=detector,
        case_key=case,
        metric=metric,
        evidence=evidence,
        remedy=remedy,
    )


def judge(seed, workspace: Workspace, candidate: int, baseline: int) -> None:
    findings = [_finding(seed.session_id(candidate), *row) for row in FINDINGS]
    store(
        workspace,
        seed.session_id(candidate),
        baseline_session=seed.session_id(baseline),
        comparisons=[_comparison(seed, *row) for row in VERDICTS],
        findings=findings,
    )


def build_rich(seed, root) -> Workspace:
    """Four judged sessions: the last one has a regression, a failure and a backend that is not available."""
    workspace = Workspace(root).create()
    for number in (1, 2, 3):
        seed.write_session(workspace, number)
    seed.write_session(workspace, 4, slow={"encoder/onnxruntime/int8/b8": 1.118, "resnet50/trtexec/fp16/b32": 0.919})
    seed.write_unfinished(workspace, 4)
    ingest(workspace)
    accept(workspace, "nightly", seed.session_id(3), by="ana", reason="release 1.4")
    judge(seed, workspace, 4, 3)
    return workspace


def run_ids(workspace: Workspace) -> dict[str, str]:
    """Return case key → its newest run."""
    with Reader.open(workspace) as reader:
        rows = reader.console(
            "SELECT case_key, arg_max(run_id, started_at)::VARCHAR AS run_id FROM runs GROUP BY case_key"
        )
    return {row["case_key"]: row["run_id"] for row in rows.to_pylist()}


@pytest.fixture(scope="session")
def rich(tmp_path_factory, seed) -> SimpleNamespace:
    """The seeded store (``.workspace``) and the newest run of each case (``.runs``); read only."""
    workspace = build_rich(seed, tmp_path_factory.mktemp("rich") / "ew")
    return SimpleNamespace(workspace=workspace, runs=run_ids(workspace))


@pytest.fixture(scope="session")
def single(tmp_path_factory, seed) -> SimpleNamespace:
    """A store with one session of two cases and nothing judged; read only."""
    workspace = Workspace(tmp_path_factory.mktemp("single") / "ew").create()
    seed.write_session(workspace, 1, repeats=1, cases=seed.CASES[:2])
    ingest(workspace)
    return SimpleNamespace(workspace=workspace, runs=run_ids(workspace))


@pytest.fixture
def open_page(monkeypatch):
    """Open a page of the dashboard on a store: ``open_page(workspace, "trend", case="a/b")`` → a finished AppTest."""

    def build(workspace: Workspace, page: str = "overview", **query: str) -> AppTest:
        monkeypatch.setenv("ENGINEWATCH_STORE", str(workspace.root))
        app = AppTest.from_file(str(APP), default_timeout=60)
        app.run()
        app.query_params.clear()
        app.query_params.update(query)
        if page != "overview":
            app.switch_page(f"views/{page}.py")
        return app.run()

    return build


@contextmanager
def _served(workspace: Workspace):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    code = (
        "import sys; from pathlib import Path; from enginewatch_dashboards.launch import launch; "
        f"sys.exit(launch(Path({str(workspace.root)!r}), port={port}, open_browser=False))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    told = []
    try:
        for line in process.stderr:
            told.append(line)
            if line.startswith("dashboard: "):
                break
        else:
            pytest.fail(f"the dashboard did not start: {''.join(told)}")
        yield SimpleNamespace(process=process, port=port, url=f"http://127.0.0.1:{port}")
    finally:
        process.terminate()
        process.wait(20)
        process.stderr.close()


@pytest.fixture
def served():
    """Serve a store as ``enginewatch dashboard`` does: ``with served(workspace) as running: running.url``."""
    return _served
