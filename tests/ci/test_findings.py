from __future__ import annotations

from enginewatch_ci.decide import decide
from enginewatch_ci.findings import findings_of
from enginewatch_ci.policy import Policy
from enginewatch_db.model import FindingKind, Severity


def test_regressions_host_cohort_and_coverage_become_findings(lab, to_arm, cases):
    before = to_arm(lab.session(run_sd=0.003))
    after = to_arm(lab.session(run_sd=0.003, host=1.06, factors={cases[0]: 1.3}, cases={cases[0]: 2.0, cases[1]: 11.0}))
    found = findings_of(decide(before, after, Policy()), after)
    by_detector = {item.detector: item for item in found}
    assert by_detector["gate"].case_key == cases[0]
    assert by_detector["gate"].severity is Severity.CRITICAL
    assert by_detector["gate"].kind is FindingKind.COMPARISON
    assert "regressed: " in by_detector["gate"].title
    assert by_detector["gate.host"].kind is FindingKind.VALIDITY
    assert abs(by_detector["gate.host"].value - 0.06) < 0.01
    assert by_detector["gate.coverage"].evidence == {"cases": [cases[2]]}
    assert {item.session_id for item in found} == {after.newest.session_id}


def test_a_cohort_is_a_finding(lab, to_arm):
    before, after = (to_arm(lab.session(run_sd=0.003, host=host)) for host in (1.0, 1.05))
    found = [item for item in findings_of(decide(before, after, Policy()), after) if item.detector == "gate.cohort"]
    assert len(found) == 1
    assert "look for something they share" in found[0].title


def test_a_failure_is_a_finding_with_its_message(lab, to_arm, cases):
    before, after = to_arm(lab.session()), to_arm(lab.session(failing=(cases[0],)))
    found = [item for item in findings_of(decide(before, after, Policy()), after) if item.detector == "gate"]
    assert [item.title for item in found] == [
        f"{cases[0]} failed: 5 of 5 runs failed: build_failed: node Conv_3 cannot be built → try fp32"
    ]


def test_equal_sessions_have_none(lab, to_arm):
    arms = [to_arm(lab.session(run_sd=0.003)) for _ in range(2)]
    assert findings_of(decide(*arms, Policy()), arms[1]) == ()
