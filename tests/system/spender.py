"""What a child process does that calls until its budget, which it shares, is used up, and says what it has spent.

When it gets the sum of what all have spent, it says what it knows of that, as soon as that is all, or after a while.
"""

import asyncio
import contextlib

from modelhub import BudgetExceeded, Hub


def config(ledger, tokens):
    """Four tokens a call, about one in five milliseconds."""
    return {
        "version": 1,
        "models": {"m": {"provider": "scripted", "steps": [{"say": "ok", "wait": "5ms"}]}},
        "budgets": {"b": {"tokens": tokens, "per": "30d"}},
        "usage": {"ledger": ledger, "batch": 20, "max_delay": "20ms", "refresh": "100ms"},
    }


async def spend(ledger, tokens, connection):
    """Spend *tokens*, and tell so through *connection*."""
    hub = Hub.from_dict(config(ledger, tokens))
    try:
        while True:
            await hub.get("m")("one two three")
    except BudgetExceeded:
        hub.usage.flush()
    connection.send(hub.usage.total.total_tokens)
    total = connection.recv()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(20):
            while int(hub.usage.budgets[0]["spent"]) != total:
                await asyncio.sleep(0.02)
    connection.send(int(hub.usage.budgets[0]["spent"]))
    await hub.aclose()


def run(*args):
    """Run `spend` in a process of its own."""
    asyncio.run(spend(*args))
