"""From load runs to configurations and levels: what belongs to a line, what has an interval, what meets a limit."""

from __future__ import annotations

import json

import pytest

from enginewatch_dashboards.pareto import Estimate, Standing
from enginewatch_dashboards.serving import best_within, configurations, load_of, meets
from enginewatch_dashboards.trends import locate


def run(precision="bf16", concurrency=8, *, repeat=0, valid=True, rate=None, codes=(), session_started_at=1, **values):
    load = {"mode": "closed" if rate is None else "poisson", "isl": 512, "osl": 64}
    load |= {"concurrency": concurrency} if rate is None else {"rate_mrps": round(rate * 1000)}
    load |= values.pop("load", {})
    options = {"server": "vllm", "parallel": concurrency, "requests": 10 * concurrency} | values.pop("options", {})
    facts = {"model": "llama", "workload": "chat", "backend": "openai", "device": "NVIDIA H200"} | values.pop(
        "facts", {}
    )
    identity = facts | {"precision": precision, "device_count": 1, "load": load, "options": options, "tool_major": "0"}
    feed = f"c{concurrency}" if rate is None else f"poisson{rate:g}rps"
    base = {"x": 200.0 / concurrency, "y": 100.0 * concurrency, "z": 10.0 * concurrency, "goodput_pct": None} | values
    ends = {f"{name}_{end}": None for name in "xyz" for end in ("low", "high")}
    return base | ends | facts | {
        "run_id": f"{precision}-{feed}-{repeat}", "session_id": "s1", "label": "ladder", "valid": valid,
        "session_started_at": session_started_at,
        "series_id": json.dumps(identity, sort_keys=True), "case_key": f"chat/openai/{precision}/{feed}",
        "reason_codes": list(codes), "precision": precision, "device_count": 1, "load_mode": load["mode"],
        "concurrency": concurrency if rate is None else None, "identity": json.dumps(identity),
    }  # fmt: skip


def test_a_line_holds_the_loads_of_one_configuration():
    rows = [run(p, c, repeat=r) for r in range(2) for p in ("fp8", "bf16") for c in (64, 1, 8)]
    found = {line.name: line for line in configurations(rows)}
    assert set(found) == {"llama fp8", "llama bf16"}
    assert [level.word for level in found["llama fp8"].levels] == ["1", "8", "64"]
    assert all(level.n_runs == 2 for level in found["llama fp8"].levels)


def test_options_that_only_follow_the_load_split_no_line():
    assert len(configurations([run(concurrency=c) for c in (1, 8)])) == 1


def test_options_that_differ_at_the_same_load_split_lines_and_name_them():
    rows = [run(concurrency=c, options={"chunked_prefill": on}) for c in (1, 8) for on in ("on", "off")]
    assert [line.name for line in configurations(rows)] == [
        "llama bf16, chunked_prefill on", "llama bf16, chunked_prefill off",
    ]  # fmt: skip


def test_another_slo_is_another_line():
    rows = [run(), run(options={"slo_us": {"ttft_ms": 200_000}})]
    assert [line.name for line in configurations(rows)] == ["llama bf16, no SLO", "llama bf16, TTFT ≤ 200 ms"]


def test_what_differs_is_in_the_name_and_nothing_else():
    rows = [run(facts={"device": "NVIDIA H200"}), run(facts={"device": "NVIDIA L4"}), run(load={"isl": 4096})]
    names = [line.name for line in configurations(rows)]
    assert names == ["llama bf16, NVIDIA H200, 512 tokens in", "llama bf16, NVIDIA L4, 512 tokens in",
                     "llama bf16, NVIDIA H200, 4096 tokens in"]  # fmt: skip


def test_a_name_says_model_and_precision_and_what_differs_among_those_that_share_them():
    rows = [run(), run("fp8", facts={"workload": "other"}), run(facts={"model": "qwen"}, load={"osl": 8}),
            run(options={"server": "sglang"})]  # fmt: skip
    assert {line.name for line in configurations(rows)} == {
        "llama bf16, vllm", "llama bf16, sglang", "llama fp8", "qwen bf16",
    }  # fmt: skip


def version(major):
    row = run()
    identity = json.loads(row["identity"]) | {"tool_major": major}
    return row | {"identity": json.dumps(identity), "series_id": json.dumps(identity), "run_id": f"v{major}"}


def test_a_version_is_said_where_it_differs_and_never_as_if_it_were_whole():
    assert [line.name for line in configurations([version(None)])] == ["llama bf16"]
    assert [line.name for line in configurations([version("2026")])] == ["llama bf16"]
    assert [line.name for line in configurations([version("1"), version("2"), version(None)])] == [
        "llama bf16, v1.x", "llama bf16, v2.x", "llama bf16",
    ]  # fmt: skip


def test_lines_that_nothing_names_apart_are_counted():
    rows = [run(), run() | {"run_id": "b"}]
    rows[1]["identity"] = json.dumps(json.loads(rows[1]["identity"]) | {"shapes": {"x": 1}})
    assert [line.name for line in configurations(rows)] == ["llama bf16 (1)", "llama bf16 (2)"]


def test_clients_make_lines_of_their_own_even_at_other_loads():
    rows = [run(concurrency=c, options={"client": who}) for c, who in ((1, "aiperf"), (2, "guidellm"), (4, "guidellm"))]
    assert [(line.name, len(line.levels)) for line in configurations(rows)] == [
        ("llama bf16, client aiperf", 1), ("llama bf16, client guidellm", 2),
    ]  # fmt: skip


def test_a_level_measured_for_another_time_is_one_point_the_newest():
    rows = [run(y=1.0, options={"duration_ms": 3000}), run(y=2.0, session_started_at=2, options={"duration_ms": 9000}),
            run(y=3.0, session_started_at=3, valid=False, options={"duration_ms": 100})]  # fmt: skip
    (level,) = configurations(rows)[0].levels
    assert (level.throughput.value, level.n_runs, level.counts) == (2.0, 1, True)


def test_places_are_given_to_what_counts_first():
    lines = configurations([run("bf16", valid=False), run("fp8"), run("int4")])
    assert [(line.name, line.place) for line in lines] == [("llama fp8", 0), ("llama int4", 1), ("llama bf16", 2)]


def test_closed_and_open_loops_are_lines_of_their_own():
    found = configurations([run(concurrency=4), run(rate=20), run(rate=2.5)])
    assert [(line.closed, [level.word for level in line.levels]) for line in found] == [
        (True, ["4"]), (False, ["2.5/s", "20/s"]),
    ]  # fmt: skip
    assert load_of(run(rate=2.5)) == (2.5, "2.5/s")
    assert load_of(run(rate=1) | {"identity": "{}"}) == (None, "poisson1rps")


def test_repeats_become_the_location_and_interval_of_the_verdicts():
    values = [100.0, 103.0, 99.0]
    rows = [run(repeat=r, y=v, y_low=v - 1, y_high=v + 1) for r, v in enumerate(values)]
    (level,) = configurations(rows)[0].levels
    expected = locate([{"value": row["y"], "ci_low": row["y_low"], "ci_high": row["y_high"]} for row in rows])
    assert (level.throughput.value, level.throughput.low, level.throughput.high) == expected
    assert not level.single


def test_a_single_run_has_a_value_and_no_interval():
    (level,) = configurations([run(y=100.0) | {"y_low": 90.0, "y_high": 110.0}])[0].levels
    assert level.single
    assert level.throughput == Estimate(value=100.0)


def test_runs_that_do_not_count_are_left_out_of_the_values():
    rows = [run(repeat=0, y=100.0), run(repeat=1, y=900.0, valid=False, codes=("client_bound", "host_busy"))]
    (level,) = configurations(rows)[0].levels
    assert level.throughput == Estimate(value=100.0)
    assert (level.n_valid, level.n_runs, level.codes) == (1, 2, ("client_bound",))
    assert level.run_ids == ("bf16-c8-0", "bf16-c8-1")


def test_a_level_without_a_run_that_counts_is_shown_and_has_no_standing():
    rows = [run(concurrency=1), run(concurrency=8, y=9_999.0, x=9_999.0, valid=False, codes=("load_not_steady",))]
    light, heavy = configurations(rows)[0].levels
    assert heavy.throughput == Estimate(value=9_999.0)
    assert not heavy.counts
    assert heavy.standing is None
    assert light.standing is Standing.FRONTIER


def test_the_frontier_spans_configurations():
    rows = [run("bf16", 8, x=50.0, y=500.0), run("fp8", 8, x=60.0, y=600.0), run("fp8", 1, x=200.0, y=90.0)]
    stands = {(line.name, level.word): level.standing for line in configurations(rows) for level in line.levels}
    assert stands == {("llama bf16", "8"): Standing.BEATEN, ("llama fp8", "8"): Standing.FRONTIER,
                      ("llama fp8", "1"): Standing.FRONTIER}  # fmt: skip


def test_absent_metrics_stay_absent():
    (level,) = configurations([run(x=None, z=None)])[0].levels
    assert level.interactivity is None
    assert level.metric is None
    assert level.standing is None
    assert level.goodput_pct is None


def test_goodput_is_the_runs_own_or_counted_again_and_never_above_all():
    rows = [run(repeat=r, goodput_pct=share) for r, share in enumerate((99.0, 100.0, 96.0))]
    own = configurations(rows)[0].levels[0].goodput_pct
    assert 96 < own.value < 100
    assert own.high == 100.0
    again = configurations(rows, {row["run_id"]: 50.0 for row in rows})[0].levels[0].goodput_pct
    assert again.value == pytest.approx(50.0)
    nothing = configurations(rows, {})[0].levels[0].goodput_pct
    assert nothing is None
    zero = configurations(rows, {row["run_id"]: 0.0 for row in rows})[0].levels[0].goodput_pct
    assert zero == Estimate(value=0.0)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (Estimate(value=5, low=4, high=6), True),
        (Estimate(value=10, low=9, high=10), True),
        (Estimate(value=10, low=9, high=11), None),
        (Estimate(value=12, low=11, high=13), False),
        (Estimate(value=10), True),
        (Estimate(value=11), False),
        (None, None),
    ],
)
def test_a_limit_is_met_when_the_whole_interval_is_within(value, found):
    assert meets(value, 10.0) is found


def test_the_best_within_a_limit_has_the_most_throughput():
    rows = [run("bf16", c) for c in (1, 8, 64)] + [run("fp8", c, y=110.0 * c) for c in (1, 8, 64)]
    line, level = best_within(configurations(rows), 100.0)
    assert (line.name, level.word) == ("llama fp8", "8")
    assert best_within(configurations(rows), 5.0) is None
    broken = [row | {"valid": False} for row in rows]
    assert best_within(configurations(broken), 1e9) is None
