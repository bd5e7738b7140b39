"""Widgets whose value lives in the URL, and whose changes the browser's Back button undoes.

``bind="query-params"`` was tried and left: it writes labels instead of values into the URL, and replaces the
browser's history entry, so that Back leaves the page (Streamlit 1.67).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import streamlit as st


def _keep(param: str, key: str) -> None:
    value = st.session_state[key]
    if value is None or value == "":
        st.query_params.pop(param, None)
    else:
        st.query_params[param] = str(value).lower() if isinstance(value, bool) else str(value)


def _seed(key: str, value: object) -> None:
    # The URL is the truth: after a link or Back it differs from what the widget remembers.
    if st.session_state.get(key) != value:
        st.session_state[key] = value


def select(
    label: str,
    options: Sequence[str],
    *,
    param: str,
    value: str | None,
    words: Callable[[str], str] = str,
    any_word: str | None = None,
) -> str | None:
    """Show a list to choose from and return what is chosen.

    Args:
        label: What it is.
        options: Values, as they stand in the URL.
        param: Key in the URL.
        value: What the URL says; anything that is no option counts as nothing chosen.
        words: Value → what is shown.
        any_word: When given, one may choose nothing, and this is shown then.
    """
    key = f"url_{param}"
    _seed(key, value if value in options else None if any_word else options[0])
    chosen: str | None = st.selectbox(
        label,
        options,
        index=None if any_word else 0,
        key=key,
        format_func=words,
        placeholder=any_word,
        on_change=_keep,
        args=(param, key),
    )
    return chosen


def switch(label: str, options: Sequence[str], *, param: str, value: str, words: dict[str, str]) -> str:
    """Show a few words side by side, exactly one of which is chosen, and return its value."""
    key = f"url_{param}"
    _seed(key, value if value in options else options[0])
    chosen = st.segmented_control(
        label,
        options,
        key=key,
        required=True,
        format_func=lambda option: words.get(option, option),
        label_visibility="collapsed",
        on_change=_keep,
        args=(param, key),
    )
    return chosen or options[0]


def pills(label: str, options: Sequence[str], *, param: str, value: str | None, words: dict[str, str]) -> str | None:
    """Show a row of words of which at most one is chosen, and return its value."""
    key = f"url_{param}"
    _seed(key, value if value in options else None)
    chosen: str | None = st.pills(
        label,
        options,
        key=key,
        format_func=lambda option: words.get(option, option),
        label_visibility="collapsed",
        on_change=_keep,
        args=(param, key),
    )
    return chosen


def toggle(label: str, *, param: str, value: bool) -> bool:
    """Show a toggle and return whether it is on."""
    key = f"url_{param}"
    _seed(key, value)
    return bool(st.toggle(label, key=key, on_change=_keep, args=(param, key)))


def _keep_number(param: str, key: str) -> None:
    value = st.session_state[key]
    if value is None:
        st.query_params.pop(param, None)
    else:
        st.query_params[param] = f"{value:g}"


def number(
    label: str, *, param: str, value: float | None, step: float, hint: str, help_text: str | None = None
) -> float | None:
    """Show a field for a number above zero and return it; ``None`` while it is empty.

    Args:
        label: What it is, with its unit.
        param: Key in the URL.
        value: What the URL says.
        step: What one press of its buttons adds.
        hint: What the empty field shows.
        help_text: What is told on asking.
    """
    key = f"url_{param}"
    _seed(key, value)
    found = st.number_input(
        label,
        min_value=0.0,
        value=None,
        step=step,
        format="%g",
        key=key,
        placeholder=hint,
        help=help_text,
        on_change=_keep_number,
        args=(param, key),
    )
    return found or None
