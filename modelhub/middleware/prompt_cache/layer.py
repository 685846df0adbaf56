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
_HOUR_MARK: Mapping[str, Any] = {"type": "ephemeral", "ttl": "1h"}
_MINUTES_MARK: Mapping[str, Any] = {"type": "ephemeral"}


class PromptCache(Layer):
    """Marks requests for the prompt cache of the vendor below."""

    Options = PromptCacheOptions

    def __init__(self, inner: ChatModelBase, options: PromptCacheOptions) -> None:
        super().__init__(inner)
        self.options = options
        self._mark = _HOUR_MARK if options.ttl >= _HOUR else _MINUTES_MARK

    @classmethod
    def wrap(
        cls,
        inner: ChatModelBase,
        options: PromptCacheOptions | None,
        build_context: BuildContext,  # noqa: ARG003 - nothing is shared
    ) -> ChatModelBase:
        """Wrap a model whose vendor has marks or keys for its cache, if the file asks for them."""
        provider = inner.stack()[-1]
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

    Of more marks of the caller's than that, the last ones are kept. Vendors take marks for an hour only before those
    for minutes, so that a mark between the caller's own is as long as these allow.
    """
    messages, tools = list(request.messages), list(request.tools)
    own = _list_marks(request)
    free = MAX_MARKS - sum(map(len, own))
    if "tools" in places and tools and tools[-1].cache is None and free > 0:
        tools[-1], free = replace(tools[-1], cache=_fit_lifetime(mark, own[:1], own[1:])), free - 1
    if "system" in places and free > 0:
        system = [index for index, message in enumerate(messages) if message.role == "system"]
        free -= _mark_last(messages, system, _fit_lifetime(mark, own[:2], own[2:]))
    if "last" in places and free > 0:
        free -= _mark_last(messages, list(range(len(messages))), _fit_lifetime(mark, own, ()))
    if free < 0:
        _remove_first_marks(messages, tools, -free)
    return request.replace(messages=tuple(messages), tools=tuple(tools))


_Marks = Sequence[Sequence[Mapping[str, Any]]]


def _list_marks(request: ChatRequest) -> _Marks:
    """Return the caller's marks of tools, of the system's messages and of others: the order of a vendor's cache."""
    system: list[Mapping[str, Any]] = []
    others: list[Mapping[str, Any]] = []
    for message in request.messages:
        marks = system if message.role == "system" else others
        for block in message.blocks:
            if not isinstance(block, ThinkingBlock | ProviderItemBlock) and block.cache is not None:
                marks.append(block.cache)
    return [tool.cache for tool in request.tools if tool.cache is not None], system, others


def _fit_lifetime(mark: Mapping[str, Any], before: _Marks, after: _Marks) -> Mapping[str, Any]:
    """Return *mark*, with the lifetime that the caller's marks *before* and *after* it allow."""
    if not all(_lasts_an_hour(own) for marks in before for own in marks):
        return _MINUTES_MARK
    return _HOUR_MARK if any(_lasts_an_hour(own) for marks in after for own in marks) else mark


def _lasts_an_hour(mark: Mapping[str, Any]) -> bool:
    return bool(mark.get("ttl") == _HOUR_MARK["ttl"])


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
