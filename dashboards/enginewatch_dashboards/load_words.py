"""A load's declaration in words: the identity holds it in integers of fixed units. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from enginewatch_dashboards import format as fmt

SLO_WORDS = {"ttft_ms": "TTFT", "tpot_ms": "TPOT", "itl_ms": "largest ITL", "e2e_ms": "E2E"}


def said(name: str, value: Any) -> str:  # noqa: ANN401 (JSON)
    """Return one key of a load in words: ``burstiness_milli`` 1500 → ``burstiness 1.5``."""
    match name:
        case "mode":
            return str(value)
        case "concurrency":
            return fmt.count(int(value), "stream")
        case "rate_mrps":
            return f"{value / 1000:g} requests/s"
        case "isl":
            return f"{value} tokens in"
        case "osl":
            return f"{value} tokens out"
        case "isl_dist" | "osl_dist":
            return f"{'prompt' if name == 'isl_dist' else 'output'} lengths {value}"
        case "think_time_us":
            return f"think time {fmt.seconds(value / 1e6)}"
        case "burstiness_milli":
            return f"burstiness {value / 1000:g}"
        case "steps":
            return ", ".join(f"{step['rate_mrps'] / 1000:g}/s for {step['ms'] / 1000:g} s" for step in value)
        case "dataset":
            speed = value.get("speed_milli")
            return f"dataset {value.get('name')}" + (f" at speed {speed / 1000:g}" if speed else "")
        case "prefixes":
            return f"{value['groups']} prefixes of {value['tokens']} tokens"
        case "turns":
            return fmt.count(int(value), "turn")
        case "exact_prompts":
            return "prompts of exact length"
        case _:
            return f"{name.replace('_', ' ')} {value}"


def slo_of(identity: Mapping[str, Any]) -> dict[str, float]:
    """Return the limits that a run's goodput was counted with, in ms; empty where none was declared."""
    declared = (identity.get("options") or {}).get("slo_us") or {}
    return {name: limit / 1000 for name, limit in declared.items() if name in SLO_WORDS}


def slo_words(slo: Mapping[str, float]) -> str:
    """Return the limits in words."""
    return " and ".join(f"{SLO_WORDS[name]} ≤ {limit:g} ms" for name, limit in slo.items())
