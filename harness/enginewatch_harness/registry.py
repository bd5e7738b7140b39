"""The installed backends, found through the entry-point group ``enginewatch.backends``."""

from __future__ import annotations

from functools import cache
from importlib import metadata

from enginewatch_db.errors import UsageError
from enginewatch_db.model import Json
from enginewatch_harness.backends.base import Availability, Backend, ChoosesTool

GROUP = "enginewatch.backends"


@cache
def backend_names() -> tuple[str, ...]:
    """Return the names of the installed backends, sorted."""
    return tuple(sorted(entry.name for entry in metadata.entry_points(group=GROUP)))


@cache
def backend(name: str) -> Backend:
    """Return the backend called ``name``.

    Raises:
        UsageError: No backend has that name, or its plug-in cannot be imported.
    """
    for entry in metadata.entry_points(group=GROUP):
        if entry.name == name:
            try:
                made: Backend = entry.load()()
            except ImportError as error:
                raise UsageError(f"backend {name!r} cannot be imported: {error}") from error
            return made
    raise UsageError(f"there is no backend {name!r}", remedy=f"installed: {', '.join(backend_names())}")


@cache
def availability(name: str) -> Availability:
    """Return whether the backend can work here; asked once in a process."""
    return backend(name).availability()


def availability_for(name: str, options: Json) -> Availability:
    """Return whether the backend can work here with the tool that a case's options name; asked once for each tool."""
    tool = backend(name)
    named = [(key, options.get(key)) for key in tool.tool_options] if isinstance(tool, ChoosesTool) else []
    paths = tuple((key, value) for key, value in named if isinstance(value, str) and value)
    return _availability_with(name, paths) if paths else availability(name)


@cache
def _availability_with(name: str, paths: tuple[tuple[str, str], ...]) -> Availability:
    tool = backend(name)
    return tool.availability_of(dict(paths)) if isinstance(tool, ChoosesTool) else availability(name)
