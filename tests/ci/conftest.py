"""Builders of arms, sessions and stores with known effects. Everything is seeded."""

from __future__ import annotations

import functools
import gzip
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from enginewatch_ci.comparable import FacetDifference
from enginewatch_ci.facts import Arm, RunFacts, SessionFacts
from enginewatch_ci.host import HostShift
from enginewatch_ci.judgement import Judgement
from enginewatch_ci.layers.facts import layer_facts
from enginewatch_ci.policy import Policy
from enginewatch_ci.summary import sentence
from enginewatch_db.bundle import Bundle, write
from enginewatch_db.connect import writer
from enginewatch_db.ids import series_id, uuid7
from enginewatch_db.ingest import insert
from enginewatch_db.metrics import MetricValue
from enginewatch_db.model import (
    Comparison,
    Effect,
    Failure,
    Finding,
    FindingKind,
    Identity,
    RunRecord,
    RunStatus,
    Severity,
    Verdict,
)
from enginewatch_db.validity import Reason
from enginewatch_db.workspace import Workspace
from enginewatch_harness.parse.trtexec_json import parse_profile
from enginewatch_harness.parse.trtexec_layers import layers_table, parse_layers

CPU = "AMD EPYC 7763 64-Core Processor (2 cores)"
GPU = "NVIDIA H200"
EPOCH = datetime(2026, 3, 1, 12, tzinfo=UTC)
CASES = {"convnet/fp32/onnxruntime/b1": 2.0, "encoder/fp32/onnxruntime/b4": 11.0, "mlp/int8/onnxruntime/b8": 0.4}
"""Case → its median latency in ms."""


class Lab:
    """Makes sessions: each run's latency is the case's, times factor, times host, times noise."""

    def __init__(self, seed: int = 1) -> None:
        self.rng = np.random.default_rng(seed)
        self.count = 0

    def new_id(self, index: int) -> str:
        return str(uuid7(int(EPOCH.timestamp() * 1000) + index, self.rng.bytes(10)))

    def metrics(self, median_ms: float, sentinel_ms: float, n: int, *, llm: bool) -> tuple[MetricValue, ...]:
        def value(metric: str, amount: float, half: float) -> MetricValue:
            return MetricValue(
                metric=metric, value=amount, ci_low=amount * (1 - half), ci_high=amount * (1 + half), n=n
            )

        noisy = float(np.exp(self.rng.normal(0, 0.03)))
        if llm:
            return (
                value("ttft_p50_ms", median_ms, 0.002),
                value("ttft_p99_ms", median_ms * 1.5 * noisy, 0.05),
                MetricValue(metric="output_tokens_s", value=5000 / median_ms, n=n),
                MetricValue(metric="host_sentinel_ms", value=sentinel_ms),
            )
        return (
            value("latency_p50_ms", median_ms, 0.002),
            value("latency_p99_ms", median_ms * 1.3 * noisy, 0.05),
            MetricValue(metric="throughput_qps", value=1000 / median_ms, n=n),
            MetricValue(metric="host_sentinel_ms", value=sentinel_ms),
        )

    def session(
        self,
        *,
        repeats: int = 5,
        run_sd: float = 0.01,
        factors: dict[str, float] | None = None,
        host: float = 1.0,
        cases: dict[str, float] | None = None,
        device: str = CPU,
        plan: str = "demo",
        label: str | None = None,
        commit: str | None = None,
        facets: dict[str, str] | None = None,
        failing: tuple[str, ...] = (),
        unavailable: tuple[str, ...] = (),
        rejected: dict[str, str] | None = None,
        options: dict[str, int] | None = None,
        samples: int = 2000,
        llm: bool = False,
    ) -> list[RunRecord]:
        """Return the records of one session.

        Args:
            repeats: Runs per case.
            run_sd: Run-to-run standard deviation of the log latency.
            factors: Case → how much slower it is than ``CASES`` says.
            host: How much slower the host is: slows latency and sentinel alike.
            cases: Case → median in ms.
            device: Device of the identity.
            plan: Name of the plan.
            label: Label of the session.
            commit: Git commit.
            facets: More environment facets.
            failing: Cases of which every run fails.
            unavailable: Cases whose backend is absent.
            rejected: Case → validity reason that rejects its runs.
            options: Measuring options of the identity.
            samples: Samples per run.
            llm: Whether the cases are servers.
        """
        self.count += 1
        started = EPOCH + timedelta(hours=self.count)
        session_id = self.new_id(self.count * 3_600_000)
        records = []
        wanted = CASES if cases is None else cases
        for repeat in range(repeats):
            for order, (case, median_ms) in enumerate(wanted.items()):
                noise = float(np.exp(self.rng.normal(0, run_sd)))
                sentinel = 1.5 * host * float(np.exp(self.rng.normal(0, 0.004)))
                value = median_ms * (factors or {}).get(case, 1.0) * host * noise
                workload, precision, backend, batch = case.split("/")
                status, failure, reasons, metrics = RunStatus.OK, None, (), ()
                if case in failing:
                    status = RunStatus.FAILED
                    failure = Failure(code="build_failed", message="node Conv_3 cannot be built", remedy="try fp32")
                    reasons = (Reason(code="run_failed"),)
                elif case in unavailable:
                    status = RunStatus.NOT_AVAILABLE
                    failure = Failure(code="not_available", message="trtexec is not on PATH", remedy="install it")
                else:
                    metrics = self.metrics(value, sentinel, samples, llm=llm)
                if rejected and case in rejected:
                    reasons = (Reason(code=rejected[case], detail="for the test"),)
                at = started + timedelta(minutes=len(records))
                records.append(
                    RunRecord(
                        run_id=self.new_id(self.count * 3_600_000 + len(records) + 1),
                        session_id=session_id,
                        plan_name=plan,
                        case_key=case,
                        repeat=repeat,
                        order_idx=order,
                        identity=Identity(
                            workload=workload,
                            model=f"{workload}.onnx",
                            model_sha256="ab" * 32,
                            backend=backend,
                            precision=precision,
                            device=device,
                            shapes={} if llm else {"input": [int(batch[1:]), 3, 32, 32]},
                            load={"mode": "closed", "concurrency": 4} if llm else {},
                            options=options or {"threads": 2},
                            tool_major="1",
                        ),
                        status=status,
                        started_at=at.isoformat(),
                        ended_at=(at + timedelta(seconds=30)).isoformat(),
                        t0_ns=0,
                        environment={"onnxruntime": "1.31.0", **(facets or {})},
                        host={"hostname": "lab1", "cpu_model": CPU},
                        metrics=metrics,
                        reasons=reasons,
                        failure=failure,
                        session={
                            "started_at": started.isoformat(),
                            "label": label,
                            "git_commit": commit,
                            "git_dirty": False if commit else None,
                            "repeats": repeats,
                        },
                    )
                )
        return records


def as_arm(records: list[RunRecord], ref: str = "test") -> Arm:
    first = records[0]
    session = SessionFacts(
        session_id=first.session_id,
        plan_name=first.plan_name,
        started_at=datetime.fromisoformat(first.session["started_at"]),
        label=first.session["label"],
        git_commit=first.session["git_commit"],
        git_dirty=first.session["git_dirty"],
        runs=len(records),
        valid_runs=sum(record.valid for record in records),
        left_for_another_host=tuple(first.session.get("left_for_another_host", ())),
    )
    runs = tuple(
        RunFacts(
            run_id=record.run_id,
            session_id=record.session_id,
            case_key=record.case_key,
            series_id=series_id(record.identity),
            identity=_plain(record.identity),
            status=record.status,
            valid=record.valid,
            reasons=record.reasons,
            failure=record.failure,
            metrics={value.metric: value for value in record.metrics},
            facets=record.environment,
        )
        for record in records
    )
    return Arm(ref=ref, sessions=(session,), runs=runs)


def _plain(identity: Identity) -> dict[str, object]:
    return {name: getattr(identity, name) for name in Identity.__slots__}


class Store:
    """A workspace that sessions are put into."""

    def __init__(self, root: Path) -> None:
        self.workspace = Workspace(root)

    @property
    def root(self) -> Path:
        return self.workspace.root

    def add(self, *sessions: list[RunRecord]) -> None:
        # As the ingester does it, without writing and syncing a folder per run first.
        with writer(self.workspace) as connection:
            for record in (record for records in sessions for record in records):
                assert insert(connection, Bundle(path=self.root, record=record, tables={}, sha256="0", size_bytes=0))

    def bundles(self, folder: Path, records: list[RunRecord]) -> Path:
        for record in records:
            write(folder, record, {})
        return folder


GOLDEN = Path(__file__).parents[1] / "data" / "ci"


@pytest.fixture
def golden():
    """Compare text with a recorded file; ENGINEWATCH_UPDATE_GOLDEN=1 records it anew."""

    def check(name: str, text: str) -> None:
        path = GOLDEN / name
        if os.environ.get("ENGINEWATCH_UPDATE_GOLDEN"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        assert text == path.read_text(encoding="utf-8")

    return check


def _comparison(case: str, metric: str, verdict: Verdict, rel: float | None, **facts) -> Comparison:
    effect = None
    if rel is not None:
        effect = Effect(
            rel=rel,
            ci_low=rel - 0.012,
            ci_high=rel + 0.013,
            confidence=0.95,
            n_baseline=5,
            n_candidate=5,
            method="bootstrap-t",
        )
    values = {} if rel is None else {"baseline_value": 2.0, "candidate_value": 2.0 * (1 + rel)}
    series = "0b5e6c1e-5f0a-4a53-9a35-7c3a58a1d9e1"
    usual = {"why": f"{metric} is {verdict.value}", "threshold_rel": 0.05, "series_id": series}
    return Comparison(case_key=case, metric=metric, verdict=verdict, effect=effect, **usual | values | facts)


@pytest.fixture
def comparison():
    return _comparison


@pytest.fixture
def fixed(golden_arm):
    """A judgement of which every number is written down: for golden files."""
    comparisons = (
        _comparison("convnet/int8/trtexec/b8", "latency_p50_ms", Verdict.FAILED, None, cause="build_failed"),
        _comparison("convnet/fp32/onnxruntime/b1", "latency_p50_ms", Verdict.REGRESSED, 0.103, notes=("host: 0.0 %",)),
        _comparison("llm/q8_0/llamacpp/c4", "output_tokens_s", Verdict.REGRESSED, -0.21),
        _comparison("mlp/fp16/trtexec/b1", "latency_p50_ms", Verdict.NOT_COMPARABLE, None, why="new case"),
        _comparison("convnet/fp32/onnxruntime/b1", "latency_p99_ms", Verdict.INCONCLUSIVE, 0.12),
        _comparison("encoder/fp32/onnxruntime/b4", "latency_p50_ms", Verdict.INCONCLUSIVE, 0.07, cause="host"),
        _comparison("encoder/fp32/onnxruntime/b8", "latency_p50_ms", Verdict.IMPROVED, -0.0912),
        _comparison("mlp/fp32/onnxruntime/b1", "latency_p50_ms", Verdict.UNCHANGED, 0.0004),
    )
    breach = Finding(
        kind=FindingKind.THRESHOLD,
        severity=Severity.CRITICAL,
        title="llm/q8_0/llamacpp/c4: p99 of time to first token 312 ms ≥ 200 ms",
        session_id=golden_arm("c").newest.session_id,
        detector="limit.latency_p99_ms",
        case_key="llm/q8_0/llamacpp/c4",
        metric="ttft_p99_ms",
        value=312.0,
        evidence={"state": "breached", "limit_ms": 200.0},
        remedy="see the bottleneck finding of this case",
    )
    baseline = golden_arm("b")
    return Judgement(
        candidate=golden_arm("c"),
        baseline=baseline,
        policy=Policy(),
        verdict=Verdict.FAILED,
        sentence=sentence(Verdict.FAILED, comparisons, baseline),
        comparisons=comparisons,
        findings=(breach,),
        environment=(FacetDifference(facet="onnxruntime", baseline="1.30.0", candidate="1.31.0"),),
        host=HostShift(shift=0.04, half_width=0.01, n_baseline=20, n_candidate=20),
        uncovered=("gone/fp32/onnxruntime/b1",),
    )


@pytest.fixture
def golden_arm():
    def make(letter: str) -> Arm:
        session = SessionFacts(
            session_id=f"019ca9{letter * 2}-e700-7564-98e5-97cb88267010",
            plan_name="demo",
            started_at=EPOCH,
            label="main" if letter == "b" else None,
            git_commit="3f9c1d2aaabbbccc",
            runs=20,
            valid_runs=20,
        )
        return Arm(ref="baseline" if letter == "b" else "latest", sessions=(session,), runs=())

    return make


@pytest.fixture
def cases() -> list[str]:
    return list(CASES)


@pytest.fixture
def lab() -> Lab:
    return Lab()


@pytest.fixture
def make_lab() -> type[Lab]:
    return Lab


@pytest.fixture
def to_arm():
    return as_arm


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture(scope="session")
def layer_rows():
    """Return the table of layers of a recording, by ``fp16-b8`` and the like."""
    folder = Path(__file__).parent.parent / "data" / "harness" / "trtexec"

    @functools.cache
    def read(name):
        stem = name if name.startswith("quiet") else f"resnet50-{name}"
        files = (folder / f"{stem}.{kind}.json.gz" for kind in ("profile", "layers"))
        profile, layers = (gzip.decompress(file.read_bytes()).decode() for file in files)
        return layers_table(parse_profile(profile), parse_layers(layers)).to_pylist()

    return lambda name: [dict(row) for row in read(name)]


@pytest.fixture(scope="session")
def engines(layer_rows):
    return {name: layer_facts(layer_rows(name)) for name in ("fp32-b8", "fp16-b8")}
