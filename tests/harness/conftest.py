"""Small plans over real models for the tests of the harness."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from enginewatch_db import tables
from enginewatch_db.workspace import Workspace
from enginewatch_harness import events
from enginewatch_harness.plan_file import load_plan
from enginewatch_harness.session import run_session
from enginewatch_harness.session_request import SessionRequest

TINY = """
name = "tiny"
repeats = {repeats}
seed = 3
[measure]
warmup_s = 0.02
duration_s = 0.1
timeout_s = 60
[[model]]
name = "net"
{source}
[[workload]]
name = "net"
model = "net"
backends = [{backends}]
precisions = [{precisions}]
batches = [{batches}]
{extra}
"""


@pytest.fixture(scope="session")
def tiny_plan_in() -> Callable[..., Path]:
    """Write a small plan into a folder and return its path."""

    def build(
        folder: Path,
        *,
        source: str = 'generate = "convnet_tiny"',
        repeats: int = 2,
        backends: str = '"onnxruntime"',
        precisions: str = '"fp32"',
        batches: str = "1, 2",
        extra: str = "",
    ) -> Path:
        path = folder / "plan.toml"
        path.write_text(
            TINY.format(
                source=source, repeats=repeats, backends=backends, precisions=precisions, batches=batches, extra=extra
            )
        )
        return path

    return build


@pytest.fixture
def tiny_plan(tiny_plan_in, tmp_path) -> Callable[..., Path]:
    """Write a small plan into the test's folder and return its path."""
    return functools.partial(tiny_plan_in, tmp_path)


@pytest.fixture(scope="session")
def run_plan_in() -> Callable[..., object]:
    """Run a plan for real, in a workspace; events go into the given list."""

    def run(workspace: Workspace, path: Path, *, heard: list[events.Event] | None = None, **request: object):
        plan, sha256 = load_plan(path)
        listen = (heard if heard is not None else []).append
        return run_session(SessionRequest(plan=plan, plan_path=path, plan_sha256=sha256, **request), workspace, listen)

    return run


@pytest.fixture
def run_plan(run_plan_in, workspace) -> Callable[..., object]:
    """Run a plan for real, in the test's workspace."""
    return functools.partial(run_plan_in, workspace)


MS = 1_000_000


def _request_row(idx: int, given: dict[str, object]) -> dict[str, object]:
    """One completed request of the closed loop; times in ms from the origin, other keys are columns."""
    facts = {"start": 0.0, "ttft": 10.0, "gaps": (2.0, 2.0, 2.0), **given}
    start, ttft, gaps = (facts.pop(name) for name in ("start", "ttft", "gaps"))
    steps = [round(gap * MS) for gap in gaps]
    events = len(steps) + 1
    row = {
        "request_idx": idx,
        "stream": 0,
        "phase": "measure",
        "status": "ok",
        "sent_at_ns": round(start * MS),
        "ttft_ns": round(ttft * MS),
        "itl_ns": steps,
        "prompt_tokens": 20,
        "output_tokens": events,
        "content_events": events,
        "process": 0,
    } | facts
    if row["status"] == "error":
        row |= {"ttft_ns": None, "itl_ns": None}
    elif row["ttft_ns"] is not None and "e2e_ns" not in facts:
        tokens = row["output_tokens"] or events
        row["e2e_ns"] = row["ttft_ns"] + sum(steps)
        row["tpot_ns"] = round(sum(steps) / (tokens - 1)) if tokens > 1 else None
    return row


@pytest.fixture(scope="session")
def load_table() -> Callable[..., pa.Table]:
    """Build a table ``llm_requests`` from requests in ms: ``load_table({"ttft": 10, "gaps": (2, 2)}, ...)``."""

    def build(*requests: dict[str, object]) -> pa.Table:
        rows = [_request_row(idx, given) for idx, given in enumerate(requests)]
        return pa.Table.from_pylist(rows, schema=tables.LLM_REQUESTS)

    return build


@pytest.fixture(scope="session")
def timed_table() -> Callable[..., pa.Table]:
    """Build a large table from arrays in seconds: when requests start, how long they take, the window's start."""

    def build(
        starts_s: np.ndarray, e2e_s: np.ndarray, begin_s: float, end_s: float, *, open_loop: bool, **columns: object
    ) -> pa.Table:
        starts, e2e = (np.rint(values * 1e9).astype(np.int64) for values in (starts_s, e2e_s))
        n = starts.size
        phases = np.where(starts_s < begin_s, "warmup", np.where(starts_s < end_s, "measure", "drain"))
        given = {
            "request_idx": np.arange(n, dtype=np.int32),
            "phase": phases,
            "status": ["ok"] * n,
            "intended_at_ns": starts if open_loop else pa.nulls(n, pa.int64()),
            "sent_at_ns": starts,
            "ttft_ns": e2e // 2,
            "e2e_ns": e2e,
        }
        return tables.conform("llm_requests", pa.table(given | columns))

    return build
