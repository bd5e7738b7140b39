"""Identifiers: run ids that sort by time, and hashes of canonical JSON. Pure but for ``new_run_id``."""

from __future__ import annotations

import hashlib
import json
import os
import time
import unicodedata
import uuid
from dataclasses import asdict
from typing import Any

from enginewatch_db.model import IDENTITY_VERSION, Identity, Json

SCENARIO_FIELDS = ("workload", "model", "load", "device", "device_count")
"""What the user wants; the rest of an identity says how it is met."""


def uuid7(unix_ms: int, randomness: bytes) -> uuid.UUID:
    """Return a version-7 UUID (RFC 9562 section 5.7) from a wall time and ten random bytes."""
    value = int.from_bytes(unix_ms.to_bytes(6, "big") + randomness, "big")
    value = (value & ~(0xF << 76)) | (0x7 << 76)
    value = (value & ~(0x3 << 62)) | (0x2 << 62)
    return uuid.UUID(int=value)


def new_run_id() -> str:
    """Return a fresh id; ids made later sort later (to the millisecond)."""
    return str(uuid7(time.time_ns() // 1_000_000, os.urandom(10)))


def canonical(value: Any) -> Any:  # noqa: ANN401 (any JSON value)
    """Return ``value`` in its canonical form: NFC strings, no ``None`` in objects, lists for tuples.

    Raises:
        TypeError: A float (identities use integers in fixed units) or a value that is not JSON.
    """
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        raise TypeError(f"no floats in an identity ({value!r}): use an integer in a fixed unit, or a string")
    if isinstance(value, str):
        return unicodedata.normalize("NFC", value)
    if isinstance(value, list | tuple):
        return [canonical(item) for item in value]
    if isinstance(value, dict):
        return {canonical(str(key)): canonical(item) for key, item in value.items() if item is not None}
    raise TypeError(f"not JSON: {type(value).__name__}")


def content_id(value: Json, tag: str) -> str:
    """Return the first 128 bits of SHA-256 of ``tag`` and canonical JSON, as a UUID string."""
    text = json.dumps(canonical(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return str(uuid.UUID(bytes=hashlib.sha256(f"{tag}\n{text}".encode()).digest()[:16]))


def series_id(identity: Identity) -> str:
    """Return the id of what may be compared: everything in the identity."""
    return content_id(asdict(identity), f"series/v{IDENTITY_VERSION}")


def scenario_id(identity: Identity) -> str:
    """Return the id of what the user wants, whatever engine meets it."""
    chosen = {key: value for key, value in asdict(identity).items() if key in SCENARIO_FIELDS}
    return content_id(chosen, f"scenario/v{IDENTITY_VERSION}")


def environment_id(environment: Json) -> str:
    """Return the id of an environment (facets: they may differ, and explain)."""
    return content_id({key: str(value) for key, value in environment.items() if value is not None}, "environment/v1")
