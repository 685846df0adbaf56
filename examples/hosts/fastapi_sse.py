"""FastAPI: one hub for the server's life, answers as JSON, streams as server-sent events.

uvicorn fastapi_sse:app
"""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

from fastapi import Depends, FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, StreamingResponse
from pydantic import BaseModel

from modelhub import CallError, ChatStream, Hub

PAGE = """<pre id=answer></pre><script>
const answer = document.getElementById("answer"), events = new EventSource("/stream?text=hello");
events.addEventListener("text", event => answer.textContent += JSON.parse(event.data).text);
events.addEventListener("restart", () => answer.textContent = "");  // another model begins anew: this text is void
// A browser opens an EventSource again whenever its connection ends, and would ask the model again each time.
for (const end of ["done", "failed", "error"]) events.addEventListener(end, () => events.close());
events.addEventListener("failed", event => answer.textContent += "\\n" + JSON.parse(event.data).error);
</script>"""
HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}  # nginx would collect the events otherwise


class Answer(BaseModel):
    """What a browser sees: the whole reply has the attempts too, with vendors' messages and what they cost."""

    text: str
    model: str


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with Hub.from_yaml(Path(__file__).with_name("models.yaml")) as app.state.hub:
        yield


app = FastAPI(lifespan=lifespan)


@app.exception_handler(CallError)
async def explain(_: Request, error: CallError) -> JSONResponse:
    return JSONResponse({"error": error.kind}, status_code=502)


async def open_stream(text: str, request: Request) -> AsyncIterator[ChatStream]:
    """The stream is closed when the response has been sent, and also when the browser leaves before that."""
    hub: Hub = request.app.state.hub
    with hub.tags(path=request.url.path):
        stream = await hub.get("primary")(text, stream=True)
    async with stream:
        yield stream


@app.get("/ask")
async def ask(text: str, request: Request) -> Answer:
    hub: Hub = request.app.state.hub
    with hub.tags(path=request.url.path), hub.deadline("20s"):
        reply = await hub.get("primary")(text, stream=False)
    return Answer(text=reply.text, model=reply.model)


@app.get("/stream")
async def stream(reply: Annotated[ChatStream, Depends(open_stream)]) -> StreamingResponse:
    return StreamingResponse(events(reply), media_type="text/event-stream", headers=HEADERS)


@app.get("/")
async def page() -> HTMLResponse:
    return HTMLResponse(PAGE)


async def events(reply: ChatStream) -> AsyncIterator[str]:
    restarts = 0
    try:
        async for snapshot in reply:
            if snapshot.restarts > restarts:
                restarts = snapshot.restarts
                yield event("restart", {})
            if snapshot.delta:
                yield event("text", {"text": snapshot.delta})
        yield event("done", {"model": snapshot.model, "finish_reason": snapshot.finish_reason})
    except CallError as error:
        yield event("failed", {"error": error.kind})  # `error` is the browser's own event


def event(name: str, data: dict[str, object]) -> str:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"
