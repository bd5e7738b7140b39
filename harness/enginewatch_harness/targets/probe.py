"""Small HTTP questions to a server, asked before and after the load and never during it."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from enginewatch_db.errors import UsageError
from enginewatch_harness.load.target import Target

PROBE_TIMEOUT_S = 5.0
LIMIT_BYTES = 64 << 20
"""More than any server says about itself; a stream without an end must not fill the memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What a server answered to one question.

    Attributes:
        status: HTTP status.
        body: The whole body.
        content_type: As the server names it; empty where it does not.
    """

    status: int
    body: bytes
    content_type: str = ""

    def json(self) -> Any:  # noqa: ANN401 - a server may answer anything
        """Return the decoded body, or ``None`` where it is no JSON or no good answer."""
        if self.status != 200:
            return None
        try:
            return json.loads(self.body)
        except ValueError:
            return None


Tls = ssl.SSLContext | None
"""How TLS is spoken; ``None`` for plain HTTP, and for the system's certificates."""

Ask = Callable[[str], Reply | None]
"""Asks for a path; ``None`` where the server did not answer at all."""


def get(
    url: str,
    path: str,
    *,
    headers: Mapping[str, str] | None = None,
    tls: Tls = None,
    timeout_s: float = PROBE_TIMEOUT_S,
) -> Reply:
    """Ask for ``path`` on the server at ``url`` over a connection of its own; ``tls`` is the system's by default.

    Raises:
        OSError: No connection, or none in time.
        http.client.HTTPException: The answer is no HTTP.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"{url!r} is no URL of a server", remedy="write http://HOST:PORT")
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        context = tls or ssl.create_default_context()
        connection = http.client.HTTPSConnection(parts.hostname, parts.port, timeout=timeout_s, context=context)
    else:
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout_s)
    try:
        connection.request("GET", parts.path.rstrip("/") + path, headers=dict(headers or {}))
        answer = connection.getresponse()
        body = answer.read(LIMIT_BYTES)
        return Reply(status=answer.status, body=body, content_type=answer.getheader("Content-Type") or "")
    finally:
        connection.close()


def tls_of(url: str, *, ca_file: Path | None = None, verify: bool = True) -> Tls:
    """Return how TLS is spoken with the server at ``url``; ``None`` for plain HTTP.

    Raises:
        UsageError: ``ca_file`` cannot be read.
    """
    return Target(url=url, model="", ca_file=ca_file, verify_tls=verify).tls()


def asker(
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    tls: Tls = None,
    timeout_s: float = PROBE_TIMEOUT_S,
) -> Ask:
    """Return a function that asks the server at ``url``; a server that does not answer gives ``None``."""

    def ask(path: str) -> Reply | None:
        try:
            return get(url, path, headers=headers, tls=tls, timeout_s=timeout_s)
        except (OSError, http.client.HTTPException):
            return None

    return ask
