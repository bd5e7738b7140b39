"""Recognise a server by what it says about itself: which one, which version, which models. Pure but for ``ask``.

Sources (source, documentation and recordings; docs/targets.md says which was run): vLLM answers ``/version``
and ``owned_by = "vllm"``; SGLang ``/get_server_info`` (later ``/server_info``) and ``owned_by = "sglang"``;
``trtllm-serve`` ``/version`` and ``owned_by = "tensorrt_llm"``; LMDeploy ``owned_by = "lmdeploy"``; llama.cpp
``owned_by = "llamacpp"`` and ``/props``; MLC-LLM ``owned_by = "MLC-LLM"``; NIM ``/v1/version`` and ``/v1/metadata``;
Triton's OpenAI front end ``owned_by = "Triton Inference Server"``.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from enginewatch_db.model import Json
from enginewatch_harness.targets.probe import Ask

UNKNOWN = "openai"
"""Family of a server that speaks OpenAI's protocol and says no more about itself."""

OWNERS: dict[str, str] = {
    "vllm": "vllm",
    "sglang": "sglang",
    "tensorrt_llm": "trtllm",
    "lmdeploy": "lmdeploy",
    "mlc-llm": "mlc",
    "triton inference server": "triton",
    "llamacpp": "llamacpp",
}
"""``owned_by`` of a model card, in lower case → family."""

FAMILIES = (*OWNERS.values(), "nim", "transformers", UNKNOWN)
"""Servers that have a name here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFacts:
    """What a server says about itself.

    Attributes:
        family: One of ``FAMILIES``.
        version: As the server spells it; ``None`` where it does not tell.
        models: Names of the served models.
        max_context: Tokens of prompt and answer together; ``None`` where it does not tell.
        said: The answers by path, for the precision and the provenance.
    """

    family: str
    version: str | None = None
    models: tuple[str, ...] = ()
    max_context: int | None = None
    said: dict[str, Json] = field(default_factory=dict)


QUESTIONS: dict[str, tuple[str, ...]] = {
    "vllm": ("/version",),
    "sglang": ("/server_info", "/get_server_info"),
    "trtllm": ("/version",),
    "llamacpp": ("/props",),
    "nim": ("/v1/version", "/v1/metadata"),
    "triton": ("/v2",),
}
"""What else to ask each family, in this order; the first good answer of ``/server_info`` and its older name is it."""


def identify(ask: Ask, *, family: str | None = None) -> ServerFacts:
    """Ask a server that is ready who it is.

    Args:
        ask: Asks the server for a path.
        family: Its family, where the caller knows it: launched by a profile, or named in the plan.
    """
    cards = _cards(ask)
    said: dict[str, Json] = {}
    found = family or _family(cards)
    if found == UNKNOWN and family is None:
        found = _second_look(ask, said)
    for path in QUESTIONS.get(found, ()):
        if path not in said and (answer := _object(ask, path)) is not None:
            said[path] = answer
            if found == "sglang":
                break
    return ServerFacts(
        family=found,
        version=version_of(said),
        models=tuple(str(card["id"]) for card in cards if "id" in card),
        max_context=_context(cards, said),
        said=said,
    )


def _object(ask: Ask, path: str) -> Json | None:
    reply = ask(path)
    answer = None if reply is None else reply.json()
    return answer if isinstance(answer, dict) else None


def _cards(ask: Ask) -> list[Json]:
    listed = (_object(ask, "/v1/models") or {}).get("data")
    return [card for card in listed if isinstance(card, dict)] if isinstance(listed, list) else []


def _family(cards: list[Json]) -> str:
    owners = {str(card.get("owned_by") or "").lower() for card in cards}
    return next((family for owner, family in OWNERS.items() if owner in owners), UNKNOWN)


def _second_look(ask: Ask, said: dict[str, Json]) -> str:
    """Return the family by an endpoint that only one of them has."""
    for path, family, sign in (
        ("/v1/version", "nim", "release"),
        ("/v1/metadata", "nim", "assetInfo"),
        ("/server_info", "sglang", "tp_size"),
        ("/get_server_info", "sglang", "tp_size"),
        ("/props", "llamacpp", "default_generation_settings"),
    ):
        answer = _object(ask, path)
        if answer is not None and sign in answer:
            said[path] = answer
            return family
    return UNKNOWN


def version_of(said: dict[str, Json]) -> str | None:
    """Return the version among the answers: NIM's ``release``, llama.cpp's ``build_info``, the others' ``version``."""
    for answer in said.values():
        for key in ("version", "release", "build_info"):
            value = answer.get(key)
            if isinstance(value, str) and value:
                return value
    return None


def _context(cards: list[Json], said: dict[str, Json]) -> int | None:
    settings = said.get("/props", {}).get("default_generation_settings")
    info = said.get("/server_info") or said.get("/get_server_info") or {}
    for value in (
        *(card.get("max_model_len") for card in cards),
        settings.get("n_ctx") if isinstance(settings, dict) else None,
        info.get("context_length"),
    ):
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return None
