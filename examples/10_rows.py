"""Many rows, a bounded number at a time; a row that fails is a row with an error, and the others go on."""

import asyncio
from pathlib import Path

from modelhub import Hub

CONFIG = Path(__file__).with_name("models.yaml")
ROWS = [{"report": "all is well"}, {"report": "the pump leaks"}, {"report": "out of coffee"}]


async def main() -> None:
    async with Hub.from_yaml(CONFIG) as hub:
        async for row in hub.get("greeter").map(ROWS, prompt="Summarise: {report}", concurrency=8, ordered=True):
            print(row.index, row.text if row.error is None else f"failed: {row.error}")


asyncio.run(main())
