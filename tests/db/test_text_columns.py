"""What fits a window: columns are left out whole, sentences end at words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginewatch_db.text_columns import fits, fitting, longest_word, text_width, widths, wrapped

COLUMNS = {"case": ["case", "a/b/c"], "p50": ["p50", "1.25"], "runs": ["runs", "5"]}
ORDER = ("runs", "p50")


@pytest.mark.parametrize(
    ("width", "kept"),
    [(None, "case p50 runs"), (19, "case p50 runs"), (18, "case p50"), (12, "case p50"), (11, "case"), (1, "case")],
)
def test_columns_are_left_out_in_their_order(width, kept):
    assert fitting(COLUMNS, width, first_to_go=ORDER, separator=3) == kept.split()


def test_what_is_reserved_is_not_given_away():
    assert fitting(COLUMNS, 19, first_to_go=ORDER, separator=3, reserved=1) == ["case", "p50"]


@given(
    cells=st.lists(st.lists(st.text("ab\n", max_size=9), min_size=1, max_size=3), min_size=1, max_size=6),
    width=st.integers(0, 60),
    separator=st.integers(0, 4),
)
def test_no_column_is_left_out_without_need(cells, width, separator):
    columns = {str(idx): texts for idx, texts in enumerate(cells)}
    order = list(columns)[1:]
    chosen = fitting(columns, width, first_to_go=order, separator=separator)
    assert chosen == [name for name in columns if name in chosen]
    if chosen != ["0"]:
        assert fits(columns, chosen, width, separator=separator)
    left_out = [name for name in columns if name not in chosen]
    assert left_out == order[: len(left_out)]
    if left_out:
        more = [name for name in columns if name in chosen or name == left_out[-1]]
        assert not fits(columns, more, width, separator=separator)


def test_a_width_is_that_of_the_widest_line_as_a_terminal_shows_it():
    assert text_width("") == 0
    assert text_width("ab\nabc") == 3
    assert text_width("模型") == 4
    assert text_width("e\u0301") == 1
    assert widths({"a": ["heading\nin two", "x"], "b": []}) == {"a": 7, "b": 0}
    assert longest_word(["not comparable", "ok"]) == 10
    assert longest_word([]) == 0


def test_a_sentence_ends_at_words():
    assert wrapped("one two three", 7) == "one two\nthree"
    assert wrapped("one two three", None) == "one two three"
    assert wrapped("one two three", 9, indent="  ") == "one two\n  three"
    assert wrapped("  → do it now", 9, indent="    ") == "  → do it\n    now"
    assert wrapped("one\n\ntwo", 80) == "one\n\ntwo"


def test_paths_and_commands_stay_whole():
    path = "/a/folder/with-a-long/name.json"
    assert wrapped(f"stored in {path}; look", 20) == f"stored in\n{path};\nlook"
    command = '`enginewatch accept 01a1ff9e --reason "why"`'
    assert wrapped(f"make it the baseline: {command}, or not", 50) == f"make it the baseline:\n{command}, or\nnot"
    assert wrapped("a ` alone", 3) == "a `\nalone"


@given(text=st.text(st.sampled_from("ab `-/"), max_size=80), width=st.integers(1, 30))
def test_wrapping_loses_no_word(text, width):
    shown = wrapped(text, width)
    assert shown.split() == text.split()
    for line in shown.splitlines():
        assert text_width(line) <= width or line.count("`") > 1 or not line.strip().count(" ")


@given(text=st.text(max_size=60), width=st.integers(1, 30))
def test_any_text_can_be_wrapped(text, width):
    assert wrapped(text, width).split() == text.split()
