"""A limit in real time: what it admits, and what a server on the other side of a socket sees of that.

By default a second and a half. With LIMIT_SECONDS=30 (or more) in the environment also the long run: 600 requests a
minute, fifty tasks, for that many seconds. A machine that is busy with something else stops everything at times: how
long is measured beside it, and no limit is to blame for that time.
"""

import asyncio
import contextlib
import json
import os
import sys
import time
from bisect import bisect_left

import pytest

from modelhub import Hub
from modelhub.middleware.limit.layer import Limit

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
    """Answers every request after *takes* seconds, and notes when each has come."""

    def __init__(self, takes=0.05):
        self.takes = takes
        self.arrivals = []
        self.connections = set()

    async def __aenter__(self):
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self.server.sockets[0].getsockname()[1]}/v1"
        return self

    async def __aexit__(self, *exc):
        self.server.close()
        await asyncio.wait(self.connections)

    async def serve(self, reader, writer):
        self.connections.add(asyncio.current_task())
        with contextlib.closing(writer), contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                self.arrivals.append(time.monotonic())
                length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
                await reader.readexactly(int(length.split(b":")[1]))
                await asyncio.sleep(self.takes)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n")
                writer.write(b"Content-Length: %d\r\n\r\n%b" % (len(BODY), BODY))
                await writer.drain()


async def measure_stalls(stalls, tick=0.02, tolerance=0.005):
    """Append to *stalls* every time, in seconds, for which this event loop could not do what was due."""
    while True:
        began = time.monotonic()
        await asyncio.sleep(tick)
        if (late := time.monotonic() - began - tick) > tolerance:
            stalls.append(late)


def note_permits(model):
    """Return the list of the permits of all attempts that *model* asks its pool for, which grows with each."""
    pool = next(layer for layer in model.stack() if isinstance(layer, Limit)).pool
    request, permits = pool.request, []

    def noted(*arguments, **options):
        permits.append(request(*arguments, **options))
        return permits[-1]

    pool.request = noted
    return permits


async def run(limit, seconds, tasks=10):
    """When attempts were admitted, when they arrived, by what time, and how long in all the event loop stood still.

    For *seconds*, *tasks* ask as fast as *limit* lets them.
    """
    async with Vendor() as vendor:
        entry = {"provider": "openai", "model_name": "m", "api_key": "k", "base_url": vendor.url}
        models = {"first": entry, "m": {**entry, "limit": limit, "retry": {"max_attempts": 1}}}
        async with Hub.from_dict({"version": 1, "models": models}) as hub:
            await hub.get("first")("x")  # the first call of a process takes a while to leave it
            vendor.arrivals.clear()
            (model,), stalls = hub.get("m").models, []
            permits = note_permits(model)
            ends = time.monotonic() + seconds

            async def work():
                while time.monotonic() < ends:
                    await model("x")

            watch = asyncio.create_task(measure_stalls(stalls))
            await asyncio.gather(*(work() for _ in range(tasks)))
            watch.cancel()
        return sorted(permit.began for permit in permits), vendor.arrivals, ends, sum(stalls)


def most_within(period, instants):
    """The largest number of *instants*, which are sorted, in any *period* seconds."""
    return max(bisect_left(instants, instant + period) - index for index, instant in enumerate(instants))


async def keep_and_use(limit, amount, period, seconds):
    """Run, check what must hold of it, and return a sentence about it.

    A request that takes longer than another to the server arrives nearer to the next one than it was admitted.
    """
    grants, arrivals, ends, stalled = await run(limit, seconds)
    assert most_within(period, grants) <= amount
    ways = [arrival - grant for grant, arrival in zip(grants, arrivals, strict=True)]
    assert min(ways) >= 0
    assert most_within(period - max(ways), arrivals) <= amount
    used, allowed = bisect_left(arrivals, ends), amount * (seconds - stalled) / period
    assert used >= 0.95 * allowed
    return f"{used} of {allowed:.0f}, {stalled:.2f} s stalled"


async def test_a_rate_is_kept_and_used():
    """No more is admitted or arrives in any period than the rate says, and 95 % of what it allows does."""
    await keep_and_use({"requests": "20/500ms"}, 20, 0.5, seconds=1.5)


@pytest.mark.skipif(SECONDS == 0, reason="LIMIT_SECONDS is not set")
@pytest.mark.parametrize(
    ("limit", "amount", "period"),
    [({"requests": "100/10s"}, 100, 10.0), ({"requests_per_minute": 600}, 600, 60.0)],
    ids=["100 in 10 s", "600 in 60 s"],
)
async def test_a_rate_is_kept_and_used_for_long(limit, amount, period):
    """The same for as long as one likes."""
    sys.stdout.write(await keep_and_use(limit, amount, period, SECONDS) + "\n")
