"""Tables and sentences that fit the width of a terminal: what is left out, and where a line ends. Pure."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence

_WORD = re.compile(r"(\s*)((?:[^\s`]*`[^`]+`)+\S*|\S+)")
"""A word and the blanks before it; a command in backticks is one word, so that it can be copied."""


def text_width(text: str) -> int:
    """Return the columns of a terminal that the widest line of a text takes.

    East Asian wide characters take two columns and combining ones none (Unicode Standard Annex 11).
    """
    return max((sum(map(_char_width, line)) for line in text.splitlines()), default=0)


def _char_width(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def longest_word(texts: Sequence[str]) -> int:
    """Return the width of the longest word: the narrowest that a column of wrapped texts may be."""
    return max((text_width(word) for text in texts for word in text.split()), default=0)


def widths(columns: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Return the width of each column, where a column is all texts in it, its heading included."""
    return {name: max(map(text_width, texts), default=0) for name, texts in columns.items()}


def fitting(
    columns: Mapping[str, Sequence[str]],
    width: int | None,
    *,
    first_to_go: Sequence[str],
    separator: int,
    reserved: int = 0,
) -> list[str]:
    """Return the columns that fit a window, in their order; no text of them need be cut.

    Args:
        columns: Name → every text in the column, its heading included.
        width: Columns of the window; ``None`` is unlimited.
        first_to_go: Columns to leave out when it is too narrow, the least important first. All others stay, also
            where they do not fit: see ``fits``.
        separator: Characters between two columns.
        reserved: Characters that are taken besides, with their separator.
    """
    chosen = list(columns)
    if width is None:
        return chosen
    for name in first_to_go:
        if fits(columns, chosen, width, separator=separator, reserved=reserved):
            break
        if name in chosen:
            chosen.remove(name)
    return chosen


def fits(
    columns: Mapping[str, Sequence[str]],
    chosen: Sequence[str],
    width: int | None,
    *,
    separator: int,
    reserved: int = 0,
) -> bool:
    """Return whether the chosen columns fit a window uncut; the arguments are those of ``fitting``."""
    if width is None:
        return True
    found = widths(columns)
    return sum(found[name] for name in chosen) + separator * max(len(chosen) - 1, 0) + reserved <= width


def wrapped(text: str, width: int | None, *, indent: str = "") -> str:
    """Return text whose lines end at blanks, never within a word.

    A word that is longer than the window, such as a path, keeps a line of its own, which the terminal folds: copied
    from there, it is whole. A command in backticks is one word.

    Args:
        text: One or more lines.
        width: Columns of the window; ``None`` leaves the text as it is.
        indent: Before the lines that a line is continued by.
    """
    if width is None:
        return text
    return "\n".join(_wrapped_line(line, width, indent) for line in text.split("\n"))


def _wrapped_line(line: str, width: int, indent: str) -> str:
    done, current, empty = [], "", True
    for blanks, word in _WORD.findall(line):
        if not empty and text_width(current + blanks + word) > width:
            done.append(current)
            current = indent + word
        else:
            current += blanks + word
        empty = False
    return "\n".join([*done, current])
