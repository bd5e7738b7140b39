from __future__ import annotations

import numpy as np
import pytest

from enginewatch_ci.comparable import pair_cases
from enginewatch_ci.host import HostShift, cohort, host_shift, normalised
from enginewatch_ci.stats import Sample, estimate_effect


def shift_of(lab, to_arm, before, after):
    pairs, _ = pair_cases(to_arm(lab.session(**before)), to_arm(lab.session(**after)))
    return host_shift(pairs, 0.95)


@pytest.mark.parametrize("factor", [0.9, 1.0, 1.1])
def test_the_hosts_own_change_is_found(lab, to_arm, factor):
    found = shift_of(lab, to_arm, {}, {"host": factor})
    assert found.bounds[0] <= factor - 1 <= found.bounds[1]
    assert found.moved == (factor != 1.0)
    assert found.n_baseline == found.n_candidate == 15


def test_a_slower_case_is_not_a_slower_host(lab, to_arm, cases):
    found = shift_of(lab, to_arm, {}, {"factors": dict.fromkeys(cases, 1.5)})
    assert not found.moved


def test_a_case_with_its_own_sentinel_level_and_unequal_runs_is_no_change(lab, to_arm, cases):
    # Two cases slow the sentinel by 40 % whoever runs them; the candidate has fewer runs of those cases.
    from dataclasses import replace

    def with_trace(records):
        return [
            replace(
                record,
                metrics=tuple(
                    replace(value, value=value.value * 1.4) if value.metric == "host_sentinel_ms" else value
                    for value in record.metrics
                ),
            )
            if record.case_key in cases[:2]
            else record
            for record in records
        ]

    before, after = with_trace(lab.session()), with_trace(lab.session())
    after = [record for record in after if record.case_key == cases[2] or record.repeat < 1]
    pairs, _ = pair_cases(to_arm(before), to_arm(after))
    assert abs(host_shift(pairs, 0.95).rel) < 0.01


def test_without_sentinel_there_is_no_shift(lab, to_arm):
    from dataclasses import replace

    bare = [replace(record, metrics=record.metrics[:1]) for record in lab.session()]
    pairs, _ = pair_cases(to_arm(bare), to_arm(bare))
    assert host_shift(pairs, 0.95) is None
    assert host_shift([], 0.95) is None


def test_taking_the_host_out_of_latency_and_throughput():
    runs = np.array([0.0, 0.01, -0.01, 0.005, -0.005])
    latency = estimate_effect(Sample(logs=runs, key="a"), Sample(logs=runs + 0.1, key="b"), resamples=199)
    rate = estimate_effect(Sample(logs=runs, key="a"), Sample(logs=runs - 0.1, key="b"), resamples=199)
    host = HostShift(shift=0.1, half_width=0.004, n_baseline=9, n_candidate=9)
    low, high = normalised(latency, host, 0.95, faster_is_more=False)
    assert (low + high) / 2 == pytest.approx(0)
    assert (high - low) / 2 == pytest.approx(np.hypot(latency.half_width(0.95), 0.004))
    assert sum(normalised(rate, host, 0.95, faster_is_more=True)) == pytest.approx(0)


def test_a_cohort_needs_three_cases_of_which_two_thirds_move_together():
    up, down, still = (0.1, 0.01), (-0.1, 0.01), (0.005, 0.01)
    assert cohort([up, up]) is None
    assert cohort([up, up, still]).moved == 2
    assert cohort([up, down, still]) is None
    assert cohort([up, up, still, still]) is None
    found = cohort([down, down, down])
    assert found.median_rel < 0
    assert "3 of 3 cases became faster together" in found.text
