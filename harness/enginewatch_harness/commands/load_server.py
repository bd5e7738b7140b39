"""The server that ``enginewatch load`` is pointed at: its URL, whether it answers, which model it has."""

from __future__ import annotations

import difflib
import http.client
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from enginewatch_db.errors import BackendError, UsageError
from enginewatch_harness.targets import probe
from enginewatch_harness.targets.identify import identify

ENDPOINT_PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/models", "/v1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A server that answered.

    Attributes:
        url: Its root.
        model: Name of the model in requests.
        family: Which server it is, as far as it tells.
        version: Its version, where it tells.
    """

    url: str
    model: str
    family: str
    version: str | None


def root_url(text: str) -> str:
    """Return the root of a server from what people paste: with or without scheme, ``/v1`` or an endpoint's path.

    Raises:
        UsageError: It is no URL of a server.
    """
    url = text.strip()
    url = (url if "://" in url else f"http://{url}").rstrip("/")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit("http://"), -1
    if parts.scheme not in ("http", "https"):
        raise UsageError(f"{text!r}: there is no load over {parts.scheme}://", remedy="write http:// or https://")
    if not parts.hostname or port == -1 or parts.query or parts.fragment:
        raise UsageError(f"{text!r} is no URL of a server", remedy="write HOST:PORT or http://HOST:PORT")
    if parts.username or parts.password:
        raise UsageError("the URL holds a user or a key, which would be stored", remedy="use --api-key-env VARIABLE")
    for path in ENDPOINT_PATHS:
        url = url.removesuffix(path)
    return url.rstrip("/")


def find_server(
    url: str,
    *,
    model: str | None,
    headers: Mapping[str, str],
    ca_file: Path | None = None,
    verify_tls: bool = True,
) -> Server:
    """Ask the server who it is and which model it serves.

    Raises:
        BackendError: It does not answer (``server_not_ready``).
        UsageError: It wants a key, or the model cannot be told or is not one that it has.
    """
    tls = probe.tls_of(url, ca_file=ca_file, verify=verify_tls)
    try:
        reply = probe.get(url, "/v1/models", headers=headers, tls=tls)
    except ssl.SSLError as error:
        raise BackendError(
            f"TLS with {url} fails: {error}",
            code="server_not_ready",
            remedy="give its certificate with --ca-file, --insecure to trust any, or http:// if it speaks plain HTTP",
        ) from error
    except (OSError, http.client.HTTPException) as error:
        raise BackendError(
            f"no server answers at {url}: {str(error) or type(error).__name__}",
            code="server_not_ready",
            remedy="start it, or correct the URL",
        ) from error
    if reply.status in (401, 403):
        raise UsageError(
            f"{url} refuses with HTTP {reply.status}", remedy="give its key: --api-key-env NAME_OF_A_VARIABLE"
        )
    facts = identify(probe.asker(url, headers=headers, tls=tls))
    chosen = choose_model(model, facts.models, url, status=reply.status)
    return Server(url=url, model=chosen, family=facts.family, version=facts.version)


def choose_model(wanted: str | None, listed: tuple[str, ...], url: str, *, status: int) -> str:
    """Return the model's name in requests: the one that was asked for, else the only one that the server lists.

    Args:
        wanted: The name that was asked for.
        listed: What the server lists.
        url: The server, for messages.
        status: HTTP status of its list.

    Raises:
        UsageError: There are several, none, or not the one that was asked for.
    """
    shown = ", ".join(repr(name) for name in listed[:5]) + (" ..." if len(listed) > 5 else "")
    if wanted is not None:
        if listed and wanted not in listed:
            near = difflib.get_close_matches(wanted, listed, n=1, cutoff=0.3)
            raise UsageError(
                f"{url} has no model {wanted!r}; it lists {shown}",
                remedy=f"did you mean --model {near[0]}?" if near else "name one of them with --model",
            )
        return wanted
    if len(listed) == 1:
        return listed[0]
    if not listed:
        said = "lists no model" if status == 200 else f"answers HTTP {status}, no list of models,"
        raise UsageError(
            f"{url} {said} under /v1/models", remedy="name the model with --model NAME, or correct the URL"
        )
    raise UsageError(f"{url} has {len(listed)} models: {shown}", remedy="name one with --model NAME")
