"""A server of known timing: it streams tokens by a script and tells when it wrote each one.

It is what the load generator is checked against, by its tests and by ``benchmarks/load_client.py``. A request
says in its own body, under ``script``, what is to happen to it; see ``Script``. In a process of its own,
``python -m enginewatch_harness.load.reference_server``, it prints its URL, and ``/truth`` tells what it knows.
"""

from __future__ import annotations

import asyncio
import heapq
import json
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from types import TracebackType
from typing import Self, cast

import httptools

from enginewatch_db.model import Json
from enginewatch_harness.load.target import ENDPOINTS
from enginewatch_harness.load.timer import Timer
from enginewatch_harness.process import die_with_parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """What happens to one request.

    Attributes:
        ttft_ms: From the request's last byte to the first token.
        gap_ms: Between tokens.
        pack: Token events in one write.
        role_event: Send a role-only event and an empty one at once, as chat endpoints do.
        tokens_per_event: What the usage block claims, over the events.
        usage: Send a usage event at the end.
        finish: Give a finish reason.
        done: Send the end marker.
        status: HTTP status; another than 200 answers with a JSON error.
        streaming: ``False`` answers whole, as JSON.
        error_after: Send an error event after so many tokens, and end.
        cut_after: Close the connection after so many tokens.
        reset_after: Reset the connection after so many tokens.
        silent: Never answer.
        close_after: Close the connection after a whole answer, without having said so.
    """

    ttft_ms: float = 1.0
    gap_ms: float = 1.0
    pack: int = 1
    role_event: bool = False
    tokens_per_event: int = 1
    usage: bool = True
    finish: bool = True
    done: bool = True
    status: int = 200
    streaming: bool = True
    error_after: int | None = None
    cut_after: int | None = None
    reset_after: int | None = None
    silent: bool = False
    close_after: bool = False


@dataclass(slots=True, kw_only=True)
class Truth:
    """What the server knows about one request, on the monotonic clock.

    Attributes:
        arrived_ns: When its last byte was read.
        written_ns: When each token event was handed to the socket.
        body: The request.
    """

    arrived_ns: int
    body: Json
    written_ns: list[int] = field(default_factory=list)


class Agenda:
    """Calls back at absolute monotonic times, exact to tens of microseconds."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._due: list[tuple[int, int, Callable[[], None]]] = []
        self._count = 0
        self._timer = Timer(loop, self._run)

    def at(self, due_ns: int, call: Callable[[], None]) -> None:
        """Call back at ``due_ns``."""
        self._count += 1
        heapq.heappush(self._due, (due_ns, self._count, call))
        if self._due[0][1] == self._count:
            self._timer.arm(due_ns)

    def _run(self) -> None:
        while self._due and self._due[0][0] <= time.monotonic_ns():
            heapq.heappop(self._due)[2]()
        if self._due:
            self._timer.arm(self._due[0][0])

    def close(self) -> None:
        """Forget what is left."""
        self._due.clear()
        self._timer.close()


def _event(data: Json | str) -> bytes:
    text = data if isinstance(data, str) else json.dumps(data, separators=(",", ":"))
    return f"data: {text}\n\n".encode()


def _chunk(body: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(body), body)


class _Connection(asyncio.Protocol):
    """One connection of the server. Speaks enough HTTP for a client that does not pipeline."""

    def __init__(self, server: ReferenceServer) -> None:
        self._server = server
        self._parser = httptools.HttpRequestParser(self)
        self._path, self._body = b"", b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._server.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.connections.discard(self)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self._path, self._body = url, b""

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        now_ns = time.monotonic_ns()
        path = self._path.decode()
        if path in ENDPOINTS.values():
            _Answer(self._server, self._transport, json.loads(self._body), now_ns, chat=path == ENDPOINTS["chat"])
        elif path == "/truth":
            whole_answer(self._transport, 200, {"truths": [asdict(truth) for truth in self._server.truths]})
        elif path == "/tokenize" and self._server.tokenizes:
            # One token a word, and one that begins the text.
            text = json.loads(self._body)["content"]
            whole_answer(self._transport, 200, {"tokens": list(range(len(text.split()) + 1))})
        else:
            whole_answer(self._transport, 200 if path == "/health" else 404, {"status": path})

    def reset(self) -> None:
        """Close with a reset instead of a farewell."""
        reset(self._transport)


def reset(transport: asyncio.Transport) -> None:
    """Make the kernel send RST: a close with unsent data dropped (SO_LINGER of zero, socket(7))."""
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def whole_answer(transport: asyncio.Transport, status: int, body: Json) -> None:
    """Write a JSON answer of known length."""
    text = json.dumps(body).encode()
    head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n"
    transport.write(head.encode() + text)


class _Answer:
    """One answer, written token by token on the server's agenda."""

    def __init__(
        self, server: ReferenceServer, transport: asyncio.Transport, body: Json, now_ns: int, *, chat: bool
    ) -> None:
        self._server, self._transport, self._chat = server, transport, chat
        known = {item.name for item in fields(Script)}
        self._script = script = Script(**{k: v for k, v in body.get("script", {}).items() if k in known})
        self._truth = Truth(arrived_ns=now_ns, body=body)
        server.truths.append(self._truth)
        self._tokens = int(body["max_tokens"])
        if script.silent:
            return
        if script.status != 200:
            error = {"error": {"message": "scripted failure", "code": script.status}}
            whole_answer(transport, script.status, error)
        elif not script.streaming:
            whole_answer(transport, 200, {"choices": [{"text": " whole"}]})
        else:
            self._begin(now_ns)

    def _begin(self, now_ns: int) -> None:
        self._first_ns = now_ns + round(self._script.ttft_ms * 1e6)
        if self._script.reset_after == 0:
            reset(self._transport)
            return
        if self._script.cut_after == 0:
            self._transport.close()
            return
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        if self._script.role_event:
            for delta in ({"role": "assistant", "content": ""}, {"content": ""}, {}):
                head += _chunk(_event({"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}))
        self._transport.write(head)
        self._server.agenda.at(self._first_ns, self._next)

    def _token(self, number: int) -> bytes:
        last = self._script.finish and number == self._tokens - 1
        said: Json = {"delta": {"content": f" t{number}"}} if self._chat else {"text": f" t{number}"}
        return _event({"choices": [{"index": 0, **said, "finish_reason": "length" if last else None}]})

    def _next(self) -> None:
        if self._transport.is_closing():
            return
        script, sent = self._script, len(self._truth.written_ns)
        if sent == script.error_after:
            self._transport.write(_chunk(_event({"error": {"message": "scripted error"}})) + b"0\r\n\r\n")
            return
        if sent == script.reset_after:
            reset(self._transport)
            return
        if sent == script.cut_after:
            self._transport.close()
            return
        if sent >= self._tokens:
            self._end()
            return
        count = min(script.pack, self._tokens - sent)
        events = b"".join(self._token(sent + index) for index in range(count))
        now_ns = time.monotonic_ns()
        self._transport.write(_chunk(events))
        self._truth.written_ns += [now_ns] * count
        if sent + count >= self._tokens:
            self._end()
        else:
            due_ns = self._first_ns + round((sent + count) * script.gap_ms * 1e6)
            self._server.agenda.at(due_ns, self._next)

    def _end(self) -> None:
        tail = b""
        prompt = len(str(self._truth.body.get("prompt", "")).split()) + 1
        if self._script.usage:
            output = self._tokens * self._script.tokens_per_event
            usage = {"prompt_tokens": prompt, "completion_tokens": output, "total_tokens": prompt + output}
            tail += _chunk(_event({"choices": [], "usage": usage}))
        if self._script.done:
            tail += _chunk(_event("[DONE]"))
        self._transport.write(tail + b"0\r\n\r\n")
        if self._script.close_after:
            self._transport.close()


class ReferenceServer:
    """Serves on a loopback port from a thread of its own while its context lasts.

    Attributes:
        url: Root of the server.
        truths: What it knows about each request, in the order of their arrival.
        tokenizes: Whether it has ``/tokenize``.
    """

    def __init__(
        self,
        *,
        tokenizes: bool = True,
        loop_factory: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop,
    ) -> None:
        self.url = ""
        self.truths: list[Truth] = []
        self.tokenizes = tokenizes
        self.connections: set[_Connection] = set()
        self._loop = loop_factory()
        self._thread = threading.Thread(target=self._loop.run_forever, name="reference-server", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()
        return self

    async def _listen(self) -> None:
        self.agenda = Agenda(self._loop)
        self._server = await self._loop.create_server(lambda: _Connection(self), "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def _die(self) -> None:
        self.agenda.close()
        self._server.close()
        for connection in list(self.connections):
            connection.reset()
        await asyncio.sleep(0)

    def die(self) -> None:
        """End as a killed server does: reset every connection and listen no more."""
        if self._loop.is_running():
            asyncio.run_coroutine_threadsafe(self._die(), self._loop).result()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.die()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def main() -> None:
    """Serve until killed, on a free loopback port whose URL is printed."""
    import uvloop

    die_with_parent()
    with ReferenceServer(loop_factory=uvloop.new_event_loop) as server:
        sys.stdout.write(server.url + "\n")
        sys.stdout.flush()
        while True:
            signal.pause()


if __name__ == "__main__":
    main()
