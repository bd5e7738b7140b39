"""The one error tree of enginewatch.

Every error carries what failed, with which value, why, and what to do next. ``main()`` of the command
line is the only place that turns them into text and an exit code.

    EnginewatchError
    ├── UsageError            2  a command line, plan or policy that cannot be obeyed
    │   └── PlanError         2  a plan file: names the key, the value and the nearest known key
    ├── NoBaselineError       3  nothing to compare with
    ├── UnfitError            4  the machine cannot measure now (disk, memory, foreign work)
    ├── BackendError          5  a tool failed: carries a stable code
    │   ├── NotAvailableError 5  the tool is absent: carries the command that adds it
    │   └── MeasurementError  5  it ran and what came out cannot be used
    ├── StorageError          6  store, bundle or spool
    │   ├── StoreLockedError  6  another process writes
    │   ├── StoreVersionError 6  written by a newer enginewatch
    │   ├── BundleError       6  a bundle that is incomplete or altered
    │   └── DiskFullError     6  no space left
    └── InterruptedRunError 130  Ctrl-C
"""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar


class ExitCode(IntEnum):
    """Exit codes of every enginewatch command (docs/reference/exit-codes.md)."""

    PASS = 0
    REGRESSION = 1
    USAGE = 2
    INCONCLUSIVE = 3
    UNFIT = 4
    FAILED = 5
    STORAGE = 6
    INTERRUPTED = 130


class EnginewatchError(Exception):
    """Base of all errors that a user can cause or must hear about.

    Args:
        message: What failed, with the value and the place.
        remedy: What to do next, as a sentence or a command; ``None`` where there is nothing to do.
    """

    exit_code: ClassVar[ExitCode] = ExitCode.FAILED

    def __init__(self, message: str, *, remedy: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return self.message if self.remedy is None else f"{self.message} → {self.remedy}"


class UsageError(EnginewatchError):
    """A command, plan or policy that cannot be obeyed."""

    exit_code = ExitCode.USAGE


class PlanError(UsageError):
    """A plan file with an unknown key, a bad value or an impossible matrix."""


class NoBaselineError(EnginewatchError):
    """There is nothing to compare with."""

    exit_code = ExitCode.INCONCLUSIVE


class UnfitError(EnginewatchError):
    """The machine cannot measure now."""

    exit_code = ExitCode.UNFIT


class BackendError(EnginewatchError):
    """A tool failed.

    Args:
        message: What failed, with the value and the place.
        code: Stable code of the failure, for example ``model_corrupt``; a member of ``FAILURE_CODES``.
        remedy: What to do next.
    """

    exit_code = ExitCode.FAILED

    def __init__(self, message: str, *, code: str, remedy: str | None = None) -> None:
        super().__init__(message, remedy=remedy)
        self.code = code


class NotAvailableError(BackendError):
    """A tool is absent on this machine; ``remedy`` is the command that adds it."""

    def __init__(self, message: str, *, remedy: str | None = None) -> None:
        super().__init__(message, code="not_available", remedy=remedy)


class MeasurementError(BackendError):
    """The tool ran and what came out cannot be used."""


class StorageError(EnginewatchError):
    """Store, bundle or spool."""

    exit_code = ExitCode.STORAGE


class StoreLockedError(StorageError):
    """Another process writes to the store."""


class StoreVersionError(StorageError):
    """The store was written by a newer enginewatch."""


class BundleError(StorageError):
    """A bundle that is incomplete or altered."""


class DiskFullError(StorageError):
    """No space left on the device."""


class InterruptedRunError(EnginewatchError):
    """The user pressed Ctrl-C, or the process was asked to stop."""

    exit_code = ExitCode.INTERRUPTED


FAILURE_CODES: dict[str, str] = {
    "not_available": "the backend's tool is absent on this machine",
    "model_missing": "the model file does not exist",
    "model_corrupt": "the model file cannot be read",
    "unsupported_operator": "the backend does not know an operator of the model",
    "unsupported_precision": "the backend cannot build this precision",
    "shape_outside_profile": "an input shape is not one that the engine was built for",
    "plugin_missing": "a plugin that the model needs is not registered",
    "version_mismatch": "the engine was built by another version of the tool",
    "wrong_device": "the engine was built for another GPU",
    "engine_corrupt": "the engine file is truncated or altered",
    "out_of_memory": "device or host memory ran out",
    "unknown_flag": "the tool does not know a command-line option",
    "build_failed": "the engine could not be built, for a reason that no other code names",
    "provider_fallback": "the runtime silently chose another execution provider",
    "output_not_finite": "the model wrote NaN or infinity",
    "port_in_use": "the server's port is taken",
    "server_not_ready": "the server did not become ready in time",
    "server_died": "the server ended while it was under load",
    "load_failed": "every request of the load test failed",
    "client_failed": "a process of the load generator ended with an error",
    "no_samples": "the measuring phase produced no sample",
    "killed": "the process was killed by a signal",
    "timeout": "the process did not end in time",
    "results_damaged": "an exported file is cut off, altered, or contradicts the tool's log",
    "driver_insufficient": "there is no GPU for the tool, or its driver is too old for the tool's CUDA runtime",
    "accuracy_failed": "the tool's own check of the outputs against given references failed",
    "crashed": "the process ended with an error that no other code names",
    "disk_full": "no space left on the device",
    "collector_failed": "the telemetry collector ended before the run did",
}
