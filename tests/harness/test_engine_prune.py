"""What may go from the engine cache: never what is needed, the longest unused first."""

from __future__ import annotations

from pathlib import Path

import pytest

from enginewatch_db.model import EngineRecord
from enginewatch_harness.engine_cache import Entry, State
from enginewatch_harness.engine_prune import DAY_US, Limits, plan_prune
from enginewatch_harness.engine_registry import Engine

NOW_US = 1_000 * DAY_US
MIB = 2**20


def engine(
    name: str, *, days: float, case: str = "a", key: str | None = None, kept: str | None = None, mib: int = 10
) -> Engine:
    record = EngineRecord(
        engine_key=key or f"key-{name}", engine_sha256=name * 32, path="", size_bytes=mib * MIB, cached=False
    )
    entry = Entry(folder=Path(name), state=State.OK, record=record, size_bytes=mib * MIB)
    used_us = round(NOW_US - days * DAY_US)
    cases = (case,) if case else ()
    return Engine(record=record, entry=entry, stored=True, cases=cases, last_used_us=used_us, kept=kept)


def doomed(engines: list[Engine], **limits: float) -> list[str]:
    cache = [item.entry for item in engines if item.entry is not None]
    return [item.entry.folder.name for item in plan_prune(engines, cache, Limits(**limits), now_us=NOW_US)]


def test_without_a_limit_nothing_that_is_whole_goes():
    assert doomed([engine("aa", days=400)]) == []


def test_by_age_counted_from_the_last_use():
    assert doomed([engine("aa", days=31), engine("bb", days=29)], older_than_days=30) == ["aa"]


@pytest.mark.parametrize("limits", [{"older_than_days": 1}, {"keep_last": 1}, {"max_mib": 0}])
def test_what_is_last_good_or_of_a_baseline_stays_whatever_the_limit(limits):
    old = engine("aa", days=300, kept="last good of a")
    assert doomed([old, engine("bb", days=0.5)], **limits) in ([], ["bb"])
    assert "aa" not in doomed([old, engine("bb", days=0.5)], **limits)


def test_keep_last_counts_keys_of_each_case_so_that_all_builds_of_one_stay():
    engines = [
        engine("aa", days=1, key="new"),
        engine("bb", days=1, key="new"),
        engine("cc", days=5, key="old"),
        engine("dd", days=9, case="b"),
        engine("ee", days=9, case=""),
    ]
    assert doomed(engines, keep_last=1) == ["cc"]
    assert doomed(engines, keep_last=2) == []


def test_by_size_the_longest_unused_go_until_the_rest_fits():
    engines = [engine("aa", days=1), engine("bb", days=3), engine("cc", days=2)]
    assert doomed(engines, max_mib=20) == ["bb"]
    assert doomed(engines, max_mib=19) == ["bb", "cc"]
    assert doomed(engines, max_mib=30) == []
    assert doomed(engines, max_mib=20, older_than_days=2.5) == ["bb"]


def test_what_is_broken_or_left_by_a_killed_builder_always_goes():
    whole = engine("aa", days=1)
    left = Entry(folder=Path(".tmp-1-x"), state=State.ORPHAN, record=None, size_bytes=5, why="half a build")
    found = plan_prune([whole], [whole.entry, left], Limits(), now_us=NOW_US)
    assert [(item.entry.folder.name, item.why) for item in found] == [(".tmp-1-x", "half a build")]
