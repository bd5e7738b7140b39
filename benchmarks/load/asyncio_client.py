"""The plain Python reference: one coroutine a stream on asyncio's own streams, as most home-made clients are.

``asyncio_client.py PORT STREAMS REQUESTS ISL OSL OUT`` does what ``epoll_client`` does and writes the same file.
It reads line by line and parses the JSON of every event. Standard library only.
"""

from __future__ import annotations

import array
import asyncio
import itertools
import json
import struct
import sys
import time
from pathlib import Path


def _request(number: int, isl: int, osl: int) -> bytes:
    body = json.dumps(
        {
            "model": "m",
            "prompt": " ".join(["able"] * isl),
            "max_tokens": osl,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    ).encode()
    head = (
        "POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"X-Request-Id: {number}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def _stream(port: int, numbers: itertools.count[int], limits: tuple[int, int, int], records: list) -> None:
    requests, isl, osl = limits
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while (number := next(numbers)) < requests:
        request = _request(number, isl, osl)
        times: list[int] = []
        sent_ns = time.monotonic_ns()
        writer.write(request)
        while (line := await reader.readline()) != b"data: [DONE]\n":
            if not line:
                raise ConnectionError("the server closed the connection")
            if line.startswith(b"data: "):
                at_ns = time.monotonic_ns()
                choices = json.loads(line[6:])["choices"]
                if choices and choices[0]["text"]:
                    times.append(at_ns)
        await reader.readuntil(b"0\r\n\r\n")
        records.append((number, sent_ns, times))
    writer.close()
    await writer.wait_closed()


async def main(port: int, streams: int, requests: int, isl: int, osl: int, out: str) -> None:
    """Run all streams and write what they saw."""
    records: list[tuple[int, int, list[int]]] = []
    numbers = itertools.count()
    await asyncio.gather(*(_stream(port, numbers, (requests, isl, osl), records) for _ in range(streams)))
    parts = (struct.pack("=QqQ", *head, len(times)) + array.array("q", times).tobytes() for *head, times in records)
    Path(out).write_bytes(b"".join(parts))


if __name__ == "__main__":
    asyncio.run(main(*map(int, sys.argv[1:6]), sys.argv[6]))
