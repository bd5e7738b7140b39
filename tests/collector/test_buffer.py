import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enginewatch_collector.backends.base import Reading
from enginewatch_collector.buffer import TelemetryBuffer
from enginewatch_collector.columns import COLUMNS
from enginewatch_db.tables import TELEMETRY

values = st.fixed_dictionaries(
    {},
    optional={
        "cpu_util_pct": st.floats(0, 100, width=32),
        "cpu_util_core_pct": st.lists(st.floats(0, 100, width=32), max_size=4),
        "energy_mj": st.integers(0, 2**63 - 1),
        "clock_event_reasons": st.integers(0, 2**64 - 1),
        "temp_c": st.integers(-20, 120),
    },
).filter(bool)
rows = st.lists(st.tuples(st.sampled_from(["host", "gpu0", "gpu1"]), st.integers(0, 2**62), values), max_size=40)


def test_columns_are_those_of_the_table():
    kinds = {"d": pa.types.is_floating, "q": pa.types.is_signed_integer, "Q": pa.types.is_uint64}
    beside = {"t_ns", "source", "device", "phase"}
    assert {*COLUMNS, *beside} == set(TELEMETRY.names)
    for name, column in COLUMNS.items():
        declared = TELEMETRY.field(name).type
        assert pa.types.is_list(declared) is column.is_list, name
        assert kinds[column.typecode](declared.value_type if column.is_list else declared), name


@settings(deadline=None)
@given(rows=rows)
def test_what_goes_in_comes_out_and_the_rest_is_null(rows):
    buffer = TelemetryBuffer()
    for device, t_ns, found in rows:
        buffer.add_row("x", device, t_ns, found)
    table = buffer.to_table()
    assert table.schema == TELEMETRY
    assert len(buffer) == table.num_rows == len(rows)
    stored = [
        (row["device"], row["t_ns"], {name: row[name] for name in COLUMNS if row[name] is not None})
        for row in table.to_pylist()
    ]
    key = repr
    assert sorted(stored, key=key) == sorted(((d, t, dict(sorted(v.items(), key=_order))) for d, t, v in rows), key=key)
    assert [row[:2] for row in stored] == sorted(row[:2] for row in stored)


def _order(item):
    return list(COLUMNS).index(item[0])


def test_a_reading_is_stamped_with_its_midpoint():
    buffer = TelemetryBuffer()
    buffer.append(Reading(source="host", device="host", t_before_ns=100, t_after_ns=300, values={"host_load_1m": 1.0}))
    (row,) = buffer.to_table().to_pylist()
    assert (row["t_ns"], row["source"], row["device"], row["phase"]) == (200, "host", "host", None)


def test_an_unknown_column_is_refused():
    with pytest.raises(KeyError, match="sm_util"):
        TelemetryBuffer().add_row("x", "gpu0", 1, {"sm_util": 1.0})


def test_no_rows_make_an_empty_table():
    assert TelemetryBuffer().to_table().schema == TELEMETRY
