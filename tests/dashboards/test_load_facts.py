"""What the Run page says about a load: known, unknown with its reason, or a reason not to trust it."""

from __future__ import annotations

import pytest

from enginewatch_dashboards.checklist import Grade
from enginewatch_dashboards.load_facts import load_facts
from enginewatch_dashboards.load_words import said, slo_of

CLOSED = {"load": {"mode": "closed", "concurrency": 32, "isl": 512, "osl": 128, "turns": 3}}


def metric(name, value, reason=None, low=None, high=None):
    return {"metric": name, "value": value, "absent_reason": reason, "ci_low": low, "ci_high": high, "n": 10}


def facts(metrics=(), reasons=(), identity=CLOSED):
    found = load_facts(metrics, reasons, identity)
    return {fact.title: fact for fact in found}


def test_the_load_is_told_in_words():
    assert facts()["Load"].told == "closed loop of 32 streams, 512 → 128 tokens, 3 turns"
    opened = {"load": {"mode": "gamma", "rate_mrps": 2500, "isl": 8, "osl": 4}}
    assert facts(identity=opened)["Load"].told == "gamma arrivals at 2.5 requests/s, 8 → 4 tokens"
    assert facts(identity={"load": {"mode": "trace"}})["Load"].told == "trace arrivals"


def test_an_honest_client():
    found = facts(
        [metric("client_cpu_pct", 34.2), metric("loop_lateness_p99_ms", 0.21), metric("client_processes", 2.0),
         metric("send_lateness_p99_ms", None, "a closed loop has no intended send times")]
    )["Client"]  # fmt: skip
    assert found.told == "busiest process at 34.2 %, event loop late by p99 0.210 ms, 2 processes"
    assert found.grade is Grade.GOOD
    assert facts([metric("client_processes", 1.0)])["Client"].told == "one process"


def test_a_client_that_was_the_bottleneck():
    reason = {"code": "client_bound", "effect": "reject", "detail": "it would need 3 processes"}
    found = facts([metric("client_cpu_pct", 99.0)], [reason])["Client"]
    assert found.grade is Grade.BAD
    assert found.told == "it was the bottleneck: it would need 3 processes; busiest process at 99.0 %"


def test_an_unknown_client_says_why():
    found = facts([metric("client_cpu_pct", None, "vllm bench serve does not record it")])["Client"]
    assert (found.grade, found.told) == (Grade.UNKNOWN, "unknown: vllm bench serve does not record it")
    assert facts()["Client"].told == "unknown: the client's own work was not measured"


def test_the_steady_state():
    good = facts([metric("little_law_ratio", 1.013), metric("load_drift_pct", -0.4)])["Steady state"]
    assert (good.grade, good.told) == (Grade.GOOD, "Little's law gives 1.01, E2E drifted by −0.400 %")
    reason = {"code": "load_not_steady", "effect": "reject", "detail": "the queue grew by 3 a second"}
    bad = facts([metric("little_law_ratio", 0.5)], [reason])["Steady state"]
    assert bad.grade is Grade.BAD
    assert bad.told.startswith("none: the queue grew by 3 a second; Little's law")
    assert facts()["Steady state"].grade is Grade.UNKNOWN


SLO = {"options": {"slo_us": {"ttft_ms": 400_000, "tpot_ms": 25_500}}}


def test_goodput_names_its_limits():
    assert slo_of(SLO) == {"ttft_ms": 400.0, "tpot_ms": 25.5}
    metrics = [metric("goodput_pct", 98.1, low=97.0, high=99.0), metric("goodput_requests_s", 12.3)]
    told = facts(metrics, identity=SLO)["Goodput"].told
    assert told == "98.1 % [97.0, 99.0] of requests met TTFT ≤ 400 ms and TPOT ≤ 25.5 ms: 12.30 1/s"


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("think_time_us", 1_500_000, "think time 1.50 s"),
        ("burstiness_milli", 2500, "burstiness 2.5"),
        ("isl_dist", "uniform:8-64", "prompt lengths uniform:8-64"),
        ("osl_dist", "data", "output lengths data"),
        ("steps", [{"rate_mrps": 2000, "ms": 9000}, {"rate_mrps": 500, "ms": 500}], "2/s for 9 s, 0.5/s for 0.5 s"),
        ("dataset", {"name": "trace.jsonl", "sha256": "ab", "speed_milli": 2000}, "dataset trace.jsonl at speed 2"),
        ("dataset", {"name": "trace.jsonl"}, "dataset trace.jsonl"),
        ("prefixes", {"groups": 8, "tokens": 256}, "8 prefixes of 256 tokens"),
        ("exact_prompts", True, "prompts of exact length"),
        ("something_new", 3, "something new 3"),
    ],
)  # fmt: skip
def test_a_load_is_said_in_its_units(name, value, words):
    assert said(name, value) == words
    assert facts(identity={"load": {"mode": "closed", "concurrency": 1, name: value}})["Load"].told.endswith(words)


def test_absent_goodput_says_why():
    assert facts()["Goodput"].told == "not counted: no SLO was declared"
    told = facts(
        [metric("goodput_pct", None, "no request was measured")], identity={"options": {"slo_us": {"e2e_ms": 9000}}}
    )
    assert told["Goodput"].told == "not counted: no request was measured (E2E ≤ 9 ms)"
    stored = facts([metric("goodput_pct", 50.0)])["Goodput"].told
    assert stored == "50.0 % of requests met the SLO (its limits were not stored)"
