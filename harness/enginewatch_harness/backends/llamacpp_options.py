"""Options of the llama.cpp backend, as a plan spells them. Pure."""

from __future__ import annotations

import difflib
import os
from collections.abc import Collection
from dataclasses import dataclass, field, fields

from enginewatch_db.errors import PlanError
from enginewatch_db.model import Json
from enginewatch_harness.backends.option_values import MOST
from enginewatch_harness.gguf_model import LlamaShape
from enginewatch_harness.load.endpoints import ENDPOINTS
from enginewatch_harness.load.spec import OPEN_MODES, LoadSpec

RANDOM_LLAMA = "random-llama"
OPEN_LOOP_SLOTS = 8
_SHAPE_OPTIONS = tuple(item.name for item in fields(LlamaShape))


def default_threads() -> int:
    """Return the cores that this process may use, less one for the load generator and the collector."""
    return max(1, len(os.sched_getaffinity(0)) - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class LlamaCppOptions:
    """Checked options.

    Attributes:
        threads: Threads of the computation.
        pin: Keep server and load generator on cores of their own, where there is a core more than ``threads``.
        parallel: Slots of the server; ``None``: one per stream of a closed loop, 8 in an open loop.
        port: Loopback port of the server; 0: any free one.
        endpoint: ``completions`` or ``chat``.
        ready_timeout_s: How long the server may take to load.
        request_timeout_s: Limit of one request.
        inject_delay_ms: For tests of the gate: this much is added to the gap before each token, through a relay
            in the server's process.
        server_metrics: Scrape llama.cpp's metrics once a second, by a process beside the load generator.
        generate: ``random-llama`` to write the model; ``None`` where ``model_path`` is the model.
        model_seed: Seed of the random model.
        shape: Dimensions of the random model.
    """

    threads: int = field(default_factory=default_threads)
    pin: bool = True
    parallel: int | None = None
    port: int = 0
    endpoint: str = "completions"
    ready_timeout_s: float = 60.0
    request_timeout_s: float = 120.0
    inject_delay_ms: float = 0.0
    server_metrics: bool = False
    generate: str | None = None
    model_seed: int = 0
    shape: LlamaShape = field(default_factory=LlamaShape)

    def slots(self, load: LoadSpec) -> int:
        """Return how many requests the server processes at once."""
        if self.parallel is not None:
            return self.parallel
        return min(load.concurrency, OPEN_LOOP_SLOTS) if load.mode in OPEN_MODES else load.concurrency


@dataclass(frozen=True, slots=True, kw_only=True)
class Cores:
    """Which cores the load generator and the server stay on; ``None`` and empty: any."""

    client: tuple[int, ...] | None = None
    server: tuple[int, ...] = ()


def split_cores(available: Collection[int], options: LlamaCppOptions) -> Cores:
    """Give the server as many cores as it has threads, the last ones, and the load generator the rest.

    Without a core to spare they share all: a server on fewer cores than threads would be another server.
    """
    ordered = sorted(available)
    if not options.pin or len(ordered) <= options.threads:
        return Cores()
    return Cores(client=tuple(ordered[: -options.threads]), server=tuple(ordered[-options.threads :]))


def parse_options(options: Json) -> LlamaCppOptions:
    """Check the options of a plan.

    Raises:
        PlanError: An unknown option (names the nearest known one), or a value of the wrong type or range.
    """
    known = [item.name for item in fields(LlamaCppOptions) if item.name != "shape"] + list(_SHAPE_OPTIONS)
    for key in options:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.0)[0]
            raise PlanError(f"unknown llamacpp option {key!r}", remedy=f"did you mean {near!r}?")
    default = LlamaCppOptions()
    generate = options.get("generate")
    if generate not in (None, RANDOM_LLAMA):
        raise _bad("generate", generate, RANDOM_LLAMA)
    endpoint = options.get("endpoint", default.endpoint)
    if endpoint not in ENDPOINTS:
        raise _bad("endpoint", endpoint, f"one of {', '.join(ENDPOINTS)}")
    return LlamaCppOptions(
        threads=_integer(options, "threads", default.threads),
        pin=_flag(options, "pin", default.pin),
        parallel=_integer(options, "parallel", 1) if options.get("parallel") is not None else None,
        port=_integer(options, "port", default.port, low=0, high=65_535),
        endpoint=endpoint,
        ready_timeout_s=_number(options, "ready_timeout_s", default.ready_timeout_s),
        request_timeout_s=_number(options, "request_timeout_s", default.request_timeout_s),
        inject_delay_ms=_number(options, "inject_delay_ms", 0.0, positive=False),
        server_metrics=_flag(options, "server_metrics", default.server_metrics),
        generate=generate,
        model_seed=_integer(options, "model_seed", 0, low=0),
        shape=_shape(options, default.shape),
    )


def _shape(options: Json, default: LlamaShape) -> LlamaShape:
    shape = LlamaShape(**{name: _integer(options, name, getattr(default, name)) for name in _SHAPE_OPTIONS})
    if shape.n_embd % (32 * shape.n_heads):
        raise _bad("n_embd", shape.n_embd, f"a multiple of 32 times n_heads, so of {32 * shape.n_heads}")
    if shape.n_heads % shape.n_kv_heads:
        raise _bad("n_kv_heads", shape.n_kv_heads, f"a divisor of n_heads, which is {shape.n_heads}")
    if shape.n_ff % 32:
        raise _bad("n_ff", shape.n_ff, "a multiple of 32")
    return shape


def _bad(key: str, value: object, expected: str) -> PlanError:
    return PlanError(f"llamacpp option {key} = {value!r} must be {expected}")


def _flag(options: Json, key: str, default: bool) -> bool:
    value = options.get(key, default)
    if not isinstance(value, bool):
        raise _bad(key, value, "true or false")
    return value


def _integer(options: Json, key: str, default: int, *, low: int = 1, high: int | None = None) -> int:
    value = options.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int) or value < low or (high is not None and value > high):
        raise _bad(key, value, f"an integer of at least {low}" + ("" if high is None else f" and at most {high}"))
    return value


def _number(options: Json, key: str, default: float, *, positive: bool = True) -> float:
    value = options.get(key, default)
    number = not isinstance(value, bool) and isinstance(value, int | float)
    if not number or not 0 <= value <= MOST or (positive and value == 0):
        raise _bad(key, value, f"a number {'above 0 and up' if positive else 'from 0'} to {MOST:.0f}")
    return float(value)
