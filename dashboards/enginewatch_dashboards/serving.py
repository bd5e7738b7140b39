"""From load runs to what the Serving page draws: configurations, their load levels, and what meets a limit. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from enginewatch_dashboards import format as fmt
from enginewatch_dashboards.load_words import said, slo_of, slo_words
from enginewatch_dashboards.pareto import Estimate, Standing, standings
from enginewatch_dashboards.trends import locate
from enginewatch_db.validity import REASONS, ValidityEffect

Row = dict[str, Any]

LEVEL_KEYS = frozenset({"concurrency", "rate_mrps", "steps"})
"""What makes a load level: the rest of the load belongs to the configuration."""
LENGTH_OPTIONS = frozenset({"requests", "warmup_ms", "duration_ms"})
"""Options that say how long was measured, not what."""
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
    """

    name: str
    closed: bool
    device: str
    levels: tuple[Level, ...]


def configurations(rows: Sequence[Row], met: Mapping[str, float] | None = None) -> list[Configuration]:
    """Return the configurations with their levels, each level with its standing.

    Args:
        rows: Rows of the query ``serving``.
        met: Run → share of its requests (%) that met a limit; ``None`` takes the run's own goodput.
    """
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(_coarse_key(row), []).append(row)
    lines: dict[str, list[Row]] = {}
    facts: dict[str, dict[str, str]] = {}
    for coarse, members in groups.items():
        splitting = _splitting_options(members)
        for row in members:
            options = {name: _option_words(row, name) for name in splitting}
            key = coarse + json.dumps(options, sort_keys=True)
            lines.setdefault(key, []).append(row)
            facts[key] = _facts(row) | options
    shown = [name for name in _differing(list(facts.values())) if name not in ("server", "precision")]
    found = [_configuration(members, _name(facts[key], shown), met) for key, members in lines.items()]
    return _with_standings(found)


def _identity(row: Row) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(row["identity"])
    return found


def _options(row: Row) -> dict[str, Any]:
    options = _identity(row).get("options") or {}
    return {name: value for name, value in options.items() if name not in LENGTH_OPTIONS}


def _coarse_key(row: Row) -> str:
    """Return what two rows of one line share, but for the options."""
    identity = _identity(row)
    load = {name: value for name, value in (identity.get("load") or {}).items() if name not in LEVEL_KEYS}
    rest = {name: value for name, value in identity.items() if name not in ("load", "options")}
    return json.dumps([rest, load], sort_keys=True)


def _splitting_options(rows: Sequence[Row]) -> list[str]:
    """Return the options that differ between series of the same load: they make lines of their own.

    An option that only changes along with the load (a server's number of slots) does not.
    """
    by_load: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        load = _identity(row).get("load") or {}
        by_load.setdefault(json.dumps(load, sort_keys=True), []).append(_options(row))
    return sorted({name for options in by_load.values() for name in _differing(options)})


def _differing(objects: Sequence[Mapping[str, Any]]) -> list[str]:
    names = dict.fromkeys(name for each in objects for name in each)
    return [name for name in names if len({json.dumps(each.get(name), sort_keys=True) for each in objects}) > 1]


def _facts(row: Row) -> dict[str, str]:
    """Return what may tell one line from another, in the order in which it is said."""
    identity = _identity(row)
    load = {k: v for k, v in (identity.get("load") or {}).items() if k not in LEVEL_KEYS}
    return {
        "model": row["model"],
        "server": str((identity.get("options") or {}).get("server") or row["backend"]),
        "precision": row["precision"],
        "device": fmt.device_label(row["device"]),
        "devices": fmt.count(row["device_count"], "device"),
        "version": f"version {identity.get('tool_major')}",
        "workload": row["workload"],
        **{name: said(name, value) for name, value in load.items()},
    }


def _name(facts: Mapping[str, str], shown: Sequence[str]) -> str:
    return ", ".join([f"{facts['server']} {facts['precision']}", *filter(None, map(facts.get, shown))])


def _option_words(row: Row, name: str) -> str:
    if name == "slo_us":
        return slo_words(slo_of(_identity(row))) or "no SLO"
    return f"{name} {_options(row).get(name)}"


def _configuration(rows: Sequence[Row], name: str, met: Mapping[str, float] | None) -> Configuration:
    by_series: dict[str, list[Row]] = {}
    for row in rows:
        by_series.setdefault(row["series_id"], []).append(row)
    levels = sorted((_level(members, met) for members in by_series.values()), key=_order)
    first = rows[0]
    closed = first["load_mode"] == CLOSED
    return Configuration(name=name, closed=closed, device=fmt.device_label(first["device"]), levels=tuple(levels))


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
        codes=tuple(sorted({code for row in rows for code in row["reason_codes"] or () if _rejects(code)})),
    )


def _rejects(code: str) -> bool:
    return code in REASONS and REASONS[code].effect is ValidityEffect.REJECT


def load_of(row: Row) -> tuple[float | None, str]:
    """Return a run's load as a number and as a label."""
    if row["concurrency"] is not None:
        return float(row["concurrency"]), str(row["concurrency"])
    load = _identity(row).get("load") or {}
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
