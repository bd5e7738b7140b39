"""From kept answers to the table ``server_samples``. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from enginewatch_db.model import Phase
from enginewatch_db.tables import SERVER_SAMPLES
from enginewatch_harness.targets import prometheus, trtllm_stats
from enginewatch_harness.targets.scrape import Scrape

if TYPE_CHECKING:
    import pyarrow as pa

Row = dict[str, float]
_INTEGERS = frozenset(
    {
        "t_ns",
        "preemptions",
        "prefix_query_tokens",
        "prefix_hit_tokens",
        "queue_time_ns",
        "queue_count",
        "prompt_tokens",
        "output_tokens",
        "requests_done",
        "iteration_ns",
        "scrape_ns",
    }
)
INT64_MAX = (1 << 63) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What the answers held.

    Attributes:
        source: Which server wrote them; ``None`` where nothing was understood.
        rows: Columns of ``server_samples`` by name, times monotonic.
        absent: Why there are no rows; ``None`` where there are some.
        notes: What a reader needs to know.
    """

    source: str | None = None
    rows: list[Row] = field(default_factory=list)
    absent: str | None = None
    notes: tuple[str, ...] = ()


def understand(scrapes: Iterable[Scrape], *, path: str) -> Seen:
    """Return the rows of all answers to ``path``; a bad answer among good ones is left out and counted."""
    kept = list(scrapes)
    good = [scrape for scrape in kept if scrape.status == 200 and scrape.body.strip()]
    if not good:
        return Seen(absent=_why(kept, path))
    drained = [(scrape, trtllm_stats.parse(_text(scrape))) for scrape in good]
    if any(found is not None for _, found in drained):
        seen = _iterations([(scrape, found) for scrape, found in drained if found is not None], path)
    else:
        seen = _texts(good, path)
    lost = len(kept) - len(good)
    return Seen(
        source=seen.source,
        rows=seen.rows,
        absent=seen.absent,
        notes=(f"{lost} of {len(kept)} scrapes of {path} brought nothing: {_why(kept, path)}",) if lost else (),
    )


def _text(scrape: Scrape) -> str:
    return scrape.body.decode("utf-8", errors="replace")


def _why(scrapes: Sequence[Scrape], path: str) -> str:
    bad = next((scrape for scrape in scrapes if scrape.status != 200 or not scrape.body.strip()), None)
    if bad is None:
        return f"{path} was never scraped"
    if bad.status == 0:
        return f"{path} did not answer: {_text(bad)[:200]}"
    return f"the server has no {path} ({bad.status})" if bad.status != 200 else f"{path} was empty"


def _iterations(answers: list[tuple[Scrape, trtllm_stats.Iterations]], path: str) -> Seen:
    found = trtllm_stats.rows([trtllm_stats.Drained(t_ns=scrape.t_ns, iterations=items) for scrape, items in answers])
    if not found:
        return Seen(source="trtllm", absent=f"{path} held no iteration: start the server with enable_iter_perf_stats")
    return Seen(source="trtllm", rows=found)


def _texts(scrapes: list[Scrape], path: str) -> Seen:
    rows: list[Row] = []
    source: str | None = None
    for scrape in scrapes:
        values = prometheus.parse(_text(scrape))
        source = source or prometheus.source_of(values)
        if source is None:
            continue
        found = prometheus.columns(values, source)
        if found:
            rows.append({"t_ns": scrape.t_ns, "scrape_ns": scrape.took_ns, **found})
    if not rows:
        return Seen(source=source, absent=f"{path} holds no metric that is known here")
    return Seen(source=source, rows=rows)


def to_table(seen: Seen, *, t0_ns: int, phases: Sequence[tuple[Phase, int]]) -> pa.Table:
    """Return the rows as a table, times relative to ``t0_ns``, each with the phase that it fell into.

    Args:
        seen: What the answers held.
        t0_ns: Origin of the run.
        phases: When each phase began, monotonic, in order; the last one has no end.
    """
    import pyarrow as pa

    rows = sorted(seen.rows, key=lambda row: row["t_ns"])
    columns: dict[str, pa.Array] = {}
    for item in SERVER_SAMPLES:
        values: list[object]
        if item.name == "t_ns":
            values = [round(row["t_ns"]) - t0_ns for row in rows]
        elif item.name == "source":
            values = [seen.source] * len(rows)
        elif item.name == "phase":
            values = [_phase(row["t_ns"], phases) for row in rows]
        else:
            values = [_cell(item.name, row.get(item.name)) for row in rows]
        columns[item.name] = pa.array(values, type=item.type)
    return pa.table(columns, schema=SERVER_SAMPLES)


def _cell(name: str, value: float | None) -> float | int | None:
    if value is None or name not in _INTEGERS:
        return value
    return round(value) if value <= INT64_MAX else None


def _phase(t_ns: float, phases: Sequence[tuple[Phase, int]]) -> str | None:
    began = [phase for phase, at_ns in phases if at_ns <= t_ns]
    return began[-1].value if began else None
