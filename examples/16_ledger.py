"""Every call is a row of a database, one that is broken off too: plain SQL says who spends what, and how calls end."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from modelhub import Hub

CONFIG = {
    "version": 1,
    "models": {
        "writer": {
            "provider": "scripted",
            "reply": "A short answer, which comes in several pieces.",
            "pricing": {"input": 1.0, "output": 4.0},
        },
    },
}
COSTS = """\
SELECT tags ->> 'team', outcome, COUNT(*), SUM(output_tokens), SUM(CAST(cost AS REAL)) FROM calls
GROUP BY 1, 2 ORDER BY 1, 2
"""


async def main() -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "usage.db"
        async with Hub.from_dict({**CONFIG, "usage": {"ledger": str(path)}}) as hub:
            search, support = (hub.get("writer").with_tags(team=team) for team in ("search", "support"))
            await search("What is new?")
            await search("And what is old?")
            await support("Where is my parcel?")
            async with await support.stream("Tell me all about parcels.") as stream:
                await anext(stream)  # the customer has seen enough
        with closing(sqlite3.connect(path)) as ledger:
            for team, outcome, calls, tokens, dollars in ledger.execute(COSTS):
                print(f"{team}: {calls} {outcome}, {tokens} tokens, ${dollars:.6f}")


asyncio.run(main())
