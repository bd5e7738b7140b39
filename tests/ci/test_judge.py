from __future__ import annotations

from dataclasses import replace

import pytest

from enginewatch_ci.judge import judge, judge_arms
from enginewatch_ci.policy import Policy
from enginewatch_db import judgements
from enginewatch_db.connect import Reader
from enginewatch_db.errors import StorageError, UsageError
from enginewatch_db.model import Verdict


def console(store, sql):
    with Reader.open(store.root) as reader:
        return reader.console(sql).to_pylist()


def test_the_first_session_becomes_the_baseline(lab, store, cases):
    store.add(lab.session())
    found = judge(store.root)
    assert found.is_baseline
    assert found.verdict is None
    assert found.comparisons == ()
    assert "is the baseline of plan 'demo' itself" in found.sentence
    assert len(found.findings) == 5 * len(cases)  # limits hold without a baseline, too
    assert console(store, "SELECT count(*) AS n FROM findings") == [{"n": 15}]


def test_the_second_is_compared_with_the_first_and_stored(lab, store, cases):
    first, second = lab.session(run_sd=0.004), lab.session(run_sd=0.004, factors={cases[0]: 1.15})
    store.add(first, second)
    found = judge(store.root)
    assert found.verdict is Verdict.REGRESSED
    assert found.baseline.newest.session_id == first[0].session_id
    assert found.candidate.newest.session_id == second[0].session_id
    rows = console(
        store,
        "SELECT case_key, metric, verdict, effect_rel, effect_ci_low, n_baseline FROM verdicts "
        "WHERE verdict = 'regressed' ORDER BY metric",
    )
    assert {row["case_key"] for row in rows} == {cases[0]}
    assert rows[0]["effect_ci_low"] > 0.05
    assert rows[0]["n_baseline"] == 5
    stored = console(store, "SELECT count(*) AS n FROM findings WHERE kind = 'comparison' AND severity = 'critical'")
    assert stored[0]["n"] == len(rows)


def test_judging_again_gives_the_same_and_replaces(lab, store, cases):
    store.add(lab.session(), lab.session())
    first = judge(store.root)
    again = judge(store.root)
    assert again.comparisons == first.comparisons
    assert console(store, "SELECT count(*) AS n FROM verdicts")[0]["n"] == len(first.comparisons)


def test_nothing_is_stored_unless_asked(lab, store):
    store.add(lab.session(), lab.session())
    judge(store.root, store=False)
    assert console(store, "SELECT count(*) AS n FROM verdicts")[0]["n"] == 0


def test_the_baseline_does_not_move_by_itself_but_by_acceptance(lab, store, cases):
    slow = {"run_sd": 0.003, "factors": {cases[0]: 1.2}}
    first, second, third = lab.session(run_sd=0.003), lab.session(**slow), lab.session(**slow)
    store.add(first, second, third)
    assert judge(store.root).verdict is Verdict.REGRESSED
    judgements.accept(store.root, "demo", second[0].session_id, by="me", reason="on purpose")
    assert judge(store.root).verdict is Verdict.UNCHANGED
    assert judge(store.root, candidate="latest~1").is_baseline


def test_plans_do_not_mix(lab, store):
    other, mine = lab.session(plan="other"), lab.session(plan="demo")
    store.add(other, mine, lab.session(plan="other"))
    # latest~1 means the one before in the candidate's plan, not in the store.
    assert judge(store.root, baseline="latest~1").baseline.newest.session_id == other[0].session_id
    assert judge(store.root).baseline.newest.session_id == other[0].session_id
    assert judge(store.root, candidate=mine[0].session_id).is_baseline


def test_a_plan_without_a_valid_run_has_no_baseline(lab, store, cases):
    store.add(lab.session(failing=tuple(cases)))
    found = judge(store.root)
    assert found.baseline is None
    assert "No baseline" in found.sentence


def test_labels_and_commits_are_arms_of_several_sessions(lab, store, cases):
    store.add(
        lab.session(label="old", repeats=2, commit="aaaa111", run_sd=0.004),
        lab.session(label="old", repeats=2, commit="aaaa111", run_sd=0.004),
        lab.session(label="new", repeats=4, commit="bbbb222", run_sd=0.004),
    )
    found = judge(store.root, baseline="commit:aaaa", candidate="label:new")
    assert len(found.baseline.sessions) == 2
    effect = next(item.effect for item in found.comparisons if item.metric == "latency_p50_ms")
    assert (effect.n_baseline, effect.n_candidate) == (4, 4)
    assert {item.facet for item in found.environment} == {"git_commit"}


def test_bundles_need_no_store(lab, store, tmp_path, cases):
    before = store.bundles(tmp_path / "before", lab.session(run_sd=0.004))
    after = store.bundles(tmp_path / "after", lab.session(run_sd=0.004, factors={cases[0]: 1.2}))
    found = judge(tmp_path / "no-store", baseline=str(before), candidate=str(after))
    assert found.verdict is Verdict.REGRESSED
    assert not (tmp_path / "no-store").exists()


def test_a_folder_against_the_stored_baseline_is_judged_and_not_stored(lab, store, tmp_path, cases):
    store.add(lab.session(run_sd=0.004))
    after = store.bundles(tmp_path / "after", lab.session(run_sd=0.004, factors={cases[0]: 1.2}))
    assert judge(store.root, candidate=str(after)).verdict is Verdict.REGRESSED
    assert console(store, "SELECT count(*) AS n FROM verdicts")[0]["n"] == 0


def test_history_of_the_store_helps_single_runs(lab, store, cases):
    store.add(*[lab.session(repeats=2, run_sd=0.004) for _ in range(6)])
    store.add(lab.session(repeats=1, run_sd=0.004, factors={cases[0]: 1.3}))
    found = judge(store.root)
    slow = next(i for i in found.comparisons if i.case_key == cases[0] and i.metric == "latency_p50_ms")
    assert slow.effect.method == "moderated-t"
    assert slow.verdict is Verdict.REGRESSED


def test_errors_name_what_is_missing(lab, store, tmp_path):
    with pytest.raises(StorageError, match="there is no store"):
        judge(tmp_path / "absent")
    store.add(lab.session(label="main"))
    with pytest.raises(UsageError, match="cannot be 'baseline'"):
        judge(store.root, candidate="baseline")
    with pytest.raises(UsageError, match="did you mean label:main"):
        judge(store.root, baseline="mian")
    store.add(lab.session(label="main", plan="other"))
    with pytest.raises(UsageError, match="sessions of 2 plans"):
        judge(store.root, candidate="label:main")


def test_arms_can_be_judged_without_any_store(lab, to_arm):
    before, after = to_arm(lab.session()), to_arm(lab.session())
    assert judge_arms(before, after, Policy()).verdict in (Verdict.UNCHANGED, Verdict.INCONCLUSIVE)
    assert judge_arms(after, after, Policy()).is_baseline
    assert judge_arms(None, after, Policy()).baseline is None


def test_what_another_host_measures_fails_nothing_and_is_told(lab, store, cases):
    before, after = lab.session(), lab.session(cases={cases[0]: 2.0, cases[1]: 11.0})
    left = {cases[2]: "it needs NVIDIA L4, and this host has NVIDIA H200"}
    after = [replace(record, session=record.session | {"left_for_another_host": left}) for record in after]
    store.add(before, after)
    judged = judge(store.root, candidate=after[0].session_id, baseline=before[0].session_id)
    assert {comparison.case_key for comparison in judged.comparisons} == set(cases[:2])
    assert judged.uncovered == ()
    assert judged.notes == (f"Not measured on this host, which has no GPU for it: {cases[2]}.",)


STRICT = "[practical_pct]\nlatency_p50_ms = 0.5\n\n[gate]\nmetrics = ['latency_p50_ms']\n"


def with_policy(records, text):
    return [replace(record, session={**record.session, "policy_text": text}) for record in records]


def test_the_policy_that_the_plan_named_judges_later_too(lab, store, cases):
    first, second = lab.session(run_sd=0.0005), lab.session(run_sd=0.0005, factors={cases[0]: 1.02})
    store.add(first, with_policy(second, STRICT))
    found = judge(store.root)
    assert found.policy.threshold_rel("latency_p50_ms") == 0.005
    assert {item.metric for item in found.comparisons} == {"latency_p50_ms"}
    assert found.verdict is Verdict.REGRESSED
    assert judge(store.root, policy=Policy(), store=False).verdict is not Verdict.REGRESSED, (
        "one that is given goes first"
    )


def test_a_stored_policy_that_cannot_be_read_is_named(lab, store):
    store.add(lab.session(), with_policy(lab.session(), "[gaet]\n"))
    with pytest.raises(UsageError, match=r"the policy of session .* unknown policy key 'gaet'"):
        judge(store.root)
