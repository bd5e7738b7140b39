"""Numbers, units, intervals and times as people read them."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginewatch_dashboards import format as fmt
from enginewatch_db.metrics import METRICS

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


@given(st.floats(min_value=1e-6, max_value=1e12), st.integers(2, 6))
def test_a_number_keeps_its_leading_digits(value, digits):
    shown = float(fmt.number(value, digits).replace(",", ""))
    assert math.isclose(shown, value, rel_tol=10.0 ** (1 - digits), abs_tol=1e-9)


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_a_number_is_never_nan_or_infinite(value):
    text = fmt.number(value)
    assert "nan" not in text
    assert "inf" not in text
    assert "-" not in text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0.0, "0"), (2.3142, "2.314"), (12345.6, "12,346"), (-3.25, "−3.250"), (0.00012, "0.00012")],
)
def test_numbers(value, text):
    assert fmt.number(value) == text


def test_every_metric_has_a_label_an_axis_and_its_unit():
    labels = {}
    for key, definition in METRICS.items():
        label = fmt.metric_label(key)
        assert label == label.strip()
        assert "_" not in label
        assert labels.setdefault(label, key) == key
        axis = fmt.axis_title(key)
        assert definition.unit == "1" or definition.unit in axis
        arrow = {"lower": "↓", "higher": "↑", "info": None}[definition.direction]
        assert (arrow in axis) if arrow else ("better" not in axis)


def test_unknown_metrics_do_not_fail():
    assert fmt.axis_title("made_up_thing") == "made up thing"
    assert fmt.quantity("made_up_thing", 1.0) == "1.000"


def test_effects_show_sign_and_interval():
    assert fmt.effect(0.118, 0.102, 0.134) == "+11.8 % [+10.2, +13.4]"
    assert fmt.effect(-0.0021, -0.018, 0.014) == "−0.21 % [−1.8, +1.4]"
    assert fmt.effect(2.5, None, None) == "+250 %"
    assert fmt.effect(None, 0.1, 0.2) == "–"


def test_intervals_with_an_open_end():
    assert fmt.interval(1.0, None) == "[1.000, …]"
    assert fmt.interval(None, None) == ""


def test_shares_have_few_digits_and_say_of_what():
    assert fmt.quantity("dram_bw_mean_pct_of_peak", 61.234) == "61.2 % of peak"
    assert fmt.quantity("latency_p50_ms", None) == "–"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (5, "just now"), (61, "1 minute ago"), (7300, "2 hours ago"), (200_000, "2 days ago"),
        (-5, "in the future: a clock is wrong"),
    ],
)  # fmt: skip
def test_how_long_ago(seconds, text):
    assert fmt.ago(NOW - timedelta(seconds=seconds), NOW) == text


@pytest.mark.parametrize(("value", "text"), [(4.5, "4.50 s"), (0.0123, "12.3 ms"), (0.0000012, "1.20 µs"), (None, "–")])
def test_durations(value, text):
    assert fmt.seconds(value) == text


def test_a_hyphen_is_a_minus_only_before_a_number_of_its_own():
    assert fmt.minus("moved by -2.9 % [-4.6 %, -1.1 %]") == "moved by −2.9 % [−4.6 %, −1.1 %]"
    for kept in ("2026-11-21", "c1-i512", "llama-7b", "fp8-2", "--repeats 3", "a/-1", "well-known"):
        assert fmt.minus(kept) == kept


def test_commands_of_a_sentence_are_code_and_the_rest_is_no_markup():
    assert fmt.sentence("accept with `enginewatch accept`") == "accept with `enginewatch accept`"
    assert fmt.sentence("[a] *b* by -1 %") == "\\[a\\] \\*b\\* by −1 %"
    assert fmt.sentence("one ` alone") == "one \\` alone"
    assert fmt.sentence("a bracket `x[-1]`") == "a bracket \\`x\\[-1\\]\\`"
    assert fmt.sentence("`--slo -1` stays") == "`--slo -1` stays"


@given(st.text())
def test_a_sentence_opens_no_link_and_no_emphasis(text):
    shown = re.sub(r"\\.", "", fmt.sentence(text))
    outside = "".join(shown.split("`")[::2])
    assert not set("[]*_<$~") & set(outside)


@given(st.text())
def test_plain_text_has_no_markup_left(text):
    shown = fmt.plain(text)
    bare = shown.replace("\\\\", "").replace("\\`", "").replace("\\*", "").replace("\\_", "")
    assert not any(sign in bare for sign in "`*_")
