"""What the load goes to: an OpenAI-compatible endpoint, and how its requests are spelt. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from enginewatch_db.errors import UsageError
from enginewatch_db.model import Json

ENDPOINTS: dict[str, str] = {"completions": "/v1/completions", "chat": "/v1/chat/completions"}
_PROMPT = "@@prompt@@"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A served model.

    Attributes:
        url: Root of the server, for example ``http://127.0.0.1:8000``; ``/v1/...`` is added to it.
        model: Name of the served model, sent with each request.
        endpoint: A key of ``ENDPOINTS``. ``completions`` sends the prompt as it is; ``chat`` lets the server's
            chat template add tokens.
        body: Further fields of each request, for example ``{"ignore_eos": True, "temperature": 0}``.
        headers: Further headers, for example ``{"Authorization": "Bearer ..."}``.
        timeout_s: Limit of one request from its start to its end.
    """

    url: str
    model: str
    endpoint: str = "completions"
    body: Json = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    timeout_s: float = 120.0

    def address(self) -> tuple[str, int]:
        """Return host and port.

        Raises:
            UsageError: The URL is not ``http://host[:port]``.
        """
        parts = urlsplit(self.url)
        if parts.scheme != "http" or not parts.hostname or parts.path.strip("/"):
            raise UsageError(
                f"target URL {self.url!r} cannot be measured",
                remedy="give http://host:port without a path; TLS would put its own work between tokens and stamps",
            )
        return parts.hostname, parts.port or 80


class RequestWriter:
    """Spells requests: all but the prompt and its length is encoded once, beforehand."""

    __slots__ = ("_after", "_before", "_head")

    def __init__(self, target: Target, *, max_tokens: int) -> None:
        if target.endpoint not in ENDPOINTS:
            raise UsageError(f"unknown endpoint {target.endpoint!r}", remedy=f"use one of {', '.join(ENDPOINTS)}")
        said = (
            {"prompt": _PROMPT}
            if target.endpoint == "completions"
            else {"messages": [{"role": "user", "content": _PROMPT}]}
        )
        body = {
            "model": target.model,
            **said,
            "max_tokens": max_tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
            **target.body,
        }
        before, _, after = json.dumps(body, separators=(",", ":")).partition(_PROMPT)
        self._before, self._after = before.encode(), after.encode()
        host, port = target.address()
        headers = {
            "Host": f"{host}:{port}",
            "Content-Type": "application/json",
            "Accept": "text/event-stream",
            "User-Agent": "enginewatch",
            **target.headers,
        }
        lines = [
            f"POST {ENDPOINTS[target.endpoint]} HTTP/1.1",
            *(f"{name}: {value}" for name, value in headers.items()),
        ]
        self._head = ("\r\n".join(lines) + "\r\nContent-Length: ").encode("latin-1")

    def request(self, prompt: bytes) -> bytes:
        """Return the whole request for a prompt of ASCII letters and spaces, which JSON does not escape."""
        length = len(self._before) + len(prompt) + len(self._after)
        return b"%b%d\r\n\r\n%b%b%b" % (self._head, length, self._before, prompt, self._after)
