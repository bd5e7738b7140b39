"""Which engines of the cache may go: by age, by number per case, by size. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from enginewatch_harness.engine_cache import Entry, State
from enginewatch_harness.engine_registry import Engine

DAY_US = 86_400_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the cache is to be cut down to; ``None``: no limit.

    Attributes:
        older_than_days: Remove what was not used for this long.
        keep_last: Remove what is not among this many last used engines of any of its cases; the builds of one key are
            one engine.
        max_mib: Remove the longest unused ones until the rest is no larger.
    """

    older_than_days: float | None = None
    keep_last: int | None = None
    max_mib: float | None = None

    @property
    def any(self) -> bool:
        """Whether there is a limit at all."""
        return any(limit is not None for limit in (self.older_than_days, self.keep_last, self.max_mib))


@dataclass(frozen=True, slots=True, kw_only=True)
class Doomed:
    """A folder of the cache that may go, and why."""

    entry: Entry
    engine: Engine | None
    why: str


def plan_prune(engines: Sequence[Engine], cache: Sequence[Entry], limits: Limits, *, now_us: int) -> tuple[Doomed, ...]:
    """Return what may go, the longest unused first. What a killed builder left, and what is broken, always may.

    Args:
        engines: All engines, see ``engine_registry.read_engines``.
        cache: All folders of the cache.
        limits: What to cut down to.
        now_us: Microseconds since 1970 (UTC).
    """
    broken = [
        Doomed(entry=entry, engine=None, why=entry.why or entry.state) for entry in cache if entry.state is not State.OK
    ]
    gone = {item.entry.folder for item in broken}
    kept_hashes = {engine.sha256 for engine in engines if engine.kept}
    lying = [engine for engine in engines if engine.entry is not None and engine.entry.folder not in gone]
    free = sorted(
        (engine for engine in lying if engine.sha256 not in kept_hashes), key=lambda engine: engine.last_used_us or 0
    )
    last = _last_keys(engines, limits.keep_last)
    chosen: dict[str, Doomed] = {}
    for engine in free:
        if why := _why(engine, limits, last, now_us):
            _add(chosen, engine, why)
    if limits.max_mib is not None:
        over = sum(_bytes(engine) for engine in lying) - limits.max_mib * 2**20
        over -= sum(item.entry.size_bytes for item in chosen.values())
        for engine in free:
            if over > 0 and str(engine.entry and engine.entry.folder) not in chosen:
                _add(chosen, engine, f"the cache is larger than {limits.max_mib:g} MiB")
                over -= _bytes(engine)
    return (*broken, *chosen.values())


def _bytes(engine: Engine) -> int:
    return engine.entry.size_bytes if engine.entry is not None else 0


def _add(chosen: dict[str, Doomed], engine: Engine, why: str) -> None:
    if engine.entry is not None:
        chosen[str(engine.entry.folder)] = Doomed(entry=engine.entry, engine=engine, why=why)


def _why(engine: Engine, limits: Limits, last: set[str] | None, now_us: int) -> str | None:
    days = (now_us - (engine.last_used_us or 0)) / DAY_US
    if limits.older_than_days is not None and days > limits.older_than_days:
        return f"not used for {days:.0f} days" if engine.last_used_us else "it does not say when it was built"
    if last is not None and engine.cases and engine.record.engine_key not in last:
        return f"not among the last {limits.keep_last} of {', '.join(engine.cases)}"
    return None


def _last_keys(engines: Sequence[Engine], keep_last: int | None) -> set[str] | None:
    """Return the keys that are among the last ones of any case."""
    if keep_last is None:
        return None
    of_case: dict[str, list[str]] = {}
    for engine in sorted(engines, key=lambda engine: -(engine.last_used_us or 0)):
        for case_key in engine.cases:
            keys = of_case.setdefault(case_key, [])
            if engine.record.engine_key not in keys:
                keys.append(engine.record.engine_key)
    return {key for keys in of_case.values() for key in keys[:keep_last]}
