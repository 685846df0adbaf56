"""An answer while it comes in.

Every snapshot is the whole answer so far (`snapshot.text`); `snapshot.delta` is what is new. If a stream breaks, a
chain lets the next model begin anew: `snapshot.restarts` goes up, and what was shown before is void.
"""

import asyncio
from pathlib import Path

from modelhub import Hub

CONFIG = Path(__file__).with_name("models.yaml")


async def main() -> None:
    async with Hub.from_yaml(CONFIG) as hub, await hub.get("greeter").stream("Good morning!") as stream:
        restarts = 0
        async for snapshot in stream:
            if snapshot.restarts > restarts:
                restarts = snapshot.restarts
                print("\n[starts again]")
            print(snapshot.delta, end="", flush=True)
        reply = await stream.final()
        print(f"\nfinished: {reply.finish_reason}")


asyncio.run(main())
