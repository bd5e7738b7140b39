import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginewatch_collector.quality import MAX_EVENTS, LatencyHistogram, QualityLog


@given(durations=st.lists(st.integers(1, 10**10), min_size=1, max_size=300), level=st.floats(0, 1))
def test_quantiles_are_within_the_stated_error(durations, level):
    histogram = LatencyHistogram()
    for duration in durations:
        histogram.add(duration)
    rank = int(level * (len(durations) - 1))
    exact_us = sorted(durations)[rank] / 1000
    # the result is rounded to 1 ns
    assert histogram.quantile_us(level) == pytest.approx(exact_us, abs=0.022 * exact_us + 0.0006)


def test_no_duration_has_no_quantile():
    assert LatencyHistogram().quantile_us(0.5) is None


def test_a_duration_of_zero_counts():
    histogram = LatencyHistogram()
    histogram.add(0)
    assert histogram.quantile_us(0.99) == 0.001


def test_errors_are_counted_per_metric_code_and_device():
    log = QualityLog()
    for code, device in (("nan", "gpu0"), ("not_supported", "gpu1"), ("nan", "gpu1")):
        log.error("power_mw", code, device)
    assert log.errors_json() == {
        "power_mw": {
            "code": "nan",
            "count": 3,
            "codes": {"nan": 2, "not_supported": 1},
            "devices": ["gpu0", "gpu1"],
        }
    }


def test_a_flood_of_events_is_cut_off_and_counted():
    log = QualityLog()
    for number in range(MAX_EVENTS + 5):
        log.event("noise", number=number)
    assert len(log.events) == MAX_EVENTS
    assert log.events_dropped == 5


def test_devices_that_differ_share_a_label():
    log = QualityLog()
    for value in ("field_75", "fields_269_270", "field_75"):
        log.label("thermal_source", value)
    assert log.labels == {"thermal_source": "field_75+fields_269_270"}
