"""Our report scripts, run with a stand-in for the base class that Nsight Systems has."""

from __future__ import annotations

import importlib.util
import sqlite3
import sys
from pathlib import Path
from types import ModuleType

import pytest

from enginewatch_harness import nsys
from enginewatch_harness.nsys.sqlite import read_recording
from enginewatch_harness.nsys.summary import summarize

FOLDER = Path(nsys.__file__).parent / "reports"


class StatsReport:
    """The part of the interface that a script sees: of 2022.4, which the scripts were tried with too."""

    query = ""
    table_checks: dict[str, str] = {}  # noqa: RUF012

    def __init__(self, path):
        self.path = path
        self.connection = sqlite3.connect(path)

    def table_exists(self, name):
        return bool(self.connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (name,)).fetchone())

    def setup(self):
        return next((text for name, text in self.table_checks.items() if not self.table_exists(name)), None)

    def run(self):
        error = self.setup()
        if error is not None:
            return error.format(DBFILE=self.path)
        cursor = self.connection.execute(self.query)
        names = [item[0] for item in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor]


@pytest.fixture
def report(monkeypatch):
    module = ModuleType("nsysstats")
    module.StatsReport = StatsReport
    monkeypatch.setitem(sys.modules, "nsysstats", module)
    opened = []

    def load(name, path):
        spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
        script = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(script)
        (found,) = [item for key, item in vars(script).items() if key.startswith("Enginewatch")]
        # As nsys formats it; versions until 2022 know no other name here.
        assert found.usage.format(SCRIPT=name, ROW_LIMIT=50).startswith(f"{name} -- ")
        opened.append(found(path))
        return opened[-1]

    yield load
    for item in opened:
        item.connection.close()


def launches_first_kernel(path):
    connection = sqlite3.connect(path)
    (found,) = connection.execute("SELECT min(start) FROM CUPTI_ACTIVITY_KIND_KERNEL").fetchone()
    connection.close()
    return found


@pytest.mark.parametrize("schema", ["3.16.1", "3.25.0"])
def test_the_kernel_report_sums_as_we_do(report, launches, schema):
    path = launches(schema=schema)
    found = report("enginewatch_kernel_sum", path).run()
    ours = summarize(read_recording(path)).kernels
    assert [
        (row["Name"], row["Total Time (ns)"], row["Instances"], row["Med (ns)"], row["Grid"], row["Block"])
        for row in found
    ] == [(row.name, row.total_ns, row.calls, row.median_ns, row.grid, row.block) for row in ours]
    assert [row["Time (%)"] for row in found] == [83.2, 16.6, 0.2]
    assert {row["Graph"] for row in found} == {0}


def test_the_median_of_an_even_number_is_between(report, export):
    made = export()
    for index, time_ns in enumerate((10, 40, 20, 90)):
        made.kernel(made.base + 1000 * index, made.base + 1000 * index + time_ns, 1, index, node=index)
    found = report("enginewatch_kernel_sum", made.close()).run()
    assert sorted((row["Graph"], row["Med (ns)"]) for row in found) == [(0, 10), (1, 40)]


def test_the_idle_report_finds_the_gaps_that_we_find(report, launches):
    path = launches(inferences=5)
    found = report("enginewatch_gpu_idle", path).run()
    ours = summarize(read_recording(path))
    # Theirs begins with the first work of all, ours with the first kernel: one gap lies before it.
    theirs = [row["Idle (ns)"] for row in found if row["To (ns)"] != launches_first_kernel(path)]
    assert len(theirs) == ours.gap_count
    assert theirs[: len(ours.gaps)] == [gap.duration_ns for gap in ours.gaps]
    assert found[0]["To (ns)"] - found[0]["From (ns)"] == found[0]["Idle (ns)"]


def test_a_report_without_its_tables_says_so(report, export):
    path = export().close()
    assert "does not contain CUDA kernel data" in report("enginewatch_kernel_sum", path).run()
    assert report("enginewatch_gpu_idle", path).run() == f"{path} does not contain CUDA data."
