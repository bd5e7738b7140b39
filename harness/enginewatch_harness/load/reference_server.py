"""A server of known timing: it streams tokens by a script and tells when it wrote each one.

It is what the load generator is checked against, by its tests and by ``enginewatch load calibrate``. A request
says in its own body, under ``script``, what is to happen to it; see ``Script``. In a process of its own,
``python -m enginewatch_harness.load.reference_server``, it prints its URL, and ``/truth`` tells what it knows.
"""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import ssl
import struct
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, fields
from types import TracebackType
from typing import Self, cast

import httptools

from enginewatch_db.model import Json
from enginewatch_harness.load.endpoints import ENDPOINTS
from enginewatch_harness.load.reference_script import Agenda, Script, Truth
from enginewatch_harness.process import die_with_parent

MODEL = "m"
_KINDS = {
    path.replace("{model}", MODEL): name
    for name, endpoint in ENDPOINTS.items()
    for path in (endpoint.path, endpoint.whole_path or endpoint.path)
}


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
        if path in _KINDS:
            _Answer(self._server, self._transport, json.loads(self._body), now_ns, kind=_KINDS[path])
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
        self, server: ReferenceServer, transport: asyncio.Transport, body: Json, now_ns: int, *, kind: str
    ) -> None:
        self._server, self._transport, self._kind = server, transport, kind
        known = {item.name for item in fields(Script)}
        given = server.script(body) if server.script is not None else body.get("script", {})
        self._script = script = Script(**{k: v for k, v in given.items() if k in known})
        self._truth = Truth(arrived_ns=now_ns, body=body)
        server.truths.append(self._truth)
        self._tokens = _asked(body)
        if script.silent:
            return
        if script.status != 200:
            error = {"error": {"message": "scripted failure", "code": script.status}}
            whole_answer(transport, script.status, error)
        elif not script.streaming:
            whole_answer(transport, 200, {"choices": [{"text": " whole"}]})
        elif not body.get("stream"):
            server.agenda.at(now_ns + round(script.ttft_ms * 1e6), self._whole)
        else:
            self._begin(now_ns)

    def _whole(self) -> None:
        """Answer whole, as a request that does not stream is answered."""
        text = "".join(f"{self._script.text}{number}" for number in range(self._tokens))
        self._truth.written_ns.append(time.monotonic_ns())
        if self._kind == "triton-infer":
            whole_answer(self._transport, 200, {"outputs": [{"name": "text_output", "data": [text]}]})
        elif self._kind == "triton-generate":
            whole_answer(self._transport, 200, {"text_output": text})
        else:
            said: Json = {"message": {"content": text}} if self._kind == "chat" else {"text": text}
            answer = {"choices": [{"index": 0, **said, "finish_reason": "length"}], "usage": self._usage()}
            whole_answer(self._transport, 200, answer)

    def _begin(self, now_ns: int) -> None:
        self._first_ns = now_ns + round(self._script.ttft_ms * 1e6)
        if self._script.reset_after == 0:
            reset(self._transport)
            return
        if self._script.cut_after == 0:
            self._transport.close()
            return
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n"
        head += b"Connection: close\r\n\r\n" if self._script.says_close else b"\r\n"
        if self._script.role_event:
            for delta in ({"role": "assistant", "content": ""}, {"content": ""}, {}):
                head += _chunk(_event({"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}))
        self._write(head)
        self._server.agenda.at(self._first_ns, self._next)

    def _write(self, data: bytes) -> None:
        size = self._script.split_bytes or len(data)
        for begin in range(0, len(data), size):
            self._transport.write(data[begin : begin + size])

    def _token(self, number: int) -> bytes:
        last = self._script.finish and number == self._tokens - 1
        text = f"{self._script.text}{number}"
        if self._kind == "triton-generate":
            return _event({"model_name": MODEL, "text_output": text})
        key = "reasoning_content" if number < self._script.reasoning else "content"
        said: Json = {"delta": {key: text}} if self._kind == "chat" else {"text": text}
        return _event({"choices": [{"index": 0, **said, "finish_reason": "length" if last else None}]})

    def _broken(self, sent: int) -> bool:
        """Do what the script does instead of the next token; ``False``: nothing."""
        script = self._script
        if sent == script.error_after:
            self._write(_chunk(_event({"error": {"message": "scripted error"}})) + b"0\r\n\r\n")
        elif sent == script.bad_json_after:
            self._write(_chunk(_event('{"choices": [{"text": ')) + b"0\r\n\r\n")
        elif sent == script.bad_chunk_after:
            self._write(b"no size\r\n" + _event("{}") + b"\r\n")
        elif sent == script.reset_after:
            reset(self._transport)
        elif sent == script.cut_after:
            self._transport.close()
        else:
            return sent == script.stall_after
        return True

    def _next(self) -> None:
        script, sent = self._script, len(self._truth.written_ns)
        if self._transport.is_closing() or self._broken(sent):
            return
        if sent >= self._tokens:
            self._end()
            return
        count = min(script.pack, self._tokens - sent)
        events = b"".join(self._token(sent + index) for index in range(count))
        now_ns = time.monotonic_ns()
        self._write(_chunk(events))
        self._truth.written_ns += [now_ns] * count
        if sent + count >= self._tokens:
            self._end()
        else:
            due_ns = self._first_ns + round((sent + count) * script.gap_ms * 1e6)
            self._server.agenda.at(due_ns, self._next)

    def _usage(self) -> Json:
        prompt = len(str(self._truth.body.get("prompt", "")).split()) + 1
        output = self._tokens * self._script.tokens_per_event
        return {"prompt_tokens": prompt, "completion_tokens": output, "total_tokens": prompt + output}

    def _end(self) -> None:
        tail = b""
        if self._kind != "triton-generate":
            if self._script.usage:
                tail += _chunk(_event({"choices": [], "usage": self._usage()}))
            if self._script.done:
                tail += _chunk(_event("[DONE]"))
        self._write(tail + b"0\r\n\r\n")
        if self._script.close_after or self._script.says_close:
            self._transport.close()


def _asked(body: Json) -> int:
    """Return how many tokens a request asks for, in whichever protocol it is."""
    for tensor in body.get("inputs", ()):
        if tensor["name"] == "max_tokens":
            return int(tensor["data"][0])
    return int(body["max_tokens"])


class ReferenceServer:
    """Serves on a loopback port from a thread of its own while its context lasts.

    Attributes:
        url: Root of the server.
        truths: What it knows about each request, in the order of their arrival.
        tokenizes: Whether it has ``/tokenize``.
        script: Request body → the fields of its ``Script``; ``None`` where requests carry their own.
    """

    def __init__(
        self,
        *,
        tokenizes: bool = True,
        loop_factory: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop,
        script: Callable[[Json], Json] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.script = script
        self._tls = tls
        self._port = 0
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
        self._server = await self._loop.create_server(
            lambda: _Connection(self), "127.0.0.1", self._port, ssl=self._tls, backlog=1024
        )
        self._port = self._server.sockets[0].getsockname()[1]
        self.url = f"{'http' if self._tls is None else 'https'}://127.0.0.1:{self._port}"

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

    def come_back(self) -> None:
        """Listen again on the same port, as a restarted server does."""
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()

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
