"""Other event loops, and other ways to start tasks: calls and streams of real clients work under all of them."""

import asyncio
import sys

import pytest
import uvloop

from modelhub import Hub
from modelhub.testing import FaultServer


def run_eagerly(main):
    async def start():
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        return await main

    return asyncio.run(start())


@pytest.mark.parametrize(
    "run",
    [
        uvloop.run,
        pytest.param(
            run_eagerly,
            marks=pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12"),
        ),
    ],
)
@pytest.mark.parametrize("provider", ["openai", "anthropic", "gemini", "dashscope", "ollama"])
def test_a_call_and_a_stream_are_answered(run, provider):
    """With a time-out, which sets the loop's timers."""

    async def main(server):
        address = {"host": server.url("a")} if provider == "ollama" else {"base_url": server.url("a"), "api_key": "k"}
        model = {"provider": provider, "model_name": "m", "timeout": {"idle": 5, "total": 20}, **address}
        async with Hub.from_dict({"version": 1, "models": {"m": model}}) as hub:
            reply = await hub.get("m")("hi", stream=False)
            async with await hub.get("m")("hi", stream=True) as stream:
                texts = [snapshot.text async for snapshot in stream]
            return reply.text, texts

    with FaultServer().running() as server:
        text, texts = run(main(server))
    assert text
    assert texts[-1] == text
