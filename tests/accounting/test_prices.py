"""Costs, worked out by hand from the vendors' published prices (US dollars per million tokens)."""

import os
import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from modelhub import ConfigError, Hub
from modelhub.accounting import prices
from modelhub.accounting.prices import PriceBook
from modelhub.core.response import ChatUsage
from tests.tables import table

pytest.importorskip("genai_prices")

LONG = bool(os.environ.get("MODELHUB_LONG"))
NIGHT = datetime(2026, 3, 1, 20, tzinfo=UTC)
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
GPT = {"provider": "openai", "model_name": "gpt-5"}
CLAUDE = {"provider": "anthropic", "model_name": "claude-sonnet-4-5"}
GEMINI = {"provider": "gemini", "model_name": "gemini-2.5-pro"}


def at(url, model_name, **more):
    """An entry for a server that speaks OpenAI's API."""
    return {"provider": "openai", "model_name": model_name, "base_url": url, **more}


def used(input_tokens, output_tokens, read=0, written=0, hour=0, thought=0):
    """*hour* is the part of *written* that was written for an hour."""
    return ChatUsage(
        input_tokens,
        output_tokens,
        cache_read_tokens=read,
        cache_write_tokens=written,
        cache_write_1h_tokens=hour,
        reasoning_tokens=thought,
    )


DEEPSEEK = at("https://api.deepseek.com/v1", "deepseek-chat")
QWEN = {"provider": "dashscope", "model_name": "qwen-plus", "pricing": {"input": "0.4", "output": "1.2"}}
OWN = {"provider": "ollama", "model_name": "qwen3", "pricing": {"input": 1, "output": 2, "cache_read": 0}}
SONAR = at("https://api.perplexity.ai", "sonar-deep-research")

CASES = [
    # 1000 x 1.25 + 500 x 10 = 6250
    (GPT, used(1000, 500), NOON, "0.00625"),
    # 200 x 1.25 + 800 x 0.125 + 500 x 10 = 250 + 100 + 5000; reasoning is part of the output
    (GPT, used(1000, 500, read=800, thought=400), NOON, "0.00535"),
    # 100 x 2.5 + 900 x 1.25 + 10 x 10 = 250 + 1125 + 100
    ({**GPT, "model_name": "gpt-4o-2024-08-06"}, used(1000, 10, read=900), NOON, "0.001475"),
    # 7 x 0.25 + 3 x 2 = 7.75: small sums are exact
    ({**GPT, "model_name": "gpt-5-mini"}, used(7, 3), NOON, "0.00000775"),
    # 1000 x 2 + 100 x 8 since June 2025
    ({**GPT, "model_name": "o3"}, used(1000, 100), NOON, "0.0028"),
    # 1000 x 10 + 100 x 40 before
    ({**GPT, "model_name": "o3"}, used(1000, 100), datetime(2025, 1, 1, tzinfo=UTC), "0.014"),
    # 300_000 x 5 + 1000 x 22.5: over 272 000 tokens of input, all of them cost more
    ({**GPT, "model_name": "gpt-5.4"}, used(300_000, 1000), NOON, "1.5225"),
    # 1000 x 3 + 200 x 15
    (CLAUDE, used(1000, 200), NOON, "0.006"),
    # 100 x 3 + 600 x 0.3 + 300 x 3.75 + 200 x 15 = 300 + 180 + 1125 + 3000
    (CLAUDE, used(1000, 200, read=600, written=300), NOON, "0.004605"),
    # for an hour: 100 x 3 + 600 x 0.3 + 100 x 3.75 + 200 x 6 + 200 x 15 = 300 + 180 + 375 + 1200 + 3000
    (CLAUDE, used(1000, 200, read=600, written=300, hour=200), NOON, "0.005055"),
    # 100 x 5 + 900 x 10 + 10 x 25 = 500 + 9000 + 250
    ({**CLAUDE, "model_name": "claude-opus-4-5"}, used(1000, 10, written=900, hour=900), NOON, "0.00975"),
    # 200 000 is not over 200 000: 200_000 x 3 + 1 x 15
    (CLAUDE, used(200_000, 1), NOON, "0.600015"),
    # one more is: 1 x 6 + 100_000 x 0.6 + 100_000 x 7.5 + 1 x 22.5 = 6 + 60_000 + 750_000 + 22.5
    (CLAUDE, used(200_001, 1, read=100_000, written=100_000), NOON, "0.8100285"),
    # 1 x 6 + 200_000 x 12 + 1 x 22.5: the hour is twice the input there too
    (CLAUDE, used(200_001, 1, written=200_000, hour=200_000), NOON, "2.4000285"),
    # 900 x 15 + 100 x 18.75 + 50 x 75 = 13_500 + 1875 + 3750
    ({**CLAUDE, "model_name": "claude-opus-4-1-20250805"}, used(1000, 50, written=100), NOON, "0.019125"),
    # 400 x 1.25 + 600 x 0.125 + 2000 x 10, thoughts included
    (GEMINI, used(1000, 2000, read=600, thought=1500), NOON, "0.020575"),
    # 250_000 x 2.5 + 10 x 15
    (GEMINI, used(250_000, 10), NOON, "0.62515"),
    # 1000 x 0.3 + 100 x 2.5; the full name of the model means the same
    ({**GEMINI, "model_name": "models/gemini-2.5-flash"}, used(1000, 100), NOON, "0.00055"),
    # by day: 900 x 0.27 + 100 x 0.07 + 100 x 1.1 = 243 + 7 + 110
    (DEEPSEEK, used(1000, 100, read=100), NOON, "0.00036"),
    # by night: 900 x 0.135 + 100 x 0.035 + 100 x 0.55 = 121.5 + 3.5 + 55
    (DEEPSEEK, used(1000, 100, read=100), NIGHT, "0.00018"),
    # no price for what is read from a cache: it is input. 1000 x 0.59 + 100 x 0.79
    (at("https://api.groq.com/openai/v1", "llama-3.3-70b-versatile"), used(1000, 100, read=500), NOON, "0.000669"),
    # reasoning with a price of its own: 100 x 2 + 30 x 8 + 70 x 3
    (SONAR, used(100, 100, thought=70), NOON, "0.00065"),
    # 1000 x 3 + 100 x 15
    (at("https://api.x.ai/v1", "grok-4"), used(1000, 100), NOON, "0.0045"),
    # the entry's own: 500 x 0.4 + 500 x 0.4 + 100 x 1.2, for the table knows nothing of DashScope
    (QWEN, used(1000, 100, read=500), NOON, "0.00052"),
    # 400 x 1 + 600 x 0 + 100 x 2
    (OWN, used(1000, 100, read=600), NOON, "0.0006"),
    # twice the input for an hour, as Anthropic charges, where the entry does not say: 500 x 3 + 100 x 3.75 + 400 x 6
    (
        {**CLAUDE, "pricing": {"input": 3, "output": 15, "cache_write": "3.75"}},
        used(1000, 0, 0, 500, 400),
        NOON,
        "0.004275",
    ),
    # or what it says: 500 x 3 + 100 x 3 + 400 x 5
    (
        {**CLAUDE, "pricing": {"input": 3, "output": 15, "cache_write_1h": 5}},
        used(1000, 0, 0, 500, 400),
        NOON,
        "0.0038",
    ),
    # `pricing` goes before the table: 1000 x 1 + 500 x 1
    ({**GPT, "pricing": {"input": 1, "output": 1}}, used(1000, 500), NOON, "0.0015"),
    # nobody knows: unknown is not nothing
    ({"provider": "ollama", "model_name": "qwen3"}, used(1000, 100), NOON, None),
    ({"provider": "dashscope", "model_name": "qwen-plus"}, used(1000, 100), NOON, None),
    ({**GPT, "model_name": "gpt-of-our-own"}, used(1000, 100), NOON, None),
    # a well-known name on an unknown server says nothing about the price there
    (at("http://127.0.0.1:8000/v1", "gpt-5"), used(1000, 100), NOON, None),
    ({**CLAUDE, "base_url": "https://gateway.example.com"}, used(1000, 100), NOON, None),
]


def price_of(entry, **usage):
    models = {"m": {"api_key": "k", **entry} if entry["provider"] != "scripted" else entry}
    hub = Hub.from_dict({"version": 1, "models": models, "usage": usage}, environ={})
    return hub, hub.get("m").models[0].pricing


@table(("entry", "usage", "when", "expected"), CASES)
def test_a_cost_is_what_one_works_out_by_hand(entry, usage, when, expected):
    """Cache reads and writes, reasoning, long inputs, times of day, and prices of one's own."""
    _, price = price_of(entry)
    cost = price.cost(usage, when) if price is not None else None
    assert cost == (None if expected is None else Decimal(expected))


def test_every_price_of_the_table_is_read_as_its_makers_read_it():
    """Our arithmetic gives what the table's own gives, which is slower; MODELHUB_LONG=1 asks for all."""
    from genai_prices.data_snapshot import get_snapshot

    samples = [
        used(1000, 100),
        used(5000, 300, 2000, 1000, 0, 50),
        used(5000, 300, 2000, 1000, 600, 50),
        used(250_001, 10, 1000, 5, 5),
        used(200_000, 9),
    ]
    compared = 0
    for provider in get_snapshot().providers:
        for model in provider.models if LONG else provider.models[::4]:
            found = prices.make_token_prices(vars(model.get_prices(NOON)))
            for usage in samples:
                cost = found.cost(usage)
                if cost is not None:
                    theirs = model.calc_price(_theirs(usage), provider, genai_request_timestamp=NOON)
                    assert cost == theirs.total_price, (provider.id, model.id)
                    compared += 1
    assert compared > (5000 if LONG else 1000)


def _theirs(usage):
    names = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "cache_write_1h_tokens")
    return {name: usage[name] for name in names} | {"output_reasoning_tokens": usage["reasoning_tokens"]}


def test_where_a_price_comes_from_is_known():
    """The table and its version, the entry itself, or nothing."""
    hub, price = price_of(GPT)
    book = hub.usage.prices
    assert book.describe_source("m") is None, "nothing was looked up yet"
    price.cost(used(1, 1))
    assert book.describe_source("m").startswith("genai-prices 0.")
    hub, _ = price_of(OWN)
    assert hub.usage.prices.describe_source("m") == "pricing"


def test_the_table_is_loaded_when_a_cost_is_looked_at_and_not_before():
    """Neither the hub nor a call imports it; reading the cost does."""
    code = """
import asyncio, sys
from modelhub import Hub
from modelhub.providers.scripted import ScriptedChatModel
ScriptedChatModel.kind = ScriptedChatModel.price_provider = "openai"  # answers offline, priced as OpenAI's
hub = Hub.from_dict({"version": 1, "models": {"m": {"provider": "scripted", "model_name": "gpt-5"}}})
seen = []
async def main():
    seen.append(await hub.get("m")("hi"))
asyncio.run(main())
assert hub.usage.prices.ready is False
print("genai_prices" in sys.modules, "httpx2" in sys.modules, end=" ")
print(seen[0].usage.cost, "genai_prices" in sys.modules, hub.usage.total.cost)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False", "0.00005125", "True", "0.00005125"]


def test_without_the_table_costs_are_unknown(monkeypatch):
    """`auto` goes on without it; `true` says what to install, `false` prices nothing at all."""
    monkeypatch.setitem(sys.modules, "genai_prices", None)
    _, price = price_of(GPT)
    assert price.cost(used(1000, 500)) is None
    with pytest.raises(ConfigError, match=r"pip install 'modelhub-chains\[prices\]'"):
        price_of(GPT, cost=True)
    assert price_of(OWN, cost=False)[1] is None


def test_true_loads_the_table_with_the_hub():
    """Who wants no first call to pay for the import says so."""
    assert PriceBook(True).ready
