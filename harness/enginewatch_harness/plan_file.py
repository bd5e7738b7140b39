"""The plan file: its pydantic model, and errors that name the nearest known key."""

from __future__ import annotations

import difflib
import hashlib
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from enginewatch_db.errors import PlanError
from enginewatch_harness.plan_load import LoadTable

PRECISIONS = (
    "fp32",
    "tf32",
    "fp16",
    "bf16",
    "int8",
    "int8_dynamic",
    "fp8",
    "int4",
    "fp4",
    "q8_0",
    "q4_0",
    "best",
)
"""Requested numeric formats. ``int8`` is static (calibrated) QDQ; ``q8_0`` and ``q4_0`` are GGUF block formats."""

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=64)]
GpuName = Annotated[str, Field(min_length=1, max_length=128)]
Positive = Annotated[int, Field(ge=1, le=1_000_000)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelTable(_Table):
    """``[[model]]``: where a model comes from."""

    name: Name = Field(description="Its name, for workloads to name it.")
    path: str | None = Field(
        default=None,
        description="ONNX, GGUF, .pt2 or TorchScript file, or a server's model folder, relative to the plan file.",
    )
    served: str | None = Field(
        default=None, min_length=1, description="Name of a model that a server has, or fetches: no file here."
    )
    generate: str | None = Field(default=None, description="Name of a built-in generator instead of a file.")
    seed: int = Field(default=0, ge=0, description="Seed of the generated weights.")

    @model_validator(mode="after")
    def _one_source(self) -> ModelTable:
        if sum(source is not None for source in (self.path, self.served, self.generate)) != 1:
            raise ValueError("give either path or generate, or served for a model that only a server has")
        return self


class WorkloadTable(_Table):
    """``[[workload]]``: a model, what is fed to it, and the part of the matrix that it spans."""

    name: Name = Field(description="Its name: the first part of its cases' keys.")
    model: str = Field(description="Name of a ``[[model]]``.")
    backends: list[str] = Field(min_length=1, description="Tools that build or execute.")
    precisions: list[str] = Field(min_length=1, description="Requested numeric formats.")
    batches: list[Positive] = Field(default_factory=list, description="Batch sizes of an engine workload.")
    shapes: dict[str, list[Positive]] = Field(
        default_factory=dict, description="Input name → dimensions without the batch, for dynamic inputs."
    )
    load: list[LoadTable] = Field(default_factory=list, description="Load profiles of a server workload.")
    warmup_s: float | None = Field(default=None, ge=0, description="Overrides measure.warmup_s.")
    duration_s: float | None = Field(default=None, gt=0, description="Overrides measure.duration_s.")
    options: dict[str, Any] = Field(default_factory=dict, description="Options of all its backends.")
    backend_options: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="Backend → options of that one alone; they go before options."
    )
    gpus: list[GpuName] | None = Field(
        default=None, min_length=1, description="GPU products or UUIDs, or all; instead of the plan's gpus."
    )

    @model_validator(mode="after")
    def _engine_or_server(self) -> WorkloadTable:
        if bool(self.batches) == bool(self.load):
            raise ValueError("give batches (an engine workload) or load (a server workload), not both or neither")
        return self


class MeasureTable(_Table):
    """``[measure]``: how long each run measures."""

    warmup_s: float = Field(default=0.5, ge=0, description="Seconds of work before the measuring phase.")
    duration_s: float = Field(default=1.0, gt=0, description="Seconds of the measuring phase.")
    timeout_s: float = Field(
        default=120.0,
        gt=0,
        description="A run that takes longer is stopped; its profile and accuracy check get a minute at least.",
    )


class CollectorTable(_Table):
    """``[collector]``: telemetry beside every run."""

    rate_hz: float = Field(default=10.0, gt=0, le=100, description="Fast-tier samples per second.")
    backends: list[str] = Field(default_factory=lambda: ["auto"], description="Sources; auto finds them.")


class ScheduleTable(_Table):
    """``[schedule]``: when ``enginewatch schedule`` runs this plan."""

    every_minutes: int | None = Field(default=None, ge=1, description="Run every N minutes.")
    at: list[str] = Field(default_factory=list, description="Run every day at these local times, HH:MM.")
    jitter_s: int = Field(default=0, ge=0, description="Start up to this much later, at random.")
    catch_up: bool = Field(default=True, description="Run once on start when a due time was missed.")

    @model_validator(mode="after")
    def _times(self) -> ScheduleTable:
        if (self.every_minutes is None) == (not self.at):
            raise ValueError("give every_minutes or at, not both or neither")
        for value in self.at:
            if not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", value):
                raise ValueError(f"{value!r} is not a time of day, write HH:MM")
        return self


class SpeedupTable(_Table):
    """``[speedup]``: what the cases of a session are compared with."""

    reference: str = Field(
        pattern=r"^[a-z0-9_]+/[a-z0-9_]+$",
        description="backend/precision of the reference case of each workload, batch or load, and device.",
    )


class ExcludeTable(_Table):
    """``[[exclude]]``: leave out the cases that match every given key."""

    workload: str | None = Field(default=None, description="Name of a workload.")
    backend: str | None = Field(default=None, description="Name of a backend.")
    precision: str | None = Field(default=None, description="A precision as the plan asks for it.")
    batch: int | None = Field(default=None, description="Batch size of an engine workload.")
    concurrency: int | None = Field(default=None, description="Streams of a closed loop.")
    gpu: str | None = Field(default=None, description="A GPU product or UUID, as gpus spells it.")


class PlanFile(_Table):
    """A whole plan file."""

    name: Name = Field(description="Name of the plan: history is kept per plan.")
    repeats: int = Field(default=5, ge=1, le=1000, description="Runs of each case in a session.")
    builds_per_case: int = Field(
        default=1, ge=1, le=100, description="Builds of each engine; run r uses build r modulo this number."
    )
    seed: int = Field(default=1, ge=0, description="Seed of the order, inputs, prompts and arrivals.")
    gpus: list[GpuName] = Field(
        default_factory=list, description="GPU products or UUIDs that workloads run on, or all; empty: one of the host."
    )
    device: str | None = Field(
        default=None, min_length=1, description="UUID of the GPU to use where several are equal."
    )
    policy: str | None = Field(default=None, description="Policy file of the gate, relative to the plan file.")
    measure: MeasureTable = Field(default_factory=MeasureTable)
    collector: CollectorTable = Field(default_factory=CollectorTable)
    schedule: ScheduleTable | None = None
    speedup: SpeedupTable | None = None
    model: list[ModelTable] = Field(min_length=1)
    workload: list[WorkloadTable] = Field(min_length=1)
    exclude: list[ExcludeTable] = Field(default_factory=list)

    @model_validator(mode="after")
    def _reference_is_run(self) -> PlanFile:
        if self.speedup is not None:
            backend, _, precision = self.speedup.reference.partition("/")
            if not any(backend in item.backends and precision in item.precisions for item in self.workload):
                raise ValueError(f"speedup.reference = {self.speedup.reference!r} is no case of any workload")
        return self


def load_plan(path: Path) -> tuple[PlanFile, str]:
    """Return the plan in ``path`` and the SHA-256 of its text.

    Raises:
        PlanError: The file is absent, is not TOML, or has an unknown key or a bad value.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise PlanError(
            f"cannot read the plan {path}: {error.strerror}", remedy="write one with `enginewatch init`"
        ) from error
    return parse_plan(content, str(path)), hashlib.sha256(content).hexdigest()


def parse_plan(content: bytes, place: str) -> PlanFile:
    """Return the plan in ``content``; ``place`` names it in errors.

    Raises:
        PlanError: It is not TOML, or has an unknown key or a bad value.
    """
    try:
        data = tomllib.loads(content.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PlanError(f"{place} is not TOML: {error}", remedy="see docs/plan.md") from error
    try:
        return PlanFile.model_validate(data)
    except ValidationError as error:
        raise PlanError(_explain(error, place), remedy="see docs/plan.md") from error


def _explain(error: ValidationError, place: str) -> str:
    lines = []
    for problem in error.errors()[:3]:
        where = _location(problem["loc"])
        if problem["type"] == "extra_forbidden":
            key = str(problem["loc"][-1])
            known = _known_keys(problem["loc"][:-1])
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(known)}"
            lines.append(f"unknown key {where!r}: {hint}")
        elif problem["type"] == "missing":
            lines.append(f"{where!r} is missing")
        else:
            value = problem["input"]
            shown = f" (it is {value!r})" if isinstance(value, str | int | float | bool) else ""
            lines.append(f"{where!r}: {problem['msg'].removeprefix('Value error, ')}{shown}")
    more = error.error_count() - len(lines)
    return f"{place}: {'; '.join(lines)}{f'; and {more} more' if more > 0 else ''}"


def _location(parts: tuple[int | str, ...]) -> str:
    text = ""
    for part in parts:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text or "plan"


def _known_keys(parts: tuple[int | str, ...]) -> list[str]:
    table: Any = PlanFile
    for part in parts:
        if isinstance(part, int):
            continue
        annotation = table.model_fields[part].annotation
        candidates = [annotation, *getattr(annotation, "__args__", ())]
        table = next(item for item in candidates if isinstance(item, type) and issubclass(item, BaseModel))
    return sorted(table.model_fields)
