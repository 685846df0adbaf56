"""A process that calls until its budget, which it shares, is used up, and says what it has spent.

When it gets the sum of what all have spent, it says what it knows of that, as soon as that is all, or after a while.

usage: spender.py LEDGER TOKENS
"""

import asyncio
import contextlib
import sys

from modelhub import BudgetExceeded, Hub


def config(ledger, tokens):
    """Four tokens a call, about one in five milliseconds."""
    return {
        "version": 1,
        "models": {"m": {"provider": "scripted", "steps": [{"say": "ok", "wait": "5ms"}]}},
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
    sys.stdout.write(f"{hub.usage.total.total_tokens}\n")
    sys.stdout.flush()
    total = int(sys.stdin.readline())
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(20):
            while int(hub.usage.budgets[0]["spent"]) != total:
                await asyncio.sleep(0.02)
    sys.stdout.write(f"{hub.usage.budgets[0]['spent']}\n")
    await hub.aclose()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
