"""What each page shows, as typed values that live in the URL. Pure: no Streamlit.

The keys are short and readable, values at their default are left out, and what cannot be read falls back to the
default, so that an old or mistyped link still opens a page.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import ClassVar, TypeVar, get_args
from urllib.parse import urlencode

MAX_QUERY_CHARS = 8_000
"""Longest value taken from a URL: browsers and proxies cut links near this length."""

CHOICES: dict[str, tuple[str, ...]] = {
    "axis": ("order", "time"),
    "by": ("layer", "kind"),
    "dist": ("histogram", "ecdf"),
    "load": ("closed", "open"),
    "per": ("server", "gpu"),
    "status": ("ok", "failed", "not_available"),
    "valid": ("yes", "no"),
}
"""Keys that take one of a few words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OverviewState:
    """Overview: which plan, which session of it, which verdict in the table."""

    PATH: ClassVar[str] = "overview"
    plan: str | None = None
    session: str | None = None
    verdict: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrendState:
    """Trend: which case and metric over time, and how the axes are drawn."""

    PATH: ClassVar[str] = "trend"
    case: str | None = None
    series: str | None = None
    metric: str | None = None
    axis: str = "order"
    zero: bool = False
    dots: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingState:
    """Serving: which load runs, throughput of what, which metric against the load, and its limit in ms.

    Pages that it opens carry it too: Streamlit (1.67) puts the new page's parameters into the browser's history
    under the old page's path before it changes the page, so Back returns to the same view.
    """

    PATH: ClassVar[str] = "serving"
    workload: str | None = None
    model: str | None = None
    device: str | None = None
    precision: str | None = None
    session: str | None = None
    counted: bool = False
    per: str = "server"
    load: str | None = None
    metric: str | None = None
    slo: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunState(ServingState):
    """Run: which run (a UUID or the beginning of one), which GPU of it, which shape of its distribution.

    ``case``, ``series`` and ``metric`` are the Trend that it was opened from.
    """

    PATH: ClassVar[str] = "run"
    id: str | None = None
    gpu: str | None = None
    dist: str = "histogram"
    case: str | None = None
    series: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineState:
    """Engine: which engine (the beginning of its checksum), in which case, compared with which other engine.

    ``by`` is whether single layers or kinds of work are compared; by default layers, where enough of them match.
    """

    PATH: ClassVar[str] = "engine"
    id: str | None = None
    case: str | None = None
    base: str | None = None
    by: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunsState(ServingState):
    """Runs: the filters of the list; session, workload and precision are filters too."""

    PATH: ClassVar[str] = "runs"
    backend: str | None = None
    status: str | None = None
    valid: str | None = None
    case: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SqlState:
    """SQL: the query."""

    PATH: ClassVar[str] = "sql"
    q: str | None = None


PageState = OverviewState | TrendState | RunState | EngineState | RunsState | ServingState | SqlState
State = TypeVar("State", OverviewState, TrendState, RunState, EngineState, RunsState, ServingState, SqlState)


def parse(kind: type[State], query: Mapping[str, str]) -> State:
    """Return the state that a query string means; values that cannot be read become the default."""
    values = {field.name: _read(field.name, field.default, query.get(field.name)) for field in fields(kind)}
    return kind(**values)  # type: ignore[arg-type]  # the values follow the fields' defaults


def _read(name: str, default: object, text: str | None) -> str | bool | object | None:
    if text is None or not text.strip() or len(text) > MAX_QUERY_CHARS:
        return default
    if isinstance(default, bool):
        return {"true": True, "false": False}.get(text.lower(), default)
    if name in CHOICES and text not in CHOICES[name]:
        return default
    return text


def from_serving(kind: type[State], view: ServingState, **own: str) -> State:
    """Return the state of a page that is opened from a Serving: its own, and the Serving's for the way back."""
    return kind(**{field.name: getattr(view, field.name) for field in fields(view)} | own)


def to_query(state: PageState) -> dict[str, str]:
    """Return the query parameters of a state, without those at their default."""
    found: dict[str, str] = {}
    for field in fields(state):
        value = getattr(state, field.name)
        if value is not None and value != field.default:
            found[field.name] = str(value).lower() if isinstance(value, bool) else value
    return found


def href(state: PageState) -> str:
    """Return the path and query of a state, relative to the dashboard's root, which is the Overview."""
    query, path = urlencode(to_query(state)), "" if isinstance(state, OverviewState) else state.PATH
    return f"{path}?{query}" if query else path


PAGE_STATES: tuple[type[PageState], ...] = get_args(PageState)
"""Every page's state, for tests."""
