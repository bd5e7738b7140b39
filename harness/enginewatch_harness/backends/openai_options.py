"""Options of the ``openai`` backend, as a plan spells them. Pure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from enginewatch_db.errors import PlanError
from enginewatch_db.model import Json
from enginewatch_harness.backends import option_values as read
from enginewatch_harness.load.endpoints import ENDPOINTS
from enginewatch_harness.targets.identify import FAMILIES
from enginewatch_harness.targets.profiles import PROFILES

MAX_PORT = 65_535
_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSW|CREDENTIAL|AUTH", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAiOptions:
    """Checked options: exactly one of ``url``, ``profile`` and ``command`` says where the server comes from.

    Attributes:
        url: Root of a server that runs already, for example ``http://127.0.0.1:8000``.
        profile: Server to launch for each run: a name in docs/targets.md.
        command: Own launch command: a list with ``{port}``, and ``{model}`` for the model's path or name.
        args: Further arguments of the profile's command.
        env: Environment variables of the launched server; never a secret, which it inherits by itself.
        image: Container image of the profiles ``nim`` and ``triton``.
        tensor_parallel: GPUs that the launched server spreads a layer over.
        server: Which server it is, where it does not tell: ``vllm``, ``sglang``, ``trtllm``, ...
        served_model: Name of the model in requests; ``None``: the only one that the server lists.
        endpoint: A key of ``ENDPOINTS`` (``completions``, ``chat``, ...).
        stream: ``False`` asks for whole answers: no token times.
        body: Further fields of each request; they win over those that the server is known to take.
        api_key_env: Environment variable that holds the key for ``Authorization: Bearer``.
        headers_env: Header → environment variable that holds its value.
        device_name: Product name of the device behind the URL; ``None``: read back where the server was launched here.
        gpus: Devices behind the URL; ``None``: what was launched, or unknown.
        port: Loopback port of a launched server; 0: any free one.
        ready_path: Path that answers 200 when an own ``command`` is ready; ``None``: the profile's, ``/v1/models``.
        ready_timeout_s: How long a launched server may take until it answers.
        stop_grace_s: How long it may take to end before it is killed.
        request_timeout_s: Limit of one request.
        outage_s: How long a server that is restarted under load may refuse connections before it counts as dead.
        ca_file: Certificates to trust besides the system's, for ``https``.
        verify_tls: ``False`` accepts any certificate.
        fresh_prompts: New prompts in each run where a running server may still hold the run before in its prefix
            cache; the seed is noted.
        server_metrics: ``auto`` scrapes what the server offers; ``off`` does not; else the path or URL of its metrics.
        scrape_hz: Scrapes per second.
    """

    url: str | None = None
    profile: str | None = None
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    image: str | None = None
    tensor_parallel: int = 1
    server: str | None = None
    served_model: str | None = None
    endpoint: str = "completions"
    stream: bool = True
    body: Json = field(default_factory=dict)
    api_key_env: str | None = None
    headers_env: dict[str, str] = field(default_factory=dict)
    device_name: str | None = None
    gpus: int | None = None
    port: int = 0
    ready_path: str | None = None
    ready_timeout_s: float = 900.0
    stop_grace_s: float = 20.0
    request_timeout_s: float = 120.0
    outage_s: float = 0.0
    ca_file: str | None = None
    verify_tls: bool = True
    fresh_prompts: bool = True
    server_metrics: str = "auto"
    scrape_hz: float = 1.0

    @property
    def launches(self) -> bool:
        """Whether the server is started here."""
        return self.url is None

    @property
    def family(self) -> str | None:
        """Which server it is, as far as the plan says."""
        return self.server or (PROFILES[self.profile].family if self.profile else None)


def parse_options(options: Json) -> OpenAiOptions:
    """Check the options of a plan.

    Raises:
        PlanError: An unknown option (names the nearest known one), a value of the wrong type or range, a secret, or
            not exactly one source of the server.
    """
    known = [item.name for item in fields(OpenAiOptions)]
    for key in options:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.0)[0]
            raise PlanError(f"unknown openai option {key!r}", remedy=f"did you mean {near!r}?")
    default = OpenAiOptions()
    found = OpenAiOptions(
        url=_url(options),
        profile=read.choice(options, "profile", "", tuple(PROFILES)) if "profile" in options else None,
        command=read.names(options, "command"),
        args=read.names(options, "args"),
        env=_env(options),
        image=read.optional_text(options, "image"),
        tensor_parallel=read.integer(options, "tensor_parallel", 1, low=1),
        server=read.choice(options, "server", "", FAMILIES) if "server" in options else None,
        served_model=read.optional_text(options, "served_model"),
        endpoint=read.choice(options, "endpoint", default.endpoint, tuple(ENDPOINTS)),
        stream=read.flag(options, "stream", default.stream),
        body=dict(_table(options, "body")),
        api_key_env=_variable(options.get("api_key_env"), "api_key_env"),
        headers_env=_headers(options),
        device_name=read.optional_text(options, "device_name"),
        gpus=read.integer(options, "gpus", 1, low=1) if options.get("gpus") is not None else None,
        port=read.integer(options, "port", 0, low=0),
        ready_path=read.optional_text(options, "ready_path"),
        ready_timeout_s=_above_zero(options, "ready_timeout_s", default.ready_timeout_s),
        stop_grace_s=read.positive(options, "stop_grace_s", default.stop_grace_s),
        request_timeout_s=_above_zero(options, "request_timeout_s", default.request_timeout_s),
        outage_s=read.positive(options, "outage_s", default.outage_s),
        ca_file=read.optional_text(options, "ca_file"),
        verify_tls=read.flag(options, "verify_tls", default.verify_tls),
        fresh_prompts=read.flag(options, "fresh_prompts", default.fresh_prompts),
        server_metrics=read.text(options, "server_metrics", default.server_metrics),
        scrape_hz=_above_zero(options, "scrape_hz", default.scrape_hz),
    )
    _check(found)
    return found


def _check(found: OpenAiOptions) -> None:
    sources = [name for name in ("url", "profile", "command") if getattr(found, name)]
    if len(sources) != 1:
        raise PlanError(
            f"the openai backend needs one source of the server, it has {', '.join(sources) or 'none'}",
            remedy='set options.url = "http://HOST:PORT", or profile, or command',
        )
    if found.command and not any("{port}" in part for part in found.command):
        raise PlanError("option command has no {port}", remedy="write {port} where the server takes its port")
    if found.args and not found.profile:
        raise PlanError("option args belongs to a profile", remedy="put them into command")
    if found.port > MAX_PORT:
        raise _bad("port", found.port, f"at most {MAX_PORT}")
    if PROFILES[found.profile].container and found.image is None if found.profile else False:
        raise PlanError(
            f"profile {found.profile!r} runs a container", remedy='name it: image = "nvcr.io/nim/meta/llama-3.1-8b"'
        )


def headers_of(options: OpenAiOptions, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that carry secrets, from the environment.

    Raises:
        PlanError: A variable that the plan names is not set.
    """
    wanted = dict(options.headers_env)
    if options.api_key_env is not None:
        wanted["Authorization"] = options.api_key_env
    found = {}
    for header, variable in wanted.items():
        value = environment.get(variable, "").strip()
        if not value or not value.isprintable():
            raise PlanError(
                f"header {header} takes its value from ${variable}, which is {'unset' if not value else 'no one line'}",
                remedy=f"export {variable}=...",
            )
        found[header] = f"Bearer {value}" if variable == options.api_key_env and header == "Authorization" else value
    return found


def _bad(key: str, value: object, expected: str) -> PlanError:
    return PlanError(f"option {key} = {value!r} must be {expected}", remedy="correct options in the plan")


def _url(options: Json) -> str | None:
    url = read.optional_text(options, "url")
    if url is not None and "@" in url:
        # Not shown: what stands before the @ may be a password.
        raise PlanError("option url holds a user", remedy="put the key into the environment and name it: api_key_env")
    if url is not None and not re.fullmatch(r"https?://[^/\s]+(/\S*)?", url):
        raise PlanError(f"option url = {url!r} is no URL of a server", remedy="write http://HOST:PORT")
    return url.rstrip("/").removesuffix("/v1") if url else None


def _table(options: Json, key: str) -> Mapping[str, Any]:
    value = options.get(key, {})
    if not isinstance(value, Mapping):
        raise _bad(key, value, "a table")
    return value


def _variable(value: object, key: str) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", value):
        # Not shown: whoever wrote the key itself here would find it in a log.
        raise PlanError(f"option {key} must be the name of an environment variable", remedy="never the secret itself")
    return value


def _headers(options: Json) -> dict[str, str]:
    found = {}
    for header, value in _table(options, "headers_env").items():
        if not re.fullmatch(r"[A-Za-z0-9-]+", header):
            raise _bad("headers_env", header, "names of headers")
        found[header] = str(_variable(value, "headers_env"))
    return found


def _env(options: Json) -> dict[str, str]:
    found = {}
    for name, value in _table(options, "env").items():
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise _bad(f"env.{name}", value, "a string or a number")
        if _SECRET.search(name):
            raise PlanError(
                f"option env.{name} looks like a secret, which a plan must not hold",
                remedy=f"export {name} instead: the server inherits the environment",
            )
        found[name] = str(value)
    return found


def _above_zero(options: Json, key: str, default: float) -> float:
    value = read.positive(options, key, default)
    if value == 0:
        raise _bad(key, value, "a number above 0")
    return value
