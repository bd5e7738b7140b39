"""How long the stages of a session take."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass(slots=True, kw_only=True)
class Stage:
    """Adds the time of a ``with`` block to a stage.

    Attributes:
        name: The stage.
        into: Stage → seconds so far.
        began: When the block was entered, on the monotonic clock in seconds.
    """

    name: str
    into: dict[str, float]
    began: float = 0.0

    def __enter__(self) -> None:
        self.began = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self.into[self.name] = self.into.get(self.name, 0.0) + time.monotonic() - self.began
