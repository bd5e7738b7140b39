"""A dry run refuses what a run refuses, says what is not here, and leaves nothing behind."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from enginewatch_db.errors import BackendError, ExitCode, PlanError, UnfitError
from enginewatch_harness import registry
from enginewatch_harness.backends.onnxruntime import OnnxRuntimeBackend
from enginewatch_harness.commands.run import run


@pytest.fixture
def dry_run(workspace, monkeypatch):
    """Return what ``enginewatch run PLAN --dry-run`` brings on a host without trtexec."""
    monkeypatch.setenv("TRTEXEC", str(workspace.root / "none"))
    registry.availability.cache_clear()
    yield lambda path, *more: CliRunner().invoke(run, [str(path), "--dry-run", "--store", str(workspace.root), *more])
    registry.availability.cache_clear()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("thread = 2", "did you mean 'threads'"),
        ('accuracy_data = "none.npz"', "accuracy_data = .*none.npz' does not exist"),
        ('calibration_data = "none.npz"', "calibration_data = .*none.npz' does not exist"),
    ],
)
def test_a_dry_run_refuses_what_a_run_refuses(options, words, dry_run, run_plan, tiny_plan):
    path = tiny_plan(extra=f"options = {{ {options} }}")
    with pytest.raises(PlanError, match=words) as real:
        run_plan(path)
    dry = dry_run(path).exception
    assert (type(dry), str(dry)) == (PlanError, str(real.value))


def test_a_plan_for_another_host_is_no_success(dry_run, tiny_plan):
    shown = dry_run(tiny_plan(backends='"trtexec"', extra='gpus = ["NVIDIA L4"]'))
    assert isinstance(shown.exception, UnfitError), "the exit code of the run"


def test_what_is_not_available_is_said_once_with_its_cases(dry_run, workspace, tiny_plan):
    path = tiny_plan(backends='"onnxruntime", "trtexec"', precisions='"fp32", "fp16"', repeats=3)
    before = sorted(workspace.root.rglob("*"))
    shown = dry_run(path)
    assert shown.exit_code == 0, shown.output
    assert shown.stdout.count("backend 'trtexec' is not available") == 1
    assert "set TRTEXEC" in shown.stdout
    assert shown.stdout.count("/trtexec/") == 4, "the cases, and none of them in the order"
    assert "4 cases x 3 repeats = 12 runs" in shown.stdout
    told = json.loads(dry_run(path, "--json").stdout)
    assert {failure["code"] for failure in told["failures"].values()} == {"not_available"}
    assert not any("trtexec" in turn["case"] for turn in told["order"])
    assert sorted(workspace.root.rglob("*")) == before


def test_the_exit_code_is_that_of_the_run(dry_run, tiny_plan, monkeypatch):
    assert dry_run(tiny_plan(backends='"trtexec"')).exit_code == ExitCode.FAILED, "nothing could be measured"

    def fails(_self: object, _job: object) -> None:
        raise BackendError("no such thing", code="unsupported_precision")

    monkeypatch.setattr(OnnxRuntimeBackend, "engine_options", fails)
    shown = dry_run(tiny_plan())
    assert shown.exit_code == ExitCode.FAILED
    assert "would fail (unsupported_precision): no such thing\n      net/onnxruntime/fp32/b1\n" in shown.stdout
