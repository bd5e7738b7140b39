"""For tests of the gate: a relay in front of a server that makes every token later than the one before.

The n-th event of an answer leaves n times the delay after it came. So each gap between tokens grows by exactly
the delay, as if the engine were that much slower, and a closed loop loses the throughput that goes with it.
Without a delay there is no relay.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Coroutine
from typing import Any

_READ_BYTES = 1 << 16
_EVENT = b"data: {"


class Relay:
    """Forwards connections on a loopback port to another one, on a thread of its own.

    Args:
        port: Port to listen on; 0 for any free one.
        upstream_port: Port of the server.
        delay_s: Added to the gap before each event.
    """

    def __init__(self, *, port: int, upstream_port: int, delay_s: float) -> None:
        self.port = port
        self._upstream_port = upstream_port
        self._delay_s = delay_s
        self._listening = threading.Event()
        self._error: OSError | None = None

    def start(self) -> int:
        """Listen; return the port.

        Raises:
            OSError: The port is taken.
        """
        threading.Thread(target=lambda: asyncio.run(self._serve()), name="relay", daemon=True).start()
        self._listening.wait()
        if self._error is not None:
            raise self._error
        return self.port

    async def _serve(self) -> None:
        try:
            server = await asyncio.start_server(self._connected, "127.0.0.1", self.port)
        except OSError as error:
            self._error = error
            self._listening.set()
            return
        self.port = server.sockets[0].getsockname()[1]
        self._listening.set()
        await server.serve_forever()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._upstream_port)
        except OSError:
            writer.close()
            return
        link = _Link(self._delay_s)
        pumps: list[Coroutine[Any, Any, None]] = [
            link.requests(reader, up_writer),
            link.receive(up_reader),
            link.release(writer),
        ]
        tasks = [asyncio.ensure_future(pump) for pump in pumps]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if not tasks[0].done():
            await tasks[2]  # the server closed: what it sent is still to be released
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for end in (writer, up_writer):
            end.close()


class _Link:
    """One connection: requests go straight through, answers wait in a queue until their time."""

    def __init__(self, delay_s: float) -> None:
        self._delay_s = delay_s
        self._events = 0
        self._queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def requests(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(_READ_BYTES):
            self._events = 0
            writer.write(data)
            await writer.drain()

    async def receive(self, reader: asyncio.StreamReader) -> None:
        now = asyncio.get_running_loop().time
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(_READ_BYTES):
                self._events += data.count(_EVENT)
                self._queue.put_nowait((now() + self._events * self._delay_s, data))
        self._queue.put_nowait((0.0, b""))

    async def release(self, writer: asyncio.StreamWriter) -> None:
        now = asyncio.get_running_loop().time
        with contextlib.suppress(ConnectionError):
            while (item := await self._queue.get())[1]:
                await asyncio.sleep(max(0.0, item[0] - now()))
                writer.write(item[1])
                await writer.drain()
