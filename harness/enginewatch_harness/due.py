"""When a plan is due. Pure but for the machine's time zone: the clock comes in as an argument."""

from __future__ import annotations

import random
from datetime import datetime, timedelta

from enginewatch_harness.plan_file import ScheduleTable


def next_due(rule: ScheduleTable, after: datetime) -> datetime:
    """Return the first due time later than ``after``, without jitter.

    ``every_minutes`` counts from ``after``; ``at`` names times of day in the machine's zone.
    """
    if rule.every_minutes is not None:
        return after + timedelta(minutes=rule.every_minutes)
    # Times of day are wall-clock times: the offset may differ on the day that they fall on.
    local = after.astimezone().replace(tzinfo=None)
    days = (local, local + timedelta(days=1))
    times = [tuple(int(part) for part in text.split(":")) for text in rule.at]
    found = [day.replace(hour=hour, minute=minute, second=0, microsecond=0) for day in days for hour, minute in times]
    return min(time for time in found if time > local).astimezone()


def with_jitter(rule: ScheduleTable, due: datetime, seed: int) -> datetime:
    """Return ``due`` moved later by up to ``jitter_s``; the same due time and seed give the same delay.

    A restart in between must not draw again, so the delay is a function of the due time.
    """
    generator = random.Random(f"{seed}:{due.isoformat()}")  # noqa: S311 (spreads load, no secret)
    return due + timedelta(seconds=generator.uniform(0, rule.jitter_s))


def first_due(rule: ScheduleTable, last: datetime | None, now: datetime) -> datetime:
    """Return when to run after a start: at once when a due time was missed and ``catch_up`` is on.

    Args:
        rule: The rule.
        last: The due time that was served last; ``None`` when there never was one.
        now: The present.
    """
    if last is None:
        return now if rule.every_minutes is not None else next_due(rule, now)
    due = next_due(rule, last)
    if due > now:
        return due
    if rule.catch_up:
        return now
    while due <= now:
        due = next_due(rule, due)
    return due
