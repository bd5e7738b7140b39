"""Identity: what changes an id, what does not, and what is refused."""

from __future__ import annotations

import dataclasses
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginewatch_db import ids

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text(max_size=8), json_values, max_size=6))
def test_the_order_of_keys_and_absent_values_change_nothing(value):
    shuffled = dict(reversed(list(value.items())))
    assert ids.content_id(value, "t") == ids.content_id({**shuffled, "surely-new-key": None}, "t")


def test_floats_and_foreign_types_are_refused():
    with pytest.raises(TypeError, match="fixed unit"):
        ids.content_id({"rate": 1.5}, "t")
    with pytest.raises(TypeError, match="not JSON"):
        ids.content_id({"x": object()}, "t")


def test_the_tag_separates_kinds():
    assert ids.content_id({"a": 1}, "x") != ids.content_id({"a": 1}, "y")


@pytest.mark.parametrize(
    "change", [{"precision": "int8"}, {"shapes": {"input": [1, 16, 64]}}, {"options": {"threads": 2}}, {"device": "X"}]
)
def test_whatever_is_measured_differently_is_another_series(make_identity, change):
    assert ids.series_id(make_identity()) != ids.series_id(make_identity(**change))


def test_precision_changes_the_series_and_not_the_scenario(make_identity):
    one, other = make_identity(), make_identity(precision="int8")
    assert ids.scenario_id(one) == ids.scenario_id(other)


def test_series_ids_are_stable_over_releases(make_identity):
    # A new value here would cut every user's history: it needs a new IDENTITY_VERSION instead.
    assert ids.series_id(make_identity()) == "b86c174d-acfc-dcd1-9f2f-c6688e5fd695"
    assert ids.series_id(dataclasses.replace(make_identity(), shapes={})) != ids.series_id(make_identity())


@given(st.integers(0, 2**48 - 1), st.integers(0, 2**48 - 1), st.binary(min_size=10, max_size=10))
def test_run_ids_sort_by_time(one, other, noise):
    first, second = ids.uuid7(one, noise), ids.uuid7(other, noise)
    assert (str(first) < str(second)) == (one < other)
    assert first.version == 7
    assert first.variant == uuid.RFC_4122
