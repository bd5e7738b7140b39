"""One process's driver: which request a pause, a turn and a clock belong to."""

import pytest
import uvloop

from enginewatch_harness.load.driver import Driver
from enginewatch_harness.load.part import run_part
from enginewatch_harness.load.reference_server import ReferenceServer
from enginewatch_harness.load.spec import LoadSpec
from enginewatch_harness.load.synthetic import SyntheticWorkload, prepare_workload
from enginewatch_harness.load.target import Target
from enginewatch_harness.load.tickets import LocalTickets


@pytest.fixture
def server():
    with ReferenceServer(loop_factory=uvloop.new_event_loop) as running:
        yield running


def drive(target, spec, workload, tickets):
    driver = Driver(
        target,
        spec,
        workload,
        tickets,
        warmup_s=0,
        duration_s=1,
        on_phase=lambda phase: None,
        on_progress=lambda completed, median_ms: None,
    )
    run_part(driver, 0)
    return driver


class Thinking(SyntheticWorkload):
    """Notes for which requests it was asked how long a stream pauses."""

    def think_ns(self, number):
        self.thought = [*getattr(self, "thought", ()), number]
        return super().think_ns(number)


class EveryThird(LocalTickets):
    """The numbers that one of three processes gets."""

    def take(self):
        return 3 * super().take() + 1


def test_pauses_are_drawn_for_the_request_whatever_process_sends_it(server):
    spec = LoadSpec(mode="closed", concurrency=1, requests=4, isl=8, osl=2, think_time_s=0.001)
    target = Target(url=server.url, model="m")
    workload = Thinking(prepare_workload(spec, seed=1))
    drive(target, spec, workload, EveryThird(4))
    assert workload.thought == [1, 4, 7, 10]


def test_a_later_turn_of_an_open_loop_is_due_when_the_answer_before_it_has_ended(server):
    spec = LoadSpec(mode="constant", rate_rps=100, concurrency=8, requests=8, isl=8, osl=2, turns=2)
    workload = SyntheticWorkload(prepare_workload(spec, seed=1))
    driver = drive(Target(url=server.url, model="m", endpoint="chat"), spec, workload, LocalTickets(8))
    ended = {exchange.number: exchange.end_ns for exchange in driver.exchanges if exchange.planned.turn == 0}
    later = [exchange for exchange in driver.exchanges if exchange.planned.turn == 1]
    assert later
    assert [exchange.intended_ns for exchange in later] == [ended[exchange.number] for exchange in later]
    assert all(exchange.sent_ns >= exchange.intended_ns for exchange in later)


def test_the_clock_of_a_request_that_is_sent_again_goes_on(server):
    spec = LoadSpec(mode="closed", concurrency=1, requests=6, isl=8, osl=2)
    target = Target(url=server.url, model="m", body={"script": {"close_after": True}})
    driver = drive(target, spec, SyntheticWorkload(prepare_workload(spec, seed=1)), LocalTickets(6))
    assert driver.resent >= 1
    assert all(exchange.ok for exchange in driver.exchanges)
    for exchange in driver.exchanges:
        assert exchange.sent_ns - (exchange.connect_ns or 0) == exchange.start_ns
