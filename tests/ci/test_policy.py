from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from enginewatch_ci.policy import Policy, default_threshold_pct, load_policy, parse_policy
from enginewatch_db.errors import UsageError
from enginewatch_db.metrics import METRICS, Direction

POLICIES = Path(__file__).parents[2] / "ci" / "policies"


def test_the_default_file_spells_out_the_built_in_policy():
    assert load_policy(POLICIES / "default.toml") == Policy() == load_policy(None)
    content = tomllib.loads((POLICIES / "default.toml").read_text(encoding="utf-8"))
    assert set(content["gate"]) == set(Policy().gate.model_dump())
    assert set(content["limits"]) == set(Policy().limits.model_dump())


def test_the_strict_file_is_a_policy():
    strict = load_policy(POLICIES / "strict.toml")
    assert strict.gate.confidence == 0.99
    assert strict.threshold_rel("latency_p50_ms") == 0.03
    assert strict.threshold_rel("latency_p99_ms") == 0.15


@pytest.mark.parametrize(
    ("metric", "pct"),
    [
        ("latency_p50_ms", 5),
        ("throughput_qps", 5),
        ("output_tokens_s", 5),
        ("latency_p90_ms", 10),
        ("ttft_p95_ms", 10),
        ("latency_p99_ms", 15),
        ("latency_p999_ms", 15),
        ("latency_tail_log_ratio", 15),
        ("build_time_s", 20),
    ],
)
def test_thresholds_by_kind(metric, pct):
    assert default_threshold_pct(metric) == pct


def test_every_metric_with_a_direction_has_a_threshold():
    for key in METRICS:
        assert 0 < Policy().threshold_rel(key) < 1


def test_gated_metrics_are_those_of_the_table_and_all_have_a_direction():
    gated = Policy().gated_metrics()
    assert "latency_p50_ms" in gated
    assert "latency_p99_ms" in gated
    assert "output_tokens_s" in gated
    assert all(METRICS[key].direction is not Direction.INFO for key in gated)


def test_chosen_metrics_replace_the_default_ones():
    policy = parse_policy({"gate": {"metrics": ["latency_p99_ms", "latency_p50_ms"]}}, "test")
    assert policy.gated_metrics() == ("latency_p50_ms", "latency_p99_ms")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"gate": {"confidense": 0.9}}, ["policy.toml", "gate.confidense", "'confidence'"]),
        ({"gates": {}}, ["gates", "'gate'"]),
        ({"limits": {"latency_p99": 100}}, ["limits.latency_p99", "'latency_p99_ms'"]),
        ({"practical_pct": {"latency_p50": 3}}, ["practical_pct", "'latency_p50'", "'latency_p50_ms'"]),
        ({"gate": {"metrics": ["latencyp99"]}}, ["gate.metrics", "'latency_p99_ms'"]),
        ({"gate": {"metrics": ["power_mean_w"]}}, ["power_mean_w", "no better or worse"]),
        ({"gate": {"confidence": 1.5}}, ["gate.confidence", "1.5", "less than or equal to 0.999"]),
        ({"gate": {"inconclusive": "maybe"}}, ["gate.inconclusive", "'maybe'", "'pass' or 'fail'"]),
        ({"practical_pct": {"latency_p50_ms": 0}}, ["practical_pct", "latency_p50_ms = 0", "above 0"]),
        ({"practical_pct": {"latency_p50_ms": "x"}}, ["practical_pct.latency_p50_ms", "'x'"]),
        ({"limits": {"fail_on": ["latency"]}}, ["limits.fail_on.0", "'latency'"]),
    ],
)
def test_a_bad_policy_is_explained(content, words):
    with pytest.raises(UsageError) as caught:
        parse_policy(content, "policy.toml")
    for word in words:
        assert word in str(caught.value)


def test_a_file_that_is_no_policy(tmp_path):
    with pytest.raises(UsageError, match="cannot be read"):
        load_policy(tmp_path / "absent.toml")
    broken = tmp_path / "broken.toml"
    broken.write_text("[gate\n")
    with pytest.raises(UsageError, match="is not TOML"):
        load_policy(broken)
    broken.write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="cannot be read"):
        load_policy(broken)
