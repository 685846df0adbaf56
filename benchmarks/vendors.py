"""The same two things, a call and a stream, by each vendor's bare SDK and by a hub."""

from __future__ import annotations

import contextlib
import json
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from typing import Any

from modelhub import Hub
from modelhub.testing.wires import WIRES

MESSAGES: list[Any] = [
    {"role": "system", "content": "You are a helpful assistant."},
    {"role": "user", "content": "Why is the sky blue? Answer in one sentence."},
]
_LIMIT = {"requests_per_minute": 10_000_000, "tokens_per_minute": 10_000_000_000, "concurrency": 10_000}
_PRICING = {"input": 1, "output": 2}


class Bare(ABC):
    """An SDK as its own README uses it, its retries off."""

    @abstractmethod
    def open(self, url: str) -> Any:
        """The client."""

    @abstractmethod
    async def call(self, client: Any, messages: Any = MESSAGES) -> str:
        """One answer's text."""

    @abstractmethod
    def pieces(self, client: Any) -> AsyncIterator[str]:
        """One stream's text, or the arguments of its call, in pieces."""

    async def close(self, client: Any) -> None:
        await client.close()


class OpenAI(Bare):
    def open(self, url: str) -> Any:
        from openai import AsyncOpenAI

        return AsyncOpenAI(api_key="k", base_url=f"{url}/v1", max_retries=0)

    async def call(self, client: Any, messages: Any = MESSAGES) -> str:
        reply = await client.chat.completions.create(model="m", messages=messages)
        return str(reply.choices[0].message.content)

    async def pieces(self, client: Any) -> AsyncIterator[str]:
        options = {"include_usage": True}
        async for chunk in await client.chat.completions.create(
            model="m", messages=MESSAGES, stream=True, stream_options=options
        ):
            for choice in chunk.choices:
                if choice.delta.content:
                    yield choice.delta.content
                for call in choice.delta.tool_calls or ():
                    yield call.function.arguments or ""


class OpenAIResponses(OpenAI):
    async def call(self, client: Any, messages: Any = MESSAGES) -> str:
        reply = await client.responses.create(model="m", input=messages, store=False)
        return str(reply.output_text)

    async def pieces(self, client: Any) -> AsyncIterator[str]:
        async for event in await client.responses.create(model="m", input=MESSAGES, store=False, stream=True):
            if event.type == "response.output_text.delta":
                yield event.delta


class Anthropic(Bare):
    def open(self, url: str) -> Any:
        from anthropic import AsyncAnthropic

        return AsyncAnthropic(api_key="k", base_url=url, max_retries=0)

    async def call(self, client: Any, messages: Any = MESSAGES) -> str:
        system, *rest = messages
        reply = await client.messages.create(model="m", max_tokens=2048, system=system["content"], messages=rest)
        return str(reply.content[0].text)

    async def pieces(self, client: Any) -> AsyncIterator[str]:
        system, *rest = MESSAGES
        async for event in await client.messages.create(
            model="m", max_tokens=2048, system=system["content"], messages=rest, stream=True
        ):
            if event.type == "content_block_delta":
                yield event.delta.text if event.delta.type == "text_delta" else event.delta.partial_json


class DashScope(Bare):
    def open(self, url: str) -> Any:
        import dashscope

        return dashscope.AsyncClient(api_key="k", base_url=f"{url}/api/v1", max_retries=0)

    async def call(self, client: Any, messages: Any = MESSAGES) -> str:
        reply = await client.chat.completions.create(model="m", messages=messages)
        return str(reply.choices[0].message.content)

    async def pieces(self, client: Any) -> AsyncIterator[str]:
        async for chunk in await client.chat.completions.create(model="m", messages=MESSAGES, stream=True):
            for choice in chunk.choices:
                if choice.delta.content:
                    yield choice.delta.content
                for call in choice.delta.tool_calls or ():
                    yield call.function.arguments or ""

    async def close(self, client: Any) -> None:
        await client.aclose()


class Gemini(Bare):
    def open(self, url: str) -> Any:
        from google import genai

        return genai.Client(api_key="k", http_options={"base_url": url, "retry_options": {"attempts": 1}})

    async def call(self, client: Any, messages: Any = MESSAGES) -> str:
        system, *rest = messages
        reply = await client.aio.models.generate_content(
            model="m", contents=[one["content"] for one in rest], config={"system_instruction": system["content"]}
        )
        return str(reply.text)

    async def pieces(self, client: Any) -> AsyncIterator[str]:
        system, *rest = MESSAGES
        async for chunk in await client.aio.models.generate_content_stream(
            model="m", contents=[one["content"] for one in rest], config={"system_instruction": system["content"]}
        ):
            yield chunk.text or ""

    async def close(self, client: Any) -> None:
        await client.aio.aclose()
        client.close()


class Ollama(Bare):
    def open(self, url: str) -> Any:
        import ollama

        return ollama.AsyncClient(host=url)

    async def call(self, client: Any, messages: Any = MESSAGES) -> str:
        reply = await client.chat(model="m", messages=messages)
        return str(reply.message.content)

    async def pieces(self, client: Any) -> AsyncIterator[str]:
        async for chunk in await client.chat(model="m", messages=MESSAGES, stream=True):
            yield chunk.message.content or ""

    async def close(self, client: Any) -> None:
        await client._client.aclose()


BARE: dict[str, Bare] = {
    "openai": OpenAI(),
    "openai_responses": OpenAIResponses(),
    "anthropic": Anthropic(),
    "gemini": Gemini(),
    "dashscope": DashScope(),
    "ollama": Ollama(),
}
_PATH = {"openai": "/v1", "openai_responses": "/v1", "dashscope": "/api/v1"}


def hub(vendor: str, url: str, second: str | None = None) -> Hub:
    """A hub whose `chat` is a chain of the model at *url*, and of the one at *second*, with every layer there is."""
    addresses = [url] if second is None else [url, second]
    models = {
        f"m{number}": {
            **WIRES[vendor].entry,
            "model_name": "m" if not number else f"m-{number}",
            "base_url": address + _PATH.get(vendor, ""),
            **({} if vendor == "ollama" else {"api_key": "k"}),
            "limit": "wide",
            "pricing": _PRICING,
            # The breaker would leave a model alone that always fails: here it is to be asked each time.
            "breaker": {"failures": 1000, "share": 1.0},
            "retry": {"max_attempts": 1 if second is not None else 3},
        }
        for number, address in enumerate(addresses)
    }
    chain = {"models": list(models), "deadline": 600}
    return Hub.from_dict({"version": 1, "limits": {"wide": _LIMIT}, "models": models, "chains": {"chat": chain}})


async def ours(chain: Any, messages: Any = MESSAGES) -> str:
    """One answer's text."""
    return str((await chain(messages)).text)


async def snapshots(chain: Any, kind: str = "text") -> int:
    """Read one stream as a program would: what is new of each snapshot, the call's arguments at the end."""
    read, last = 0, None
    async with contextlib.aclosing(await chain(MESSAGES, stream=True)) as stream:
        async for last in stream:
            read += len(last["delta"])
    return read if kind != "tool" else len(last.tool_calls[0]["input"]["text"])


async def joined(vendor: str, client: Any, kind: str = "text") -> int:
    """The same by the bare SDK: the pieces joined, the call's arguments read at the end."""
    pieces = [piece async for piece in BARE[vendor].pieces(client)]
    text = "".join(pieces)
    return len(text) if kind != "tool" else len(json.loads(text)["text"])
