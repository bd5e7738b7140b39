"""Run a calibration: pairs of a client process and a reference server, each on a core of its own."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from enginewatch_db.errors import BackendError, StorageError, UnfitError
from enginewatch_db.model import Json
from enginewatch_harness import process
from enginewatch_harness.load import calibrate
from enginewatch_harness.load.calibrate import Limit, Step

FILE = "load-calibration.json"
SCHEMA_VERSION = 1
SERVER = "enginewatch_harness.load.reference_server"
CLIENT = "enginewatch_harness.load.calibrate_step"
START_TIMEOUT_S = 20.0
STEP_TIMEOUT_S = 120.0
POLL_S = 0.02
_STEP = TypeAdapter(Step)


def pairs_of_cores(processes: int) -> list[tuple[int, int]]:
    """Return a core for the client and one for the server of each pair.

    Raises:
        UnfitError: There are fewer than two cores for each.
    """
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2 * processes:
        raise UnfitError(
            f"{processes} client processes need {2 * processes} cores, this process may use {len(cores)}",
            remedy="give fewer --processes, or more cores: a server on the client's core would be measured with it",
        )
    return [(cores[2 * index], cores[2 * index + 1]) for index in range(processes)]


def run_calibration(
    processes: Sequence[int], *, duration_s: float, budget_s: float, on_step: Callable[[Step], None]
) -> list[tuple[Limit, list[Step]]]:
    """Find the limit for each number of processes.

    Args:
        processes: How many client processes run at once, in turn.
        duration_s: Seconds of each step's measuring phase.
        budget_s: No new step begins later than this.
        on_step: Called after each step.

    Raises:
        UnfitError: Too few cores.
        BackendError: A client or a server of ours failed.
    """
    deadline = time.monotonic() + budget_s
    found = []
    for count in processes:
        cores = pairs_of_cores(count)
        steps: list[Step] = []
        while (streams := calibrate.next_streams(steps)) is not None:
            if steps and time.monotonic() > deadline:
                break
            steps.append(run_step(cores, streams, duration_s))
            on_step(steps[-1])
        limit = calibrate.limit_of(steps)
        if limit.by == "range" and steps[-1].streams < calibrate.LAST_STREAMS:
            limit = replace(limit, by="time", why=f"the {budget_s:g} s of the calibration were up")
        found.append((limit, steps))
    return found


def run_step(cores: Sequence[tuple[int, int]], streams: int, duration_s: float) -> Step:
    """Run all pairs at once and return the worst of each number."""
    with tempfile.TemporaryDirectory(prefix="enginewatch-calibrate-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        servers = [stack.enter_context(_server(folder, index, pair[1])) for index, pair in enumerate(cores)]
        clients = [
            stack.enter_context(_client(folder, index, pair[0], server, streams, duration_s))
            for index, (pair, server) in enumerate(zip(cores, servers, strict=True))
        ]
        return worst([_result(folder, index, client) for index, client in enumerate(clients)])


@contextlib.contextmanager
def _child(folder: Path, name: str, core: int, argv: list[str]) -> Iterator[process.Child]:
    with process.on_cores((core,)):
        child = process.start(
            [sys.executable, "-m", *argv], stdout=folder / f"{name}.out", stderr=folder / f"{name}.err"
        )
    try:
        yield child
    finally:
        process.stop_group(child, 1.0)


@contextlib.contextmanager
def _server(folder: Path, index: int, core: int) -> Iterator[tuple[str, int]]:
    with _child(folder, f"server{index}", core, [SERVER]) as child:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not (url := (folder / f"server{index}.out").read_text(encoding="utf-8")).endswith("\n"):
            if child.poll() is not None or time.monotonic() > deadline:
                raise BackendError(
                    f"the reference server did not start: {process.tail(folder / f'server{index}.err', 400)}",
                    code="server_not_ready",
                )
            time.sleep(POLL_S)
        yield url.strip(), child.pid


@contextlib.contextmanager
def _client(
    folder: Path, index: int, core: int, server: tuple[str, int], streams: int, duration_s: float
) -> Iterator[process.Child]:
    argv = [CLIENT, server[0], str(server[1]), str(streams), str(duration_s)]
    with _child(folder, f"client{index}", core, argv) as child:
        yield child


def _result(folder: Path, index: int, child: process.Child) -> Step:
    deadline = time.monotonic() + STEP_TIMEOUT_S
    while child.poll() is None and time.monotonic() < deadline:
        time.sleep(POLL_S)
    if child.poll() != 0:
        raise BackendError(
            f"a client of the calibration failed: {process.tail(folder / f'client{index}.err', 600)}", code="crashed"
        )
    return _STEP.validate_json((folder / f"client{index}.out").read_text(encoding="utf-8").splitlines()[-1])


def worst(steps: Sequence[Step]) -> Step:
    """Return one step for all processes: of each number the worst. Pure."""

    def largest(name: str) -> Any:  # noqa: ANN401 (a field's value)
        values = [getattr(step, name) for step in steps if getattr(step, name) is not None]
        return max(values) if values else None

    def worse(name: str) -> Any:  # noqa: ANN401 (a field's value)
        values = [getattr(step, name) for step in steps if getattr(step, name) is not None]
        return max(values, key=lambda item: abs(item.p99_ms)) if values else None

    return replace(
        steps[0],
        processes=len(steps),
        tokens_s=min(step.tokens_s for step in steps),
        client_cpu_pct=largest("client_cpu_pct"),
        server_cpu_pct=largest("server_cpu_pct"),
        loop_lateness_p99_ms=largest("loop_lateness_p99_ms"),
        server_late_p99_ms=largest("server_late_p99_ms"),
        ttft_error=worse("ttft_error"),
        itl_error=worse("itl_error"),
        failed=sum(step.failed for step in steps),
    )


def as_json(found: Sequence[tuple[Limit, Sequence[Step]]], *, host: Json, at: str) -> Json:
    """Return a calibration as it is stored. Pure."""
    return {
        "schema_version": SCHEMA_VERSION,
        "at": at,
        "host": host,
        "script": {
            "ttft_ms": calibrate.TTFT_MS,
            "gap_ms": calibrate.GAP_MS,
            "output_tokens": calibrate.OUTPUT_TOKENS,
        },
        "limits": [{**asdict(limit), "steps": [asdict(step) for step in steps]} for limit, steps in found],
    }


def store(root: Path, content: Json) -> Path:
    """Write a calibration into the workspace; it replaces the one before.

    Raises:
        StorageError: The folder cannot be written.
    """
    path = root / FILE
    try:
        root.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(content, indent=1), encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}", remedy="choose a folder with --store") from error
    return path


def shown_limit(root: Path, *, cpu_model: str | None, processes: int) -> Limit | None:
    """Return what this host was shown to drive with so many processes; ``None`` where nobody looked.

    A calibration of another processor says nothing here, and one of fewer processes only what one can do.
    """
    try:
        content = json.loads((root / FILE).read_text(encoding="utf-8"))
        if content["schema_version"] != SCHEMA_VERSION or content["host"].get("cpu_model") != cpu_model:
            return None
        limits = [Limit(**{key: item[key] for key in Limit.__dataclass_fields__}) for item in content["limits"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    fitting = [limit for limit in limits if limit.processes >= processes and limit.streams > 0]
    return min(fitting, key=lambda limit: limit.processes, default=None)
