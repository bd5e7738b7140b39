"""The SQL page: the query lives in the URL, refusals are one clear line, results can be taken away."""

from __future__ import annotations

import json

import pytest

from enginewatch_dashboards.components.console import EXAMPLES, as_arrays, one_line
from enginewatch_dashboards.data import open_store


def test_a_query_from_the_url_is_answered(open_page, rich):
    query = "SELECT case_key, count(*) AS runs FROM v_runs GROUP BY ALL ORDER BY ALL"
    app = open_page(rich.workspace, "sql", q=query)
    assert not app.exception
    assert not app.error
    assert app.text_area[0].value == query
    assert list(app.dataframe[0].value.columns) == ["case_key", "runs"]
    assert len(app.dataframe[0].value) == 8
    assert any(code.value == f"enginewatch db query '{query}'" for code in app.code)
    figure = json.loads(app.get("plotly_chart")[0].proto.spec)
    assert figure["layout"]["yaxis"]["title"]["text"] == "runs"


def test_a_typed_query_goes_into_the_url(open_page, rich):
    app = open_page(rich.workspace, "sql")
    assert app.dataframe[0].value.columns[0] == "case_key"
    app.text_area[0].set_value("SELECT 42 AS answer").run()
    assert app.query_params["q"] == "SELECT 42 AS answer"
    assert app.dataframe[0].value["answer"][0] == 42
    app.text_area[0].set_value("").run()
    assert "q" not in app.query_params


@pytest.mark.parametrize(
    ("query", "part"),
    [
        ("DELETE FROM runs", "read-only"),
        ("SELECT * FROM read_csv('/etc/passwd')", "file system operations are disabled"),
        ("SET enable_external_access = true", "configuration has been locked"),
        ("SELECT nonsense FROM runs", "nonsense"),
        ("SELEC 1", "syntax error"),
    ],
)
def test_refusals_are_one_clear_line(open_page, rich, query, part):
    app = open_page(rich.workspace, "sql", q=query)
    assert not app.exception
    message = app.error[0].value.split("\n\n")[0]
    assert part in message
    assert "\n" not in message
    assert "LINE 1" not in message


def test_no_rows_is_not_blank(open_page, rich):
    app = open_page(rich.workspace, "sql", q="SELECT 1 WHERE false")
    assert "returned no row" in app.info[0].value


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_example_runs(rich, monkeypatch, name):
    monkeypatch.setenv("ENGINEWATCH_STORE", str(rich.workspace.root))
    assert open_store().console(EXAMPLES[name]).num_rows > 0


def test_the_schema_is_beside_the_editor(open_page, rich):
    app = open_page(rich.workspace, "sql")
    labels = [expander.label for expander in app.expander]
    assert any(label.startswith("v_runs · view") for label in labels)
    assert any(label.startswith("latency_samples · ") and label.endswith("rows") for label in labels)


def test_any_type_of_column_is_shown(open_page, rich):
    query = (
        "SELECT uuid() AS a, [1, 2] AS b, {'x': 1} AS c, 1.5::DECIMAL(9, 2) AS d, now() AS e, INTERVAL 1 DAY AS f, "
        "NULL AS g, 'x'::BLOB AS h, true AS i, 170141183460469231731687303715884105727 AS j FROM range(3)"
    )
    app = open_page(rich.workspace, "sql", q=query)
    assert not app.exception
    assert not app.error, app.error[0].value
    assert len(app.dataframe[0].value) == 3


def test_charts_take_numbers_times_and_text(rich, monkeypatch):
    monkeypatch.setenv("ENGINEWATCH_STORE", str(rich.workspace.root))
    table = open_store().console(
        "SELECT 1 AS n, 1.5::DECIMAL(9, 2) AS d, now() AS t, 'a' AS s, [1] AS l, NULL::INT AS z"
    )
    assert {name: values.dtype.kind for name, values in as_arrays(table).items()} == {
        "n": "f", "d": "f", "t": "M", "s": "O", "z": "f",
    }  # fmt: skip


def test_one_line():
    message = 'DuckDB refused the query: Parser Error: syntax error at or near "SELEC"\n\nLINE 1: SELEC 1\n        ^'
    assert one_line(message) == 'DuckDB refused the query: Parser Error: syntax error at or near "SELEC"'
