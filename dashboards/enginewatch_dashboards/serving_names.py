"""What belongs to one line of the Serving page, and what to call it. Pure."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from enginewatch_dashboards import format as fmt
from enginewatch_dashboards.load_words import said, slo_of, slo_words

Row = dict[str, Any]

LEVEL_KEYS = frozenset({"concurrency", "rate_mrps", "steps"})
"""What makes a load level: the rest of the load belongs to the configuration."""
LENGTH_OPTIONS = frozenset({"requests", "warmup_ms", "duration_ms"})
"""Options that say how long was measured, not what."""
SPLITTING_OPTIONS = ("server", "client")
"""Options that make lines of their own even where no two of them measured the same load."""
HASH_CHARS = 8


def lines_of(rows: Sequence[Row]) -> list[tuple[str, list[Row]]]:
    """Return the name and the rows of each line: what is the same but for the load and how long was measured."""
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
    return list(zip(names(list(facts.values())), lines.values(), strict=True))


def level_key(row: Row) -> str:
    """Return what two runs of one load level share."""
    load = identity_of(row).get("load") or {}
    return json.dumps({name: value for name, value in load.items() if name in LEVEL_KEYS}, sort_keys=True)


def names(facts: Sequence[Mapping[str, str]]) -> list[str]:
    """Return a name for each line: model and precision, and of the rest what differs among the lines that share these.

    Args:
        facts: Of each line, in the order in which they are said; an empty word is never said.
    """
    families: dict[tuple[str, str], list[Mapping[str, str]]] = {}
    for each in facts:
        families.setdefault((each["model"], each["precision"]), []).append(each)
    differing = {family: _differing(members) for family, members in families.items()}
    found = [_name(each, differing[each["model"], each["precision"]]) for each in facts]
    several, seen = Counter(found), Counter[str]()
    for place, name in enumerate(found):
        if several[name] > 1:
            seen[name] += 1
            found[place] = f"{name} ({seen[name]})"
    return found


def _name(facts: Mapping[str, str], differing: Sequence[str]) -> str:
    words = [facts[name] for name in differing if facts.get(name)]
    return ", ".join([f"{facts['model']} {facts['precision']}", *words])


def identity_of(row: Row) -> dict[str, Any]:
    """Return the identity of a run's series."""
    found: dict[str, Any] = json.loads(row["identity"])
    return found


def _options(row: Row) -> dict[str, Any]:
    options = identity_of(row).get("options") or {}
    return {name: value for name, value in options.items() if name not in LENGTH_OPTIONS}


def _coarse_key(row: Row) -> str:
    """Return what two rows of one line share, but for most of the options."""
    identity = identity_of(row)
    load = {name: value for name, value in (identity.get("load") or {}).items() if name not in LEVEL_KEYS}
    rest = {name: value for name, value in identity.items() if name not in ("load", "options")}
    options = [_options(row).get(name) for name in SPLITTING_OPTIONS]
    return json.dumps([rest, load, options], sort_keys=True)


def _splitting_options(rows: Sequence[Row]) -> list[str]:
    """Return the options that differ between series of the same load: they make lines of their own.

    An option that only changes along with the load (a server's number of slots) does not.
    """
    by_load: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        load = identity_of(row).get("load") or {}
        by_load.setdefault(json.dumps(load, sort_keys=True), []).append(_options(row))
    return sorted({name for options in by_load.values() for name in _differing(options)})


def _differing(objects: Sequence[Mapping[str, Any]]) -> list[str]:
    found = dict.fromkeys(name for each in objects for name in each)
    return [name for name in found if len({json.dumps(each.get(name), sort_keys=True) for each in objects}) > 1]


def _facts(row: Row) -> dict[str, str]:
    """Return what may tell one line from another, in the order in which it is said."""
    identity, options = identity_of(row), _options(row)
    load = {k: v for k, v in (identity.get("load") or {}).items() if k not in LEVEL_KEYS}
    major, sha256 = identity.get("tool_major"), identity.get("model_sha256")
    return {
        "model": row["model"],
        "precision": row["precision"],
        "server": str(options.get("server") or row["backend"]),
        "client": f"client {options['client']}" if options.get("client") else "",
        "device": fmt.device_label(row["device"]),
        "devices": fmt.count(row["device_count"], "device"),
        "workload": row["workload"],
        **{name: said(name, value) for name, value in load.items()},
        # The identity holds the major number only: 2026 of 2026.10 and 1 of 1.2 are no versions by themselves.
        "version": f"v{major}.x" if major is not None else "",
        "file": f"model file {sha256[:HASH_CHARS]}" if sha256 else "",
    }


def _option_words(row: Row, name: str) -> str:
    if name == "slo_us":
        return slo_words(slo_of(identity_of(row))) or "no SLO"
    value = _options(row).get(name)
    return f"no {name}" if value is None else f"{name} {value}"
