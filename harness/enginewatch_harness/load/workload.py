"""What is asked of the server: the seam between how requests are made up and how they are sent. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedRequest:
    """One request before it is spelt for an endpoint.

    Attributes:
        prompt: The user's text of this turn.
        output_tokens: Tokens to ask for.
        input_tokens: Tokens that the prompt is meant to have, history included; ``None`` where nobody knows.
        session: Number of the multi-turn session; ``None`` where requests stand alone.
        turn: Turn in its session, from 0.
        last_turn: Whether the session ends with it.
        prefix_group: Which shared prefix it begins with; ``None`` without.
        history: Role and text of the turns before, oldest first.
        delay_ns: Least time between the answer of the turn before and this request.
    """

    prompt: str
    output_tokens: int
    input_tokens: int | None = None
    session: int | None = None
    turn: int = 0
    last_turn: bool = True
    prefix_group: int | None = None
    history: tuple[tuple[str, str], ...] = ()
    delay_ns: int = 0


class Workload(Protocol):
    """Requests by number. The same spec and seed give the same ones, in whatever process and order they are asked.

    Attributes:
        estimated: Why prompt lengths are estimates; ``None`` where a tokenizer made them exact.
        notes: What a reader of the numbers needs to know.
    """

    estimated: str | None
    notes: tuple[str, ...]

    def arrivals(self) -> Iterator[int] | None:
        """Return the offsets of the open loop in ns, ascending, finite for a trace; ``None`` in the closed loop."""

    def request(self, number: int) -> PlannedRequest:
        """Return request ``number``, or the first turn of session ``number``; quick enough to call per request."""

    def next_turn(self, before: PlannedRequest, answer: str) -> PlannedRequest:
        """Return the turn after ``before``, which was answered with that text.

        Raises:
            ValueError: ``before`` was the last.
        """

    def think_ns(self, number: int) -> int:
        """Return how long the stream pauses after request ``number``; 0 without a think time."""
