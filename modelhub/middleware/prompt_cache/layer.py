"""Prompt cache: mark what comes again in the next request, for vendors that are told what to cache.

The caller's own marks go first, and stay where they are. Marks of a request are bounded: vendors take four.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from modelhub.core.model import ChatModelBase, Layer
from modelhub.core.request import ChatRequest
from modelhub.core.stream import Reply
from modelhub.messages.blocks import (
    ContentBlock,
    MediaBlock,
    Message,
    ProviderItemBlock,
    TextBlock,
    ThinkingBlock,
    Tool,
    ToolResultBlock,
    ToolUseBlock,
)
from modelhub.middleware.build_context import BuildContext
from modelhub.middleware.prompt_cache.options import PromptCacheOptions

__all__ = ["MAX_MARKS", "PromptCache", "place_marks"]

MAX_MARKS = 4
"""How many marks Anthropic, DashScope and OpenAI take in one request (Anthropic refuses more)."""
_HOUR = 3600.0


class PromptCache(Layer):
    """Marks requests for the prompt cache of the vendor below."""

    Options = PromptCacheOptions

    def __init__(self, inner: ChatModelBase, options: PromptCacheOptions) -> None:
        super().__init__(inner)
        self.options = options
        *_, self._provider = self.stack()
        self._mark: Mapping[str, Any] = {"type": "ephemeral", **({"ttl": "1h"} if options.ttl >= _HOUR else {})}

    @classmethod
    def wrap(
        cls,
        inner: ChatModelBase,
        options: PromptCacheOptions | None,
        build_context: BuildContext,  # noqa: ARG003 - nothing is shared
    ) -> ChatModelBase:
        """Wrap a model whose vendor has marks or keys for its cache, if the file asks for them."""
        *_, provider = inner.stack() if isinstance(inner, Layer) else (inner,)
        if options is None or not (provider.takes_cache_marks or provider.cache_key_parameter):
            return inner
        return cls(inner, options)

    async def send(self, request: ChatRequest) -> Reply:
        """Send the request with marks and the key of the cache. Raises what the model below raises."""
        if self._provider.takes_cache_marks:
            request = place_marks(request, self.options.mark, self._mark)
        parameter, key = self._provider.cache_key_parameter, self.options.key
        if parameter is not None and key is not None and parameter not in request.options:
            value = request.context.tags.get(key.removeprefix("tag:"))
            if value is not None:
                request = request.replace(options={**request.options, parameter: value})
        return await self.inner.send(request)


def place_marks(request: ChatRequest, places: Sequence[str], mark: Mapping[str, Any]) -> ChatRequest:
    """Return *request* with a *mark* at each of *places* that has none, and with at most `MAX_MARKS` in all.

    Of more marks of the caller's than that, the last ones are kept.
    """
    messages, tools = list(request.messages), list(request.tools)
    free = MAX_MARKS - _count_marks(request)
    if "tools" in places and tools and tools[-1].cache is None and free > 0:
        tools[-1], free = replace(tools[-1], cache=mark), free - 1
    if "system" in places and free > 0:
        free -= _mark_last(
            messages, [index for index, message in enumerate(messages) if message.role == "system"], mark
        )
    if "last" in places and free > 0:
        free -= _mark_last(messages, list(range(len(messages))), mark)
    if free < 0:
        _remove_first_marks(messages, tools, -free)
    return request.replace(messages=tuple(messages), tools=tuple(tools))


def _count_marks(request: ChatRequest) -> int:
    blocks = sum(_mark_of(block) is not None for message in request.messages for block in message.blocks)
    return blocks + sum(tool.cache is not None for tool in request.tools)


def _mark_of(block: ContentBlock) -> Mapping[str, Any] | None:
    return None if isinstance(block, ThinkingBlock | ProviderItemBlock) else block.cache


def _mark_last(messages: list[Message], indices: list[int], mark: Mapping[str, Any]) -> int:
    """Mark the last block that can bear it of the last of the messages at *indices*; return how many marks it took."""
    for index in reversed(indices):
        blocks = list(messages[index].blocks)
        for position in reversed(range(len(blocks))):
            block = blocks[position]
            if not isinstance(block, TextBlock | MediaBlock | ToolResultBlock | ToolUseBlock):
                continue
            if block.cache is not None:
                return 0
            blocks[position] = replace(block, cache=mark)
            messages[index] = replace(messages[index], blocks=tuple(blocks))
            return 1
    return 0


def _remove_first_marks(messages: list[Message], tools: list[Tool], number: int) -> None:
    """Take the first *number* marks away; tools stand before all messages in a vendor's cache."""
    for index, tool in enumerate(tools):
        if number and tool.cache is not None:
            tools[index], number = replace(tool, cache=None), number - 1
    for index, message in enumerate(messages):
        blocks = list(message.blocks)
        for position, block in enumerate(blocks):
            if number and not isinstance(block, ThinkingBlock | ProviderItemBlock) and block.cache is not None:
                blocks[position], number = replace(block, cache=None), number - 1
        messages[index] = replace(message, blocks=tuple(blocks))
