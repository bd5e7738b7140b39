"""From load runs to what the Serving page draws: configurations, their load levels, and what meets a limit. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from enginewatch_dashboards import format as fmt
from enginewatch_dashboards.pareto import Estimate, Standing, standings
from enginewatch_dashboards.reasons import rejecting
from enginewatch_dashboards.serving_names import identity_of, level_key, lines_of
from enginewatch_dashboards.trends import locate

Row = dict[str, Any]

CLOSED = "closed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """One load of one configuration.

    Attributes:
        case_key: The case.
        session_id: The session that measured it.
        session: What to call that session.
        run_ids: Its runs, those that count first.
        n_valid: Runs that count, which all values rest on; where none counts they rest on all.
        n_runs: All its runs.
        load: Streams of the closed loop, or requests per second; ``None`` where the load has no single number.
        word: The load as a label: ``32`` or ``20/s``.
        throughput: Output tokens per second.
        interactivity: Tokens per second of one user.
        metric: The chosen metric.
        goodput_pct: Share of requests that met the limit.
        codes: Why runs do not count.
        standing: Where it stands against the frontier; ``None`` where it has no place or does not count.
    """

    case_key: str
    session_id: str
    session: str
    run_ids: tuple[str, ...]
    n_valid: int
    n_runs: int
    load: float | None
    word: str
    throughput: Estimate | None
    interactivity: Estimate | None
    metric: Estimate | None
    goodput_pct: Estimate | None
    codes: tuple[str, ...]
    standing: Standing | None = None

    @property
    def counts(self) -> bool:
        """Whether a run of it enters verdicts."""
        return self.n_valid > 0

    @property
    def single(self) -> bool:
        """Whether its values rest on one run, so that nothing is known of the spread from run to run."""
        return (self.n_valid or self.n_runs) == 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """One line of the charts: what is the same at all its load levels.

    Attributes:
        name: What tells it apart from the others that are shown.
        closed: Whether its loads are streams (else requests per second).
        device: Where it ran.
        levels: Its loads, the lightest first.
        place: 0 for the first one: its colour in every chart, and less one its number.
    """

    name: str
    closed: bool
    device: str
    levels: tuple[Level, ...]
    place: int = 0


def configurations(rows: Sequence[Row], met: Mapping[str, float] | None = None) -> list[Configuration]:
    """Return the configurations with their levels, each level with its standing; those that count come first.

    Args:
        rows: Rows of the query ``serving``.
        met: Run → share of its requests (%) that met a limit; ``None`` takes the run's own goodput.
    """
    found = [_configuration(members, name, met) for name, members in lines_of(rows)]
    found.sort(key=lambda line: not any(level.counts for level in line.levels))
    return _with_standings([replace(line, place=place) for place, line in enumerate(found)])


def _configuration(rows: Sequence[Row], name: str, met: Mapping[str, float] | None) -> Configuration:
    by_load: dict[str, list[Row]] = {}
    for row in rows:
        by_load.setdefault(level_key(row), []).append(row)
    levels = sorted((_level(_newest_series(members), met) for members in by_load.values()), key=_order)
    first = rows[0]
    closed = first["load_mode"] == CLOSED
    return Configuration(name=name, closed=closed, device=fmt.device_label(first["device"]), levels=tuple(levels))


def _newest_series(rows: Sequence[Row]) -> list[Row]:
    """Return the runs of one series of a level: those of other lengths are older, or none of them counts."""
    by_series: dict[str, list[Row]] = {}
    for row in rows:
        by_series.setdefault(row["series_id"], []).append(row)
    return max(
        by_series.values(),
        key=lambda members: (
            any(row["valid"] for row in members),
            max(row["session_started_at"] for row in members),
            members[0]["series_id"],
        ),
    )


def _order(level: Level) -> tuple[float, str]:
    return (math.inf if level.load is None else level.load, level.case_key)


def _level(rows: Sequence[Row], met: Mapping[str, float] | None) -> Level:
    good = [row for row in rows if row["valid"]]
    used, first = good or list(rows), rows[0]
    load, word = load_of(first)
    shares = [row["goodput_pct"] if met is None else met.get(row["run_id"]) for row in used]
    return Level(
        case_key=first["case_key"],
        session_id=first["session_id"],
        session=first["label"] or fmt.short(first["session_id"]),
        run_ids=tuple(row["run_id"] for row in (*good, *(row for row in rows if not row["valid"]))),
        n_valid=len(good),
        n_runs=len(rows),
        load=load,
        word=word,
        throughput=_estimate(used, "y"),
        interactivity=_estimate(used, "x"),
        metric=_estimate(used, "z"),
        goodput_pct=_share(shares),
        codes=tuple(rejecting(code for row in rows for code in row["reason_codes"] or ())),
    )


def load_of(row: Row) -> tuple[float | None, str]:
    """Return a run's load as a number and as a label."""
    if row["concurrency"] is not None:
        return float(row["concurrency"]), str(row["concurrency"])
    load = identity_of(row).get("load") or {}
    if load.get("rate_mrps") is not None:
        rate = load["rate_mrps"] / 1000
        return rate, f"{rate:g}/s"
    return None, row["case_key"].rsplit("/", 1)[-1]


def _estimate(rows: Sequence[Row], column: str) -> Estimate | None:
    """Return the location of the runs and its interval; one run has a value and no interval."""
    low, high = f"{column}_low", f"{column}_high"
    known = [
        {"value": row[column], "ci_low": row.get(low), "ci_high": row.get(high)}
        for row in rows
        if row[column] is not None
    ]
    if not known:
        return None
    if len(known) == 1:
        return Estimate(value=float(known[0]["value"]))
    value, least, most = locate(known)
    return Estimate(value=value, low=least, high=most)


def _share(shares: Sequence[float | None]) -> Estimate | None:
    found = _estimate([{"share": share} for share in shares], "share")
    if found is None or found.high is None:
        return found
    return replace(found, value=min(found.value, 100.0), high=min(found.high, 100.0))


def _with_standings(found: Sequence[Configuration]) -> list[Configuration]:
    placed = {
        id(level): (level.interactivity, level.throughput)
        for configuration in found
        for level in configuration.levels
        if level.counts and level.interactivity is not None and level.throughput is not None
    }
    stands = dict(zip(placed, standings(list(placed.values())), strict=True))
    return [
        replace(line, levels=tuple(replace(level, standing=stands.get(id(level))) for level in line.levels))
        for line in found
    ]


def meets(value: Estimate | None, limit: float) -> bool | None:
    """Return whether a value is at most ``limit``; ``None`` where its interval reaches across it, or there is none."""
    if value is None or value.least <= limit < value.most:
        return None
    return value.most <= limit


def best_within(found: Sequence[Configuration], limit: float) -> tuple[Configuration, Level] | None:
    """Return the level with the most throughput among those that count and whose metric meets ``limit``."""
    good = [
        (level.throughput.value, place, line, level)
        for place, line in enumerate(found)
        for level in line.levels
        if level.counts and level.throughput is not None and meets(level.metric, limit)
    ]
    if not good:
        return None
    _, _, line, level = max(good, key=lambda each: (each[0], -each[1]))
    return line, level
