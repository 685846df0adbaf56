"""Every finished call is a row of a database: what it cost, who made it, what answered. Any SQL client may ask it."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from modelhub import Hub

CONFIG = {
    "version": 1,
    "models": {
        "busy": {
            "provider": "scripted",
            "retry": {"max_attempts": 1},
            "steps": [{"fail": "Overloaded", "status": 503}],
        },
        "spare": {"provider": "scripted", "reply": "A short answer.", "pricing": {"input": 1.0, "output": 4.0}},
    },
    "chains": {"primary": {"models": ["busy", "spare"]}},
}
COSTS = """\
SELECT c.tags ->> 'team', COUNT(*), SUM(a.model <> 'spare'), SUM(CAST(a.cost AS REAL))
FROM calls c JOIN attempts a USING (call_id)
GROUP BY 1 ORDER BY 1
"""


async def main() -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "usage.db"
        async with Hub.from_dict({**CONFIG, "usage": {"ledger": str(path)}}) as hub:
            for team in ("search", "search", "support"):
                await hub.get("primary")("Hello", tags={"team": team})
        with closing(sqlite3.connect(path)) as ledger:
            for team, attempts, failed, dollars in ledger.execute(COSTS):
                print(f"{team}: {attempts} attempts, {failed} of them failed, ${dollars:.6f}")


asyncio.run(main())
