"""The NVML backend: the real nvidia-ml-py on a fake library."""

import os
import subprocess
import sys

import pynvml
import pytest

from enginewatch_collector.backends.nvml import GPM_METRICS
from enginewatch_collector.quality import QualityLog
from enginewatch_collector.reasons import telemetry_reasons
from enginewatch_collector.summary import summarise
from enginewatch_db.errors import NotAvailableError

S = 1_000_000_000


def span(table):
    times = table.column("t_ns").to_pylist()
    return min(times), max(times)


def metrics_of(table):
    return {metric.metric: metric for metric in summarise(table, *span(table))}


def test_every_column_of_both_tiers_is_read(fake_nvml, values_of):
    table, log, backend = fake_nvml.sample(ticks=31)
    assert log.errors_json() == {}
    assert log.events == []
    assert values_of(table, "sm_active_pct") == [pytest.approx(95.9)] * 31
    assert set(values_of(table, "dram_bw_pct_of_peak")) == {17.0}
    # in the fake: how many ms the two samples span
    assert set(values_of(table, "pcie_tx_mib_s")) == {100.0}
    assert set(values_of(table, "power_mw")) == {500_000}
    assert set(values_of(table, "gpu_busy_time_pct")) == {98.0}
    assert set(values_of(table, "mem_ctrl_busy_time_pct")) == {23.0}
    assert set(values_of(table, "sm_clock_mhz")) == {1980}
    assert set(values_of(table, "mem_clock_mhz")) == {3201}
    assert set(values_of(table, "temp_c")) == {61}
    assert set(values_of(table, "mem_temp_c")) == {72}
    assert set(values_of(table, "gpu_mem_used_mib")) == {4000}
    assert set(values_of(table, "thermal_throttle_ns")) == {7000}
    assert set(values_of(table, "power_capped_ns")) == {0}
    assert set(values_of(table, "clock_event_reasons")) == {0}
    # 31 ticks and the last read: fast values in each, slow ones once a second and at the end
    assert len(values_of(table, "power_mw")) == 32
    assert len(values_of(table, "energy_mj")) == 5
    (facts,) = backend.devices()
    assert facts["name"] == "Fake H200"
    assert facts["uuid"] == "GPU-00000000-0000-0000-0000-000000000000"
    assert facts["driver"] == "580.159.04"
    assert facts["memory_mib"] == 143_771
    assert facts["power_limit_mw"] == 700_000
    assert (facts["max_sm_clock_mhz"], facts["max_mem_clock_mhz"], facts["bus_width_bits"]) == (1980, 3201, 6016)
    assert facts["dram_peak_gb_s"] == pytest.approx(4814.3)
    assert facts["persistence_mode"] == 1
    assert facts["mig_mode"] is None
    assert facts["absent"] == {"mig_mode": "not_supported"}
    assert facts["processes_start"] == facts["processes_end"] == []


def test_energy_of_the_window_is_the_counter_difference(fake_nvml):
    table, _, _ = fake_nvml.sample(ticks=31)
    start_ns, end_ns = span(table)
    energy = metrics_of(table)["energy_j"]
    assert energy.value == pytest.approx(500 * (end_ns - start_ns) / S, rel=1e-3)
    assert energy.source == "nvml_counter"


def test_gpm_samples_are_never_closer_than_100_ms_and_are_freed(fake_nvml, values_of):
    table, log, _ = fake_nvml.sample(ticks=50, rate_hz=50)
    assert fake_nvml.count("min_spacing_us") >= 100_000
    assert fake_nvml.count("live_samples") == 0
    assert fake_nvml.count("slow_calls") == 0
    assert len(values_of(table, "sm_active_pct")) == 10
    assert log.errors_json() == {}


def test_closing_twice_frees_once(fake_nvml):
    _, _, backend = fake_nvml.sample(ticks=1)
    backend.close()
    assert fake_nvml.count("live_samples") == 0
    assert fake_nvml.count("shutdowns") == 1


def test_gpm_waits_for_a_few_milliseconds_but_not_for_more(fake_nvml):
    backend = fake_nvml.backend()
    backend.open(QualityLog())
    (first,) = backend.read_fast()
    assert "sm_active_pct" not in first.values
    fake_nvml.clock_is(fake_nvml.now_ns + 97_000_000)
    (second,) = backend.read_fast()
    assert fake_nvml.slept_s == [pytest.approx(0.003)]
    assert second.values["sm_active_pct"] == pytest.approx(95.9)
    fake_nvml.clock_is(fake_nvml.now_ns + 60_000_000)
    (third,) = backend.read_fast()
    assert len(fake_nvml.slept_s) == 1
    assert "sm_active_pct" not in third.values
    backend.close()


def test_without_gpm_sm_activity_is_absent_and_busy_time_keeps_its_name(fake_nvml, values_of):
    table, log, backend = fake_nvml.sample("gpm=0")
    assert log.errors_json()["gpm"]["code"] == "not_supported"
    assert backend.devices()[0]["gpm"] is False
    metrics = metrics_of(table)
    assert metrics["sm_active_mean_pct"].value is None
    assert "utilisation rates are not SM utilisation" in metrics["sm_active_mean_pct"].absent_reason
    assert metrics["gpu_busy_time_mean_pct"].value == 98
    assert metrics["gpu_busy_time_mean_pct"].source == "nvml_util"


def test_a_gpm_metric_with_an_error_of_its_own_is_absent_alone(fake_nvml, values_of):
    table, log, _ = fake_nvml.sample(f"gpm_error={GPM_METRICS['tensor_active_pct']}")
    assert values_of(table, "tensor_active_pct") == []
    assert len(values_of(table, "sm_active_pct")) == 31
    error = log.errors_json()["tensor_active_pct"]
    assert (error["code"], error["count"], error["devices"]) == ("not_supported", 31, ["gpu0"])


def test_nan_with_a_success_code_is_absent_and_becomes_a_reason(fake_nvml, values_of):
    table, log, _ = fake_nvml.sample(f"gpm_nan={GPM_METRICS['dram_bw_pct_of_peak']}")
    assert values_of(table, "dram_bw_pct_of_peak") == []
    assert log.errors_json()["dram_bw_pct_of_peak"]["codes"] == {"nan": 31}
    codes = [reason.code for reason in telemetry_reasons(table, {"errors": log.errors_json()}, *span(table))]
    assert codes == ["nan_telemetry"]


def test_an_older_gpu_without_instant_power_is_labelled(fake_nvml, values_of):
    table, log, _backend = fake_nvml.sample(f"no_field={pynvml.NVML_FI_DEV_POWER_INSTANT}")
    assert set(values_of(table, "power_mw")) == {480_000}
    assert log.labels["power_source"] == "power_usage_1s"
    assert len(values_of(table, "power_capped_ns")) == 32


@pytest.mark.parametrize(
    ("options", "source", "value"),
    [
        ("", "fields_269_270", 7000),
        # the driver does not know one of the two counters
        ("no_field=270", "field_75", 75),
        # an older driver gives the ids 269 and 270 to power smoothing
        ("driver=65", "field_75", 75),
        ("driver=65;no_field=75", "clock_event_reasons", None),
    ],
)
def test_thermal_counters_fall_back_and_say_so(fake_nvml, values_of, options, source, value):
    table, log, _ = fake_nvml.sample(options)
    assert log.labels["thermal_source"] == source
    assert set(values_of(table, "thermal_throttle_ns")) == ({value} if value is not None else set())


def test_power_cap_and_heat_become_reasons(fake_nvml):
    table, _log, _ = fake_nvml.sample("throttled=1")
    limits = {"gpu0": {"power_limit_mw": 700_000, "max_sm_clock_mhz": 1980}}
    reasons = {r.code: r for r in telemetry_reasons(table, {"rate_hz": 10.0, "limits": limits}, *span(table))}
    assert set(reasons) == {"thermally_throttled", "power_capped"}
    assert "SM clock 24.2 % under its maximum" in reasons["power_capped"].detail
    assert metrics_of(table)["power_capped_time_pct"].value == pytest.approx(100)
    assert metrics_of(table)["thermal_throttle_time_pct"].value == pytest.approx(100, abs=0.1)


def test_an_energy_counter_that_runs_backwards_gives_no_energy(fake_nvml):
    table, _, _ = fake_nvml.sample("backwards_after=3", ticks=51)
    energy = metrics_of(table)["energy_j"]
    assert energy.value is None
    assert "ran backwards" in energy.absent_reason
    (reason,) = telemetry_reasons(table, {"rate_hz": 10.0}, *span(table))
    assert reason.code == "counter_backwards"
    assert "gpu0: energy_mj" in reason.detail


def test_a_lost_gpu_is_an_event_and_the_others_go_on(fake_nvml, values_of):
    table, log, _ = fake_nvml.sample("gpus=2;lost_after=12", ticks=31)
    (event,) = log.events
    assert (event["kind"], event["device"], event["code"]) == ("gpu_lost", "gpu0", "gpu_is_lost")
    assert 0 < len(values_of(table, "power_mw")) < 12
    assert len(values_of(table, "power_mw", "gpu1")) == 32
    reasons = telemetry_reasons(table, {"events": log.events, "rate_hz": 10.0}, *span(table))
    assert [reason.code for reason in reasons] == ["gpu_lost"]
    assert fake_nvml.count("live_samples") == 0


def test_a_gpu_that_is_lost_from_the_beginning_does_not_crash(fake_nvml):
    table, log, _ = fake_nvml.sample("lost_after=0", ticks=3)
    assert table.num_rows == 0
    assert [event["kind"] for event in log.events] == ["gpu_lost"]


def test_two_gpus_are_read_apart_and_put_together(fake_nvml, values_of):
    table, _, backend = fake_nvml.sample("gpus=2")
    assert [facts["device"] for facts in backend.devices()] == ["gpu0", "gpu1"]
    assert set(values_of(table, "gpu_mem_used_mib", "gpu1")) == {4001}
    metrics = metrics_of(table)
    start_ns, end_ns = span(table)
    assert metrics["energy_j"].value == pytest.approx(2 * 500 * (end_ns - start_ns) / S, rel=1e-3)
    assert metrics["power_mean_w"].value == 500
    assert metrics["gpu_mem_used_max_mib"].value == 4001


def test_only_visible_gpus_are_read(fake_nvml, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    _, _, backend = fake_nvml.sample("gpus=2", ticks=1)
    assert [facts["device"] for facts in backend.devices()] == ["gpu1"]


def test_an_old_driver_misses_calls_but_not_the_rest(fake_nvml_of, values_of):
    fake = fake_nvml_of("old")
    table, log, _ = fake.sample("driver=65", ticks=11)
    errors = log.errors_json()
    assert errors["gpm"]["code"] == "function_not_found"
    # an unversioned call that the library lacks raises NVMLLibraryMismatchError, which is no NVMLError
    assert errors["processes"]["code"] == "library_mismatch"
    assert set(errors) == {"gpm", "processes"}
    # by its older name
    assert values_of(table, "clock_event_reasons") == [0] * 12
    assert len(values_of(table, "power_mw")) == 12


@pytest.mark.parametrize(
    ("code", "name", "remedy"),
    [(9, "driver_not_loaded", "nvidia-smi"), (18, "lib_rm_version_mismatch", "reload"), (999, "unknown", None)],
)
def test_a_library_that_does_not_start_is_not_available(fake_nvml, code, name, remedy):
    fake_nvml.configure(f"init_error={code}")
    with pytest.raises(NotAvailableError, match=name) as raised:
        fake_nvml.backend().open(QualityLog())
    assert raised.value.remedy is None if remedy is None else remedy in raised.value.remedy


def test_no_gpu_is_not_available_and_leaves_nvml(fake_nvml):
    fake_nvml.configure("gpus=0")
    with pytest.raises(NotAvailableError, match="gpu_not_found"):
        fake_nvml.backend().open(QualityLog())
    assert fake_nvml.count("shutdowns") == 1


def test_foreign_work_is_noted_at_the_start_and_at_the_end(fake_nvml):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        table, log, backend = fake_nvml.sample(f"pid={other.pid}", ticks=11)
    processes = backend.devices()[0]["processes_start"]
    assert [(p["pid"], p["used_mib"], p["relation"]) for p in processes] == [(other.pid, 512, "foreign")]
    assert [event["when"] for event in log.events] == ["start", "end"]
    quality = {"events": log.events, "rate_hz": 10.0}
    (reason,) = telemetry_reasons(table, quality, *span(table))
    assert reason.code == "foreign_process"
    assert str(other.pid) in reason.detail
    assert telemetry_reasons(table, quality, *span(table), own_pids=[other.pid]) == ()


def test_the_harness_own_work_is_not_foreign(fake_nvml):
    fake_nvml.configure(f"pid={os.getpid()}")
    log, backend = QualityLog(), fake_nvml.backend(owner_pid=os.getpid())
    backend.open(log)
    backend.close()
    assert backend.devices()[0]["processes_start"][0]["relation"] == "own"
    assert log.events == []
