"""Export: the same rows in every format."""

from __future__ import annotations

import csv
import json

import pyarrow.parquet as pq
import pytest

from enginewatch_db.connect import Reader
from enginewatch_db.errors import StorageError
from enginewatch_db.export import export_table, exportable


@pytest.fixture
def reader(workspace, stored):
    stored("01900000-0000-7000-8000-000000000001", {"encoder/onnxruntime/fp32/b8": 5.0}, repeats=2)
    with Reader.open(workspace) as opened:
        yield opened


def test_every_format_holds_the_same_rows(reader, tmp_path):
    expected = reader.console("SELECT * FROM v_metrics").num_rows
    parquet, rows = export_table(reader, "v_metrics", tmp_path, "parquet")
    assert rows == expected == pq.read_table(parquet).num_rows
    text, _ = export_table(reader, "v_metrics", tmp_path, "csv")
    with text.open(newline="") as handle:
        assert len(list(csv.DictReader(handle))) == expected
    lines, _ = export_table(reader, "v_metrics", tmp_path, "json")
    assert {json.loads(line)["metric"] for line in lines.read_text().splitlines()} >= {"latency_p99_ms"}


def test_lists_survive_csv(reader, tmp_path):
    path, _ = export_table(reader, "telemetry", tmp_path, "csv")
    with path.open(newline="") as handle:
        assert json.loads(next(csv.DictReader(handle))["cpu_util_core_pct"]) == [90.0, 10.0]


def test_all_tables_and_views_are_listed(reader):
    assert {"runs", "telemetry", "v_runs", "v_metrics", "v_telemetry", "v_findings"} <= set(exportable(reader))


def test_a_folder_that_cannot_be_made_is_named(reader, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(StorageError, match="file"):
        export_table(reader, "runs", blocked / "x", "csv")
