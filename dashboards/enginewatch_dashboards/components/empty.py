"""States without data: each says what is missing and what to do next. No page is ever blank."""

from __future__ import annotations

from typing import Any

import streamlit as st

from enginewatch_dashboards import format as fmt
from enginewatch_dashboards.components.links import link
from enginewatch_dashboards.state import RunsState, RunState
from enginewatch_db.errors import StorageError
from enginewatch_db.ingest import pending
from enginewatch_db.workspace import Workspace


def nothing(title: str, text: str, command: str | None = None, *, icon: str = "hourglass_empty") -> None:
    """Show an empty state.

    Args:
        title: What is missing, in a few words.
        text: Why, and what would change it.
        command: A command that would change it.
        icon: Name of a Material icon.
    """
    with st.container(border=True):
        st.markdown(f"#### :material/{icon}: {title}")
        st.markdown(text)
        if command:
            st.code(command, language="bash")


def no_store(error: StorageError) -> None:
    """Show that there is no store, or that it cannot be read."""
    st.title("No store yet")
    nothing(
        error.message[:1].upper() + error.message[1:],
        "Load recorded runs to look around, or measure on this machine. Then reload this page."
        if error.message.startswith("there is no store")
        else f"{(error.remedy or 'Check the folder that was given with --store').capitalize()}. Then reload this page.",
        "enginewatch demo          # recorded H200 runs, no GPU needed\n"
        "enginewatch run PLAN      # measure what a plan file declares",
        icon="database_off",
    )


def no_runs(workspace: Workspace) -> None:
    """Show that the store is there and holds no run."""
    st.title("No runs yet")
    waiting = pending(workspace)
    if waiting:
        nothing(
            f"{waiting} finished {'run waits' if waiting == 1 else 'runs wait'} in the spool",
            "They were measured and are not in the store yet.",
            "enginewatch ingest",
            icon="inbox",
        )
        return
    nothing(
        "The store is empty",
        f"`{workspace.root}` is ready and nothing was measured yet.",
        "enginewatch run PLAN      # measure what a plan file declares\n"
        "enginewatch demo          # or load recorded H200 runs",
        icon="database",
    )


def older_store(found: int, needed: int) -> None:
    """Show that the published copy was made by an older enginewatch, which knew fewer tables."""
    st.title("The store is of an older version")
    nothing(
        f"It has schema {found}, and these pages read schema {needed}",
        "Nothing is lost: the next ingest brings it up to date, with all of its runs. Then reload this page.",
        "enginewatch ingest",
        icon="update",
    )


def no_values(series: dict[str, Any], run: dict[str, Any]) -> None:
    """Show that a series has runs and none of them brought a value."""
    st.title(series["case_key"])
    word = {"failed": "failed", "not_available": "could not start"}.get(run["status"], "brought no metric")
    nothing(
        f"{fmt.count(series['n_runs'], 'run')}, and no value",
        f"The newest run {word}: {run['failure_message'] or 'see its checklist'}",
        icon="show_chart",
    )
    link("Open that run", RunState(id=run["run_id"]))
    link("All runs without a result", RunsState(workload=series["workload"], backend=series["backend"]))
