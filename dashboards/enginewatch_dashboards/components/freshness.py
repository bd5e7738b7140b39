"""How old what is shown is, and whether there is something newer."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import streamlit as st

from enginewatch_dashboards import format as fmt
from enginewatch_dashboards.data import Store, is_outdated
from enginewatch_db.ingest import pending

CHECK_EVERY_S = 10


def freshness(store: Store, stamp: dict[str, Any]) -> None:
    """Show when the newest run ended and when this version of the store was published, and offer newer ones.

    Args:
        store: The version that this page shows.
        stamp: The row of the query ``freshness``.
    """
    now = datetime.now(UTC)
    parts = [
        f"newest run ended {fmt.when(stamp['newest_end'])} UTC ({fmt.ago(stamp['newest_end'], now)})",
        f"{fmt.count(stamp['runs'], 'run')} in {fmt.count(stamp['sessions'], 'session')}",
        f"store of {fmt.when(published_at(store.version))} UTC",
    ]
    if stamp["quarantined"]:
        parts.append(f":orange[{fmt.count(stamp['quarantined'], 'bundle')} in quarantine: `enginewatch db check`]")
    st.caption(" · ".join(parts))
    _newer(store)


@st.fragment(run_every=CHECK_EVERY_S)
def _newer(store: Store) -> None:
    if is_outdated(store):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(":blue-badge[:material/update: newer results are in the store]")
            if st.button("Show them", key="newer", type="tertiary"):
                st.rerun(scope="app")
    elif waiting := pending(store.workspace):
        st.caption(f":orange[{fmt.count(waiting, 'finished run')} not in the store yet: `enginewatch ingest`]")


def published_at(version: str) -> datetime | None:
    """Return when a published copy was made, from its name ``store-<ns since 1970>.duckdb``."""
    digits = Path(version).stem.rpartition("-")[2]
    return datetime.fromtimestamp(int(digits) / 1e9, UTC) if digits.isdigit() else None
