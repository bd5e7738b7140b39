"""From exchanges to the table: what travels between processes is whole, and the times add up."""

from array import array

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginewatch_db.tables import LLM_REQUESTS
from enginewatch_harness.load.exchange import ErrorClass, Exchange
from enginewatch_harness.load.record import Columns, to_table
from enginewatch_harness.load.workload import PlannedRequest

T0 = 1_000_000

TIMES = st.lists(st.integers(0, 10**9), max_size=5).map(sorted)


@st.composite
def exchanges(draw):
    start = draw(st.integers(T0, T0 + 10**9))
    ok = draw(st.booleans())
    streamed = draw(st.booleans())
    gaps = draw(TIMES) if streamed else []
    if ok and streamed and not gaps:
        gaps = [5]
    exchange = Exchange(
        idx=0,
        phase=draw(st.sampled_from(["warmup", "measure", "drain"])),
        planned=PlannedRequest(prompt="p", output_tokens=4, session=draw(st.none() | st.integers(0, 9))),
        message=b"",
        stream=draw(st.none() | st.integers(0, 3)),
        start_ns=start,
        sent_ns=draw(st.none() | st.just(start)),
        content_ns=array("q", [start + gap for gap in gaps]),
        end_ns=start + 10**9 + 7,
        output_tokens=draw(st.none() | st.integers(1, 9)),
        streamed=streamed,
    )
    if not ok:
        exchange.fail(draw(st.sampled_from(list(ErrorClass))), draw(st.text(max_size=5)))
    return exchange


@given(parts=st.lists(st.lists(exchanges(), max_size=6), min_size=1, max_size=3))
def test_the_table_says_what_each_exchange_says(parts):
    columns = [Columns.unpack(Columns.of(part, number).pack()) for number, part in enumerate(parts)]
    table = to_table(columns, T0)
    assert table.schema == LLM_REQUESTS
    told = [(exchange.start_ns, number, exchange) for number, part in enumerate(parts) for exchange in part]
    told.sort(key=lambda item: item[:2])
    rows = table.to_pylist()
    assert [row["request_idx"] for row in rows] == list(range(len(told)))
    for row, (start, number, exchange) in zip(rows, told, strict=True):
        times = list(exchange.content_ns)
        assert row["process"] == number
        assert row["status"] == ("ok" if exchange.ok else "error")
        assert row["error_class"] == (None if exchange.ok else exchange.error_class)
        assert row["content_events"] == len(times)
        assert row["sent_at_ns"] == (None if exchange.sent_ns is None else start - T0)
        assert (row["session"], row["output_tokens"]) == (exchange.planned.session, exchange.output_tokens)
        if not exchange.ok:
            assert row["ttft_ns"] is row["itl_ns"] is row["e2e_ns"] is row["tpot_ns"] is None
        elif exchange.streamed:
            assert row["ttft_ns"] == times[0] - start
            assert row["e2e_ns"] == times[-1] - start
            assert row["itl_ns"] == np.diff(times).tolist()
            tokens = exchange.output_tokens or len(times)
            apart = tokens > 1 and times[-1] > times[0]  # of one read, nobody can tell
            expected = round((times[-1] - times[0]) / (tokens - 1)) if apart else None
            assert row["tpot_ns"] == expected
        else:
            assert row["ttft_ns"] is row["itl_ns"] is row["tpot_ns"] is None
            assert row["e2e_ns"] == exchange.end_ns - start


def test_columns_that_lost_their_end_are_refused():
    exchange = Exchange(idx=0, phase="measure", planned=PlannedRequest(prompt="", output_tokens=1), message=b"")
    exchange.content_ns.extend([1, 2, 3])
    packed = Columns.of([exchange], 0).pack()
    with pytest.raises(ValueError, match="2 event times for 3 events"):
        Columns.unpack(packed[:-8])


def test_answers_are_counted_by_the_tokenizer_where_there_is_one():
    exchange = Exchange(
        idx=0,
        phase="measure",
        planned=PlannedRequest(prompt="", output_tokens=3, input_tokens=5),
        message=b"",
        text="a b",
    )
    exchange.content_ns.append(4)
    row = to_table([Columns.of([exchange], 0)], 0, count_tokens=lambda text: len(text.split())).to_pylist()[0]
    assert (row["tokenizer_prompt_tokens"], row["tokenizer_output_tokens"]) == (5, 2)


def test_the_prompt_of_a_later_turn_holds_answers_that_nobody_counted():
    planned = (PlannedRequest(prompt="", output_tokens=3, input_tokens=5, session=7, turn=turn) for turn in (0, 1))
    asked = [Exchange(idx=0, phase="measure", planned=each, message=b"") for each in planned]
    rows = to_table([Columns.of(asked, 0)], 0, count_tokens=len).to_pylist()
    assert [(row["asked_prompt_tokens"], row["tokenizer_prompt_tokens"]) for row in rows] == [(5, 5), (5, None)]


def test_no_requests_make_an_empty_table():
    assert to_table([Columns.of([], 0)], 0).num_rows == 0
