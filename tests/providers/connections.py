"""How a reader goes away, and that no connection is left behind him; for every vendor."""

import asyncio
import gc
import socket

import pytest


def find_closed_port():
    """A port of this machine where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


async def check_left_early(model, server, how):
    """A stream of *model* that its reader leaves gives its connection to *server* back; *how* is one of four ways."""
    stream = await model("hi")
    assert server.open == 1
    if how == "break":
        async with stream:
            async for _ in stream:
                break
    elif how == "close":
        await stream.aclose()
    elif how == "cancel":
        task = asyncio.create_task(stream.final())
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        stream = None  # who still has it may read on
    else:
        assert how == "forget"
        with pytest.warns(ResourceWarning, match="never read"):
            stream = None
        gc.collect()
    await server.idle()


async def check_cancelled(model, server):
    """Cancelling a call while *server* is silent gives the connection back and raises nothing else."""
    task = asyncio.create_task(model("hi"))
    while not server.asked:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await server.idle()


async def check_reused_and_closed(model, server):
    """Streams of *model* that are read to their end share one connection to *server*; `aclose` closes it."""
    for _ in range(3):
        await (await model("hi")).final()
    assert (len(server.asked), server.open) == (3, 1)
    await model.aclose()
    await server.idle()
