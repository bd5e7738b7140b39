"""What the collector may import, and where."""

import ast
from pathlib import Path

import enginewatch_collector

ROOT = Path(enginewatch_collector.__file__).parent
ONLY_IN = {
    "pynvml": "backends/nvml.py",
    "psutil": "backends/host.py",
    "subprocess": "process.py",
    "click": "cli.py",
    "rich": "cli.py",
}


def imports():
    for path in sorted(ROOT.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module]
            else:
                continue
            for name in names:
                yield path.relative_to(ROOT).as_posix(), name.partition(".")[0]


def test_third_party_libraries_are_imported_in_one_file_each():
    for library, expected in ONLY_IN.items():
        assert {path for path, name in imports() if name == library} == {expected}, library


def test_no_other_component_and_no_database():
    forbidden = {"duckdb", "enginewatch_harness", "enginewatch_ci", "enginewatch_dashboards"}
    assert [(path, name) for path, name in imports() if name in forbidden] == []


def test_files_stay_small():
    lengths = {path.name: len(path.read_text().splitlines()) for path in ROOT.rglob("*.py")}
    assert {name: lines for name, lines in lengths.items() if lines > 400} == {}
