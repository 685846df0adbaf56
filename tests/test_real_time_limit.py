"""A limit in real time, against a server that counts for itself and answers 429 beyond its rate.

By default three seconds. With LIMIT_SECONDS=30 (or more) in the environment also the long run: 600 requests a minute,
fifty tasks, for that many seconds.
"""

import asyncio
import contextlib
import json
import os
import sys
import time
from collections import deque

import pytest

from modelhub import Hub
from modelhub.core.errors import RateLimited

SECONDS = float(os.environ.get("LIMIT_SECONDS", "0"))
BODY = json.dumps(
    {
        "id": "x",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "yes"}}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }
).encode()


class Vendor:
    """Answers *most* requests in any window of *period* seconds, and 429 to what is beyond."""

    def __init__(self, most, period, takes=0.05):
        self.most, self.period, self.takes = most, period, takes
        self.arrived = deque()
        self.served = self.refused = 0
        self.talks = set()

    def forget(self):
        """What has come so far does not count."""
        self.arrived.clear()
        self.served = self.refused = 0

    async def __aenter__(self):
        self.server = await asyncio.start_server(self.connection, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self.server.sockets[0].getsockname()[1]}/v1"
        return self

    async def __aexit__(self, *exc):
        self.server.close()
        await asyncio.wait(self.talks)

    async def connection(self, reader, writer):
        self.talks.add(asyncio.current_task())
        with contextlib.closing(writer), contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                status, now = self.count(), time.monotonic()
                length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
                await reader.readexactly(int(length.split(b":")[1]))
                await asyncio.sleep(max(0.0, now + self.takes - time.monotonic()))
                body = BODY if status == 200 else b'{"error": {"message": "slow down"}}'
                writer.write(b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\n" % status)
                writer.write(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
                await writer.drain()

    def count(self):
        now = time.monotonic()
        while self.arrived and self.arrived[0] <= now - self.period:
            self.arrived.popleft()
        if len(self.arrived) >= self.most:
            self.refused += 1
            return 429
        self.arrived.append(now)
        self.served += 1
        return 200


async def run(limit, most, period, seconds, tasks=50):
    """How many were served and refused while *tasks* asked as fast as *limit* let them for *seconds*."""
    async with Vendor(most, period) as vendor:
        entry = {"provider": "openai", "model_name": "m", "api_key": "k", "base_url": vendor.url}
        models = {"first": entry, "m": {**entry, "limit": limit, "retry": {"max_attempts": 1}}}
        async with Hub.from_dict({"version": 1, "models": models}) as hub:
            await hub.get("first")("x")  # the first call of a process takes a while to leave it
            vendor.forget()
            model = hub.get("m")
            ends = time.monotonic() + seconds

            async def worker():
                while (left := ends - time.monotonic()) > 0:
                    with contextlib.suppress(TimeoutError, RateLimited):
                        await asyncio.wait_for(model("x"), left)

            await asyncio.gather(*(worker() for _ in range(tasks)))
        return vendor.served, vendor.refused


async def test_a_rate_is_kept_and_used():
    """No request is refused by the vendor, and 95 % of what it allows are served."""
    most, period, seconds = 30, 1.0, 3.0
    for _ in range(3):  # a machine that stands still for a moment is not the limit's fault
        served, refused = await run({"requests": f"{most}/{period:g}s"}, most, period, seconds)
        if not refused and served >= 0.95 * most * seconds / period:
            break
    else:
        pytest.fail(f"{served} served, {refused} refused")


@pytest.mark.skipif(SECONDS == 0, reason="LIMIT_SECONDS is not set")
@pytest.mark.parametrize(
    ("limit", "most", "period"),
    [({"requests": "100/10s"}, 100, 10.0), ({"requests_per_minute": 600}, 600, 60.0)],
    ids=["100 in 10 s", "600 in 60 s"],
)
async def test_a_rate_is_kept_and_used_for_long(limit, most, period):
    """The same for as long as one likes."""
    served, refused = await run(limit, most, period, SECONDS)
    sys.stdout.write(f"{served} served, {refused} refused: {served * period / SECONDS / most:.1%} of the rate\n")
    assert refused == 0
    assert served >= 0.95 * most * SECONDS / period
