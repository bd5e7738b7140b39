"""One request and what came back, while it is in flight; and the classes of its errors."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from enum import StrEnum

from enginewatch_harness.load.workload import PlannedRequest


class ErrorClass(StrEnum):
    """Why a request did not complete."""

    CONNECT_REFUSED = "connect_refused"
    CONNECT_FAILED = "connect_failed"
    TLS_FAILED = "tls_failed"
    RESET = "reset"
    NO_RESPONSE = "no_response"
    HALF_STREAM = "half_stream"
    RATE_LIMITED = "rate_limited"
    UNAVAILABLE = "unavailable"
    HTTP_ERROR = "http_error"
    BAD_RESPONSE = "bad_response"
    NOT_STREAMING = "not_streaming"
    STREAM_ERROR = "stream_error"
    NO_CONTENT = "no_content"
    TIMEOUT = "timeout"
    CANCELLED = "cancelled"


ERROR_MEANINGS: dict[ErrorClass, str] = {
    ErrorClass.CONNECT_REFUSED: "nothing listens on the port",
    ErrorClass.CONNECT_FAILED: "the connection could not be made, for another reason",
    ErrorClass.TLS_FAILED: "TLS could not be agreed on, for example for a certificate that is not trusted",
    ErrorClass.RESET: "the server reset the connection",
    ErrorClass.NO_RESPONSE: "the server closed the connection before the first byte",
    ErrorClass.HALF_STREAM: "the stream ended before its finish reason and its end marker",
    ErrorClass.RATE_LIMITED: "the status was 429: the server limits the rate",
    ErrorClass.UNAVAILABLE: "the status was 503: the server is overloaded or not ready",
    ErrorClass.HTTP_ERROR: "the status was another one than 200",
    ErrorClass.BAD_RESPONSE: "the answer was not HTTP/1.1, or its chunks were malformed",
    ErrorClass.NOT_STREAMING: "the answer came whole, not as an event stream: it has no token times",
    ErrorClass.STREAM_ERROR: "the stream carried an error, or an event that cannot be read",
    ErrorClass.NO_CONTENT: "the stream ended well but had no token",
    ErrorClass.TIMEOUT: "the time limit of a request passed",
    ErrorClass.CANCELLED: "the load generator itself ended it, after the measuring phase",
}


BY_STATUS = {429: ErrorClass.RATE_LIMITED, 503: ErrorClass.UNAVAILABLE}
"""Statuses with a class of their own (RFC 6585 section 4, RFC 9110 section 15.6.4); the rest are HTTP errors."""


@dataclass(slots=True, kw_only=True, eq=False)
class Exchange:
    """A request on its way. All times are monotonic nanoseconds.

    Attributes:
        idx: Number of the request in this process.
        phase: ``warmup``, ``measure`` or ``drain``, by its start.
        planned: What was asked.
        number: Of the request, or of its session, in the whole load; the same in whatever process.
        message: The whole request as bytes; dropped when it has ended.
        stream: Number of the closed loop's stream; ``None`` in the open loop.
        intended_ns: When it was due; ``None`` in the closed loop.
        start_ns: From when latencies count: the intended time in the open loop; in the closed loop when its
            bytes went to the socket, or when connecting began where it needed a connection of its own.
        sent_ns: When its bytes went to the socket.
        connect_ns: Time spent on a connection of its own; ``None`` on one that was open already.
        new_connection: Whether it needed a connection of its own.
        first_byte_ns: When the first byte of the answer arrived.
        content_ns: When each content event arrived; events of one read share their time.
        visible_ns: When the first content that is not reasoning arrived.
        reasoned: Whether any reasoning came.
        end_ns: When the answer was complete, or the request failed.
        http_status: Status of the answer.
        finish_reason: As the server gave it.
        prompt_tokens: By the server's usage block.
        output_tokens: By the server's usage block.
        cached_tokens: Prompt tokens from the prefix cache, by the server's usage block.
        text: What was answered, where it is kept.
        done: Whether the end marker was seen.
        streamed: Whether the answer came as events; one that came whole has an end but no token times.
        error_class: ``None`` when it completed.
        error: The error's own words.
    """

    idx: int
    phase: str
    planned: PlannedRequest
    message: bytes
    number: int = 0
    stream: int | None = None
    intended_ns: int | None = None
    start_ns: int = 0
    sent_ns: int | None = None
    connect_ns: int | None = None
    new_connection: bool = False
    first_byte_ns: int | None = None
    content_ns: array[int] = field(default_factory=lambda: array("q"))
    visible_ns: int | None = None
    reasoned: bool = False
    end_ns: int = 0
    http_status: int | None = None
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    text: str | None = None
    done: bool = False
    streamed: bool = True
    error_class: ErrorClass | None = None
    error: str | None = None

    @property
    def ok(self) -> bool:
        """Whether it completed, with at least one token or a whole answer."""
        return self.error_class is None

    def fail(self, error_class: ErrorClass, error: str) -> None:
        """Note why it failed; the first reason stays."""
        if self.error_class is None:
            self.error_class = error_class
            self.error = error
