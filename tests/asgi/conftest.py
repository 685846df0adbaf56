"""A hub behind a real server on loopback, and OpenAI's own client."""

import socket
from contextlib import asynccontextmanager

import httpx
import pytest
import uvicorn
from openai import AsyncOpenAI, DefaultAsyncHttpxClient

from modelhub import Hub
from modelhub.integrations.asgi import OpenAIApp
from modelhub.testing.pytest_plugin import fault_server, hub_faults

__all__ = ["fault_server", "hub_faults"]


@asynccontextmanager
async def serving(app):
    """Serve *app* with uvicorn in this loop; yields its address."""
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, ws="none", lifespan="on"))
    server.config.load()
    server.lifespan = server.config.lifespan_class(server.config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        await server.startup(sockets=[listener])
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            await server.shutdown(sockets=[listener])


@asynccontextmanager
async def connected(app, api_key="any"):
    """OpenAI's client of *app*, without retries."""
    http_client = DefaultAsyncHttpxClient(verify=False)  # reading the certificates takes longer than a test
    async with (
        serving(app) as url,
        AsyncOpenAI(base_url=f"{url}/v1", api_key=api_key, max_retries=0, http_client=http_client) as client,
    ):
        yield client


@asynccontextmanager
async def reached(app):
    """An HTTP client of *app*."""
    async with serving(app) as url, httpx.AsyncClient(base_url=url, verify=False) as client:
        yield client


def make_hub(models, chains=None, *, services=None, **sections):
    """Make a hub of scripted *models*: the steps of each, or one step."""
    entries = {
        name: {"provider": "scripted", "steps": steps if isinstance(steps, list) else [steps]}
        for name, steps in models.items()
    }
    config = {"version": 1, "defaults": {"retry": {"max_attempts": 1}}, "models": entries, **sections}
    if chains:
        config["chains"] = {name: {"models": members} for name, members in chains.items()}
    return Hub.from_dict(config, environ={}, services=services)


@pytest.fixture
def ask():
    """Ask the model *model* of an app in one call; further keywords are the request's."""

    async def send(app, model="m", messages="hi", **parameters):
        if isinstance(messages, str):
            messages = [{"role": "user", "content": messages}]
        async with connected(app) as client:
            return await client.chat.completions.create(model=model, messages=messages, **parameters)

    return send


@pytest.fixture
def stream():
    """Stream the model *model* of an app and return all chunks; further keywords are the request's."""

    async def read(app, model="m", messages="hi", **parameters):
        async with connected(app) as client:
            messages = [{"role": "user", "content": messages}]
            chunks = await client.chat.completions.create(model=model, messages=messages, stream=True, **parameters)
            return [chunk async for chunk in chunks]

    return read


@pytest.fixture
def app_of():
    """Make an app of scripted models."""

    def make(models, chains=None, *, keys=None, hosts=None, **sections):
        return OpenAIApp(make_hub(models, chains, **sections), keys=keys, hosts=hosts)

    return make
