"""The frame of every page: open the store, say how fresh it is, draw, and end errors in one clear box."""

from __future__ import annotations

import logging
from collections.abc import Callable

import streamlit as st

from enginewatch_dashboards.components import empty
from enginewatch_dashboards.components.freshness import freshness
from enginewatch_dashboards.data import Store, open_store
from enginewatch_db.errors import EnginewatchError, StorageError
from enginewatch_db.migrate import migrations

_LOG = logging.getLogger(__name__)


def show(draw: Callable[[Store], None]) -> None:
    """Draw a page.

    Args:
        draw: Draws the page's content below the freshness stamp.
    """
    try:
        store = open_store()
    except StorageError as error:
        empty.no_store(error)
        return
    try:
        stamp = store.row("freshness")
        if not stamp or not stamp["runs"]:
            empty.no_runs(store.workspace)
            return
        if stamp["schema_version"] < migrations()[-1].version:
            empty.older_store(stamp["schema_version"], migrations()[-1].version)
            return
        freshness(store, stamp)
        draw(store)
    except EnginewatchError as error:
        error_box(error.message, error.remedy)
    except Exception as error:  # noqa: BLE001 - the page boundary: a person gets a sentence, the log the traceback
        _LOG.exception("page failed")
        error_box(
            f"This page could not be drawn: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}",
            "reload it; if it stays, report this with the dashboard's log from the terminal",
        )


def error_box(message: str, remedy: str | None) -> None:
    """Show what failed and what to do next."""
    st.error(f"**{message}**" + (f"\n\n{remedy}" if remedy else ""), icon=":material/error:")
