"""A load as one JSON object, for a command line. Pure."""

from __future__ import annotations

from dataclasses import fields

from pydantic import JsonValue, TypeAdapter, ValidationError

from enginewatch_db.errors import UsageError
from enginewatch_harness.load.spec import LoadSpec

_SPEC = TypeAdapter(LoadSpec)
_OBJECT = TypeAdapter(dict[str, JsonValue])


def write_spec(spec: LoadSpec) -> str:
    """Return the fields that differ from their defaults, as JSON."""
    return _SPEC.dump_json(spec, exclude_defaults=True).decode()


def read_spec(text: str) -> LoadSpec:
    """Return what ``write_spec`` wrote, or a person.

    Raises:
        UsageError: It is no JSON object, or a field is unknown, missing or of another type.
    """
    try:
        unknown = _OBJECT.validate_json(text).keys() - {field.name for field in fields(LoadSpec)}
        if unknown:
            known = ", ".join(field.name for field in fields(LoadSpec))
            raise UsageError(f"a load has no field {min(unknown)!r}", remedy=f"it has {known}")
        return _SPEC.validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the load"
        raise UsageError(f"{place}: {first['msg']}", remedy="give a JSON object with at least a mode") from error
