"""What the load goes to: a server, an endpoint of it, and how requests to it are spelt. Pure but for TLS files."""

from __future__ import annotations

import json
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, urlsplit

from enginewatch_db.errors import UsageError
from enginewatch_db.model import Json
from enginewatch_harness.load.endpoints import ENDPOINTS, TEXT, TOKENS, Endpoint, spell_text
from enginewatch_harness.load.workload import PlannedRequest

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A served model.

    Attributes:
        url: Root of the server, for example ``http://127.0.0.1:8000``; the endpoint's path is added to it.
        model: Name of the served model.
        endpoint: A key of ``ENDPOINTS``. ``completions`` sends the prompt as it is; ``chat`` lets the server's
            chat template add tokens.
        stream: ``False`` asks for whole answers: they have no token times, only an end.
        min_tokens: Send ``min_tokens`` with the tokens that each request asks for, which vLLM, SGLang and
            TensorRT-LLM understand and other servers may refuse.
        body: Further fields of each request, for example ``{"temperature": 0}``.
        headers: Further headers, for example ``{"Authorization": "Bearer ..."}``.
        timeout_s: Limit of one request from its start to its end.
        outage_s: How long connections may be refused, after the server has answered once, before it counts as
            dead: a server that is restarted under load comes back within this time.
        ca_file: Certificates to trust besides the system's, for ``https``.
        verify_tls: ``False`` accepts any certificate.
    """

    url: str
    model: str
    endpoint: str = "completions"
    stream: bool = True
    min_tokens: bool = False
    body: Json = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    timeout_s: float = 120.0
    outage_s: float = 0.0
    ca_file: Path | None = None
    verify_tls: bool = True

    def address(self) -> tuple[str, int]:
        """Return host and port.

        Raises:
            UsageError: The URL is not ``http[s]://host[:port]``, with or without a path.
        """
        try:
            parts = urlsplit(self.url)
            port = parts.port
        except ValueError:
            parts, port = urlsplit(""), -1
        if parts.scheme not in _PORTS or not parts.hostname or port == -1 or parts.query or parts.fragment:
            raise UsageError(
                f"target URL {self.url!r} cannot be measured", remedy="write http://host:port or https://host:port"
            )
        return parts.hostname, port or _PORTS[parts.scheme]

    def wire(self) -> Endpoint:
        """Return the endpoint.

        Raises:
            UsageError: There is none of that name.
        """
        if self.endpoint not in ENDPOINTS:
            raise UsageError(f"unknown endpoint {self.endpoint!r}", remedy=f"use one of {', '.join(ENDPOINTS)}")
        return ENDPOINTS[self.endpoint]

    def streams(self) -> bool:
        """Return whether answers are streamed."""
        return self.stream and self.wire().streams

    def path(self) -> str:
        """Return the path of each request."""
        wire = self.wire()
        path = wire.path if self.streams() else wire.whole_path or wire.path
        return urlsplit(self.url).path.rstrip("/") + path.replace("{model}", quote(self.model, safe=""))

    def tls(self) -> ssl.SSLContext | None:
        """Return how TLS is spoken; ``None`` for plain HTTP.

        Raises:
            UsageError: ``ca_file`` cannot be read.
        """
        if urlsplit(self.url).scheme != "https":
            return None
        try:
            context = ssl.create_default_context(cafile=None if self.ca_file is None else str(self.ca_file))
        except (OSError, ssl.SSLError) as error:
            raise UsageError(f"cannot read the certificates in {self.ca_file}: {error}") from error
        if not self.verify_tls:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


class RequestWriter:
    """Spells requests: all but the text and its length is encoded once, beforehand."""

    __slots__ = ("_head", "_parts", "_wire")

    def __init__(self, target: Target) -> None:
        self._wire = wire = target.wire()
        body = wire.body(target.model, target.streams())
        if target.min_tokens:
            body["min_tokens"] = TOKENS
        encoded = json.dumps({**body, **target.body}, separators=(",", ":"))
        before, _, after = encoded.partition(json.dumps(TEXT))
        self._parts = (before.encode(), *(part.encode() for part in after.split(str(TOKENS))))
        host, port = target.address()
        headers = {
            "Host": f"[{host}]:{port}" if ":" in host else f"{host}:{port}",
            "Content-Type": "application/json",
            "Accept": "text/event-stream" if target.streams() else "application/json",
            "User-Agent": "enginewatch",
            **target.headers,
        }
        if any("\n" in text or "\r" in text for item in headers.items() for text in item):
            raise UsageError("a header holds a line break", remedy="write each header on one line")
        lines = [f"POST {target.path()} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        self._head = ("\r\n".join(lines) + "\r\nContent-Length: ").encode("latin-1")

    def request(self, planned: PlannedRequest) -> bytes:
        """Return the whole request."""
        before, after, *rest = self._parts
        text, tokens = spell_text(self._wire, planned), b"%d" % planned.output_tokens
        body = b"".join((before, text, tokens.join((after, *rest))))
        return b"%b%d\r\n\r\n%b" % (self._head, len(body), body)
