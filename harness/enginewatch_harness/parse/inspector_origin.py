"""Which nodes of the source model a layer of an engine was made from. Pure."""

from __future__ import annotations

import re

_METADATA = re.compile(
    r"\[(?:ONNX Layer|[A-Za-z]+ Layer): (.*?)\](?=$|[\x00-\x20]*\[[A-Za-z]+ Layer: |[\x00-\x1f])", re.DOTALL
)
"""``[ONNX Layer: a]\\u001e[ONNX Layer: b]`` in 8.6, other separators or none in 10; names may hold brackets."""

_WRAPPED = re.compile(r"^(?:PWN|fusion|ForeignNode|Myelin)\s*[(\[](?P<inside>.*)[)\]]$", re.DOTALL | re.IGNORECASE)
_AFTER = re.compile(r"^(?:reshape|squeeze|unsqueeze|shuffle)_(?:after|before)_")
_MADE_UP = re.compile(r"^(?:_+my[el]|_myl|\(Unnamed Layer\*|Reformatting CopyNode |<<|Identity_\d+$)")
_BUILD_NUMBER = re.compile(r"_myl\d+_\d+$")


def read_origin(metadata: str | None, name: str) -> tuple[str, ...]:
    """Return the nodes of the source model, in order, each once.

    Args:
        metadata: The inspector's ``Metadata``; absent before 8.6 and where nothing was recorded.
        name: The layer's name, which says the same in older versions: ``conv1 + relu1``, ``PWN(sigmoid, mul)``,
            ``{ForeignNode[first...last]}``. Names that the compiler made up say nothing.
    """
    told = _METADATA.findall(metadata) if metadata else []
    return tuple(dict.fromkeys(node for node in (told or _from_name(name)) if node))


def _from_name(name: str) -> list[str]:
    found: list[str] = []
    for fused in _split(_BUILD_NUMBER.sub("", name.strip()), " + "):
        word = _AFTER.sub("", fused.strip().removeprefix("{").removesuffix("}"))
        match = _WRAPPED.match(word)
        if match:
            inside = _BUILD_NUMBER.sub("", match["inside"])
            found += [
                piece for ends in _split(inside, ", ") for nested in ends.split("...") for piece in _from_name(nested)
            ]
        elif word and not _MADE_UP.match(word):
            found.append(word)
    return found


def _split(text: str, separator: str) -> list[str]:
    """Split outside of brackets."""
    parts, depth, start = [], 0, 0
    for place, char in enumerate(text):
        depth += (char in "([{") - (char in ")]}")
        if depth <= 0 and text.startswith(separator, place) and place >= start:
            parts.append(text[start:place])
            start = place + len(separator)
    return [*parts, text[start:]]
