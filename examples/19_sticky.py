"""After a fallback, a conversation stays with the model that has its prompt cached; others begin with the first."""

import asyncio

from modelhub import Hub

CONFIG = {
    "version": 1,
    "models": {
        "first": {
            "provider": "scripted",
            "retry": {"max_attempts": 1},
            "steps": [{"fail": "Overloaded", "status": 503}, {"say": "Hello from the first."}],
        },
        "second": {"provider": "scripted", "reply": "Hello from the second."},
    },
    "chains": {"primary": {"models": ["first", "second"], "sticky": {"for": "5m", "by": "tag:session"}}},
}


async def main() -> None:
    async with Hub.from_dict(CONFIG) as hub:
        for session in ("ann", "ann", "bob"):
            reply = await hub.get("primary")("Good morning!", tags={"session": session})
            print(f"{session}: asked {[attempt.model for attempt in reply.attempts]}")


asyncio.run(main())
