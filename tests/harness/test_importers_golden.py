"""What the importers make of each result file, field by field, against a golden file that was checked by eye.

``ENGINEWATCH_WRITE_GOLDEN=1`` writes the golden file anew; look at the difference before it is committed.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path

import pytest

from enginewatch_db.errors import MeasurementError
from enginewatch_db.tables import LLM_REQUESTS
from enginewatch_harness.importers import registry
from enginewatch_harness.importers.metrics import judge_import
from enginewatch_harness.importers.store import read_document

DATA = Path(__file__).parents[1] / "data" / "harness" / "importers"
GOLDEN = DATA / "golden.json"
FILES = (
    "aiperf-0.13-c4/profile_export_aiperf.json.gz",
    "aiperf-0.13-poisson/profile_export_aiperf.json.gz",
    "aiperf-0.3-c2/profile_export_aiperf.json.gz",
    "genai-perf-0.0.16-c3/profile_export_genai_perf.json.gz",
    "guidellm-0.8-concurrent.json.gz",
    "guidellm-0.8-poisson.json.gz",
    "guidellm-0.3-concurrent.json.gz",
    "vllm-0.20-c1.json.gz",
    "vllm-0.20-c16-summary.json.gz",
    "vllm-older-c1-no-starts.json.gz",
    "trtllm-1.2-report.json",
    "trtllm-1.2-streaming.log",
    "trtllm-0.21-throughput.log",
    "trtllm-0.19-streaming.log",
    "trtllm-0.16-throughput.log",
    "trtllm-0.16-streaming.log",
    "trtllm-0.16-latency.log",
)
ROWS = 2


def parse(name):
    """Return the runs in a fixture."""
    return registry.parse(registry.open_document(read_document(DATA / name)))


def as_golden(run):
    """Return a run as JSON: all facts, the first rows of its requests, and its metrics to six digits."""
    facts = {key: getattr(run, key) for key in run.__slots__ if key not in ("requests", "load", "reasons", "told_wins")}
    rows = [] if run.requests is None else run.requests.to_pylist()
    kept = [{key: value for key, value in row.items() if value is not None} for row in rows[:ROWS]]
    metrics = {item.metric: item.value for item in judge_import(run).metrics if item.value is not None}
    return {
        **facts,
        "window_ns": list(run.window_ns),
        "load": {key: getattr(run.load, key) for key in ("mode", "concurrency", "rate_rps", "isl", "osl", "requests")},
        "reasons": [asdict(reason) for reason in run.reasons],
        "notes": list(run.notes),
        "told_wins": sorted(run.told_wins),
        "rows": len(rows),
        "first_rows": kept,
        "metrics": {key: float(f"{value:.6g}") for key, value in metrics.items()},
    }


@pytest.fixture(scope="module")
def golden():
    """The golden file; written anew where that was asked for."""
    if os.environ.get("ENGINEWATCH_WRITE_GOLDEN"):
        found = {name: [as_golden(run) for run in parse(name)] for name in FILES}
        GOLDEN.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
    return json.loads(GOLDEN.read_text())


@pytest.mark.parametrize("name", FILES)
def test_facts_are_those_of_the_golden_file(golden, name):
    found = json.loads(json.dumps([as_golden(run) for run in parse(name)], sort_keys=True))
    assert found == golden[name]


def test_the_golden_file_has_no_fixture_that_is_gone(golden):
    assert sorted(golden) == sorted(FILES)


@pytest.mark.parametrize("name", FILES)
def test_requests_have_the_schema_of_our_own_runs(name):
    for run in parse(name):
        assert run.requests is None or run.requests.schema == LLM_REQUESTS


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("aiperf-0.13-cancelled/profile_export_aiperf.json.gz", "was cancelled"),
        ("guidellm-0.8-dead.json.gz", "no request succeeded, 4 failed: ConnectError"),
    ],
)
def test_what_did_not_come_to_its_end_is_refused(name, words):
    with pytest.raises(MeasurementError, match=words) as caught:
        parse(name)
    assert caught.value.code == "load_failed"
    assert name in str(caught.value)
