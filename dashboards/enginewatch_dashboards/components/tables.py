"""Tables as Arrow, so that types and absent values reach the browser as they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa

Pick = str | Callable[[Any], Any]


def as_table(rows: Sequence[Any], columns: Mapping[str, Pick]) -> pa.Table:
    """Return rows as a table.

    Args:
        rows: What to show.
        columns: Heading → key of the row, or a function of it.
    """
    return pa.table(
        {
            heading: [row[pick] if isinstance(pick, str) else pick(row) for row in rows]
            for heading, pick in columns.items()
        }
    )
