"""Overview: is anything worse, and can one trust today's numbers?"""

from __future__ import annotations

from datetime import datetime

import streamlit as st

from enginewatch_dashboards import attention, reasons, tiles
from enginewatch_dashboards.components import absent, frame, limits, look_at, overview_head, verdict_list
from enginewatch_dashboards.components.tile import tile
from enginewatch_dashboards.data import MAX_SESSIONS, Row, Store
from enginewatch_dashboards.state import OverviewState, parse
from enginewatch_dashboards.trends import locations
from enginewatch_db.model import Verdict

SPARK_SESSIONS, MAX_RUNS = 20, 5_000
TILE_PX, HALF_PX = 250, 440


def draw(store: Store) -> None:
    """Draw the page."""
    state = parse(OverviewState, st.query_params.to_dict())
    sessions = store.rows("sessions", limit=MAX_SESSIONS)
    plan, session = overview_head.pick(sessions, state)
    shown = tiles.current_sessions(sessions, plan=plan, session=session)
    ids = [row["session_id"] for row in shown]
    cases, verdicts, findings = (store.rows(name, sessions=ids) for name in ("cases", "verdicts", "findings"))
    causes = _causes(store, verdicts)
    overview_head.headline(tiles.headline(cases, verdicts, causes), shown)
    only = verdict_list.verdict_counts(verdicts, state.verdict)
    _tiles(store, tiles.make_tiles(cases, verdicts), until={row["session_id"]: row["started_at"] for row in shown})
    halves = st.grid(2, gap="medium", min_column_width=HALF_PX)
    with halves.cell():
        st.subheader("What to look at")
        look_at.look_at(attention.items(findings, cases, causes), is_judged=bool(verdicts or findings))
    with halves.cell():
        st.subheader("Your limits")
        limits.limits(attention.limit_lines(findings))
    absent.not_available(cases)
    st.subheader("All comparisons")
    verdict_list.verdict_list(verdicts, only)


def _causes(store: Store, verdicts: list[Row]) -> list[reasons.Cause]:
    """Return what spoils many runs of the sessions whose comparisons are open."""
    is_open = (Verdict.INCONCLUSIVE, Verdict.NOT_COMPARABLE)
    ids = {row["session_id"]: None for row in verdicts if row["verdict"] in is_open}
    chosen = dict.fromkeys(("workload", "backend", "precision", "status", "valid", "case"))
    return reasons.causes([run for each in ids for run in store.rows("runs", session=each, **chosen, limit=MAX_RUNS)])


def _tiles(store: Store, items: list[tiles.Tile], *, until: dict[str, datetime]) -> None:
    series = [item.series_id for item in items if item.series_id]
    metrics = sorted({item.metric for item in items if item.metric} | set(tiles.PRIMARY_METRICS))
    spark = store.rows("spark", series=series, metrics=metrics, limit=SPARK_SESSIONS, until=max(until.values()))
    grid = st.grid(4, border=True, min_column_width=TILE_PX)
    for item in items[: tiles.MAX_TILES]:
        end = until[item.session_id]
        mine = [row for row in spark if row["series_id"] == item.series_id and row["started_at"] <= end]
        metric = item.metric or next((m for m in tiles.PRIMARY_METRICS if any(r["metric"] == m for r in mine)), None)
        with grid.cell(), st.container(gap="xxsmall"):
            tile(item, metric, locations([row for row in mine if row["metric"] == metric]))
    if len(items) > tiles.MAX_TILES:
        st.caption(f"{len(items) - tiles.MAX_TILES} more models and devices: choose a plan, or see Runs.")


frame.show(draw)
