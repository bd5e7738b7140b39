"""Engines as the Engine page tells them: which one is meant, which case of it, what it is compared with. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from enginewatch_dashboards import format as fmt
from enginewatch_dashboards.theme import CRIMSON, GREY, TEAL, Look

Row = dict[str, Any]

ID_CHARS = 12
"""Characters of an engine's checksum in links and pickers."""
MIN_PREFIX = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """One engine.

    Attributes:
        cases: Rows of the query ``engines``, one for each case that used it; the facts of the engine are in each.
    """

    cases: tuple[Row, ...]

    @property
    def facts(self) -> Row:
        """The engine's own columns."""
        return self.cases[0]

    @property
    def sha256(self) -> str:
        """Its checksum."""
        return str(self.facts["engine_sha256"])

    @property
    def id(self) -> str:
        """The beginning of its checksum, as it stands in links."""
        return self.sha256[:ID_CHARS]

    @property
    def precision(self) -> str:
        """The precision that was asked for, and the realised one where that differs."""
        asked, real = self.facts["precision"], self.facts["realised_precision"]
        return str(asked or real or "unknown") if real in (None, asked) else f"{asked or '?'} → {real}"

    @property
    def title(self) -> str:
        """Model, backend and precision."""
        return f"{self.facts['model'] or 'engine'} / {self.facts['backend'] or 'unknown'} / {self.precision}"

    @property
    def words(self) -> str:
        """What tells it from others, for a picker."""
        feeds = ", ".join(dict.fromkeys(feed(row["case_key"]) for row in self.cases))
        size = f"{self.facts['size_bytes'] / 2**20:,.1f} MiB"
        return f"{self.title} · {feeds} · build {self.facts['build_number'] + 1} · {size} · {self.sha256[:8]}"

    def case(self, key: str | None) -> Row | None:
        """Return the row of a case; ``None`` where it was not used in it."""
        return next((row for row in self.cases if row["case_key"] == key), None)

    def usual_case(self) -> Row:
        """Return the case to show first: the one whose layers were measured last, else the one used last."""
        return max(self.cases, key=lambda row: (row["layers_run"] is not None, row["layers_run"] or "",
                                                row["last_used"]))  # fmt: skip


def group(rows: Sequence[Row]) -> list[Engine]:
    """Return the engines of rows of the query ``engines``, in their order."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row["engine_sha256"], []).append(row)
    return [Engine(cases=tuple(cases)) for cases in found.values()]


def meant(engines: Sequence[Engine], given: str | None) -> list[Engine]:
    """Return the engines whose checksum begins with what stands in the URL."""
    prefix = (given or "").strip().lower()
    return [engine for engine in engines if len(prefix) >= MIN_PREFIX and engine.sha256.startswith(prefix)]


def feed(case_key: str) -> str:
    """Return the last part of a case's key: its batch or its load."""
    return case_key.rsplit("/", 1)[-1]


def counterpart(engine: Engine, case: Row) -> Row:
    """Return the case of another engine to compare with a case: the same one, else the same workload and batch."""
    return max(
        engine.cases,
        key=lambda row: (
            row["layers_run"] is not None,
            row["case_key"] == case["case_key"],
            feed(row["case_key"]) == feed(case["case_key"]),
            row["workload"] == case["workload"],
            row["last_used"],
        ),
    )


def candidates(engines: Sequence[Engine], engine: Engine) -> list[Engine]:
    """Return what an engine may be compared with: those of its model first, the newest first."""
    others = [other for other in engines if other.sha256 != engine.sha256]
    return sorted(others, key=lambda other: other.facts["model"] != engine.facts["model"])


def names(base: Engine, cand: Engine) -> tuple[str, str]:
    """Return what two engines are called beside each other: their precision, with the checksum where that is one."""
    one, other = (str(item.facts["realised_precision"] or item.facts["precision"] or "engine") for item in (base, cand))
    if one != other:
        return one, other
    return f"{one} {base.sha256[:8]}", f"{other} {cand.sha256[:8]}"


def totals_ns(base: Row, cand: Row) -> tuple[int | None, int | None, str]:
    """Return what one inference of each took without a profiler (ns), and of which kind both numbers are.

    Both are GPU times where both have one, else both are latencies: one of each would compare two things.
    """
    for key, kind in (("gpu_ms", "median GPU time"), ("latency_ms", "mean latency")):
        if base.get(key) is not None and cand.get(key) is not None:
            return round(base[key] * 1e6), round(cand[key] * 1e6), kind
    return None, None, ""


def _look(word: str, symbol: str, icon: str, badge: str, colour: str) -> Look:
    return Look(word=word, symbol=symbol, icon=f":material/{icon}:", badge=badge, colour=colour, marker="circle")


ACCURACY: dict[str | None, Look] = {
    "met": _look("within its limits", "✓", "check", "green", TEAL),
    "breached": _look("wrong", "✖", "error", "red", CRIMSON),
    "not_evaluable": _look("not evaluable", "?", "help", "gray", GREY),
    None: _look("not judged yet", "…", "gavel", "gray", GREY),
}
"""State of the finding ``limit.accuracy`` → how it is shown."""


def accuracy_words(row: Row) -> str:
    """Return the accuracy of an engine in a case: relative L2 distance and the state of its limits."""
    if row["output_rel_l2"] is None:
        return "not measured"
    look = ACCURACY.get(row["accuracy_state"], ACCURACY[None])
    return f"{look.symbol} {fmt.tiny(row['output_rel_l2'])} ({look.word})"
