import pytest

from enginewatch_collector.backends.replay import load_recording
from enginewatch_collector.buffer import TelemetryBuffer
from enginewatch_collector.reasons import telemetry_reasons

MS = 1_000_000
S = 1_000 * MS
LIMITS = {"gpu0": {"power_limit_mw": 700_000, "max_sm_clock_mhz": 1980}}


def run(values_at, *, seconds=4, quality=None, devices=("gpu0",), window=None, keep=lambda device, k: True):
    """Return the reasons of a run in which tick ``k`` of each device reads ``values_at(k)``."""
    buffer = TelemetryBuffer()
    for device in devices:
        for k in range(seconds * 10 + 1):
            if keep(device, k):
                buffer.add_row("nvml", device, k * 100 * MS, values_at(k))
    quality = {"rate_hz": 10.0} | (quality or {})
    start, end = window or (0, seconds * S)
    return {reason.code: reason.detail for reason in telemetry_reasons(buffer.to_table(), quality, start, end)}


def steady(k):
    return {"sm_clock_mhz": 1980, "clock_event_reasons": 0, "power_mw": 400_000, "power_capped_ns": 0}


def test_a_healthy_run_has_none():
    assert run(steady) == {}


def test_no_rows_in_the_window():
    assert set(run(steady, window=(100 * S, 200 * S))) == {"telemetry_absent"}
    empty = TelemetryBuffer().to_table()
    assert [reason.code for reason in telemetry_reasons(empty, {}, 0, S)] == ["telemetry_absent"]


@pytest.mark.parametrize(("missing", "expected"), [(2, set()), (3, {"telemetry_gaps"})])
def test_gaps_of_more_than_5_percent(missing, expected):
    assert set(run(steady, keep=lambda _, k: not 10 <= k < 10 + missing)) == expected


def test_a_collector_that_ended_early_leaves_a_gap():
    reasons = run(steady, keep=lambda _, k: k < 30)
    assert reasons == {"telemetry_gaps": "gpu0: 25.0 % of the ticks missing"}


@pytest.mark.parametrize(("share", "expected"), [(0.04, set()), (0.06, {"power_capped"})])
def test_power_cap_by_the_counter(share, expected):
    reasons = run(lambda k: steady(k) | {"power_capped_ns": round(k * 100 * MS * share)}, quality={"limits": LIMITS})
    assert set(reasons) == expected


@pytest.mark.parametrize(("power_mw", "limits", "expected"), [(690_000, LIMITS, 1), (600_000, LIMITS, 0), (0, {}, 1)])
def test_power_cap_by_bits_needs_the_limit_to_be_near(power_mw, limits, expected):
    def values(k):
        return {"sm_clock_mhz": 1980, "power_mw": power_mw, "clock_event_reasons": 0x4 if k % 4 == 0 else 0}

    reasons = run(values, quality={"limits": limits})
    assert len(reasons) == expected
    assert all("by sampled clock-event bits" in detail for detail in reasons.values())


@pytest.mark.parametrize(("share", "expected"), [(0.005, set()), (0.02, {"thermally_throttled"})])
def test_heat_by_the_counter(share, expected):
    assert set(run(lambda k: steady(k) | {"thermal_throttle_ns": round(k * 100 * MS * share)})) == expected


@pytest.mark.parametrize(("bits", "expected"), [(0x20, 1), (0x40, 1), (0x8, 0), (0x1, 0)])
def test_heat_by_bits(bits, expected):
    # the only busy clock samples are steady ones
    reasons = run(lambda k: steady(k) | {"clock_event_reasons": bits if k == 5 else 0})
    assert len(reasons) == expected


def test_unstable_clocks():
    assert "varied by 3.4 %" in run(lambda k: steady(k) | {"sm_clock_mhz": 1980 if k % 2 else 1850})["clocks_unstable"]
    assert run(lambda k: steady(k) | {"sm_clock_mhz": 1980 if k % 2 else 1960}) == {}


def test_an_idle_gpu_may_lower_its_clock():
    def values(k):
        return steady(k) | ({"sm_clock_mhz": 345, "clock_event_reasons": 0x1} if k < 20 else {})

    assert run(values) == {}


def test_too_few_clock_samples_say_nothing():
    assert run(lambda k: steady(k) | {"sm_clock_mhz": 1000 + k * 100}, window=(0, 800 * MS)) == {}


def test_a_gpu_lost_after_the_window_does_not_matter():
    def lost(t_ns):
        return {"events": [{"kind": "gpu_lost", "device": "gpu0", "code": "gpu_is_lost", "t_ns": t_ns}]}

    assert run(steady, quality=lost(3 * S), keep=lambda _, k: k < 30) == {"gpu_lost": "gpu0"}
    assert run(steady, quality=lost(5 * S)) == {}


def test_a_neighbour_that_is_not_part_of_the_run_does_not_matter():
    events = [{"kind": "foreign_process", "device": "gpu7", "pid": 1, "name": "x", "when": "start"}]
    assert run(steady, quality={"events": events}) == {}


def test_each_code_comes_once_with_all_its_devices():
    reasons = run(lambda k: steady(k) | {"energy_mj": 1000 if k < 20 else k}, devices=("gpu0", "gpu1"))
    assert reasons == {
        "counter_backwards": "gpu0: energy_mj: the counter ran backwards by 980; "
        "gpu1: energy_mj: the counter ran backwards by 980"
    }


def test_nan_counts_even_when_another_error_was_more_frequent():
    errors = {"sm_active_pct": {"code": "timeout", "count": 9, "codes": {"timeout": 7, "nan": 2}, "devices": ["gpu0"]}}
    assert run(steady, quality={"errors": errors}) == {"nan_telemetry": "sm_active_pct: 2 reads"}


def test_the_recorded_power_cap_is_found_without_counters(data_folder):
    table = load_recording(data_folder / "telemetry-vllm.csv", phase="bf16-c256-rinf")
    times = table.column("t_ns").to_pylist()
    reasons = telemetry_reasons(table, {}, times[0], times[-1])
    assert {reason.code for reason in reasons} == {"power_capped", "clocks_unstable"}


def test_a_steady_recording_has_none(data_folder):
    table = load_recording(data_folder / "telemetry-trtexec.csv", phase="resnet50-fp16-b32")
    times = table.column("t_ns").to_pylist()
    assert telemetry_reasons(table, {}, times[0], times[-1]) == ()


def test_an_empty_window_is_refused():
    with pytest.raises(ValueError, match="is empty"):
        telemetry_reasons(TelemetryBuffer().to_table(), {}, 5, 4)
