"""Thinning in SQL: few points, in order, and no extreme is ever lost."""

from __future__ import annotations

import uuid

import duckdb
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from enginewatch_db.connect import statement
from enginewatch_db.migrate import migrations

RUN = str(uuid.UUID(int=7))
BUCKETS = 20


@pytest.fixture(scope="module")
def database():
    connection = duckdb.connect(":memory:")
    for migration in migrations():
        connection.execute(migration.sql)
    yield connection
    connection.close()


def ask(connection, name, **parameters):
    table = connection.cursor().sql(statement(f"dash_{name}"), params=parameters).to_arrow_table()
    return {column: table.column(column).to_numpy() for column in table.column_names}


def put_samples(connection, starts, latencies):
    connection.execute("DELETE FROM latency_samples")
    samples = {"start_ns": np.asarray(starts, dtype=np.int64), "latency_ns": np.asarray(latencies, dtype=np.int64)}
    connection.execute(
        "INSERT INTO latency_samples (run_id, start_ns, latency_ns) SELECT ?::UUID, unnest(?), unnest(?)",
        [RUN, samples["start_ns"].tolist(), samples["latency_ns"].tolist()],
    )


SERIES = st.integers(1, 400).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(0, 10**12), min_size=n, max_size=n, unique=True).map(sorted),
        st.lists(st.integers(1, 10**10), min_size=n, max_size=n),
    )
)
RELAXED = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)


@RELAXED
@given(SERIES)
def test_samples_keep_ends_and_extremes(database, series):
    starts, latencies = series
    put_samples(database, starts, latencies)
    kept = ask(database, "samples", run=RUN, buckets=BUCKETS)
    pairs = {(round(t * 1e9), round(v * 1e6)) for t, v in zip(kept["t_s"], kept["value"], strict=True)}
    original = set(zip(starts, latencies, strict=True))
    assert {v for _, v in pairs} <= set(latencies)
    assert len(pairs) <= 4 * BUCKETS
    assert (np.diff(kept["t_s"]) >= 0).all()
    assert max(v for _, v in pairs) == max(latencies)
    assert min(v for _, v in pairs) == min(latencies)
    assert round(kept["t_s"][0] * 1e9) == pytest.approx(starts[0], abs=200)
    assert round(kept["t_s"][-1] * 1e9) == pytest.approx(starts[-1], abs=200)
    if len(starts) <= 4 * BUCKETS:
        assert len(pairs) == len(original)


def test_every_bucket_keeps_its_own_spike(database):
    n = 20_000
    latencies = np.full(n, 1_000_000)
    spikes = np.arange(500, n, 1000)
    latencies[spikes] = 5_000_000
    put_samples(database, np.arange(n) * 1_000_000, latencies)
    kept = ask(database, "samples", run=RUN, buckets=BUCKETS)
    assert (kept["value"] == 5.0).sum() == spikes.size
    assert kept["value"].size <= 4 * BUCKETS


@RELAXED
@given(SERIES)
def test_the_cumulative_distribution_keeps_ranks(database, series):
    _, latencies = series
    put_samples(database, range(len(latencies)), latencies)
    kept = ask(database, "values", run=RUN, kind="latency", points=30, tail=10)
    ordered = sorted(latencies)
    assert kept["rank"].size <= 30 + 10 + 1
    assert [round(v * 1e6) for v in kept["value"]] == [ordered[rank - 1] for rank in kept["rank"]]
    assert kept["rank"][0] == 1
    assert kept["rank"][-1] == len(latencies)
    assert (np.diff(kept["rank"]) > 0).all()


@RELAXED
@given(SERIES, st.booleans())
def test_a_histogram_counts_every_sample_once(database, series, log):
    _, latencies = series
    put_samples(database, range(len(latencies)), latencies)
    bins = ask(database, "histogram", run=RUN, kind="latency", bins=25, log=log)
    assert bins["n"].sum() == len(latencies)
    assert bins["bin"].min() >= -1
    assert bins["bin"].max() <= 25
    assert np.unique(bins["bin"]).size == bins["bin"].size
    assert bins["largest"][0] * 1e6 == pytest.approx(max(latencies))
    assert bins["smallest"][0] * 1e6 == pytest.approx(min(latencies))
    edges = (
        np.geomspace(bins["low"][0], bins["high"][0], 26) if log else np.linspace(bins["low"][0], bins["high"][0], 26)
    )
    inside = [v / 1e6 for v in latencies if edges[0] <= v / 1e6 <= edges[-1]]
    counted = bins["n"][(bins["bin"] >= 0) & (bins["bin"] < 25)].sum()
    assert abs(int(counted) - len(inside)) <= 2


def test_empty_runs_give_empty_columns(database):
    for table in ("latency_samples", "llm_requests", "server_samples", "telemetry"):
        database.execute(f"DELETE FROM {table}")
    for name, parameters in (
        ("samples", {"buckets": 5}),
        ("values", {"kind": "itl", "points": 5, "tail": 5}),
        ("histogram", {"kind": "ttft", "bins": 5, "log": True}),
        ("telemetry", {"buckets": 5}),
        ("cores", {"bins": 5}),
        ("requests", {"limit": 5, "slowest": 2, "failed": 2}),
        ("in_flight", {"buckets": 5}),
        ("server_samples", {"buckets": 5}),
        ("serving_met", {"runs": [RUN], "kind": "ttft", "slo_ms": 5.0}),
    ):
        run = {} if "runs" in parameters else {"run": RUN}
        assert all(values.size == 0 for values in ask(database, name, **run, **parameters).values()), name


def put_telemetry(connection, t_ns, power_mw, sm):
    connection.execute("DELETE FROM telemetry")
    connection.execute(
        "INSERT INTO telemetry (run_id, t_ns, source, device, power_mw, sm_active_pct, cpu_util_core_pct) "
        "SELECT ?::UUID, unnest(?), 'nvml', 'gpu0', unnest(?), unnest(?), [10.0, 90.0]",
        [RUN, list(t_ns), list(power_mw), list(sm)],
    )


@RELAXED
@given(st.lists(st.tuples(st.integers(0, 10**6), st.none() | st.integers(0, 100)), min_size=1, max_size=300))
def test_telemetry_keeps_extremes_and_leaves_out_what_was_not_read(database, readings):
    power = [p for p, _ in readings]
    sm = [None if s is None else float(s) for _, s in readings]
    put_telemetry(database, [i * 100_000_000 for i in range(len(readings))], power, sm)
    kept = ask(database, "telemetry", run=RUN, buckets=BUCKETS)
    of_power = kept["value"][kept["name"] == "power_w"]
    assert of_power.max() == pytest.approx(max(power) / 1e3)
    assert of_power.min() == pytest.approx(min(power) / 1e3)
    assert of_power.size <= 4 * BUCKETS
    known = [s for s in sm if s is not None]
    of_sm = kept["value"][kept["name"] == "sm_active_pct"]
    assert of_sm.size == 0 if not known else (of_sm.max(), of_sm.min()) == (max(known), min(known))
    assert set(kept["name"]) <= {"power_w", "sm_active_pct"}


def test_a_short_dip_of_the_clock_survives(database):
    power = [700_000] * 5_000
    power[1_234], power[4_321] = 100_000, 900_000
    put_telemetry(database, [i * 20_000_000 for i in range(5_000)], power, [None] * 5_000)
    kept = ask(database, "telemetry", run=RUN, buckets=BUCKETS)
    assert kept["value"].size <= 4 * BUCKETS
    dips = dict(zip(kept["t_s"], kept["value"], strict=True))
    assert dips[1_234 * 0.02] == 100.0
    assert dips[4_321 * 0.02] == 900.0


def test_cores_keep_their_busiest_moment(database):
    put_telemetry(database, range(0, 10**9, 10**7), [1] * 100, [None] * 100)
    cores = ask(database, "cores", run=RUN, bins=10)
    assert set(zip(cores["core"], cores["value"], strict=True)) == {(0, 10.0), (1, 90.0)}
    assert set(cores["slot"]) == set(range(10))


@RELAXED
@given(st.lists(st.tuples(st.integers(0, 10**9), st.booleans()), min_size=1, max_size=200))
def test_requests_keep_the_slowest_and_the_failed(database, rows):
    database.execute("DELETE FROM llm_requests")
    database.execute(
        "INSERT INTO llm_requests (run_id, request_idx, phase, status, sent_at_ns, e2e_ns) "
        "SELECT ?::UUID, unnest(?), 'measure', unnest(?), unnest(?), unnest(?)",
        [RUN, list(range(len(rows))), ["ok" if ok else "error" for _, ok in rows],
         [i * 1000 for i in range(len(rows))], [e2e for e2e, _ in rows]],
    )  # fmt: skip
    kept = ask(database, "requests", run=RUN, limit=20, slowest=5, failed=7)
    assert len(kept["place"]) <= max(20, min(len(rows), 20 + 5 + 7))
    assert max(e2e for e2e, _ in rows) == pytest.approx(max(kept["e2e_ms"]) * 1e6)
    failed = sum(not ok for _, ok in rows)
    assert (kept["status"] == "error").sum() >= min(failed, 7)
    assert kept["n"][0] == len(rows)
    if len(rows) <= 20:
        assert len(kept["place"]) == len(rows)


def put_requests(connection, rows):
    """Write requests given as dictionaries of columns."""
    connection.execute("DELETE FROM llm_requests")
    for index, row in enumerate(rows):
        row = {"run_id": RUN, "request_idx": index, "phase": "measure", "status": "ok"} | row
        marks = ", ".join("?" for _ in row)
        connection.execute(f"INSERT INTO llm_requests ({', '.join(row)}) VALUES ({marks})", list(row.values()))


def test_a_request_starts_when_it_was_due_else_when_its_connection_was_opened(database):
    put_requests(
        database,
        [
            {
                "intended_at_ns": 1_000_000_000,
                "sent_at_ns": 1_250_000_000,
                "ttft_ns": 300_000_000,
                "e2e_ns": 500_000_000,
            },
            {"sent_at_ns": 2_000_000_000, "connect_ns": 100_000_000, "ttft_ns": 200_000_000, "e2e_ns": 400_000_000},
            {"intended_at_ns": 3_000_000_000, "status": "error", "error_class": "refused"},
            {"status": "error", "error_class": "refused"},
        ],
    )
    kept = ask(database, "requests", run=RUN, limit=9, slowest=1, failed=9)
    assert kept["start_s"].tolist() == pytest.approx([1.0, 1.9, 3.0])
    assert kept["sent_s"].tolist() == pytest.approx([1.25, 2.0, 3.0])
    assert kept["first_s"][:2].tolist() == pytest.approx([1.3, 2.1])
    assert kept["end_s"][:2].tolist() == pytest.approx([1.5, 2.3])
    assert kept["late_ms"][:2].tolist() == pytest.approx([250.0, 100.0])
    assert kept["n"][0] == 3


def test_requests_in_flight_are_those_begun_and_not_ended(database):
    spans = [(0, 10), (2, 3), (5, 5), (20, 1)]
    put_requests(database, [{"sent_at_ns": start, "e2e_ns": length} for start, length in spans]
                 + [{"sent_at_ns": 4, "status": "error"}])  # fmt: skip
    found = ask(database, "in_flight", run=RUN, buckets=100)
    steps = list(zip((found["t_s"] * 1e9).round().astype(int), found["value"], strict=True))
    assert steps == [(0, 1), (2, 2), (5, 2), (10, 0), (20, 1), (21, 0)]


@RELAXED
@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 10**6)), min_size=1, max_size=150))
def test_in_flight_keeps_its_peak_and_ends_at_zero(database, spans):
    database.execute("DELETE FROM llm_requests")
    database.execute(
        "INSERT INTO llm_requests (run_id, request_idx, phase, status, sent_at_ns, e2e_ns) "
        "SELECT ?::UUID, 0, 'measure', 'ok', unnest(?), unnest(?)", [RUN, *map(list, zip(*spans, strict=True))],
    )  # fmt: skip
    found = ask(database, "in_flight", run=RUN, buckets=10)
    edges = sorted({t for start, length in spans for t in (start, start + length)})
    peak = max(sum(start <= t < start + length for start, length in spans) for t in edges)
    assert found["value"].max() == peak
    assert found["value"][-1] == 0
    assert found["value"].min() == 0
    assert found["value"].size <= 40


def put_server(connection, rows):
    connection.execute("DELETE FROM server_samples")
    for row in rows:
        row = {"run_id": RUN, "source": "vllm"} | row
        marks = ", ".join("?" for _ in row)
        connection.execute(f"INSERT INTO server_samples ({', '.join(row)}) VALUES ({marks})", list(row.values()))


def by_name(found):
    names = list(dict.fromkeys(found["name"]))
    return {
        name: list(zip(found["t_s"][found["name"] == name], found["value"][found["name"] == name], strict=True))
        for name in names
    }


def test_counters_of_a_server_become_rates_and_a_restart_is_no_rate(database):
    second = 1_000_000_000
    put_server(
        database,
        [
            {"t_ns": 0, "preemptions": 10, "prefix_query_tokens": 0, "prefix_hit_tokens": 0, "kv_cache_used_pct": 5.0},
            {"t_ns": second, "preemptions": 14, "prefix_query_tokens": 200, "prefix_hit_tokens": 50},
            {"t_ns": 3 * second, "preemptions": 14, "prefix_query_tokens": 200, "prefix_hit_tokens": 50},
            {"t_ns": 4 * second, "preemptions": 1, "prefix_query_tokens": 10, "prefix_hit_tokens": 0},
            {"t_ns": 5 * second, "preemptions": 2, "prefix_query_tokens": 20, "prefix_hit_tokens": 10},
        ],
    )
    found = by_name(ask(database, "server_samples", run=RUN, buckets=100))
    assert found["preemptions_per_s"] == [(1.0, 4.0), (3.0, 0.0), (5.0, 1.0)]
    assert found["prefix_hit_pct"] == [(1.0, 25.0), (5.0, 100.0)]
    assert found["kv_cache_used_pct"] == [(0.0, 5.0)]
    assert set(found) == {"preemptions_per_s", "prefix_hit_pct", "kv_cache_used_pct"}


def test_two_scraped_servers_are_not_mixed(database):
    put_server(
        database,
        [{"t_ns": t, "source": source, "preemptions": n} for source, n0 in (("a", 0), ("b", 1000))
         for t, n in ((0, n0), (10**9, n0 + 2))],
    )  # fmt: skip
    found = ask(database, "server_samples", run=RUN, buckets=100)
    assert list(zip(found["device"], found["value"], strict=True)) == [("a", 2.0), ("b", 2.0)]


def test_a_peak_of_the_queue_survives(database):
    put_server(database, [{"t_ns": i * 10**8, "requests_waiting": 500.0 if i == 777 else 1.0} for i in range(1_000)])
    found = by_name(ask(database, "server_samples", run=RUN, buckets=BUCKETS))["requests_waiting"]
    assert len(found) <= 4 * BUCKETS
    assert (77.7, 500.0) in [(round(t, 3), v) for t, v in found]


@pytest.mark.parametrize(
    ("kind", "limit", "met"), [("ttft", 10, 2), ("ttft", 9.99, 1), ("e2e", 60, 2), ("tpot", 20, 2), ("itl", 30, 2)]
)
def test_what_met_a_limit_counts_failures_and_what_is_unknown_as_misses(database, kind, limit, met):
    ms = 1_000_000
    put_requests(
        database,
        [
            {"ttft_ns": 5 * ms, "e2e_ns": 50 * ms, "tpot_ns": 20 * ms, "itl_ns": [10 * ms, 30 * ms]},
            {"ttft_ns": 10 * ms, "e2e_ns": 10 * ms, "output_tokens": 1, "itl_ns": []},
            {"e2e_ns": 61 * ms, "output_tokens": 9},
            {"ttft_ns": 500 * ms, "e2e_ns": 900 * ms, "tpot_ns": 40 * ms, "itl_ns": [40 * ms]},
            {"status": "error", "error_class": "reset"},
            {"ttft_ns": 1 * ms, "e2e_ns": 1 * ms, "phase": "warmup"},
        ],
    )
    (row,) = [dict(zip(("n", "met"), pair, strict=True)) for pair in
              zip(*(ask(database, "serving_met", runs=[RUN], kind=kind, slo_ms=limit)[key] for key in ("n", "met")),
                  strict=True)]  # fmt: skip
    assert row == {"n": 5, "met": met}
