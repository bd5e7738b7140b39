"""Small plans over real models for the tests of the harness."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

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


@pytest.fixture
def tiny_plan(tmp_path) -> Callable[..., Path]:
    """Write a small plan and return its path."""

    def build(
        *,
        source: str = 'generate = "convnet_tiny"',
        repeats: int = 2,
        backends: str = '"onnxruntime"',
        precisions: str = '"fp32"',
        batches: str = "1, 2",
        extra: str = "",
    ) -> Path:
        path = tmp_path / "plan.toml"
        path.write_text(
            TINY.format(
                source=source, repeats=repeats, backends=backends, precisions=precisions, batches=batches, extra=extra
            )
        )
        return path

    return build


@pytest.fixture
def run_plan(workspace) -> Callable[..., object]:
    """Run a plan for real, in the test's workspace; events go into the given list."""

    def run(path: Path, *, heard: list[events.Event] | None = None, **request: object):
        plan, sha256 = load_plan(path)
        listen = (heard if heard is not None else []).append
        return run_session(SessionRequest(plan=plan, plan_path=path, plan_sha256=sha256, **request), workspace, listen)

    return run
