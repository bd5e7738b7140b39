"""What was wrong with the build of an engine, told again by every run of it. Pure."""

from __future__ import annotations

from enginewatch_db.model import EngineRecord
from enginewatch_db.validity import Reason


def build_reasons(engine: EngineRecord | None) -> tuple[Reason, ...]:
    """Return the reasons that are stored with an engine; none where there is no engine."""
    stored = engine.details.get("reasons", []) if engine else []
    return tuple(Reason(code=item["code"], detail=f"build: {item['detail']}") for item in stored)
