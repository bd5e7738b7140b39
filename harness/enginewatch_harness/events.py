"""What happens in a session, for whoever shows or logs it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from enginewatch_db.model import RunRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """A session began (or went on: ``done`` runs are there already)."""

    session_id: str
    plan_name: str
    cases: int
    total: int
    done: int
    estimate_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Building:
    """An engine is being built; ``number`` of ``total``, and ``build`` of the ``builds`` of this case."""

    case_key: str
    number: int
    total: int
    build: int = 1
    builds: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """An engine is there; ``build_time_s`` is ``None`` when it came from the cache."""

    case_key: str
    build_time_s: float | None
    build: int = 1
    builds: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted:
    """A run begins; ``number`` of ``total``, ``eta_s`` until the session ends."""

    case_key: str
    repeat: int
    number: int
    total: int
    eta_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RunProgress:
    """Samples so far and the running median in ms."""

    case_key: str
    n: int
    median_ms: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFinished:
    """A run ended; its bundle is on the disk."""

    record: RunRecord
    number: int
    total: int
    wall_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """Something a person should know."""

    text: str


Event = Started | Building | Built | RunStarted | RunProgress | RunFinished | Note
Listener = Callable[[Event], None]
