"""``enginewatch init``: write a commented plan for what this machine has."""

from __future__ import annotations

import os
from pathlib import Path

import click

from enginewatch_db.errors import UsageError
from enginewatch_harness.console import result, say
from enginewatch_harness.inventory import gpus
from enginewatch_harness.plan_text import Machine, plan_text
from enginewatch_harness.registry import availability


def this_machine() -> Machine:
    """Return what a plan for this machine needs to know."""
    trtexec, onnxruntime = availability("trtexec"), availability("onnxruntime")
    return Machine(
        gpus=tuple(gpu.name for gpu in gpus()),
        trtexec=(trtexec.version or "?") if trtexec.available else None,
        onnx_precisions=onnxruntime.precisions,
        llamacpp=availability("llamacpp").available,
        cores=len(os.sched_getaffinity(0)),
    )


@click.command()
@click.argument("path", type=click.Path(dir_okay=False, path_type=Path), default=Path("enginewatch.toml"))
@click.option("--force", is_flag=True, help="Overwrite a plan that is there.")
@click.option("--if-missing", is_flag=True, help="Do nothing, successfully, when the plan is there.")
def init(path: Path, *, force: bool, if_missing: bool) -> None:
    """Write a commented plan to PATH (default: enginewatch.toml) for what this machine has.

    GPUs and trtexec are used when they are found; without them the plan is the CPU default, which measures real
    engines (ONNX Runtime) and a real LLM server (llama.cpp).

    \b
    Example:
      enginewatch init && enginewatch run
    """
    if path.exists() and not force:
        if if_missing:
            say(f"{path} is there already")
            return
        raise UsageError(f"{path} is there already", remedy="overwrite it with --force, or name another file")
    try:
        path.write_text(plan_text(this_machine(), file_name=path.name), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}", remedy="choose another place") from error
    result(f"wrote {path}; next: enginewatch run {path}")
