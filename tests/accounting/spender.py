"""A process that calls until its budget, which it shares, is used up; then it tells what it and all have spent.

usage: spender.py LEDGER TOKENS
"""

import asyncio
import json
import sys

from modelhub import BudgetExceeded, Hub


def config(ledger, tokens):
    """Four tokens a call, about one in a millisecond."""
    return {
        "version": 1,
        "models": {"m": {"provider": "scripted", "steps": [{"say": "ok", "wait": "1ms"}]}},
        "budgets": {"b": {"tokens": tokens, "per": "30d"}},
        "usage": {"ledger": ledger, "batch": 20, "max_delay": "20ms", "refresh": "100ms"},
    }


async def main(ledger, tokens):
    hub = Hub.from_dict(config(ledger, int(tokens)))
    try:
        while True:
            await hub.get("m")("one two three")
    except BudgetExceeded:
        hub.usage.flush()
    own, still = hub.usage.total.total_tokens, 0
    while still < 5:  # until nobody spends any more
        before = hub.usage.budgets[0]["spent"]
        await asyncio.sleep(0.2)
        still = still + 1 if hub.usage.budgets[0]["spent"] == before else 0
    sys.stdout.write(json.dumps({"own": own, "spent": int(hub.usage.budgets[0]["spent"])}))
    await hub.aclose()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
