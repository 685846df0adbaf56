"""What a child process does that calls scripted models and says which calls are finished; tests kill it."""

import asyncio
import itertools
import os

from modelhub import Hub

WORKERS = 8


def config(ledger, batch, delay):
    """A cheap model, one that fails first, and one whose streams break, in one chain."""
    price = {"input": 1, "output": 2}
    return {
        "version": 1,
        "models": {
            "good": {"provider": "scripted", "reply": "one two three", "pricing": price},
            "down": {"provider": "scripted", "steps": [{"fail": "UnsupportedFeature"}]},
        },
        "chains": {"c": {"models": ["down", "good"]}},
        "usage": {"ledger": ledger, "batch": batch, "max_delay": delay},
    }


async def work(hub, name, numbers, output):
    for number in numbers:
        model = hub.get("c" if number % 5 == 0 else "good").with_tags(n=f"{name}-{number}")
        if number % 3:
            await model("hello there")
        else:
            # Finished is who has the last snapshot in his hands.
            async for snapshot in await model("hello there", stream=True):
                if snapshot.is_last:
                    break
        os.write(output, f"{name}-{number}\n".encode())


async def make_calls(ledger, name, calls, batch, output):
    """Make *calls*, or calls without end if that is 0, and write the name of each to the file descriptor *output*."""
    async with Hub.from_dict(config(ledger, batch, 1)) as hub:
        numbers = iter(range(calls)) if calls else itertools.count()
        await asyncio.gather(*(work(hub, name, numbers, output) for _ in range(WORKERS)))


def run(*args):
    """Run `make_calls` in a process of its own."""
    asyncio.run(make_calls(*args))
