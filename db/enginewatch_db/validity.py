"""Validity reasons: why a run must not count, or counts with care. One table for all of enginewatch."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class ValidityEffect(StrEnum):
    """What a validity reason does to its run."""

    REJECT = "reject"
    WARN = "warn"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReasonDef:
    """One row of the table of validity reasons.

    Attributes:
        effect: Whether the run is left out of verdicts, or only marked.
        description: What it means, for a reader of a report.
        remedy: What to do about it.
    """

    effect: ValidityEffect
    description: str
    remedy: str


def _reject(description: str, remedy: str) -> ReasonDef:
    return ReasonDef(effect=ValidityEffect.REJECT, description=description, remedy=remedy)


def _warn(description: str, remedy: str) -> ReasonDef:
    return ReasonDef(effect=ValidityEffect.WARN, description=description, remedy=remedy)


REASONS: dict[str, ReasonDef] = {
    "run_failed": _reject("The run ended with an error.", "Read the run's error and its log."),
    "too_few_samples": _reject("Fewer than 20 samples: no quantile is meaningful.", "Raise duration_s in the plan."),
    "tail_undersampled": _warn(
        "Fewer than 1,000 samples: p99 rests on fewer than ten of them.",
        "Raise duration_s, or judge the median.",
    ),
    "client_bound": _reject(
        "The load generator itself was the bottleneck.",
        "Free the host's cores, lower the load, or use a host with more cores.",
    ),
    "requests_failed": _warn("Some requests of the load test failed.", "Read error_class in llm_requests."),
    "server_died": _reject("The server ended while it was under load.", "Read the server's log."),
    "precision_not_realised": _warn(
        "What ran has another precision of weights or KV cache than the plan asks for.",
        "Quantise the checkpoint as asked, or ask for what it is.",
    ),
    "output_not_finite": _reject("The model wrote NaN or infinity.", "Check the precision and the weights."),
    "accuracy_drift": _warn(
        "The outputs differ from the fp32 reference by more than the policy allows.",
        "Check the calibration data, or choose a higher precision.",
    ),
    "teardown_crash": _warn(
        "The tool crashed after it had saved its result; the result is used.",
        "Upgrade the tool, or ignore: the engine works.",
    ),
    "cuda_graph_failed": _reject(
        "CUDA graph capture failed: another thing was measured than was asked for.",
        "Measure without CUDA graph, or make the model capturable.",
    ),
    "compiled_again": _reject(
        "A just-in-time compiler ran during the measurement.", "Raise warmup_s, or keep the shapes constant."
    ),
    "options_not_obeyed": _reject(
        "The tool measured in another way than the plan asked for.",
        "Read the command and the log: another version may have other defaults.",
    ),
    "shape_overridden": _reject("The tool replaced dynamic shapes by 1.", "Give shapes in the plan."),
    "profiler_on": _reject("A profiler ran during the measurement.", "Profile in a run of its own."),
    "gpu_time_unstable": _warn("GPU time varies by more than 2.5 %.", "Lock the clocks; use spin-wait."),
    "enqueue_bound": _warn(
        "Enqueueing takes longer than 80 % of GPU time: the host limits throughput.", "Use a CUDA graph."
    ),
    "transfer_bound": _warn("A transfer takes as long as GPU compute.", "Overlap or drop transfers."),
    "multiple_streams": _warn(
        "Several inference streams overlapped: latencies include waiting.", "Judge throughput instead."
    ),
    "tactics_skipped_for_memory": _warn(
        "The builder skipped tactics for lack of memory: the engine may be slower.",
        "Free GPU memory, or raise the workspace limit, and build again.",
    ),
    "power_capped": _warn("The power cap held the clocks down.", "Raise the limit, or accept it as part."),
    "thermally_throttled": _reject("The GPU was hot and slowed down.", "Improve cooling; run again."),
    "clocks_unstable": _warn("The SM clock varied by more than 2 %.", "nvidia-smi --lock-gpu-clocks"),
    "foreign_process": _reject("Another process used the GPU.", "Stop it, or lease the GPU."),
    "host_busy": _warn(
        "Other processes used more than half a core before the run.", "Stop them, or measure at another time."
    ),
    "telemetry_gaps": _warn("The collector missed more than 5 % of its ticks.", "Free a core for it."),
    "telemetry_absent": _warn("No telemetry covers this run.", "See the collector's log."),
    "gpu_lost": _reject("The GPU stopped answering during the run.", "Read dmesg for XID errors."),
    "counter_backwards": _warn("A counter ran backwards: its difference was dropped.", "Read the quality block."),
    "not_steady": _warn("Latency still trended at the end of the run.", "Raise warmup_s or duration_s."),
    "load_not_steady": _reject(
        "The load had no steady state: the queue grew, or Little's law did not hold.",
        "Lower the rate below what the server sustains, or raise warmup_s and duration_s.",
    ),
    "token_counts_disagree": _warn(
        "The server's token counts differ from the tokenizer's by more than 2 %.",
        "Check the model's tokenizer file, and whether the server counts special tokens.",
    ),
    "imported": _warn(
        "Another tool measured this run: its definitions hold, and what it did not keep is absent.",
        "Measure with `enginewatch load` to compare by one definition.",
    ),
    "nan_telemetry": _warn("A telemetry read returned NaN with a success code.", "Read the quality block."),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """A validity reason that holds for one run.

    Attributes:
        code: A key of ``REASONS``.
        detail: The value and the place, in words; may be empty.
    """

    code: str
    detail: str = ""

    def __post_init__(self) -> None:
        if self.code not in REASONS:
            raise ValueError(f"unknown validity reason {self.code!r}; add it to enginewatch_db.validity.REASONS")

    @property
    def effect(self) -> ValidityEffect:
        """Whether the run is rejected or only marked."""
        return REASONS[self.code].effect


def is_valid(reasons: tuple[Reason, ...]) -> bool:
    """Return whether a run with these reasons may enter a verdict."""
    return all(reason.effect is not ValidityEffect.REJECT for reason in reasons)
