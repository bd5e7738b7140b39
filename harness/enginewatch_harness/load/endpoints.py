"""The endpoints that a load can go to: path, spelling of a request, reading of its answer. Pure.

Sources: OpenAI API reference (completions, chat completions); Triton's generate extension
(docs/protocol/extension_generate.md of triton-inference-server/server) and its KServe v2 inference protocol;
the fields ``ignore_eos`` and ``min_tokens`` of vLLM's, SGLang's and TensorRT-LLM's OpenAI servers.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

import orjson

from enginewatch_db.model import Json
from enginewatch_harness.load.events import EventReader, read_generate, read_infer, read_openai
from enginewatch_harness.load.workload import PlannedRequest

TEXT = "@@text@@"
TOKENS = -7_654_321
"""Stand-ins for what changes from request to request; the rest of a body is encoded once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One way to ask a server for text.

    Attributes:
        path: Path of the URL; ``{model}`` stands for the model's name.
        body: Model name, whether to stream → the body with ``TEXT`` and ``TOKENS`` in their places.
        read: Reads an event of its stream, or a whole answer.
        streams: Whether it can stream; ``False`` answers whole only.
        history: Whether a request can carry the turns before it.
        marked_end: Whether a stream ends with a finish reason or an end marker, so that one that breaks off shows.
        whole_path: Path of whole answers where it is another one.
        counted: Whether the server counts tokens in a usage block.
    """

    path: str
    body: Callable[[str, bool], Json]
    read: EventReader
    streams: bool = True
    history: bool = False
    marked_end: bool = True
    whole_path: str | None = None
    counted: bool = True


def _stream_options(stream: bool) -> Json:
    return {"stream": True, "stream_options": {"include_usage": True}} if stream else {"stream": False}


def _completions(model: str, stream: bool) -> Json:
    return {"model": model, "prompt": TEXT, "max_tokens": TOKENS, **_stream_options(stream)}


def _chat(model: str, stream: bool) -> Json:
    return {"model": model, "messages": TEXT, "max_tokens": TOKENS, **_stream_options(stream)}


def _generate(model: str, stream: bool) -> Json:
    del model
    return {"text_input": TEXT, "max_tokens": TOKENS, "stream": stream}


def _infer(model: str, stream: bool) -> Json:
    del model, stream
    return {
        "inputs": [
            {"name": "text_input", "shape": [1, 1], "datatype": "BYTES", "data": [TEXT]},
            {"name": "max_tokens", "shape": [1, 1], "datatype": "INT32", "data": [TOKENS]},
        ]
    }


ENDPOINTS: dict[str, Endpoint] = {
    "completions": Endpoint(path="/v1/completions", body=_completions, read=read_openai),
    "chat": Endpoint(path="/v1/chat/completions", body=_chat, read=read_openai, history=True),
    "triton-generate": Endpoint(
        path="/v2/models/{model}/generate_stream",
        whole_path="/v2/models/{model}/generate",
        body=_generate,
        read=read_generate,
        marked_end=False,
        counted=False,
    ),
    "triton-infer": Endpoint(
        path="/v2/models/{model}/infer", body=_infer, read=read_infer, streams=False, marked_end=False, counted=False
    ),
}
"""Name on the command line and in plans → endpoint."""


def spell_text(endpoint: Endpoint, request: PlannedRequest) -> bytes:
    """Return the JSON that stands in a body's place for text: a string, or the messages of a chat."""
    if not endpoint.history:
        return _json(request.prompt)
    turns = [*request.history, ("user", request.prompt)]
    return _json([{"role": role, "content": text} for role, text in turns])


def _json(value: object) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError:  # half of a surrogate pair, from a dataset or an answer that was cut there: only escapes carry it
        return json.dumps(value).encode()
