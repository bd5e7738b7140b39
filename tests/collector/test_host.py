from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginewatch_collector.backends import host
from enginewatch_collector.backends.host import CoreTimes, HostBackend, cpu_usage
from enginewatch_collector.quality import QualityLog

core = st.tuples(st.floats(0, 1e6), st.floats(0, 1e6), st.floats(0, 1e6)).map(lambda t: CoreTimes(*t))


def test_shares_between_two_reads():
    before = [CoreTimes(10, 100, 0), CoreTimes(20, 100, 1)]
    after = [CoreTimes(10.3, 100.1, 0.1), CoreTimes(20.0, 100.4, 1)]
    usage = cpu_usage(before, after)
    assert usage.cores == [pytest.approx(75), pytest.approx(0)]
    assert usage.mean == pytest.approx(37.5)
    assert usage.steal == pytest.approx(100 * 0.1 / 0.8)


@given(pairs=st.lists(st.tuples(core, core), min_size=1, max_size=16))
def test_shares_are_percentages_whatever_the_counters_do(pairs):
    usage = cpu_usage([a for a, _ in pairs], [b for _, b in pairs])
    if usage is not None:
        assert all(0 <= share <= 100 for share in (*usage.cores, usage.mean))
        assert -1e-9 <= usage.steal <= usage.mean * len(pairs) + 1e-6


def test_counters_that_have_not_moved_give_nothing():
    assert cpu_usage([CoreTimes(1, 1, 0)], [CoreTimes(1, 1, 0)]) is None


def test_another_number_of_cores_gives_nothing():
    assert cpu_usage([CoreTimes(1, 1, 0)], [CoreTimes(2, 2, 0)] * 2) is None


def test_which_times_are_busy(monkeypatch):
    # guest time is in user and nice already
    one = SimpleNamespace(
        user=1.0, nice=2.0, system=3.0, idle=10.0, iowait=5.0, irq=0.25, softirq=0.5, steal=0.75, guest=9, guest_nice=9
    )
    monkeypatch.setattr(host.psutil, "cpu_times", lambda percpu: [one] if percpu else None)
    assert host._core_times() == [CoreTimes(busy=7.5, idle=15.0, steal=0.75)]


def test_this_host():
    log, backend = QualityLog(), HostBackend()
    backend.open(log)
    (facts,) = backend.devices()
    assert facts["device"] == "host"
    assert facts["logical_cores"] >= 1
    assert facts["memory_mib"] > 0
    (slow,) = backend.read_slow()
    assert 0 < slow.values["host_mem_used_mib"] <= facts["memory_mib"]
    assert slow.values["host_load_1m"] >= 0
    assert slow.t_before_ns <= slow.t_ns <= slow.t_after_ns
    # a frequency, or the reason why there is none
    assert slow.values.get("cpu_freq_mhz", 0) > 0 or log.errors_json()["cpu_freq_mhz"]["code"] == "not_supported"
    # the counters move in steps of 10 ms: read until they have
    reading = next(found for found in iter(backend.read_fast, None) if found)[0]
    assert len(reading.values["cpu_util_core_pct"]) == facts["logical_cores"]
    assert 0 <= reading.values["cpu_util_pct"] <= 100
    backend.close()
