"""Iteration logs of TensorRT-LLM's scheduler, as ``targets.trtllm_stats`` knows iterations. Pure.

``trtllm-bench --iteration_log`` writes one object a line. It is JSON where the engine hands out text and the ``repr``
of a Python dict where it hands out objects (``bench/benchmark/utils/processes.py`` formats whatever it received).
``print_iter_log`` prints lines ``iter = 2, global_rank = 0, ..., states = {...}`` into the log
(``_torch/pyexecutor/py_executor.py``): ``elapsed_time`` in seconds before 1.0, ``host_step_time`` in ms since; the
first ``prev_device_step_time`` is ``N/A``; ``num_scheduled_requests`` comes with ``=`` or ``:``, anywhere.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

LONGEST_LINE = 1 << 20
_TEXT = re.compile(r"(?:^|\s)(?P<fields>iter\s*[=:]\s*\d+,.*\bstates\s*[=:]\s*(?P<states>\{[^{}]*\}))\s*$")
_FIELD = re.compile(r"(?:^|,\s*)(?P<name>[a-z_]+)\s*[=:]\s*(?P<value>[^,{}]+)")
_NUMBER = re.compile(r"^(?P<number>\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)\s*(?P<unit>ms|s|us)?$")
_TO_MS = {"ms": 1.0, "s": 1e3, "us": 1e-3, None: 1.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Iterations:
    """What a log holds.

    Attributes:
        items: One object an iteration, with the keys of ``/metrics``, in the order of their numbers.
        lost: Lines that could not be read.
        others: Iterations of other ranks, which are left out: each rank tells of the same requests.
    """

    items: tuple[Mapping[str, Any], ...]
    lost: int = 0
    others: int = 0


def parse_lines(text: str) -> Iterations:
    """Parse the file of ``--iteration_log``; a line that was cut is lost."""
    found: list[Mapping[str, Any]] = []
    lost = others = 0
    for line in text.splitlines():
        if not line.strip():
            continue
        item = _object(line)
        number = None if item is None else _number(item.get("iter"))
        if item is None or number is None:
            lost += 1
        elif _number(item.get("attentionDpRank")) not in (None, 0):
            others += 1
        else:
            found.append(item)
    return Iterations(items=_in_order(found), lost=lost, others=others)


def parse_printed(log: str) -> Iterations:
    """Parse the lines of ``print_iter_log``. They carry no time: theirs has whole seconds and no zone."""
    found: list[Mapping[str, Any]] = []
    lost = others = 0
    for line in log.splitlines():
        if "iter" not in line or "global_rank" not in line or len(line) > LONGEST_LINE:
            continue
        match = _TEXT.search(line)
        states = _object(match["states"]) if match is not None else None
        item = _printed(match["fields"], states) if match is not None and states is not None else None
        if item is None:
            lost += 1
        elif item.pop("rank") != 0:
            others += 1
        else:
            found.append(item)
    return Iterations(items=_in_order(found), lost=lost, others=others)


def _in_order(items: list[Mapping[str, Any]]) -> tuple[Mapping[str, Any], ...]:
    by_number = {float(item["iter"]): item for item in items}
    return tuple(by_number[number] for number in sorted(by_number))


def _object(line: str) -> Mapping[str, Any] | None:
    if len(line) > LONGEST_LINE:
        return None
    try:
        found: Any = json.loads(line)
    except (ValueError, RecursionError):
        try:
            found = ast.literal_eval(line.strip())
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            return None
    return found if isinstance(found, dict) else None


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e12:
        return None
    return float(value)


def _printed(text: str, states: Mapping[str, Any]) -> dict[str, Any] | None:
    head = text[: text.rindex("states")]
    fields = {match["name"]: match["value"].strip() for match in _FIELD.finditer(head)}
    number, rank = _plain(fields.get("iter")), _plain(fields.get("global_rank"))
    if number is None or rank is None:
        return None
    context, tokens = (_number(states.get(key)) for key in ("num_ctx_requests", "num_ctx_tokens"))
    batch: dict[str, Any] = {
        "numScheduledRequests": _plain(fields.get("num_scheduled_requests")),
        "numContextRequests": context,
        "numCtxTokens": tokens,
    }
    found: dict[str, Any] = {"iter": number, "rank": rank, "inflightBatchingStats": _set(batch)}
    latency = _ms(fields.get("host_step_time") or fields.get("elapsed_time"))
    if latency is not None:
        found["iterLatencyMS"] = latency
    used = _plain(fields.get("kv_cache_util"))
    if used is not None and used <= 1:
        found["kvCacheStats"] = {"usedNumBlocks": used, "maxNumBlocks": 1}
    return found


def _set(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def _plain(text: str | None) -> float | None:
    match = _NUMBER.match(text or "")
    return None if match is None or match["unit"] is not None else _number(float(match["number"]))


def _ms(text: str | None) -> float | None:
    match = _NUMBER.match(text or "")
    return None if match is None else _number(float(match["number"]) * _TO_MS[match["unit"]])
