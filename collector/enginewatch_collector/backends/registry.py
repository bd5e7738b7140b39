"""Which telemetry backends there are, and which of them run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from enginewatch_collector.backends.base import TelemetryBackend
from enginewatch_collector.quality import QualityLog
from enginewatch_db.errors import NotAvailableError, UsageError

BACKENDS = ("auto", "host", "nvml", "replay", "synthetic")


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendOptions:
    """What the backends need to know.

    Attributes:
        owner_pid: The process whose work is measured; compute processes outside its tree are foreign.
        replay: Recording for the ``replay`` backend.
        replay_phase: Phase of the recording; ``None`` for all of it.
        seed: Seed of the ``synthetic`` backend.
        gpu_uuid: The one GPU that the ``nvml`` backend samples; ``None``: all that are visible.
        gpu_instance: The MIG slice of that GPU; ``None``: the whole of it.
    """

    owner_pid: int
    replay: Path | None = None
    replay_phase: str | None = None
    seed: int = 0
    gpu_uuid: str | None = None
    gpu_instance: int | None = None


def choose(names: tuple[str, ...], *, replay: bool) -> tuple[str, ...]:
    """Return the backends that ``names`` mean, in the order in which they are read.

    ``auto`` is ``host``, and the recording when one is given, else ``nvml`` where there is a GPU.

    Raises:
        UsageError: A name is unknown, or ``replay`` lacks its recording.
    """
    for name in names:
        if name not in BACKENDS:
            raise UsageError(f"unknown telemetry backend {name!r}", remedy=f"choose from {', '.join(BACKENDS)}")
    chosen = [name for name in names if name != "auto"]
    if "auto" in names:
        chosen = ["host", *([] if replay else ["nvml"]), *chosen]
    if replay:
        chosen.append("replay")
    if "replay" in chosen and not replay:
        raise UsageError("the replay backend has no recording", remedy="give one with --replay FILE")
    return tuple(dict.fromkeys(chosen))


def open_backends(names: tuple[str, ...], options: BackendOptions, log: QualityLog) -> list[TelemetryBackend]:
    """Make and open the backends. In ``auto`` a missing GPU is an event, otherwise an error.

    Raises:
        UsageError: See ``choose``.
        NotAvailableError: A backend that was asked for by its name has nothing to sample.
    """
    opened: list[TelemetryBackend] = []
    for name in choose(names, replay=options.replay is not None):
        backend = _make(name, options)
        try:
            backend.open(log)
        except NotAvailableError as error:
            if name != "nvml" or "nvml" in names:
                raise
            log.event("backend_unavailable", backend=name, why=error.message)
        else:
            opened.append(backend)
    return opened


def _make(name: str, options: BackendOptions) -> TelemetryBackend:
    # imported here: psutil, pynvml and the others each cost start-up time that only their users should pay
    if name == "host":
        from enginewatch_collector.backends.host import HostBackend

        return HostBackend()
    if name == "nvml":
        from enginewatch_collector.backends.nvml import NvmlBackend

        return NvmlBackend(owner_pid=options.owner_pid, gpu_uuid=options.gpu_uuid, gpu_instance=options.gpu_instance)
    if name == "replay" and options.replay is not None:
        from enginewatch_collector.backends.replay import ReplayBackend

        return ReplayBackend(options.replay, phase=options.replay_phase)
    from enginewatch_collector.backends.synthetic import SyntheticBackend

    return SyntheticBackend(seed=options.seed)
