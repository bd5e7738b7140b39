"""JSON for machines: versioned, complete. Pure."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from enginewatch_ci.exit_codes import exit_code
from enginewatch_ci.facts import Arm
from enginewatch_ci.judgement import Judgement
from enginewatch_db.model import Comparison, Finding

SCHEMA_VERSION = 1


def to_json(judgement: Judgement) -> dict[str, Any]:
    """Return the report as JSON values."""
    host = judgement.host
    return {
        "schema_version": SCHEMA_VERSION,
        "verdict": judgement.verdict.value if judgement.verdict else None,
        "exit_code": int(exit_code(judgement)),
        "sentence": judgement.sentence,
        "counts": {verdict.value: number for verdict, number in judgement.counts.items()},
        "candidate": _arm(judgement.candidate),
        "baseline": _arm(judgement.baseline) if judgement.baseline else None,
        "is_baseline": judgement.is_baseline,
        "comparisons": [_comparison(item) for item in judgement.comparisons],
        "findings": [_finding(item) for item in judgement.findings],
        "uncovered": list(judgement.uncovered),
        "environment": [asdict(item) for item in judgement.environment],
        "host": None if host is None else {"rel": host.rel, "ci_low": host.bounds[0], "ci_high": host.bounds[1]},
        "cohort": asdict(judgement.cohort) if judgement.cohort else None,
        "policy": judgement.policy.model_dump(mode="json"),
    }


def render_json(judgement: Judgement) -> str:
    """Return the report as text; NaN and infinity are refused, since JSON has none."""
    return json.dumps(to_json(judgement), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _arm(arm: Arm) -> dict[str, Any]:
    return {
        "ref": arm.ref,
        "plan_name": arm.newest.plan_name,
        "runs": len(arm.runs),
        "valid_runs": sum(run.valid for run in arm.runs),
        "sessions": [{**asdict(session), "started_at": session.started_at.isoformat()} for session in arm.sessions],
    }


def _comparison(item: Comparison) -> dict[str, Any]:
    return {**asdict(item), "verdict": item.verdict.value, "notes": list(item.notes)}


def _finding(item: Finding) -> dict[str, Any]:
    return {**asdict(item), "kind": item.kind.value, "severity": item.severity.value}
