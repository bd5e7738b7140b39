"""The seam between the harness and the tools: jobs in, engines and measurements out.

A backend is a small class found through the entry-point group ``enginewatch.backends``. Its ``build`` and
``measure`` are called in a fresh process per run (``enginewatch_harness.worker``); what they return travels
back as JSON and Parquet. Command building and output parsing belong into pure modules of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from enginewatch_db.metrics import MetricValue
from enginewatch_db.model import EngineRecord, Json, Phase
from enginewatch_db.validity import Reason
from enginewatch_harness.load.spec import LoadSpec

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Availability:
    """Whether a backend can work on this machine.

    Attributes:
        available: Whether its tool was found.
        version: The tool's version; ``None`` where unknown.
        device: Product name of the device that it would run on; ``None`` where unknown.
        precisions: Precisions that it can build here.
        why: Why it is not available.
        remedy: The command or step that adds it.
    """

    available: bool
    version: str | None = None
    device: str | None = None
    precisions: tuple[str, ...] = ()
    why: str | None = None
    remedy: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One case, ready to build or to measure.

    Attributes:
        case_key: Readable key of the case.
        workload: Name of the workload.
        model_path: The model file: ONNX, GGUF or an engine; absolute.
        model_name: Name of the model in the plan.
        precision: Requested precision.
        shapes: Input name → dimensions, batch included; empty for servers.
        warmup_s: Seconds of work before the measuring phase.
        duration_s: Seconds of the measuring phase.
        load: How requests arrive; ``None`` for engines.
        options: Backend options of the plan (threads, optimisation level, ``inject_delay_ms`` in tests).
        seed: Seed of inputs, prompts and arrivals.
        device_uuid: The GPU or MIG slice that the case is bound to: device 0 of the worker, by its environment;
            ``None`` off GPUs.
        device_name: Its product name; ``None`` off GPUs.
    """

    case_key: str
    workload: str
    model_path: Path
    model_name: str
    precision: str
    warmup_s: float
    duration_s: float
    seed: int
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    load: LoadSpec | None = None
    options: Json = field(default_factory=dict)
    device_uuid: str | None = None
    device_name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What one run brought.

    Attributes:
        tables: Raw tables by the names of ``enginewatch_db.tables.SCHEMAS``; times relative to ``t0_ns``.
        metrics: What only the backend can know (load time, accuracy); quantiles are computed by the harness.
        reasons: Validity reasons from the tool's own output.
        realised_precision: Read back from the engine; ``None`` where the tool does not tell.
        effective_options: Measuring options as read back (``{"cuda_graph": False}``); part of identity.
        versions: Versions of the tool and its libraries.
        command: How a person runs the same by hand.
        window_ns: Start and end of the measuring phase on the monotonic clock.
        counts: Totals that throughput needs: ``inferences``, or what the load generator counted.
        notes: Free text for the provenance.
        device: Product name of the device as read back; ``None``: the one that was prepared for.
        device_count: How many of them as read back; ``None``: as prepared.
        own_pids: Processes that are part of the run although the harness did not start them: a server behind a URL.
    """

    tables: dict[str, pa.Table]
    window_ns: tuple[int, int]
    metrics: tuple[MetricValue, ...] = ()
    reasons: tuple[Reason, ...] = ()
    realised_precision: str | None = None
    effective_options: Json = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    command: str | None = None
    counts: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    device: str | None = None
    device_count: int | None = None
    own_pids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a backend may use of its surroundings while it works.

    Attributes:
        work_dir: Scratch folder of this run; kept with the logs when the run fails.
        t0_ns: Origin of the run's times (``time.monotonic_ns``).
        enter: Call when a phase begins; the one before ends there.
        progress: Call now and then with the samples so far and the running median in ms.
        cache_dir: Folder that outlives the run, for what is addressed by the hash of all that it depends on
            (converted models, reference outputs); ``None``: keep nothing.
    """

    work_dir: Path
    t0_ns: int
    enter: Callable[[Phase], None]
    progress: Callable[[int, float | None], None]
    cache_dir: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Profiled:
    """What looking inside brought, long after the measurement.

    Attributes:
        tables: ``layers`` and ``kernels``, by the names of ``enginewatch_db.tables.SCHEMAS``.
        metrics: What only a profiler can tell.
        realised_precision: Read back with times at hand; ``None`` where the tool does not tell.
        notes: Free text for the provenance.
    """

    tables: dict[str, pa.Table] = field(default_factory=dict)
    metrics: tuple[MetricValue, ...] = ()
    realised_precision: str | None = None
    notes: tuple[str, ...] = ()


class Backend(Protocol):
    """A tool that builds or executes. Raises ``BackendError`` with a code of ``FAILURE_CODES``."""

    name: str

    def availability(self) -> Availability:
        """Say whether the tool is here, which version, and how to add it. Must not raise, and be quick."""

    def engine_options(self, job: Job) -> Json | None:
        """Return what the engine depends on besides model, device, version and precision; ``None``: no engine."""

    def build(self, job: Job, target: Path, context: Context) -> EngineRecord:
        """Build the engine into ``target`` (a file that does not exist yet) and describe it."""

    def measure(self, job: Job, engine: EngineRecord | None, engine_path: Path | None, context: Context) -> Measurement:
        """Warm up, measure, and return the raw samples. Enters the phases LOAD, WARMUP, MEASURE, DRAIN."""


@runtime_checkable
class ChecksOptions(Protocol):
    """A backend that can say what is wrong with a plan's options, whether or not its tool is here."""

    def check_options(self, options: Json) -> None:
        """Check names and values. Raises ``PlanError``."""


@runtime_checkable
class ChoosesTool(Protocol):
    """A backend whose tool a plan may name: another version of it builds other engines and begins other series.

    Attributes:
        tool_options: The options that name it.
    """

    tool_options: tuple[str, ...]

    def availability_of(self, options: Json) -> Availability:
        """Say of the tool that these options name what ``availability`` says of the usual one. Must not raise."""


@runtime_checkable
class ChoosesDevice(Protocol):
    """A backend whose device depends on the case: a server may run anywhere."""

    def device_of(self, options: Json) -> str:
        """Return the product name of the device that a case with these options runs on, as far as it is known."""


@runtime_checkable
class UsesGpu(Protocol):
    """A backend that runs on one NVIDIA GPU, always or by its options: its cases are bound to one by UUID."""

    def uses_gpu(self, options: Json) -> bool:
        """Return whether a case with these options runs on one GPU. Must not raise: bad options are told later."""


@runtime_checkable
class Profiles(Protocol):
    """A backend that can say where the time goes. Called after the measurement, once per engine and session."""

    def profile(self, job: Job, engine: EngineRecord | None, engine_path: Path | None, context: Context) -> Profiled:
        """Time layers or kernels in a process or session of its own. Raises ``BackendError``; the run then stands."""


@runtime_checkable
class Wrapped(Protocol):
    """A backend whose work is a command of its own, which a profiler can be put around."""

    def trace_command(
        self, job: Job, engine: EngineRecord | None, engine_path: Path | None, context: Context, inferences: int
    ) -> list[str]:
        """Return a short command that does at least that many inferences as the measurement did them."""


@runtime_checkable
class Repeats(Protocol):
    """A backend that works in the process that calls it, and can do some inferences for a profiler to watch."""

    def repeat(
        self,
        job: Job,
        engine: EngineRecord | None,
        engine_path: Path | None,
        context: Context,
        *,
        inferences: int,
        watch: AbstractContextManager[object],
    ) -> None:
        """Load and warm up, then do exactly that many inferences inside ``watch``, waiting for the last one in it.

        Nothing is timed. Raises ``BackendError``.
        """


@runtime_checkable
class Infers(Protocol):
    """A backend that can answer given inputs, so that its outputs can be compared with the fp32 reference."""

    def infer(
        self,
        job: Job,
        engine: EngineRecord | None,
        engine_path: Path | None,
        inputs: dict[str, NDArray[np.generic]],
        context: Context,
    ) -> dict[str, NDArray[np.generic]]:
        """Return the outputs by name for one inference, untimed. Raises ``BackendError``; the run then stands."""
