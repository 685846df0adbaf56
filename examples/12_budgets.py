"""A budget for each user: a call that would exceed it is refused before it is sent, and the ledger has every call."""

import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory

from modelhub import BudgetExceeded, Hub


async def main() -> None:
    with TemporaryDirectory() as folder:
        config = {
            "version": 1,
            "models": {"gpt": {"provider": "scripted", "reply": "word " * 50}},
            "chains": {"primary": {"models": ["gpt"]}},
            "usage": {"ledger": str(Path(folder) / "usage.db")},
            "budgets": {"each": {"tag": "user", "tokens": 120, "per": "day"}},
        }
        async with Hub.from_dict(config) as hub:
            for user in ("ann", "ann", "ann", "bob"):
                try:
                    await hub.get("primary")("Hello", tags={"user": user})
                    print(f"{user}: answered")
                except BudgetExceeded:
                    print(f"{user}: has spent what there is")


asyncio.run(main())
