"""Two hubs, as two processes have them, that keep to one limit. It needs the extra `redis`.

    REDIS_URL=redis://localhost:6379/0 python examples/18_shared.py

Without a server, each hub keeps to its part of the limit, and `health` says why.
"""

import asyncio
import logging
import os

from modelhub import Hub, LimitRejected

CONFIG = {
    "version": 1,
    "models": {"gpt": {"provider": "scripted", "reply": "ok", "limit": "tier"}},
    "limits": {"tier": {"requests_per_minute": 10, "burst": 1, "max_wait": "0s"}},
    "shared": {"url": os.environ.get("REDIS_URL", "redis://localhost:6379/0"), "replicas": 2},
}


async def count_answers(hub: Hub) -> int:
    """Return how many of ten calls the limit let through."""
    answered = 0
    for _ in range(10):
        try:
            await hub.get("gpt")("Hello")
            answered += 1
        except LimitRejected:
            pass
    return answered


async def main() -> None:
    logging.basicConfig(level=logging.ERROR)
    async with Hub.from_dict(CONFIG) as one, Hub.from_dict(CONFIG) as other:
        print(f"both hubs together: {await count_answers(one) + await count_answers(other)} calls of 20")
        print("the store:", one.shared.health.error or "is there" if one.shared else "none")


asyncio.run(main())
