"""The vocabulary holds together: codes, metrics, errors, tables."""

from __future__ import annotations

import pyarrow as pa
import pytest

from enginewatch_db import errors
from enginewatch_db.connect import Reader, writer
from enginewatch_db.errors import EnginewatchError, ExitCode
from enginewatch_db.metrics import METRICS, MetricValue
from enginewatch_db.model import SEVERITY, Verdict
from enginewatch_db.tables import SCHEMAS, conform
from enginewatch_db.validity import Reason, ValidityEffect, is_valid

UNITS = {
    "ms": "_ms",
    "s": "_s",
    "%": "_pct",
    "W": "_w",
    "J": "_j",
    "mJ": "_mj",
    "MiB": "_mib",
    "MHz": "_mhz",
    "°C": "_c",
}


@pytest.mark.parametrize("metric", METRICS.values(), ids=lambda metric: metric.key)
def test_a_metrics_unit_stands_in_its_name(metric):
    suffix = UNITS.get(metric.unit)
    if suffix is not None:
        assert metric.key.endswith(suffix) or metric.key.endswith(f"{suffix}_of_peak")
    assert metric.description.endswith(".")


def test_utilisation_rates_are_never_called_sm_utilisation():
    assert not any("sm_util" in key or "gpu_util" in key for key in METRICS)


def test_a_metric_has_a_value_or_a_reason():
    with pytest.raises(ValueError, match="either a value or the reason"):
        MetricValue(metric="latency_p50_ms", value=None)
    with pytest.raises(ValueError, match="unknown metric"):
        MetricValue(metric="latency", value=1.0)


def test_an_unknown_validity_reason_is_refused():
    with pytest.raises(ValueError, match="unknown validity reason"):
        Reason(code="bad_luck")


def test_one_rejecting_reason_is_enough():
    assert is_valid((Reason(code="tail_undersampled"),))
    assert not is_valid((Reason(code="tail_undersampled"), Reason(code="client_bound")))
    assert Reason(code="client_bound").effect is ValidityEffect.REJECT


def test_every_error_has_an_exit_code_of_the_table():
    kinds = [item for item in vars(errors).values() if isinstance(item, type) and issubclass(item, EnginewatchError)]
    assert len(kinds) >= 14
    assert all(isinstance(kind.exit_code, ExitCode) for kind in kinds)


def test_severity_orders_every_verdict_once():
    assert sorted(SEVERITY) == sorted(Verdict)


def test_conform_fills_orders_and_refuses():
    given = pa.table({"latency_ns": [5], "start_ns": pa.array([1], pa.int32())})
    whole = conform("latency_samples", given)
    assert whole.schema == SCHEMAS["latency_samples"]
    assert whole.column("gpu_ns").null_count == 1
    with pytest.raises(ValueError, match="unknown columns"):
        conform("latency_samples", given.append_column("x", given.column("start_ns")))


def test_the_store_has_the_columns_of_the_bundles(workspace):
    with writer(workspace):
        pass
    with Reader.open(workspace) as reader:
        for name, schema in SCHEMAS.items():
            columns = reader.console(f"SELECT * FROM {name} LIMIT 0").column_names
            assert columns == ["run_id", *schema.names]
