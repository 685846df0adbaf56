"""A chain as a chat model of AgentScope 2 (extra `agentscope`).

    from agentscope.agent import Agent
    from agentscope.message import UserMsg

    from modelhub import Hub

    hub = Hub.from_yaml("models.yaml")
    agent = Agent(name="Friday", system_prompt="Be brief.", model=hub.get("primary"))
    reply = await agent.reply(UserMsg(name="user", content="Why is the sky blue?"))

An agent takes what the hub gives as it is, of AgentScope 1 (`ReActAgent`, with any of its formatters) and of
AgentScope 2, where `stream: true` in the file makes it stream. Tools, structured output, streams, thinking and usage
work as with AgentScope's own models; retries, fallbacks, limits and budgets are the chain's.

`AgentScopeModel(hub.get("primary"))` is the same with options, and is one of AgentScope's own classes, which type
checkers and a few places of AgentScope 2 ask for: `ModelConfig(fallback_model=...)`, middleware for memory, and
TracingMiddleware, which records no other model. Messages are written by a formatter of this module, which keeps what a
vendor must get back, such as the signatures of Claude's thinking; `formatter=` takes any of AgentScope's, for several
agents.

If a stream breaks after its first words, another model would begin the answer again, and readers of events would see
two answers: with `restarts="error"`, the default, the stream fails with StreamBroken; with `restarts="buffer"`, streams
are held back until the answer is complete. Models that do not stream are not affected.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit
from urllib.request import url2pathname

from agentscope.credential import CredentialBase
from agentscope.formatter import FormatterBase
from agentscope.message import (
    Base64Source,
    DataBlock,
    HintBlock,
    Msg,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
    ToolResultBlock,
    ToolResultState,
)
from agentscope.model import ChatModelBase, ChatResponse, ChatUsage, StructuredResponse
from agentscope.tool import ToolChoice
from pydantic import BaseModel

from modelhub.core import model as hub_model
from modelhub.core.response import Block
from modelhub.core.response import ChatResponse as Reply
from modelhub.core.stream import ChatStream
from modelhub.integrations.replies import Restarts, StreamDeltas, get_details

__all__ = ["AgentScopeFormatter", "AgentScopeModel"]

Json = dict[str, Any]
_MEDIA_TYPES: Final = ["text/plain", "application/x-thinking", "image/*", "audio/*", "video/*", "application/pdf"]


class AgentScopeFormatter(FormatterBase):
    """Writes AgentScope's messages in the form that a chain takes, with everything that is in them."""

    input_types: list[str] = _MEDIA_TYPES

    async def format(self, msgs: list[Msg]) -> list[Json]:
        """Return *msgs* for a call."""
        self.assert_list_of_msgs(msgs)
        return [message for msg in msgs for message in _make_messages(msg)]


class AgentScopeModel(ChatModelBase):
    """An AgentScope model that calls *chain*: `hub.get(name)`, or any other model of modelhub.

    *parameters* go with every call, *context_size* (tokens) is when AgentScope compresses a conversation, and
    *restarts* says what happens when a stream breaks after its first words; see the module's documentation.
    """

    def __init__(
        self,
        chain: hub_model.ChatModelBase,
        *,
        stream: bool = True,
        restarts: Restarts = "error",
        formatter: FormatterBase | None = None,
        context_size: int = 128_000,
        parameters: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(
            credential=CredentialBase(name="modelhub"),
            model=chain.name,
            parameters=self.Parameters(),
            stream=stream,
            max_retries=0,  # the chain retries
            context_size=chain.context_window or context_size,
        )
        self.formatter = formatter or AgentScopeFormatter()
        self._chain = chain
        self._restarts: Restarts = restarts
        self._call_parameters = dict(parameters or {})

    async def _call_api(
        self,
        model_name: str,  # noqa: ARG002 - the protocol's parameter
        messages: list[Msg],
        tools: list[Json] | None = None,
        tool_choice: ToolChoice | None = None,
        **kwargs: Any,
    ) -> ChatResponse | AsyncGenerator[ChatResponse, None]:
        self._validate_tool_choice(tool_choice, tools)
        arguments = {**self._call_parameters, **kwargs, "messages": await self.formatter.format(messages)}
        if tool_choice is not None and tool_choice.tools:
            tools = [tool for tool in tools or [] if tool["function"]["name"] in tool_choice.tools]
        if tools:
            arguments |= {"tools": tools, "tool_choice": None if tool_choice is None else tool_choice.mode}
        if not self.stream:
            reply: Reply = await self._chain(**arguments, stream=False)
            return _make_response(reply)
        return self._stream_response(await self._chain(**arguments, stream=True))

    async def _stream_response(self, stream: ChatStream) -> AsyncGenerator[ChatResponse, None]:
        """Yield what each snapshot adds, and at the end the complete answer."""
        deltas = StreamDeltas(self._restarts)
        calls: dict[int, Mapping[str, Any]] = {}
        block: TextBlock | ThinkingBlock | ToolCallBlock
        async with stream:
            async for snapshot in stream:
                for delta in deltas.add(snapshot):
                    if delta.call is not None:
                        calls[delta.number] = delta.call
                    if delta.kind == "text":
                        block = TextBlock(text=delta.text, id=f"{snapshot.id}-text-0")
                    elif delta.kind == "thinking":
                        block = ThinkingBlock(thinking=delta.text, id=f"{snapshot.id}-thinking-{delta.number}")
                    else:
                        call = calls[delta.number]
                        block = ToolCallBlock(id=call["id"], name=call["name"], input=delta.text)
                    yield ChatResponse(content=[block], is_last=False, id=snapshot.id)
                if snapshot.is_last:
                    yield _make_response(snapshot)

    async def generate_structured_output(
        self, messages: list[Msg], structured_model: type[BaseModel] | Json, **kwargs: Any
    ) -> StructuredResponse:
        """Return an answer that fits *structured_model*, asked for in the way that the vendor knows best.

        Raises CallError, BadReply if no model of the chain gives one.
        """
        kwargs.pop("tool_choice", None)  # the structure is asked for in another way
        arguments = {**self._call_parameters, **kwargs, "messages": await self.formatter.format(messages)}
        arguments["structured_model"] = structured_model
        reply: Reply = await self._chain(**arguments, stream=False)
        return StructuredResponse(content=reply.metadata, id=reply.id, usage=_make_usage(reply))


# -- messages ----------------------------------------------------------------------------------------------------------


def _make_messages(msg: Msg) -> Iterator[Json]:
    """Yield the messages that *msg* is: the calls, results and texts of a whole turn may stand in one."""
    blocks: list[Json] = []
    for block in msg.get_content_blocks():
        if isinstance(block, ToolResultBlock | HintBlock):
            if blocks:
                yield {"role": msg.role, "content": blocks}
                blocks = []
            content = block.output if isinstance(block, ToolResultBlock) else block.hint
            content = content if isinstance(content, str) else [_make_block(part) for part in content]
            if isinstance(block, HintBlock):
                yield {"role": "user", "content": content}
                continue
            is_error = block.state in (ToolResultState.ERROR, ToolResultState.DENIED)
            message = {"role": "tool", "tool_call_id": block.id, "name": block.name, "content": content}
            yield {**message, "is_error": is_error}
        else:
            blocks.append(_make_block(block))
    if blocks:
        yield {"role": msg.role, "content": blocks, **({"name": msg.name} if msg.role == "user" else {})}


def _make_block(block: Any) -> Json:
    if isinstance(block, TextBlock):
        return {"type": "text", "text": block.text}
    if isinstance(block, ThinkingBlock):
        details = (block.model_extra or {}).get("modelhub", {})
        return {"type": "thinking", "thinking": block.thinking, **details}
    if isinstance(block, ToolCallBlock):
        return {"type": "tool_use", "id": block.id, "name": block.name, "input": block.input}
    if not isinstance(block, DataBlock):
        raise TypeError(f"modelhub cannot send a {type(block).__name__}")
    media_type = block.source.media_type
    if isinstance(block.source, Base64Source):
        source: Json = {"type": "base64", "media_type": media_type, "data": block.source.data}
    elif (url := str(block.source.url)).startswith("file://"):  # the application has named it
        source = {"type": "path", "media_type": media_type, "path": Path(url2pathname(urlsplit(url).path))}
    else:
        source = {"type": "url", "media_type": media_type, "url": url}
    kind = media_type.partition("/")[0]
    return {"type": kind if kind in ("image", "audio", "video") else "document", "source": source, "name": block.name}


# -- replies -----------------------------------------------------------------------------------------------------------


def _make_response(reply: Reply) -> ChatResponse:
    blocks = [*_make_blocks(reply.content, reply.id)]
    return ChatResponse(content=blocks, is_last=True, id=reply.id, usage=_make_usage(reply))


def _make_blocks(content: Iterable[Block], reply_id: str) -> Iterator[Any]:
    counts = {"text": 0, "thinking": 0}
    for block in content:
        kind = block["type"]
        if kind == "tool_use":
            yield ToolCallBlock(id=block["id"], name=block["name"], input=block["raw_input"] or "{}")
        elif kind in counts:
            block_id = f"{reply_id}-{kind}-{counts[kind]}"
            counts[kind] += 1
            if kind == "text":
                yield TextBlock(text=block["text"], id=block_id)
                continue
            details = get_details(block)
            extra: Json = {"signature": block.get("signature"), "modelhub": details} if details else {}
            yield ThinkingBlock(thinking=block["thinking"], id=block_id, **extra)
        elif (source := block.get("source")) and source.get("type") == "base64":
            yield DataBlock(source=Base64Source(data=source["data"], media_type=source["media_type"]))


def _make_usage(reply: Reply) -> ChatUsage | None:
    usage = reply.usage
    if usage is None:
        return None
    return ChatUsage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        time=usage.time,
        cache_creation_input_tokens=usage.cache_write_tokens,
        cache_input_tokens=usage.cache_read_tokens,
        metadata={"model": reply.model, "model_name": reply.model_name, "attempts": len(reply.attempts)},
    )
