"""FastAPI on uvloop: streams long answers at `/`, says at `/state` what is under way and what was, and at
`/objects` how much the process has in memory.

It takes a ledger's path, writes its port, and ends by SIGTERM.
"""

import contextlib
import gc
import logging
import socket
import sys

import uvicorn
import uvloop
from fastapi import FastAPI
from fastapi.responses import StreamingResponse

from modelhub import CallError, Hub

PIECE = "x" * 8192
CONFIG = {
    "version": 1,
    "models": {"m": {"provider": "scripted", "reply": " ".join([PIECE] * 24), "limit": "places"}},
    "limits": {"places": {"concurrency": 150}},
    "usage": {"ledger": sys.argv[1]},
}


@contextlib.asynccontextmanager
async def lifespan(app):
    async with Hub.from_dict(CONFIG) as app.state.hub:
        yield


app = FastAPI(lifespan=lifespan)


async def pieces(deadline):
    with contextlib.suppress(CallError):
        async with await app.state.hub.get("m")("hi", stream=True, deadline=deadline) as stream:
            async for snapshot in stream:
                yield snapshot.delta


@app.get("/")
async def answer(deadline: float) -> StreamingResponse:
    return StreamingResponse(pieces(deadline))


@app.get("/state")
async def state() -> dict[str, int]:
    hub = app.state.hub
    return {"recorded": hub.usage.total.calls, "places taken": hub.limits["places"].left().taken}


@app.get("/objects")
async def objects() -> int:
    gc.collect()
    return sys.getallocatedblocks()


def main():
    # In debug mode asyncio warns of every step that a busy machine makes slow.
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    with socket.socket() as listener:
        # Small buffers, which connections inherit: a browser that reads nothing is noticed after some hundred KB.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
        listener.bind(("127.0.0.1", 0))
        listener.listen(1024)
        sys.stdout.write(f"{listener.getsockname()[1]}\n")
        sys.stdout.flush()
        server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
        uvloop.run(server.serve(sockets=[listener]))


if __name__ == "__main__":
    main()
