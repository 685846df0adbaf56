"""What a streamed answer costs by the number of its pieces, beside the bare SDK.

    python benchmarks/fragments.py [--runs 5]

A server in a process of its own streams 1000, 2000 and 4000 fragments of a tool call's arguments (10 characters each),
or as many of text. Printed are CPU milliseconds (the least of the runs), microseconds a fragment, the ratio to half as
many, and the longest that one fragment kept the event loop.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine

from modelhub.providers.openai import OpenAIChatModel

COUNTS = (1000, 2000, 4000)


def events(kind: str, count: int) -> list[bytes]:
    """The events of one stream."""
    deltas: list[dict[str, object]] = [{"role": "assistant"}]
    pieces = ['{"text": "', *["0123456789"] * count, '"}'] if kind == "tool" else ["0123456789"] * count
    if kind == "tool":
        deltas.append({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": ""}}]})
        deltas += [{"tool_calls": [{"index": 0, "function": {"arguments": piece}}]} for piece in pieces]
    else:
        deltas += [{"content": piece} for piece in pieces]
    head = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    chunks = [{**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    chunks.append({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    chunks.append({**head, "choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}})
    return [b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks] + [b"data: [DONE]\n\n"]


async def serve() -> None:
    """Stream what the path asks for: /tool/4000/16 is 4000 fragments, 16 to a packet; by 1, the packets are paced."""
    ready: dict[str, list[bytes]] = {}

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                writer.close()
                return
            length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            await reader.readexactly(length)
            path = head.split(b" ")[1].decode()
            _, kind, count, together, *_ = path.split("/")
            body = ready.setdefault(path, events(kind, int(count)))
            size = int(together)
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
            for at in range(0, len(body), size):
                piece = b"".join(body[at : at + size])
                writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                await writer.drain()
                await asyncio.sleep(0.0005 if size == 1 else 0)
            writer.write(b"0\r\n\r\n")

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


async def ours(url: str, longest: list[float]) -> None:
    """Read one stream through modelhub."""
    async with OpenAIChatModel("m", "k", base_url=url) as model:
        stream = await model("hi")
        began = time.perf_counter()
        async for _ in stream:
            longest.append(time.perf_counter() - began)
            began = time.perf_counter()


async def bare(url: str, longest: list[float]) -> None:
    """Read one stream through the SDK, joining the pieces."""
    from openai import AsyncOpenAI

    async with AsyncOpenAI(api_key="k", base_url=url, max_retries=0) as client:
        messages = [{"role": "user", "content": "hi"}]
        stream = await client.chat.completions.create(model="m", messages=messages, stream=True)  # type: ignore[arg-type]
        pieces = []
        began = time.perf_counter()
        async for chunk in stream:
            pieces += [choice.delta.content for choice in chunk.choices]
            longest.append(time.perf_counter() - began)
            began = time.perf_counter()


def longest_step(url: str) -> float:
    """The longest that one fragment, in a packet of its own, kept the event loop, in ms; the least of three runs.

    A machine that stops for a moment does so in one run, at any place; what is ours comes again in each.
    """
    return min(longest_once(url) for _ in range(3))


def longest_once(url: str) -> float:
    """The longest step of one run, in ms."""
    steps: list[float] = []
    run = asyncio.Handle._run

    def timed(handle: asyncio.Handle) -> None:
        began = time.thread_time()
        run(handle)
        steps.append(time.thread_time() - began)

    asyncio.Handle._run = timed  # type: ignore[method-assign]
    try:
        asyncio.run(ours(url, []))
    finally:
        asyncio.Handle._run = run  # type: ignore[method-assign]
    return max(steps[200:]) * 1000  # the first steps make the client and connect


def spent(read: Read, url: str) -> float:
    """CPU milliseconds of reading one stream."""
    gc.collect()
    began = time.process_time()
    asyncio.run(read(url, []))
    return (time.process_time() - began) * 1000


def main() -> None:
    """Run all and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--serve", action="store_true")
    arguments = parser.parse_args()
    if arguments.serve:
        asyncio.run(serve())
        return
    server = subprocess.Popen([sys.executable, __file__, "--serve"], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    port = server.stdout.readline().strip()
    try:
        report(f"http://127.0.0.1:{port}", arguments.runs)
    finally:
        server.terminate()
        server.wait()


def report(address: str, runs: int) -> None:
    """Print the table. Runs take turns, so that a busy moment of the machine does not fall on one row."""
    rows = [(kind, name, count) for kind in ("tool", "text") for name in READERS for count in COUNTS]
    least = dict.fromkeys(rows, float("inf"))
    for _ in range(runs + 1):
        for kind, name, count in rows:
            found = spent(READERS[name], f"{address}/{kind}/{count}/16")
            least[kind, name, count] = min(least[kind, name, count], found)
    print(f"{'':22}{'fragments':>10}{'CPU ms':>9}{'us each':>9}{'x half':>8}{'longest step ms':>17}")
    for kind, name, count in rows:
        took, half = least[kind, name, count], least.get((kind, name, count // 2))
        ratio = f"{took / half:8.2f}" if half else " " * 8
        step = f"{longest_step(f'{address}/{kind}/{count}/1'):17.2f}" if name == "modelhub" else ""
        print(f"{kind:6}{name:16}{count:10}{took:9.1f}{took / count * 1000:9.1f}{ratio}{step}", flush=True)


Read = Callable[[str, list[float]], Coroutine[None, None, None]]
READERS: dict[str, Read] = {"modelhub": ours, "bare SDK": bare}

if __name__ == "__main__":
    main()
