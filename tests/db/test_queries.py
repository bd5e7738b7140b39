"""The SQL that readers run by name."""

from __future__ import annotations

from importlib.resources import files

LONGEST = 120
"""Characters of a line, as for the rest of the code: ruff looks at Python only."""


def test_lines_are_as_short_as_those_of_the_code():
    queries = [path for path in files("enginewatch_db").joinpath("queries").iterdir() if path.name.endswith(".sql")]
    assert queries
    lines = [(path.name, n, line) for path in queries for n, line in enumerate(path.read_text().splitlines(), 1)]
    assert [(name, n) for name, n, line in lines if len(line) > LONGEST] == []
