"""Keep a process small: leave out packages that a library imports only because they are installed."""

from __future__ import annotations

import importlib.abc
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType


class _LeaveOut(importlib.abc.MetaPathFinder):
    def __init__(self, names: frozenset[str]) -> None:
        self._names = names

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        del path, target
        if fullname in self._names:
            raise ModuleNotFoundError(f"{fullname} is left out of this process", name=fullname)
        return None


def leave_out_pandas() -> None:
    """Make this process behave as if pandas were not installed.

    PyArrow imports it for the sake of conversions that measuring processes do not ask for: a third of a second
    and 30 MB in each.
    """
    if "pandas" not in sys.modules:
        sys.meta_path.insert(0, _LeaveOut(frozenset({"pandas"})))


def let_pandas_in() -> None:
    """Undo ``leave_out_pandas``: torch's compiler asks Python about pandas and takes a refusal for an error."""
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, _LeaveOut)]
