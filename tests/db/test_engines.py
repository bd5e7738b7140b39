"""The pointer to the last good engines: who moves it, who never does, and that a rebuild keeps it."""

from __future__ import annotations

import dataclasses

import pytest

from enginewatch_db.bundle import write
from enginewatch_db.connect import Reader, writer
from enginewatch_db.engines import engine_rows, good_cases, good_engines, protected
from enginewatch_db.ingest import ingest, rebuild
from enginewatch_db.judgements import accept, store
from enginewatch_db.model import Comparison, EngineRecord, RunStatus, Verdict

BASE = "01900000-0000-7000-8000-000000000001"
NEXT = "01900000-0000-7000-8000-000000000002"
THIRD = "01900000-0000-7000-8000-000000000003"
CASE = "encoder/onnxruntime/fp32/b8"
OTHER = "encoder/onnxruntime/fp32/b1"


def engine(name: str, build_number: int = 0) -> EngineRecord:
    return EngineRecord(
        engine_key="01234567-0000-8000-8000-000000000000",
        engine_sha256=name * 32,
        path=f"engines/{name}",
        size_bytes=100,
        cached=False,
        build_time_s=1.5 + build_number,
        build_number=build_number,
        shapes={"input": [8, 16, 64]},
        built_at="2026-11-01T00:00:00+00:00",
    )


@pytest.fixture
def session(workspace, make_run, make_identity):
    """Store a session with one run of each of two cases, built with one engine."""

    def build(
        session_id: str,
        *engines: EngineRecord,
        hour: int = 0,
        status: RunStatus = RunStatus.OK,
        device: str = "Test CPU",
    ) -> None:
        for order, case_key in enumerate((CASE, OTHER)):
            for repeat, item in enumerate(engines):
                record, tables = make_run(
                    session_id=session_id,
                    case_key=case_key,
                    repeat=repeat,
                    order_idx=order,
                    hour=hour,
                    n=50,
                    identity=make_identity(device=device),
                )
                write(workspace.spool, dataclasses.replace(record, engine=item, status=status), tables)
        ingest(workspace)

    return build


def comparison(verdict: Verdict, metric: str = "latency_p50_ms", case_key: str = CASE, **changes) -> Comparison:
    return Comparison(
        case_key=case_key, series_id=None, metric=metric, verdict=verdict, why="because", threshold_rel=0.05, **changes
    )


def judged(workspace, session_id: str, *comparisons: Comparison, baseline: str | None = BASE) -> None:
    store(workspace, session_id, baseline_session=baseline, comparisons=comparisons, findings=[])


def good(workspace, case_key: str = CASE) -> list[str]:
    with Reader.open(workspace) as reader:
        return [item.engine_sha256[:2] for item in good_engines(reader, case_key=case_key)]


def test_accepting_makes_every_engine_with_a_valid_run_good(workspace, session):
    session(BASE, engine("aa"), engine("bb", 1))
    assert good(workspace) == []
    accept(workspace, "test-plan", BASE, by=None, reason="first")
    assert good(workspace) == ["aa", "bb"]
    assert good(workspace, OTHER) == ["aa", "bb"]


def test_a_run_that_failed_makes_no_engine_good(workspace, session):
    session(BASE, engine("aa"), status=RunStatus.FAILED)
    accept(workspace, "test-plan", BASE, by=None, reason="first")
    assert good(workspace) == []


def test_only_a_session_that_is_no_worse_moves_the_pointer(workspace, session):
    session(BASE, engine("aa"))
    session(NEXT, engine("bb"), hour=1)
    session(THIRD, engine("cc"), hour=2)
    accept(workspace, "test-plan", BASE, by=None, reason="first")
    judged(workspace, NEXT, comparison(Verdict.UNCHANGED), comparison(Verdict.REGRESSED, case_key=OTHER))
    assert (good(workspace), good(workspace, OTHER)) == (["bb"], ["aa"])
    judged(workspace, THIRD, comparison(Verdict.INCONCLUSIVE))
    assert good(workspace) == ["bb"]
    judged(workspace, THIRD, comparison(Verdict.IMPROVED))
    assert good(workspace) == ["cc"]


@pytest.mark.parametrize("verdict", [Verdict.REGRESSED, Verdict.FAILED, Verdict.NOT_COMPARABLE])
def test_one_bad_verdict_holds_a_case_back(verdict):
    assert good_cases([comparison(Verdict.UNCHANGED), comparison(verdict, "throughput_qps")]) == {}


def test_a_wrong_output_holds_a_faster_engine_back():
    faster = comparison(Verdict.IMPROVED)
    assert good_cases([faster]) == {CASE: "improved"}
    assert good_cases([faster, comparison(Verdict.FAILED, "output_rel_l2")]) == {}


def test_one_inconclusive_tail_holds_nothing_back_and_a_change_that_was_taken_back_does():
    medians = [comparison(Verdict.UNCHANGED), comparison(Verdict.UNCHANGED, "throughput_qps")]
    assert good_cases([*medians, comparison(Verdict.INCONCLUSIVE, "latency_p99_ms")]) == {CASE: "unchanged"}
    assert good_cases([*medians, comparison(Verdict.INCONCLUSIVE, "latency_p99_ms", cause="host")]) == {}
    assert good_cases([comparison(Verdict.INCONCLUSIVE)]) == {}


def test_judging_again_by_other_rules_takes_the_mark_back_but_not_what_a_person_accepted(workspace, session):
    session(BASE, engine("aa"))
    session(NEXT, engine("bb"), hour=1)
    accept(workspace, "test-plan", BASE, by=None, reason="first")
    judged(workspace, NEXT, comparison(Verdict.UNCHANGED))
    judged(workspace, NEXT, comparison(Verdict.REGRESSED))
    assert good(workspace) == ["aa"]
    judged(workspace, NEXT, comparison(Verdict.UNCHANGED))
    assert good(workspace) == ["bb"]
    accept(workspace, "test-plan", NEXT, by=None, reason="slower on purpose")
    judged(workspace, NEXT, comparison(Verdict.REGRESSED))
    assert good(workspace) == ["bb"]


def test_the_same_judgement_twice_is_one_mark_and_a_first_session_marks_nothing(workspace, session):
    session(BASE, engine("aa"))
    session(NEXT, engine("bb"), hour=1)
    judged(workspace, BASE, comparison(Verdict.UNCHANGED), baseline=None)
    judged(workspace, BASE, comparison(Verdict.UNCHANGED), baseline=BASE)
    assert good(workspace) == []
    for _ in range(2):
        judged(workspace, NEXT, comparison(Verdict.UNCHANGED))
    with Reader.open(workspace) as reader:
        assert reader.console("SELECT why FROM good_engines").to_pylist() == [{"why": "judged unchanged"}]


def test_a_rebuild_keeps_the_pointer_and_which_build_a_run_used(workspace, session):
    session(BASE, engine("aa"), engine("bb", 1))
    accept(workspace, "test-plan", BASE, by=None, reason="first")
    rebuild(workspace)
    assert good(workspace) == ["aa", "bb"]
    with Reader.open(workspace) as reader:
        builds = reader.rows("engines_builds", key=engine("aa").engine_key)
        rows = engine_rows(reader)
    told = [(row["build_number"], row["engine_sha256"][:2], row["runs"]) for row in builds]
    assert told == [(0, "aa", 2), (1, "bb", 2)]
    assert {row["engine_sha256"][:2]: row["cases"] for row in rows} == {"aa": [OTHER, CASE], "bb": [OTHER, CASE]}


def test_a_store_of_before_the_pointer_can_be_rebuilt(workspace, session):
    session(BASE, engine("aa"))
    with writer(workspace) as connection:
        connection.execute("DROP TABLE good_engines")
    rebuild(workspace)
    assert good(workspace) == []


def test_engines_of_the_baseline_and_the_last_good_ones_are_protected(workspace, session):
    session(BASE, engine("aa"))
    session(NEXT, engine("bb"), hour=1)
    session(THIRD, engine("cc"), hour=2)

    def kept() -> set[str]:
        with Reader.open(workspace) as reader:
            return {sha256[:2] for sha256 in protected(reader)}

    assert kept() == {"aa"}, "the first session is the baseline while none is accepted"
    judged(workspace, NEXT, comparison(Verdict.UNCHANGED))
    assert kept() == {"aa", "bb"}
    accept(workspace, "test-plan", THIRD, by=None, reason="the measure from now on")
    assert kept() == {"cc"}


def wrong(case_key: str = CASE) -> Comparison:
    return comparison(Verdict.FAILED, "output_rel_l2", case_key, cause="accuracy")


def test_another_gpu_has_last_good_engines_of_its_own_and_the_newest_come_first(workspace, session):
    session(BASE, engine("aa"), device="NVIDIA H200")
    session(NEXT, engine("bb"), hour=1, device="NVIDIA L4")
    accept(workspace, "test-plan", BASE, by=None, reason="first")
    accept(workspace, "test-plan", NEXT, by=None, reason="first on the other GPU")
    assert good(workspace) == ["bb", "aa"]
    session(THIRD, engine("cc"), hour=2, device="NVIDIA L4")
    judged(workspace, THIRD, comparison(Verdict.UNCHANGED), baseline=NEXT)
    assert good(workspace) == ["cc", "aa"]
    with Reader.open(workspace) as reader:
        assert {sha256[:2] for sha256 in protected(reader)} == {"aa", "bb", "cc"}


def test_a_baseline_of_another_gpu_is_protected_where_nothing_was_marked(workspace, session):
    session(BASE, engine("aa"), device="NVIDIA H200")
    session(NEXT, engine("bb"), hour=1, device="NVIDIA L4")
    accept(workspace, "test-plan", NEXT, by=None, reason="of the other GPU")
    with Reader.open(workspace) as reader:
        assert {sha256[:2] for sha256 in protected(reader)} == {"aa", "bb"}


def test_accepting_never_makes_an_engine_with_wrong_outputs_good_and_says_which(workspace, session):
    session(BASE, engine("aa"))
    judged(workspace, BASE, wrong(), baseline=None)
    assert accept(workspace, "test-plan", BASE, by=None, reason="first") == (CASE,)
    assert (good(workspace), good(workspace, OTHER)) == ([], ["aa"])
    judged(workspace, BASE, baseline=None)
    assert accept(workspace, "test-plan", BASE, by=None, reason="by other limits") == ()
    assert good(workspace) == ["aa"]


def test_wrong_outputs_take_every_mark_back_also_of_a_first_session(workspace, session):
    session(BASE, engine("aa"))
    accept(workspace, "test-plan", BASE, by=None, reason="before anybody looked at its outputs")
    judged(workspace, BASE, wrong(), baseline=None)
    assert (good(workspace), good(workspace, OTHER)) == ([], ["aa"])
    judged(workspace, BASE, comparison(Verdict.FAILED, "latency_p50_ms", OTHER), baseline=None)
    assert good(workspace, OTHER) == ["aa"], "a failure of another kind is no reason"
