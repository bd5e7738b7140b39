"""What is written to a terminal, and what to a file or a pipe."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from enginewatch_db.errors import UsageError
from enginewatch_harness import console

TEXT = "stored in /a/long/folder/of/somebody/store; ask it with `enginewatch db query`"


class Window(io.StringIO):
    """A terminal that remembers."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def window(monkeypatch):
    """A terminal of 40 columns behind stdout and stderr."""
    screen = Window()
    for name in ("out", "err"):
        monkeypatch.setattr(console, name, Console(file=screen, width=40, highlight=False, color_system=None))
    return screen


def test_a_terminal_gets_lines_that_end_at_words(window):
    console.say(TEXT)
    assert window.getvalue().splitlines() == [
        "stored in",
        "/a/long/folder/of/somebody/store; ask it",
        "with `enginewatch db query`",
    ]


def test_a_path_is_never_broken_by_us(window):
    console.say("see /" + "x" * 90 + "/y for it")
    assert window.getvalue().splitlines() == ["see", "/" + "x" * 90 + "/y", "for it"]


def test_an_error_and_its_remedy_are_wrapped_each(window):
    console.complain(UsageError("one two three four five six seven eight", remedy="nine ten eleven twelve thirteen"))
    assert window.getvalue().splitlines() == [
        "enginewatch: one two three four five six",
        "seven eight",
        "  → nine ten eleven twelve thirteen",
    ]


def test_sentences_of_a_result_are_wrapped_and_other_results_are_not(window, monkeypatch):
    monkeypatch.setattr("sys.stdout", window)
    console.result(TEXT)
    console.result_prose("1. one two three four five six seven eight nine", indent="   ")
    assert window.getvalue().splitlines() == [
        TEXT,
        "1. one two three four five six seven",
        "   eight nine",
    ]


def test_a_line_for_machines_stays_one_line(window):
    console.say(TEXT, wrap=False)
    assert window.getvalue() == TEXT + "\n"


def test_a_pipe_gets_long_lines(capsys):
    console.say(TEXT * 4)
    console.result_prose(TEXT * 4)
    console.complain(UsageError(TEXT * 4, remedy=TEXT * 4))
    said = capsys.readouterr()
    assert said.err.splitlines() == [TEXT * 4, f"enginewatch: {TEXT * 4}", f"  → {TEXT * 4}"]
    assert said.out == TEXT * 4 + "\n"
