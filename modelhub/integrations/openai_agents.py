"""A chain as a model of OpenAI's Agents SDK (extra `openai-agents`).

    from agents import Agent, Runner

    from modelhub import Hub
    from modelhub.integrations.openai_agents import AgentsModel

    hub = Hub.from_yaml("models.yaml")
    agent = Agent(name="Weather", model=AgentsModel(hub.get("primary")), tools=[get_weather])
    result = await Runner.run(agent, "What is the weather in Oslo?")

Or all names of the file at once, with `Agent(model="primary")`:

    Runner.run(agent, ..., run_config=RunConfig(model_provider=AgentsModelProvider(hub)))

Tools, handoffs, output types, streams and usage work as with the SDK's own models for chat completions; retries,
fallbacks, limits and budgets are the chain's. `ModelSettings` are spelled for whichever vendor answers, and
`extra_body` may have keywords of a call, such as `{"deadline": "30s"}`. A failure is the exception that OpenAI's client
raises for its status; an answer that no model gives in the form of the output type is the SDK's ModelBehaviorError.

Nothing is sent but by the chain: the SDK's model has a client of OpenAI's whose transport calls the chain.

If a stream breaks after its first words, another model would begin the answer again, and readers of deltas would see
two answers: with `restarts="error"`, the default, the stream fails; with `restarts="buffer"`, streams are held back
until the answer is complete. `Runner.run()` is not affected.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any, Final

import httpx2
from agents import Model, ModelBehaviorError, ModelProvider, OpenAIChatCompletionsModel
from agents.items import ModelResponse, TResponseStreamEvent

from modelhub.core.model import ChatModelBase
from modelhub.core.stream import ChatStream, Reply
from modelhub.hub import Hub
from modelhub.integrations.asgi.completions import ChunkWriter, make_completion
from modelhub.integrations.asgi.errors import as_http_error
from modelhub.integrations.asgi.requests import CompletionRequest, read_request
from modelhub.integrations.replies import Restarts

__all__ = ["AgentsModel", "AgentsModelProvider"]

_ADDRESS: Final = "http://modelhub.invalid/v1"
"""Where the client believes to send its requests; the name cannot exist."""


class AgentsModel(OpenAIChatCompletionsModel):
    """A model of the Agents SDK that calls *chain*: `hub.get(name)`, or any other model of modelhub.

    *restarts* says what happens when a stream breaks after its first words; see the module's documentation.
    """

    def __init__(self, chain: ChatModelBase, *, restarts: Restarts = "error") -> None:
        from openai import AsyncOpenAI  # the SDK has loaded it

        http_client = httpx2.AsyncClient(transport=_ChainTransport(chain, restarts))
        client = AsyncOpenAI(base_url=_ADDRESS, api_key="unused", http_client=http_client, max_retries=0)
        super().__init__(model=chain.name, openai_client=client)

    async def get_response(self, *args: Any, **kwargs: Any) -> ModelResponse:
        """Return the chain's answer. Raises ModelBehaviorError for one that cannot be used, and OpenAI's APIErrors."""
        with _translate_bad_replies():
            return await super().get_response(*args, **kwargs)

    async def stream_response(self, *args: Any, **kwargs: Any) -> AsyncIterator[TResponseStreamEvent]:
        """Yield the events of the chain's answer. Raises what `get_response` raises."""
        with _translate_bad_replies():
            async for event in super().stream_response(*args, **kwargs):
                yield event


@contextmanager
def _translate_bad_replies() -> Iterator[None]:
    from openai import APIError

    try:
        yield
    except APIError as error:
        if error.code != "bad_reply":
            raise
        raise ModelBehaviorError(error.message) from error


class AgentsModelProvider(ModelProvider):
    """Finds models by their names in the file of *hub*; *default* is the one for agents that name none."""

    def __init__(self, hub: Hub, *, default: str | None = None, restarts: Restarts = "error") -> None:
        self._hub = hub
        self._default = default or next(iter(hub))
        self._restarts: Restarts = restarts

    def get_model(self, model_name: str | None) -> Model:
        """Return the model *model_name*. Raises UnknownModel."""
        return AgentsModel(self._hub.get(model_name or self._default), restarts=self._restarts)


class _ChainTransport(httpx2.AsyncBaseTransport):
    """Answers requests for chat completions by calling *chain*."""

    def __init__(self, chain: ChatModelBase, restarts: Restarts) -> None:
        self._chain = chain
        self._restarts = restarts

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Return the chain's answer, or its failure, as a response."""
        body = json.loads(await request.aread())
        if body.get("stream"):
            body["stream_options"] = {"restarts": self._restarts, **(body.get("stream_options") or {})}
        try:
            # The application itself wrote the request: every parameter in it is meant.
            completion = read_request(body, body.keys())
            reply: Reply = await self._chain(**completion.arguments, tags=completion.tags, stream=completion.streams)
        except Exception as error:
            refusal = as_http_error(error)
            return httpx2.Response(refusal.status, json=refusal.as_json(), headers=refusal.headers)
        if not isinstance(reply, ChatStream):
            return httpx2.Response(200, json=make_completion(reply, completion))
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, stream=_EventBody(reply, completion))


class _EventBody(httpx2.AsyncByteStream):
    """The server-sent events of one streamed answer."""

    def __init__(self, stream: ChatStream, request: CompletionRequest) -> None:
        self._stream = stream
        self._request = request

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            writer = ChunkWriter(self._request)
            async for snapshot in self._stream:
                for chunk in writer.write(snapshot):
                    yield _make_event(chunk)
        except Exception as error:  # the status is known already: the error is the last event
            yield _make_event(as_http_error(error).as_json())
        else:
            yield b"data: [DONE]\n\n"

    async def aclose(self) -> None:
        """Stop the stream."""
        await self._stream.aclose()


def _make_event(data: Any) -> bytes:
    return f"data: {json.dumps(data)}\n\n".encode()
