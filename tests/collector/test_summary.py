import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enginewatch_collector.backends.replay import load_recording
from enginewatch_collector.backends.synthetic import SyntheticBackend
from enginewatch_collector.buffer import TelemetryBuffer
from enginewatch_collector.quality import QualityLog
from enginewatch_collector.sampler import Sampler
from enginewatch_collector.summary import summarise
from enginewatch_db.metrics import METRICS, MetricKind

MS = 1_000_000
S = 1_000 * MS


def by_name(metrics):
    return {metric.metric: metric for metric in metrics}


def table_of(*rows):
    buffer = TelemetryBuffer()
    for device, t_ns, values in rows:
        buffer.add_row("host" if device == "host" else "nvml", device, t_ns, values)
    return buffer.to_table()


def whole(table):
    times = table.column("t_ns").to_pylist()
    return min(times), max(times)


def synthetic(seconds, *, gpus=1, seed=0):
    now_ns = 5 * S

    def clock():
        return now_ns

    buffer, log = TelemetryBuffer(), QualityLog()
    backend = SyntheticBackend(seed=seed, gpus=gpus, clock=clock)
    backend.open(log)

    def wait(deadline_ns):
        nonlocal now_ns
        now_ns = max(now_ns, deadline_ns)
        return now_ns >= (5 + seconds) * S

    Sampler([backend], 10, log, buffer.append, clock=clock).run(wait)
    return buffer.to_table()


def test_all_telemetry_metrics_are_there_or_say_why_not(data_folder):
    table = load_recording(data_folder / "telemetry-vllm.csv", phase="bf16-c256-rinf")
    metrics = by_name(summarise(table, *whole(table), output_tokens=1000))
    assert set(metrics) == {key for key, metric in METRICS.items() if metric.kind is MetricKind.TELEMETRY}
    assert all((metric.value is None) == (metric.absent_reason is not None) for metric in metrics.values())


def test_the_llm_run_at_concurrency_256_of_the_h200(data_folder):
    table = load_recording(data_folder / "telemetry-vllm.csv", phase="bf16-c256-rinf")
    start_ns, end_ns = whole(table)
    metrics = by_name(summarise(table, start_ns, end_ns, output_tokens=100_000))
    energies = table.column("energy_mj").to_pylist()
    assert metrics["energy_j"].value == pytest.approx((energies[-1] - energies[0]) / 1000)
    assert metrics["energy_per_token_mj"].value == pytest.approx((energies[-1] - energies[0]) / 100_000)
    # the energy counter and the sampled power agree
    assert metrics["power_mean_w"].value == pytest.approx(
        metrics["energy_j"].value / ((end_ns - start_ns) / S), rel=0.03
    )
    assert metrics["sm_clock_min_mhz"].value == 1335
    assert metrics["power_max_w"].value == pytest.approx(707.4, abs=0.1)
    assert metrics["power_capped_time_pct"].value == pytest.approx(34.7, abs=0.1)
    assert metrics["power_capped_time_pct"].source == "nvml_reasons"
    assert metrics["sm_active_mean_pct"].source == "gpm"
    assert metrics["gpu_mem_used_max_mib"].value == 88269
    assert metrics["cpu_util_mean_pct"].absent_reason == "no host telemetry"


def test_busy_time_is_far_from_sm_activity(data_folder):
    table = load_recording(data_folder / "telemetry-trtexec.csv", phase="resnet50-fp16-b32")
    metrics = by_name(summarise(table, *whole(table)))
    assert metrics["gpu_busy_time_mean_pct"].value > 90
    assert metrics["sm_active_mean_pct"].value < 60
    assert metrics["gpu_busy_time_mean_pct"].source == "nvml_util"


def test_a_host_without_a_gpu_has_no_gpu_metrics():
    table = table_of(
        ("host", 0, {"cpu_util_pct": 50.0, "cpu_util_core_pct": [100.0, 0.0], "host_mem_used_mib": 10}),
        ("host", 100 * MS, {"cpu_util_pct": 60.0, "cpu_util_core_pct": [80.0, 40.0]}),
        ("host", 200 * MS, {"cpu_util_pct": 70.0, "cpu_util_core_pct": [40.0, 100.0]}),
    )
    metrics = by_name(summarise(table, 0, 200 * MS))
    assert set(metrics) == {
        "cpu_util_mean_pct",
        "cpu_util_max_core_pct",
        "cpu_freq_mean_mhz",
        "host_mem_used_max_mib",
    }
    assert metrics["cpu_util_mean_pct"].value == pytest.approx(65)
    # the busiest core over the window, not the mean of whichever was busiest
    assert metrics["cpu_util_max_core_pct"].value == pytest.approx(70)
    assert metrics["host_mem_used_max_mib"].value == 10
    assert metrics["cpu_freq_mean_mhz"].absent_reason == "host: this host tells no CPU frequency"


def test_rows_with_another_number_of_cores_are_left_out():
    table = table_of(
        ("host", 100 * MS, {"cpu_util_core_pct": [100.0]}),
        ("host", 200 * MS, {"cpu_util_core_pct": [10.0, 20.0]}),
        ("host", 300 * MS, {"cpu_util_core_pct": [30.0, 60.0]}),
    )
    assert by_name(summarise(table, 200 * MS, 300 * MS))["cpu_util_max_core_pct"].value == pytest.approx(60)


def test_several_gpus_become_one_number_as_stated():
    rows = []
    for gpu, watts in (("gpu0", 100), ("gpu1", 300)):
        for t in range(11):
            values = {"power_mw": watts * 1000, "energy_mj": watts * 1000 * t // 10, "sm_clock_mhz": 1000 + watts}
            values |= {"power_capped_ns": t * 100 * MS if gpu == "gpu1" else 0, "sm_active_pct": float(watts) / 10}
            rows.append((gpu, t * 100 * MS, values))
    metrics = by_name(summarise(table_of(*rows), 0, S))
    assert metrics["energy_j"].value == pytest.approx(400)
    assert metrics["power_mean_w"].value == pytest.approx(200)
    assert metrics["power_max_w"].value == pytest.approx(300)
    assert metrics["sm_active_mean_pct"].value == pytest.approx(20)
    assert metrics["sm_clock_min_mhz"].value == 1100
    assert metrics["power_capped_time_pct"].value == pytest.approx(100)
    only = by_name(summarise(table_of(*rows), 0, S, only_devices=["gpu0"]))
    assert only["energy_j"].value == pytest.approx(100)


def test_a_sum_is_absent_when_one_gpu_lacks_its_part():
    table = table_of(
        ("gpu0", 0, {"energy_mj": 0, "power_mw": 5}),
        ("gpu0", S, {"energy_mj": 9, "power_mw": 5}),
        ("gpu1", 0, {"power_mw": 7}),
        ("gpu1", S, {"power_mw": 7}),
    )
    metrics = by_name(summarise(table, 0, S))
    assert metrics["energy_j"].absent_reason == "gpu1: this GPU has no energy counter"
    assert metrics["power_mean_w"].value == pytest.approx(0.006)


def test_throttle_shares_are_at_most_100_percent():
    # counters advance in steps of 100 ms: 150 ms of throttling seem to lie in a window of 100 ms
    table = table_of(("gpu0", 0, {"power_capped_ns": 0}), ("gpu0", 100 * MS, {"power_capped_ns": 150 * MS}))
    assert by_name(summarise(table, 0, 100 * MS))["power_capped_time_pct"].value == 100


def test_energy_per_token_needs_tokens():
    table = table_of(("gpu0", 0, {"energy_mj": 0}), ("gpu0", S, {"energy_mj": 500}))
    assert "energy_per_token_mj" not in by_name(summarise(table, 0, S))
    assert by_name(summarise(table, 0, S, output_tokens=10))["energy_per_token_mj"].value == pytest.approx(50)
    assert "no output tokens" in by_name(summarise(table, 0, S, output_tokens=0))["energy_per_token_mj"].absent_reason
    late = by_name(summarise(table, S, 2 * S, output_tokens=10))
    assert late["energy_per_token_mj"].absent_reason == late["energy_j"].absent_reason


def test_made_up_values_are_labelled():
    table = synthetic(3)
    assert {m.source for m in summarise(table, *whole(table)) if m.value is not None} == {"synthetic"}


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 99), cut=st.floats(0.1, 0.9), gpus=st.integers(1, 3))
def test_energy_of_two_parts_is_the_energy_of_the_whole(seed, cut, gpus):
    table = synthetic(6, gpus=gpus, seed=seed)
    start_ns, end_ns = whole(table)
    middle_ns = start_ns + int(cut * (end_ns - start_ns))
    spans = ((start_ns, middle_ns), (middle_ns, end_ns), (start_ns, end_ns))
    left, right, total = (by_name(summarise(table, *span))["energy_j"].value for span in spans)
    assert left + right == pytest.approx(total, rel=1e-9)
    assert min(left, right) > 0


def test_an_empty_table_has_only_absent_host_metrics():
    metrics = summarise(TelemetryBuffer().to_table(), 0, S)
    assert {metric.absent_reason for metric in metrics} == {"no host telemetry"}
    assert len(metrics) == 4


def test_an_empty_window_is_refused():
    with pytest.raises(ValueError, match="is empty"):
        summarise(TelemetryBuffer().to_table(), 5, 5)


def test_a_chunked_table_in_any_order_gives_the_same(data_folder):
    table = load_recording(data_folder / "telemetry-trtexec.csv", phase="resnet50-fp16-b32")
    shuffled = pa.concat_tables([table.slice(40), table.slice(0, 40)])
    assert summarise(shuffled, *whole(table)) == summarise(table, *whole(table))
