"""The file of ``trtllm-bench throughput --request_json``: one object for each request. Pure.

Fields of ``RequestRecord`` (``tensorrt_llm/bench/dataclasses/statistics.py``). Times are ``time.perf_counter_ns``: on
Linux the monotonic clock of the host, as ours. Without ``--streaming`` the first token has no time (-1), and what
the tool computes from it (``time_to_first_token`` 0, an inter-token latency of years) means nothing: only the stamps
are read. The answers' texts are in the file too; they are not kept.
"""

from __future__ import annotations

import json
from typing import Any

from enginewatch_db.errors import MeasurementError, UsageError
from enginewatch_harness.importers.nodes import Node
from enginewatch_harness.importers.rows import Request

UNFINISHED = "unfinished"
TOOL_ERROR = "tool_error"
_REMEDY = "measure again, to the end"


def parse_requests(text: str, where: str) -> tuple[Request, ...]:
    """Parse the file; requests in the order in which they were sent.

    Raises:
        MeasurementError: It is cut, holds no request, or a value in it cannot be (``load_failed``).
    """
    try:
        value: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _bad(f"{where} is cut or damaged: {error}") from error
    try:
        found = [_request(item) for item in Node(value, where).elements()]
    except UsageError as error:
        raise _bad(error.message) from error
    if not found:
        raise _bad(f"{where} holds no request")
    return tuple(sorted(found, key=lambda item: item.sent_at_ns or 0))


def _bad(message: str) -> MeasurementError:
    return MeasurementError(message, code="load_failed", remedy=_REMEDY)


def _request(node: Node) -> Request:
    if not node.is_object:
        raise node.bad("is no object")
    begin, first, end = (_stamp(node.get(f"{name}_timestamp")) for name in ("start", "first_token", "end"))
    if begin is None:
        raise node.bad("has no start_timestamp")
    prompt_tokens = _tokens(node, "num_input_tokens")
    if _tokens(node, "error_tokens"):
        return Request(sent_at_ns=begin, prompt_tokens=prompt_tokens, error_class=TOOL_ERROR, error="error_tokens > 0")
    if end is None:
        return Request(
            sent_at_ns=begin, prompt_tokens=prompt_tokens, error_class=UNFINISHED, error="the request has no end"
        )
    if end < begin or (first is not None and not begin <= first <= end):
        raise node.bad("has times that run backwards")
    return Request(
        sent_at_ns=begin,
        first_ns=None if first is None else first - begin,
        last_ns=end - begin,
        prompt_tokens=prompt_tokens,
        output_tokens=_output_tokens(node),
    )


def _stamp(node: Node) -> int | None:
    """Return a time; ``None`` for -1 and 0, which the tool writes where there is none."""
    found = node.number()
    if found is None or found <= 0:
        return None
    return node.ns()


def _tokens(node: Node, key: str) -> int | None:
    found = node.get(key).number()
    return None if found is None or found < 0 else node.get(key).count()


def _output_tokens(node: Node) -> int | None:
    for key in ("num_total_output_tokens", "num_output_tokens", "output_tokens"):
        found = _tokens(node, key)
        if found is not None:
            return found
    return None
