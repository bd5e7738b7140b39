"""Numbers and budget: each given out once, whoever asks."""

import os

import pytest

from enginewatch_harness.load.tickets import EMPTY, NUMBER, LocalTickets, SharedTickets


def test_local_tickets_end_with_their_budget():
    tickets = LocalTickets(2)
    assert [tickets.take() for _ in range(4)] == [0, 1, 2, 3]
    assert [tickets.may_measure() for _ in range(4)] == [True, True, False, False]
    assert all(LocalTickets(None).may_measure() for _ in range(5))


@pytest.fixture
def pipe():
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    yield reading, writing
    os.close(reading)
    os.close(writing)


def test_shared_tickets_go_to_whoever_asks_first(pipe):
    reading, writing = pipe
    budget = os.eventfd(3, os.EFD_SEMAPHORE | os.EFD_NONBLOCK)
    os.write(writing, b"".join(NUMBER.pack(number) for number in (5, 6, 7)))
    one, two = SharedTickets(reading, budget), SharedTickets(reading, budget)
    assert [one.take(), two.take(), one.take(), two.take()] == [5, 6, 7, EMPTY]
    assert [one.may_measure(), two.may_measure(), two.may_measure(), one.may_measure()] == [True, True, True, False]
    assert SharedTickets(reading, None).may_measure()
    os.close(budget)
