"""Validity reasons as pages tell them: what rejects comes first, and what holds for many runs is named."""

from __future__ import annotations

from enginewatch_dashboards.reasons import causes, rejecting, rejecting_first, rejects
from enginewatch_db.validity import REASONS


def run(*codes, status="ok"):
    return {"status": status, "reason_codes": list(codes)}


def test_what_rejects_comes_first_and_the_rest_keeps_its_order():
    codes = ["host_busy", "tail_undersampled", "client_bound"]
    assert rejecting_first(codes) == ["client_bound", "host_busy", "tail_undersampled"]
    assert rejecting([*codes, "client_bound", "of_a_newer_version"]) == ["client_bound"]
    assert rejecting(None) == rejecting_first(None) == []
    assert not rejects("of_a_newer_version")


def test_reasons_of_many_runs_are_told_with_numbers_and_remedy():
    runs = [run("host_busy", "tail_undersampled")] * 6 + [run("client_bound")] * 3 + [run(), run(status="failed")]
    busy, bound = causes(runs)
    assert busy.told == f"host_busy marks 6 of 10 runs: {REASONS['host_busy'].description}"
    assert bound.told == f"client_bound rejects 3 of 10 runs: {REASONS['client_bound'].description}"
    assert bound.remedy == REASONS["client_bound"].remedy


def test_reasons_of_few_runs_and_of_none_are_no_cause():
    assert causes([run("host_busy")] + [run()] * 9) == []
    assert causes([]) == []
    # Known limits of a measurement explain no noise.
    assert causes([run("imported", "telemetry_absent")]) == []
