"""URL state: what is written is read back, what cannot be read is the default."""

from __future__ import annotations

from dataclasses import fields
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginewatch_dashboards.state import (
    CHOICES,
    MAX_QUERY_CHARS,
    PAGE_STATES,
    OverviewState,
    RunsState,
    RunState,
    ServingState,
    SqlState,
    TrendState,
    from_serving,
    href,
    parse,
    to_query,
)

WORDS = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=60).filter(str.strip)


def _values(kind):
    def of(field):
        if isinstance(field.default, bool):
            return st.booleans()
        if field.name in CHOICES:
            words = st.sampled_from(CHOICES[field.name])
            return words if field.default is not None else st.none() | words
        return st.none() | WORDS

    return st.builds(kind, **{field.name: of(field) for field in fields(kind)})


@pytest.mark.parametrize("kind", PAGE_STATES, ids=lambda kind: kind.PATH)
@given(data=st.data())
def test_a_link_reopens_exactly_the_view(kind, data):
    state = data.draw(_values(kind))
    assert parse(kind, to_query(state)) == state
    query = dict(parse_qsl(urlsplit(href(state)).query, keep_blank_values=True))
    assert parse(kind, query) == state


@pytest.mark.parametrize("kind", PAGE_STATES, ids=lambda kind: kind.PATH)
@given(
    query=st.dictionaries(
        st.sampled_from(
            ["case", "axis", "zero", "id", "q", "status", "valid", "load", "per", "slo", "by", "base", "x"]
        ),
        st.text(),
    )
)
def test_any_query_string_opens_a_page(kind, query):
    state = parse(kind, query)
    assert isinstance(state, kind)
    for field in fields(kind):
        value = getattr(state, field.name)
        assert value is None or isinstance(value, bool) or value.strip()
        if field.name in CHOICES:
            assert value is None or value in CHOICES[field.name]


def test_defaults_stay_out_of_the_url():
    for kind in PAGE_STATES:
        assert to_query(kind()) == {}
        assert href(kind()) == ("" if kind is OverviewState else kind.PATH)


def test_links_are_short_and_readable():
    state = TrendState(case="resnet50/trtexec/fp16/b8", metric="latency_p99_ms", zero=True)
    assert href(state) == "trend?case=resnet50%2Ftrtexec%2Ffp16%2Fb8&metric=latency_p99_ms&zero=true"
    assert href(RunState(id="01930000-0000")) == "run?id=01930000-0000"
    assert href(RunsState(status="failed")) == "runs?status=failed"
    assert href(ServingState(precision="fp8", slo="250")) == "serving?precision=fp8&slo=250"
    assert href(OverviewState(plan="nightly")) == "?plan=nightly"


def test_wrong_values_become_the_default():
    assert parse(TrendState, {"axis": "sideways", "zero": "maybe", "dots": "FALSE"}) == TrendState(dots=False)
    assert parse(SqlState, {"q": "x" * (MAX_QUERY_CHARS + 1)}) == SqlState()
    assert parse(RunsState, {"status": "exploded"}) == RunsState()


def test_the_way_back_to_a_serving_is_kept():
    view = ServingState(model="llama", counted=True, per="gpu", load="open", metric="itl_p99_ms", slo="20", session="s")
    for kind, own in ((RunState, {"id": "0193"}), (RunsState, {"case": "chat/openai/fp8/c1"})):
        opened = from_serving(kind, view, **own)
        assert parse(ServingState, to_query(opened)) == view
        assert own.items() <= to_query(opened).items()
