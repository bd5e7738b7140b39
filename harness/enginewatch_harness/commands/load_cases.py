"""From loads to the cases of a session: a ladder's, or those that a search asks for. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from enginewatch_db.model import Json, RunRecord, RunStatus
from enginewatch_harness.commands.load_given import Loads
from enginewatch_harness.load.search import Ask, Attained
from enginewatch_harness.load.spec import LoadSpec
from enginewatch_harness.load.verdicts import CPU_LIMIT_PCT
from enginewatch_harness.matrix import Case, estimate_s
from enginewatch_harness.plan_file import ModelTable

OVERLOAD = frozenset({"load_not_steady", "tail_undersampled", "too_few_samples"})
"""Reasons against a run as a measurement of latency that leave its throughput what it is."""

HARMLESS_SHARE = 0.05
"""Of a request's time: half of what a knee is wanted to."""

Brought = TypeVar("Brought")
Taken = TypeVar("Taken", contravariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseMaker:
    """Makes the case of each level.

    Attributes:
        loads: What to offer.
        model: The served model.
        options: Options of the backend ``openai``.
        precision: As the user declares it; ``best`` for as it is.
    """

    loads: Loads
    model: ModelTable
    options: Json
    precision: str
    warmup_s: float
    duration_s: float

    def case(self, level: float) -> Case:
        """Return the case at a level."""
        spec = self.loads.spec(level)
        return Case(
            key=f"{self.model.name}/openai/{self.precision}/{suffix(spec)}",
            workload=self.model.name,
            model=self.model,
            backend="openai",
            precision=self.precision,
            warmup_s=self.warmup_s,
            duration_s=self.duration_s,
            load=spec,
            options=dict(self.options),
        )


def suffix(spec: LoadSpec) -> str:
    """Return the last part of a case's key: how requests arrive, how long they are, what is special."""
    parts = [f"c{spec.concurrency}" if spec.mode == "closed" else spec.mode]
    if spec.rate_rps is not None:
        parts[0] += f"{spec.rate_rps:g}rps"
    if spec.burstiness != 1:
        parts.append(f"b{spec.burstiness:g}")
    if spec.dataset is not None:
        parts.append(name_of(spec.dataset.path.stem))
    for letter, length, spread in (("i", spec.isl, spec.isl_dist), ("o", spec.osl, spec.osl_dist)):
        parts.append(f"{letter}{length}" + (f"~{name_of(spread)}" if spread else ""))
    if spec.prefixes is not None:
        parts.append(f"p{spec.prefixes.groups}x{spec.prefixes.tokens}")
    if spec.turns > 1:
        parts.append(f"t{spec.turns}")
    if spec.think_time_s:
        parts.append(f"think{spec.think_time_s:g}s")
    return "-".join(parts)


def name_of(text: str) -> str:
    """Return a text as a name that plans and case keys can hold."""
    return re.sub(r"[^A-Za-z0-9._]+", "-", text).strip("-._")[:64].strip("-._") or "unnamed"


def level_of(spec: LoadSpec) -> str:
    """Return a load's level as tables show it."""
    if spec.mode == "closed":
        return f"{spec.concurrency} streams" if spec.concurrency > 1 else "1 stream"
    return spec.mode if spec.rate_rps is None else f"{spec.rate_rps:g} req/s"


@dataclass(slots=True, kw_only=True)
class LadderSource:
    """Every level once in each repeat."""

    maker: CaseMaker
    repeats: int
    cases: dict[str, LoadSpec] = field(default_factory=dict)
    total: int = 0
    estimate_s: float = 0.0
    _begun: int = 0
    _block: tuple[Case, ...] = ()

    def __post_init__(self) -> None:
        self._block = tuple(self.maker.case(level) for level in self.maker.loads.levels)
        self.cases = {case.key: case.load for case in self._block if case.load is not None}
        self.total = self.repeats * len(self._block)
        self.estimate_s = estimate_s(self._block, self.repeats)

    def next_block(self, records: tuple[RunRecord, ...]) -> tuple[Case, ...]:
        """Return all levels, as many times as there are repeats."""
        del records
        if self._begun >= self.repeats:
            return ()
        self._begun += 1
        return self._block


class Search(Protocol[Taken]):
    """A search as ``load.search`` has them."""

    spent: int

    def ask(self) -> tuple[Ask, ...]:
        """Return the next runs."""

    def feed(self, asked: Sequence[Ask], brought: Sequence[Taken | None], /) -> None:
        """Take what they brought."""


@dataclass(slots=True, kw_only=True)
class SearchSource(Generic[Brought]):
    """The levels that a search asks for."""

    maker: CaseMaker
    search: Search[Brought]
    read: Callable[[RunRecord], Brought | None]
    total: int
    cases: dict[str, LoadSpec] = field(default_factory=dict)
    estimate_s: float = 0.0
    _asked: tuple[Ask, ...] = ()
    _seen: int = 0

    def __post_init__(self) -> None:
        self.estimate_s = estimate_s((self.maker.case(self.maker.loads.levels[0]),), self.total)

    def next_block(self, records: tuple[RunRecord, ...]) -> tuple[Case, ...]:
        """Tell the search what its last block brought, and return the next."""
        self._feed(records[self._seen :])
        self._seen = len(records)
        self._asked = self.search.ask()
        block = tuple(self.maker.case(ask.level) for ask in self._asked)
        self.cases |= {case.key: case.load for case in block if case.load is not None}
        return block

    def _feed(self, records: tuple[RunRecord, ...]) -> None:
        if not self._asked:
            return
        by_key = {record.case_key: record for record in records}
        found = [by_key.get(self.maker.case(ask.level).key) for ask in self._asked]
        self.search.feed(self._asked, [None if record is None else self.read(record) for record in found])


def value_of(record: RunRecord, metric: str) -> float | None:
    """Return a metric of a run, or ``None``."""
    return next((item.value for item in record.metrics if item.metric == metric), None)


def client_is_harmless(record: RunRecord) -> bool:
    """Return whether a client that was late cannot have changed the throughput by more than ``HARMLESS_SHARE``.

    Its processes had cores to spare, and a stream that waits for its client waits once a request for its next one:
    of each cycle the p99 of the loop's lateness at most, nearly.
    """
    cpu, late = value_of(record, "client_cpu_pct"), value_of(record, "loop_lateness_p99_ms")
    e2e = value_of(record, "e2e_p50_ms")
    if cpu is None or late is None or e2e is None:
        return False
    return cpu < CPU_LIMIT_PCT and late <= HARMLESS_SHARE * e2e


def throughput_of(record: RunRecord, *, by_rate: bool) -> float | None:
    """Return what a knee search looks at: output tokens per second, or requests per second where rates are offered.

    Overload makes a run invalid as a measurement of latency; its throughput is what the search is after. So does a
    late client, whose throughput counts where its lateness cannot have changed it.
    """
    spoilt = {reason.code for reason in record.reasons if reason.effect == "reject"} - OVERLOAD
    if spoilt == {"client_bound"} and client_is_harmless(record):
        spoilt = set()
    if record.status is not RunStatus.OK or spoilt:
        return None
    return value_of(record, "requests_s" if by_rate else "output_tokens_s") or None


def attained_of(record: RunRecord, *, by_rate: bool, target: float) -> Attained | None:
    """Return how many requests met the SLO; none in an open loop whose queue grew, ``None`` where nobody can tell.

    A late client only makes latencies longer: where it still offered the load, what meets the SLO in spite of it
    counts, and what does not may be the client's fault.
    """
    item = next((item for item in record.metrics if item.metric == "goodput_pct"), None)
    if record.status is not RunStatus.OK or item is None or item.value is None or not item.n:
        return None
    codes = {reason.code for reason in record.reasons}
    if "client_bound" in codes and not (client_is_harmless(record) and item.value >= 100 * target):
        return None
    if by_rate and "load_not_steady" in codes:
        return Attained(good=0, total=item.n)
    return Attained(good=round(item.value / 100 * item.n), total=item.n)
