"""Three deployments share a place: a canary for some users, and one whose key has expired.

Each user stays with his deployment. The one with the bad key leaves after its first call, and is logged once; its users
are served by the other two, and the model behind is not needed.
"""

import asyncio
from collections import Counter

from modelhub import Hub

CONFIG = {
    "version": 1,
    "models": {
        "stable": {"provider": "scripted", "reply": "from the stable deployment"},
        "canary": {"provider": "scripted", "reply": "from the canary"},
        "expired": {"provider": "scripted", "steps": [{"fail": "AuthenticationFailed", "status": 401}]},
        "spare": {"provider": "scripted", "reply": "from another vendor"},
    },
    "chains": {
        "primary": {"models": [{"arms": {"stable": 8, "canary": 1, "expired": 1}, "by": "tag:user"}, "spare"]},
    },
}


async def main() -> None:
    async with Hub.from_dict(CONFIG) as hub:
        chain = hub.get("primary")
        served: Counter[str | None] = Counter()
        refused = 0
        for number in range(1000):
            reply = await chain.with_tags(user=f"user-{number}")("Hello")
            *failed, last = reply.attempts
            served[last.arm] += 1
            refused += len(failed)
        print(f"served by {dict(served.most_common())}, refused {refused}")
        again = {(await chain.with_tags(user="user-7")("Hello")).model for _ in range(20)}
        print(f"user-7 is always served by {', '.join(map(str, again))}")


asyncio.run(main())
