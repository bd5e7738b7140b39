"""From the runs of a series to what the Trend draws: sessions with intervals, and what changed between them. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from enginewatch_ci.stats import Sample, one_sample
from enginewatch_ci.stats.noise import within_sd
from enginewatch_db.model import Verdict

Row = dict[str, Any]

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionPoint:
    """One session of a series.

    Attributes:
        place: 0 for the oldest one shown.
        session_id: Its id.
        label: What to call it.
        started_at: UTC.
        value: Robust location of its valid runs (the one that verdicts use); ``None`` where none has a value.
        low: Lower end of the 95 % interval of ``value``; ``None`` where no spread is known.
        high: Upper end of the same.
        n_valid: Valid runs behind ``value``.
        n_runs: All its runs.
        verdict: What was concluded about it; ``None`` when it was not judged.
        why: The verdict's sentence.
        run_id: The valid run that lies nearest to ``value``, else its first run.
        commit: Commit of the measured repository.
        host: Where it ran.
        is_baseline: Whether it is the accepted baseline of its plan, or the one last compared with.
    """

    place: int
    session_id: str
    label: str
    started_at: datetime
    value: float | None
    low: float | None
    high: float | None
    n_valid: int
    n_runs: int
    verdict: Verdict | None
    why: str
    run_id: str
    commit: str | None
    host: str
    is_baseline: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """The environment differs from that of the session before.

    Attributes:
        place: The first session with the new environment.
        started_at: When it began.
        facets: Facet → value before and after; ``None`` for absent.
    """

    place: int
    started_at: datetime
    facets: dict[str, tuple[str | None, str | None]]

    @property
    def title(self) -> str:
        """The names of the facets that changed."""
        names = list(self.facets)
        return ", ".join(names[:2]) + (f" +{len(names) - 2}" if len(names) > 2 else "")

    @property
    def sentence(self) -> str:
        """Each facet with its value before and after."""
        return "; ".join(f"{name}: {old or 'absent'} → {new or 'absent'}" for name, (old, new) in self.facets.items())


def locate(runs: Sequence[Row]) -> tuple[float, float | None, float | None]:
    """Return the location of a session's runs and its 95 % interval, by the statistics that verdicts use.

    Args:
        runs: Valid runs with a ``value`` and their own ``ci_low`` and ``ci_high``; at least one.
    """
    values = np.array([run["value"] for run in runs], dtype=np.float64)
    if values.min() <= 0:
        # Verdicts work on logarithms; shares of 0 % and the like have none.
        return float(np.median(values)), None, None
    within = [within_sd(run["ci_low"], run["value"], run["ci_high"]) for run in runs]
    value, low, high = one_sample(Sample(logs=np.log(values), within_sd=within), CONFIDENCE)
    return float(np.exp(value)), _exp(low), _exp(high)


def locations(runs: Sequence[Row]) -> list[float]:
    """Return one location per session of some valid runs, in the order in which the sessions come."""
    groups: dict[str, list[Row]] = {}
    for run in runs:
        groups.setdefault(run["session_id"], []).append(run)
    return [locate(members)[0] for members in groups.values()]


def _exp(value: float | None) -> float | None:
    return None if value is None else float(np.exp(value))


def session_points(runs: Sequence[Row], verdicts: Sequence[Row], baselines: Sequence[Row]) -> list[SessionPoint]:
    """Return the sessions of a series, oldest first; ``runs`` are in that order."""
    groups: dict[str, list[Row]] = {}
    for run in runs:
        groups.setdefault(run["session_id"], []).append(run)
    judged = {row["session_id"]: row for row in verdicts}
    baseline = find_baseline(runs, verdicts, baselines)
    return [
        _point(place, members, judged.get(session_id), is_baseline=session_id == baseline)
        for place, (session_id, members) in enumerate(groups.items())
    ]


def find_baseline(runs: Sequence[Row], verdicts: Sequence[Row], baselines: Sequence[Row]) -> str | None:
    """Return the accepted session of the newest run's plan, else the one that the newest verdict compared with."""
    if not runs:
        return None
    plan = runs[-1]["plan_name"]
    accepted = next((row["session_id"] for row in baselines if row["plan_name"] == plan), None)
    if accepted is not None:
        return str(accepted)
    judged = {row["session_id"]: row["baseline_session"] for row in verdicts}
    found = next((judged[run["session_id"]] for run in reversed(runs) if run["session_id"] in judged), None)
    return None if found is None else str(found)


def unlabelled(started_at: datetime) -> str:
    """Return what to call a session that has no label: when it began."""
    return f"{started_at:%m-%d %H:%M}"


def _point(place: int, members: list[Row], verdict: Row | None, *, is_baseline: bool) -> SessionPoint:
    good = [run for run in members if run["valid"] and run["value"] is not None]
    value = low = high = None
    nearest = members[0]
    if good:
        found = locate(good)
        value, low, high = found
        nearest = min(good, key=lambda run: abs(run["value"] - found[0]))
    first = members[0]
    return SessionPoint(
        place=place,
        session_id=first["session_id"],
        label=first["label"] or unlabelled(first["session_started_at"]),
        started_at=first["session_started_at"],
        value=value,
        low=low,
        high=high,
        n_valid=len(good),
        n_runs=len(members),
        verdict=Verdict(verdict["verdict"]) if verdict else None,
        why=verdict["why"] if verdict else "",
        run_id=nearest["run_id"],
        commit=first["git_commit"],
        host=first["hostname"],
        is_baseline=is_baseline,
    )


def environment_changes(runs: Sequence[Row], environments: Sequence[Row]) -> list[Change]:
    """Return where the environment differs from the session before; ``runs`` are oldest first."""
    facets: Mapping[str, dict[str, Any]] = {row["env_id"]: json.loads(row["facets"]) for row in environments}
    first_runs: dict[str, Row] = {}
    for run in runs:
        first_runs.setdefault(run["session_id"], run)
    changes, before = [], None
    for place, run in enumerate(first_runs.values()):
        now = facets.get(run["env_id"], {})
        if before is not None and (differing := _differing(before, now)):
            changes.append(Change(place=place, started_at=run["session_started_at"], facets=differing))
        before = now
    return changes


def _differing(before: dict[str, Any], now: dict[str, Any]) -> dict[str, tuple[str | None, str | None]]:
    return {
        name: (_text(before.get(name)), _text(now.get(name)))
        for name in sorted({*before, *now})
        if before.get(name) != now.get(name)
    }


def _text(value: object) -> str | None:
    return None if value is None else str(value)
