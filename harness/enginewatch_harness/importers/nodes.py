"""Typed access to JSON that someone else wrote: what does not fit is one error that names the place. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from enginewatch_db.errors import UsageError

NS_PER_S = 1_000_000_000
NS_PER_MS = 1_000_000
MAX_TOKENS = 2**31 - 1
"""Token counts are stored as 32-bit integers."""
MAX_NS = 2**62
"""Half of a 64-bit integer: sums of two times still fit."""

MAX_NUMBER = 1e15
"""No number that is read here comes near it (a rate, a latency, a count); clocks in ns are integers."""

EDITED = "the file was edited or damaged: give it as the tool wrote it"


class Node:
    """A JSON value and where it stands.

    Attributes:
        value: The value.
        where: File and path, for messages.
    """

    __slots__ = ("value", "where")

    def __init__(self, value: Any, where: str) -> None:  # noqa: ANN401 (any JSON value)
        self.value = value
        self.where = where

    def bad(self, what: str, key: str | None = None) -> UsageError:
        """Return the error that says what is wrong with this value or with one of its keys."""
        return UsageError(f"{self.where}{f': {key}' if key else ''} {what}", remedy=EDITED)

    def get(self, *path: str) -> Node:
        """Return a value inside; a missing one is a node with ``None``."""
        value, where = self.value, self.where
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
            where = f"{where}: {key}" if where == self.where else f"{where}.{key}"
        return Node(value, where)

    @property
    def absent(self) -> bool:
        """Whether there is no value."""
        return self.value is None

    @property
    def is_object(self) -> bool:
        """Whether it is a JSON object."""
        return isinstance(self.value, dict)

    def items(self) -> Iterator[tuple[str, Node]]:
        """Yield keys and values of an object; nothing of anything else."""
        if isinstance(self.value, dict):
            for key, value in self.value.items():
                yield str(key), Node(value, f"{self.where}: {key}")

    def elements(self) -> list[Node]:
        """Return the elements of a list.

        Raises:
            UsageError: It is neither a list nor absent.
        """
        if self.value is None:
            return []
        if not isinstance(self.value, list):
            raise self.bad("is no list")
        return [Node(value, f"{self.where}[{index}]") for index, value in enumerate(self.value)]

    def text(self) -> str | None:
        """Return a text; ``None`` when absent, empty, or written as ``None``."""
        if self.value is None or self.value in ("", "None"):
            return None
        if not isinstance(self.value, str):
            raise self.bad(f"is no text: {_short(self.value)}")
        return self.value

    def number(self) -> float | None:
        """Return a finite number; ``None`` when absent."""
        if self.value is None:
            return None
        if isinstance(self.value, bool) or not isinstance(self.value, int | float):
            raise self.bad(f"is no number: {_short(self.value)}")
        if isinstance(self.value, float) and not math.isfinite(self.value):
            raise self.bad(f"is {self.value!r}, not a finite number")
        if abs(self.value) > MAX_NS or (isinstance(self.value, float) and abs(self.value) > MAX_NUMBER):
            raise self.bad(f"is too large: {_short(self.value)}")
        return float(self.value)

    def need(self) -> float:
        """Return a finite number that must be there."""
        found = self.number()
        if found is None:
            raise self.bad("is absent")
        return found

    def at_least(self, low: float) -> float | None:
        """Return a number that is not below ``low``; ``None`` when absent."""
        found = self.number()
        if found is not None and found < low:
            raise self.bad(f"is {found:g}, less than {low:g}")
        return found

    def count(self) -> int | None:
        """Return a whole number from 0 on that fits a column; ``None`` when absent."""
        found = self.at_least(0)
        if found is None:
            return None
        if found != int(found) or found > MAX_TOKENS:
            raise self.bad(f"is no count: {_short(self.value)}")
        return int(found)

    def ns(self, unit_ns: float = 1) -> int | None:
        """Return a time in nanoseconds, from a number of ``unit_ns``; ``None`` when absent.

        Integers stay exact: clocks in nanoseconds have more digits than a double.
        """
        found = self.at_least(0)
        if found is None:
            return None
        exact = self.value if isinstance(self.value, int) and unit_ns == 1 else round(found * unit_ns)
        if exact > MAX_NS:
            raise self.bad(f"is {_short(self.value)}, beyond any clock")
        return int(exact)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
