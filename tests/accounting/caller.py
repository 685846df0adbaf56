"""A process that calls scripted models and says which calls are finished; tests start it, and kill it.

usage: caller.py LEDGER NAME CALLS BATCH DELAY
"""

import asyncio
import itertools
import os
import sys

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


async def work(hub, name, numbers):
    for number in numbers:
        model = hub.get("c" if number % 5 == 0 else "good").with_tags(n=f"{name}-{number}")
        if number % 3:
            await model("hello there")
        else:
            # Finished is who has the last snapshot in his hands.
            async for snapshot in await model("hello there", stream=True):
                if snapshot.is_last:
                    break
        os.write(1, f"{name}-{number}\n".encode())


async def main(ledger, name, calls, batch, delay):
    async with Hub.from_dict(config(ledger, int(batch), float(delay))) as hub:
        numbers = iter(range(int(calls))) if int(calls) else itertools.count()
        await asyncio.gather(*(work(hub, name, numbers) for _ in range(WORKERS)))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
