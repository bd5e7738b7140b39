"""How requests arrive at a server and how long they are: the declaration of one load. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

CLOSED = "closed"
OPEN_MODES = ("constant", "poisson", "gamma", "steps", "trace")
MODES = (CLOSED, *OPEN_MODES)

SLO_KEYS = ("ttft_ms", "tpot_ms", "itl_ms", "e2e_ms")
"""What a service-level objective may bound, per request; ``itl_ms`` bounds the request's largest gap."""


STREAMS_PER_PROCESS = 256
"""What one process drives with room to spare, at 100 tokens a second and stream (benchmarks/load)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """A file that requests come from.

    Attributes:
        path: The file.
        format: ``mooncake``, ``sharegpt`` or ``jsonl``; ``None`` finds out from its content.
        speed: Time of a trace runs this many times faster than recorded.
    """

    path: Path
    format: str | None = None
    speed: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefixes:
    """Prompts that begin alike: request ``n`` belongs to group ``n mod groups``.

    Attributes:
        groups: How many different prefixes.
        tokens: Tokens of each prefix; part of the prompt's length.
    """

    groups: int
    tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadSpec:
    """How requests arrive at a server.

    Attributes:
        mode: ``closed`` (``concurrency`` streams, next request when one ends) or one of ``OPEN_MODES``.
        concurrency: Streams of the closed loop; the ceiling of connections in the open loop.
        rate_rps: Offered requests per second of constant, Poisson and gamma arrivals; ``None`` elsewhere.
        isl: Prompt tokens per request; the mean where ``isl_dist`` says how they vary.
        osl: Output tokens per request; the mean where ``osl_dist`` says how they vary.
        requests: Requests in the measuring phase; ``None`` to run for the job's ``duration_s``.
        think_time_s: Mean pause of a stream between an answer and its next request (exponential), closed loop.
        burstiness: Coefficient of variation of the gaps of gamma arrivals: 1 is Poisson, above 1 is bursty.
        steps: Rate and seconds of each step of mode ``steps``, the first in the warm-up where there is one.
        isl_dist: How prompt lengths vary: ``uniform:LOW-HIGH``, ``normal:SD``, ``lognormal:SIGMA`` or ``data``;
            ``None`` keeps them fixed.
        osl_dist: The same for output lengths.
        dataset: File of prompts, lengths or arrivals; needed by mode ``trace`` and by ``data``.
        prefixes: Shared prefix groups.
        turns: Requests of a session; above 1, each carries the history of those before (chat endpoints).
        tokenizer: ``tokenizer.json`` of the model, or the folder that holds it: exact prompt lengths.
        processes: Client processes, one per core; ``0`` takes as many as the load seems to need.
        slo: What counts as good for goodput: keys of ``SLO_KEYS`` → largest value in ms.
    """

    mode: str
    concurrency: int = 1
    rate_rps: float | None = None
    isl: int = 64
    osl: int = 32
    requests: int | None = None
    think_time_s: float = 0.0
    burstiness: float = 1.0
    steps: tuple[tuple[float, float], ...] = ()
    isl_dist: str | None = None
    osl_dist: str | None = None
    dataset: Dataset | None = None
    prefixes: Prefixes | None = None
    turns: int = 1
    tokenizer: Path | None = None
    processes: int = 1
    slo: dict[str, float] = field(default_factory=dict)


def processes_for(spec: LoadSpec, cores: int) -> int:
    """Return how many client processes to use. Pure.

    Args:
        spec: The load; its ``processes`` where that is not 0.
        cores: Cores that this process may use; one is left to others.
    """
    wanted = spec.processes or min(max(1, cores - 1), -(-spec.concurrency // STREAMS_PER_PROCESS))
    return max(1, min(wanted, spec.concurrency)) if spec.mode == CLOSED else max(1, wanted)
