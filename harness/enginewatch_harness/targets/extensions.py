"""Fields of a request beyond OpenAI's, by server: only where the server is known to take them. Pure.

A server that does not know a field may refuse the request (OpenAI's own does), so nothing is sent on a guess.
"""

from __future__ import annotations

import re

from enginewatch_db.model import Json

IGNORE_EOS = frozenset({"vllm", "sglang", "trtllm", "lmdeploy", "llamacpp", "nim"})
"""Take ``ignore_eos`` at the top level, so that every answer has the length that was asked for."""

MIN_TOKENS = frozenset({"vllm", "sglang", "trtllm"})
"""Take ``min_tokens`` beside it: a stop word or another special token does not end an answer early either.

vLLM 0.20 and 0.33: fields of both request classes in their source; SGLang and TensorRT-LLM: of their OpenAI protocol.
"""

_SALT_SINCE = (0, 9)
"""vLLM's ``cache_salt`` came with 0.8.5; asked for from the release after it."""


def request_fields(family: str, version: str | None = None, *, salt: str | None = None) -> Json:
    """Return the further fields of every request: greedy, full length, no answer from an earlier run's cache.

    Args:
        family: Which server (``identify.FAMILIES``).
        version: Its version, where known.
        salt: Text that is new in every run. vLLM's prefix cache then knows nothing of the run before, while
            prefixes that requests of this run share are still found.
    """
    fields: Json = {"temperature": 0}
    if family in IGNORE_EOS:
        fields["ignore_eos"] = True
    if family == "mlc":
        fields["debug_config"] = {"ignore_eos": True}
    if family == "llamacpp":
        fields["cache_prompt"] = False
    if salted(family, version) and salt is not None:
        fields["cache_salt"] = salt
    return fields


def salted(family: str, version: str | None) -> bool:
    """Return whether the server keeps the prefixes of requests with another salt apart."""
    return family == "vllm" and _release(version) >= _SALT_SINCE


def keeps_no_prompts(family: str, version: str | None) -> bool:
    """Return whether ``request_fields`` alone keeps an earlier run's prompts out of the prefix cache."""
    return family == "llamacpp" or salted(family, version)


def _release(version: str | None) -> tuple[int, ...]:
    found = re.match(r"v?(\d+)\.(\d+)", version or "")
    return tuple(int(part) for part in found.groups()) if found else ()
