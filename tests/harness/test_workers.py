"""Events of a worker, in whatever pieces they are read."""

from __future__ import annotations

import itertools
import json

from hypothesis import given
from hypothesis import strategies as st

from enginewatch_db.model import Phase
from enginewatch_harness.workers import Followed

EVENTS = [
    {"t_ns": 10, "t0_ns": 10},
    {"t_ns": 20, "phase": "load"},
    {"t_ns": 30, "phase": "measure"},
    {"t_ns": 35, "n": 5, "median_ms": 1.25},
    {"t_ns": 40, "phase": "drain"},
    {"t_ns": 50, "end": True},
]
TEXT = "".join(json.dumps(event) + "\n" for event in EVENTS)


@given(st.lists(st.integers(0, len(TEXT)), max_size=12))
def test_the_pieces_do_not_matter(cuts):
    followed, heard = Followed(), []
    edges = [0, *sorted(cuts), len(TEXT)]
    for start, end in itertools.pairwise(edges):
        followed.drain(TEXT[start:end], lambda n, median_ms: heard.append((n, median_ms)))
    assert heard == [(5, 1.25)]
    assert followed.t0_ns == 10
    marks = [(mark.name, mark.start_ns, mark.end_ns) for mark in followed.phases()]
    assert marks == [(Phase.LOAD, 20, 30), (Phase.MEASURE, 30, 40), (Phase.DRAIN, 40, 50)]


def test_a_worker_that_said_nothing_has_no_phases():
    assert Followed().phases() == ()
