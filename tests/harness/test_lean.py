"""A measuring process does without pandas, though it is installed."""

import subprocess
import sys

CODE = """
import sys
from enginewatch_harness.lean import leave_out_pandas
if {lean}:
    leave_out_pandas()
import pyarrow as pa
import pyarrow.compute as pc
assert pc.sum(pa.array([1, None, 3])).as_py() == 4
assert pa.table({{"a": [1.5]}}).to_pylist() == [{{"a": 1.5}}]
print("pandas" in sys.modules)
"""


def run(lean):
    return subprocess.run([sys.executable, "-c", CODE.format(lean=lean)], capture_output=True, text=True, check=True)


def test_arrow_works_without_pandas():
    assert run(True).stdout.strip() == "False"
    assert run(False).stdout.strip() == "True"  # else there is nothing to leave out, and lean.py can go


def test_pandas_can_be_let_in_again():
    code = (
        "from importlib.util import find_spec\n"
        "from enginewatch_harness.lean import leave_out_pandas, let_pandas_in\n"
        "leave_out_pandas()\n"
        "let_pandas_in()\n"
        "print(find_spec('pandas') is not None)\n"  # torch's compiler asks exactly so
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "True\n"
