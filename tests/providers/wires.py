"""A model of every provider at one scripted server, and how each vendor writes an error."""

import json
from contextlib import AsyncExitStack, asynccontextmanager

from modelhub.core.errors import CallError, StreamBroken
from modelhub.providers.anthropic import AnthropicChatModel
from modelhub.providers.dashscope import DashScopeChatModel
from modelhub.providers.gemini import GeminiChatModel
from modelhub.providers.ollama import OllamaChatModel
from modelhub.providers.openai import OpenAIChatModel

MAKERS = {
    "openai": lambda url: OpenAIChatModel("m", "key-of-test", base_url=f"{url}/v1"),
    "openai_responses": lambda url: OpenAIChatModel("m", "key-of-test", api="responses", base_url=f"{url}/v1"),
    "anthropic": lambda url: AnthropicChatModel("m", "key-of-test", base_url=url),
    "dashscope": lambda url: DashScopeChatModel("qwen-plus", "key-of-test", base_url=f"{url}/api/v1"),
    "ollama": lambda url: OllamaChatModel("m", host=url),
    "gemini": lambda url: GeminiChatModel("gemini-3-flash", "key-of-test", base_url=url),
}
WIRES = tuple(MAKERS)
ENTRIES = {
    "openai": lambda url: {"provider": "openai", "model_name": "m", "base_url": f"{url}/v1", "api_key": "k"},
    "openai_responses": lambda url: ENTRIES["openai"](url) | {"api": "responses"},
    "anthropic": lambda url: {"provider": "anthropic", "model_name": "m", "base_url": url, "api_key": "k"},
    "dashscope": lambda url: {
        "provider": "dashscope",
        "model_name": "qwen-plus",
        "base_url": f"{url}/api/v1",
        "api_key": "k",
    },
    "ollama": lambda url: {"provider": "ollama", "model_name": "m", "host": url},
    "gemini": lambda url: {"provider": "gemini", "model_name": "gemini-3-flash", "base_url": url, "api_key": "k"},
}
"""An entry of the file for each."""


def error_body(wire, message, status=None):
    """An error with *message* and no code that says anything, as the vendor writes it."""
    return {
        "openai_responses": {"error": {"message": message, "type": "invalid_request_error", "code": None}},
        "openai": {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None}},
        "anthropic": {"type": "error", "error": {"type": "invalid_request_error", "message": message}},
        "dashscope": {"code": "InvalidParameter", "message": message, "request_id": "r"},
        "ollama": {"error": message},
        "gemini": {"error": {"message": message} | ({"code": status} if status else {})},
    }[wire]


def error_in_stream(wire, message):
    """The same inside a stream that began with 200: content type and bytes."""
    body = error_body(wire, message, 400)
    if wire == "ollama":
        return "application/x-ndjson", json.dumps(body) + "\n"
    if wire == "openai_responses":
        body |= {"type": "error"}
    name = "event: error\n" if wire in ("anthropic", "dashscope", "openai_responses") else ""
    return "text/event-stream", f"{name}data: {json.dumps(body)}\n\n"


async def failure_of(model, stream=False):
    """What a call of *model* fails with; for a stream that broke, what broke it."""
    try:
        reply = await model("hi", stream=stream)
        if stream:
            reply = await reply.final()
    except StreamBroken as error:
        return error.__cause__
    except CallError as error:
        return error
    return reply


@asynccontextmanager
async def models_at(url):
    """A model of every provider, by name."""
    async with AsyncExitStack() as stack:
        yield {wire: await stack.enter_async_context(make(url)) for wire, make in MAKERS.items()}
