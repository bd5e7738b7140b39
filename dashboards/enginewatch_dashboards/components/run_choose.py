"""Which run is shown: from the URL, or chosen from the newest ones."""

from __future__ import annotations

import re

import streamlit as st

from enginewatch_dashboards import format as fmt
from enginewatch_dashboards.components import empty
from enginewatch_dashboards.components.links import link
from enginewatch_dashboards.components.run_list import run_list
from enginewatch_dashboards.data import Store
from enginewatch_dashboards.state import RunState

_ID = re.compile(r"[0-9a-f-]{4,36}", re.IGNORECASE)
NEWEST_SHOWN = 12


def resolve(store: Store, given: str | None) -> str | None:
    """Return the id of the run that the URL means; otherwise draw what to choose from and return ``None``."""
    if given is None:
        _choose(store, "Choose a run", "The newest runs; all of them are under Runs.")
        return None
    found = store.rows("run_resolve", prefix=given) if _ID.fullmatch(given) else []
    if len(found) == 1:
        return str(found[0]["run_id"])
    if not found:
        _choose(store, "No such run", f"This store has no run whose id begins with `{fmt.plain(given[:60])}`.")
        return None
    st.title("Which run?")
    st.markdown(f"`{given}` is the beginning of several ids.")
    for row in found:
        link(f"{fmt.plain(row['case_key'])}, {fmt.when(row['started_at'])} UTC", RunState(id=row["run_id"]))
    return None


def _choose(store: Store, title: str, text: str) -> None:
    st.title(title)
    empty.nothing(text, "Pick one below, or click a point in a Trend.", icon="speed")
    nothing_chosen = dict.fromkeys(("session", "workload", "backend", "precision", "status", "valid", "case"))
    run_list(store.rows("runs", **nothing_chosen, limit=NEWEST_SHOWN))
