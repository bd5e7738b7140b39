from __future__ import annotations

from dataclasses import replace

import pytest

from enginewatch_ci.comparable import facet_differences, identity_changes, not_measured_here, pair_cases
from enginewatch_db.model import Verdict
from enginewatch_db.validity import Reason


@pytest.fixture
def pairing(lab, to_arm):
    """Return pairs and unpaired by case of two sessions that the arguments describe."""

    def make(before=None, after=None):
        pairs, unpaired = pair_cases(to_arm(lab.session(**before or {})), to_arm(lab.session(**after or {})))
        return {pair.case_key: pair for pair in pairs}, {item.case_key: item for item in unpaired}

    return make


def test_equal_sessions_pair_fully(pairing, cases):
    pairs, unpaired = pairing()
    assert sorted(pairs) == sorted(cases)
    assert not unpaired
    assert len(pairs[cases[0]].baseline) == len(pairs[cases[0]].candidate) == 5
    assert pairs[cases[0]].notes == ()


def test_another_identity_is_named(pairing, cases):
    pairs, unpaired = pairing({"options": {"threads": 2}}, {"options": {"threads": 4}})
    assert not pairs
    item = unpaired[cases[0]]
    assert item.verdict is Verdict.NOT_COMPARABLE
    assert "options.threads: 2 → 4" in item.why
    assert item.in_baseline


def test_new_and_missing_cases(pairing, cases):
    pairs, unpaired = pairing({"cases": {cases[0]: 1.0, cases[1]: 2.0}}, {"cases": {cases[0]: 1.0, cases[2]: 3.0}})
    assert list(pairs) == [cases[0]]
    assert "new case" in unpaired[cases[2]].why
    assert not unpaired[cases[2]].in_baseline
    assert "missing in the candidate" in unpaired[cases[1]].why
    assert unpaired[cases[1]].in_baseline
    assert {item.verdict for item in unpaired.values()} == {Verdict.NOT_COMPARABLE}


def test_a_new_failure_is_failed_with_code_message_and_remedy(pairing, cases):
    _, unpaired = pairing({}, {"failing": (cases[0],)})
    item = unpaired[cases[0]]
    assert item.verdict is Verdict.FAILED
    assert item.cause == "build_failed"
    assert item.why == "5 of 5 runs failed: build_failed: node Conv_3 cannot be built → try fp32"


def test_a_case_that_fails_as_before_is_no_news(pairing, cases):
    _, unpaired = pairing({"failing": (cases[0],)}, {"failing": (cases[0],)})
    assert unpaired[cases[0]].verdict is Verdict.NOT_COMPARABLE
    assert "as it did in the baseline" in unpaired[cases[0]].why
    assert not unpaired[cases[0]].in_baseline


def test_a_new_case_that_fails_is_a_failure(pairing, cases):
    _, unpaired = pairing({"cases": {cases[1]: 1.0}}, {"cases": {cases[0]: 1.0}, "failing": (cases[0],)})
    assert unpaired[cases[0]].verdict is Verdict.FAILED


def test_a_failed_run_may_have_another_identity(lab, to_arm, cases):
    # A run that fails early cannot read its effective options back, so its series differs: it is a failure still.
    before, after = lab.session(), lab.session(failing=(cases[0],), options={"threads": 99})
    _, unpaired = pair_cases(to_arm(before), to_arm(after))
    assert {item.case_key: item.verdict for item in unpaired}[cases[0]] is Verdict.FAILED


def test_an_absent_backend_is_not_comparable(pairing, cases):
    _, unpaired = pairing({}, {"unavailable": (cases[0],)})
    assert unpaired[cases[0]].verdict is Verdict.NOT_COMPARABLE
    assert "not available here: not_available: trtexec is not on PATH → install it" in unpaired[cases[0]].why


def test_invalid_runs_do_not_count(pairing, cases):
    pairs, unpaired = pairing({}, {"rejected": {cases[0]: "client_bound"}})
    assert cases[0] not in pairs
    assert unpaired[cases[0]].verdict is Verdict.NOT_COMPARABLE
    assert unpaired[cases[0]].cause == "validity"
    assert "client_bound in 5 of 5 (Free the host's cores" in unpaired[cases[0]].why


def test_a_model_that_writes_nan_is_broken(pairing, cases):
    _, unpaired = pairing({}, {"rejected": {cases[0]: "output_not_finite"}})
    assert unpaired[cases[0]].verdict is Verdict.FAILED


def test_an_invalid_baseline_cannot_be_compared_to(pairing, cases):
    _, unpaired = pairing({"rejected": {cases[0]: "client_bound"}}, {})
    assert "the baseline has no valid run" in unpaired[cases[0]].why
    assert not unpaired[cases[0]].in_baseline


def test_partly_failed_and_warned_runs_become_notes(lab, to_arm, cases):
    before, after = lab.session(), lab.session(failing=(cases[0],))
    healthy = lab.session()
    mine = [record for record in healthy if record.case_key == cases[0]][:3]
    mixed = [record for record in after if record.case_key == cases[0]][:2] + [
        replace(record, session_id=after[0].session_id, reasons=(Reason(code="host_busy"),)) for record in mine
    ]
    pairs, _ = pair_cases(to_arm(before), to_arm(mixed))
    assert len(pairs[0].candidate) == 3
    assert "candidate: 2 of 5 runs failed and were left out: build_failed" in pairs[0].notes[0]
    assert "candidate: host_busy in 3 of 3 runs" in pairs[0].notes


def test_a_changed_engine_structure_is_noted(lab, to_arm, cases):
    before, after = to_arm(lab.session()), to_arm(lab.session())
    printed = [
        replace(arm, runs=tuple(replace(run, fingerprint=mark) for run in arm.runs))
        for arm, mark in ((before, "aaa111"), (after, "bbb222"))
    ]
    pairs, _ = pair_cases(*printed)
    assert pairs[0].notes == ("the engine's structure changed: aaa111 → bbb222",)


def test_identity_changes_flatten_and_shorten():
    before = {"a": 1, "b": {"c": [1, 2], "d": None}, "model_sha256": "0" * 64}
    after = {"a": 1, "b": {"c": [1, 3], "e": "x"}, "model_sha256": "1" * 64}
    assert identity_changes(before, after) == [
        "b.c: [1, 2] → [1, 3]",
        "b.e: none → x",
        f"model_sha256: {'0' * 12} → {'1' * 12}",
    ]


def test_facets_that_differ_are_listed(lab, to_arm):
    before = to_arm(lab.session(facets={"driver": "570"}, commit="aaaaaaaaaaaa"))
    after = to_arm(lab.session(facets={"driver": "580", "image": "x"}, commit="bbbbbbbbbbbb"))
    found = {item.facet: (item.baseline, item.candidate) for item in facet_differences(before, after)}
    assert found == {"driver": ("570", "580"), "image": ("-", "x"), "git_commit": ("aaaaaaaaaa", "bbbbbbbbbb")}
    assert facet_differences(before, before) == ()


def test_a_case_that_the_host_has_no_gpu_for_is_no_missing_case(lab, to_arm, cases):
    before, after = lab.session(), lab.session(cases={cases[0]: 2.0, cases[1]: 11.0})
    left = {cases[2]: "it needs NVIDIA L4"}
    after = [replace(record, session=record.session | {"left_for_another_host": left}) for record in after]
    pairs, unpaired = pair_cases(to_arm(before), to_arm(after))
    assert [pair.case_key for pair in pairs] == list(cases[:2])
    assert unpaired == []
    assert not_measured_here(to_arm(before), to_arm(after)) == (
        f"Not measured on this host, which has no GPU for it: {cases[2]}.",
    )
    # measured after all, in another session of the arm, or never measured before
    both = to_arm(after + lab.session(cases={cases[2]: 0.4}))
    assert both.left_for_another_host == frozenset()
    assert not_measured_here(to_arm(lab.session(cases={cases[0]: 2.0})), to_arm(after)) == ()
