"""A chain as a chat model of LangChain (extra `langchain`).

    from modelhub import Hub
    from modelhub.integrations.langchain import ChatModelHub

    hub = Hub.from_yaml("models.yaml")
    model = ChatModelHub(chain=hub.get("primary"))
    model.invoke("Why is the sky blue?")
    model.bind_tools([get_weather]).invoke("What is the weather in Oslo?")
    model.with_structured_output(Invoice).invoke("Two apples for three euros each.")

`invoke`, `stream`, `batch` and their asynchronous forms work, also in agents. Retries, fallbacks, limits and budgets
are the chain's. Keywords, of a call, of `bind` or as `ChatModelHub(..., parameters={...})`, are parameters by OpenAI's
names, spelled for whichever vendor answers. `usage_metadata` has the tokens, and `response_metadata` the entry that
answered, its vendor and how many attempts were made. `with_structured_output` asks in the way that the vendor knows
best, and an answer that does not fit is asked for again, or from the next model.

If a stream breaks after its first words, another model would begin the answer again, and readers of chunks would see
two answers: with `restarts="error"`, the default, the stream fails with StreamBroken; with `restarts="buffer"`, streams
are held back until the answer is complete. `invoke` is not affected.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, ToolMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.messages.utils import count_tokens_approximately
from langchain_core.output_parsers import JsonOutputParser, PydanticOutputParser
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable, RunnableMap, RunnablePassthrough
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_json_schema, convert_to_openai_tool
from pydantic import BaseModel, Field

from modelhub.core.model import ChatModelBase
from modelhub.core.response import Block, ChatResponse, ChatUsage
from modelhub.integrations.replies import (
    Delta,
    Restarts,
    StreamDeltas,
    call_blocking,
    find_provider,
    get_details,
    iterate_blocking,
)

__all__ = ["ChatModelHub"]

Json = dict[str, Any]


class ChatModelHub(BaseChatModel):
    """A LangChain chat model that calls *chain*: `hub.get(name)`, or any other model of modelhub.

    *parameters* go with every call, and *restarts* says what happens when a stream breaks after its first words; see
    the module's documentation.
    """

    chain: ChatModelBase = Field(exclude=True)
    restarts: Restarts = "error"
    parameters: dict[str, Any] = Field(default_factory=dict)

    @property
    def _llm_type(self) -> str:
        return "modelhub"

    @property
    def _identifying_params(self) -> Mapping[str, Any]:
        return {"model": self.chain.name, **self.parameters}

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,  # noqa: ARG002 - nothing to report before the reply
        **kwargs: Any,
    ) -> ChatResult:
        return _make_result(call_blocking(self.chain, **self._make_arguments(messages, stop, kwargs)))

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,  # noqa: ARG002 - nothing to report before the reply
        **kwargs: Any,
    ) -> ChatResult:
        arguments = self._make_arguments(messages, stop, kwargs)
        reply: ChatResponse = await self.chain(**arguments, stream=False)
        return _make_result(reply)

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        arguments = self._make_arguments(messages, stop, kwargs)
        writer, deltas = _ChunkWriter(), StreamDeltas(self._choose_restarts(arguments))
        for snapshot in iterate_blocking(self.chain, **arguments):
            for chunk in writer.write(snapshot, deltas.add(snapshot)):
                if run_manager is not None:
                    run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                yield chunk

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        arguments = self._make_arguments(messages, stop, kwargs)
        writer, deltas = _ChunkWriter(), StreamDeltas(self._choose_restarts(arguments))
        async with await self.chain(**arguments, stream=True) as stream:
            async for snapshot in stream:
                for chunk in writer.write(snapshot, deltas.add(snapshot)):
                    if run_manager is not None:
                        await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                    yield chunk

    def _make_arguments(self, messages: list[BaseMessage], stop: list[str] | None, kwargs: Json) -> Json:
        arguments = {**self.parameters, **kwargs, "messages": [_make_message(message) for message in messages]}
        if stop is not None:
            arguments["stop"] = stop
        return arguments

    def _choose_restarts(self, arguments: Json) -> Restarts:
        # A structured answer is what has been checked, which is known at its end.
        return "buffer" if "structured_model" in arguments else self.restarts

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | bool | dict[str, Any] | None = None,
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[Any, AIMessage]:
        """Return the model with *tools*; *tool_choice* is "auto", "any", "none", a tool's name, True or OpenAI's dict.

        Further keywords are parameters of the call, such as `parallel_tool_calls=False`.
        """
        if isinstance(tool_choice, bool):
            tool_choice = "any" if tool_choice else None
        if tool_choice is not None:
            kwargs["tool_choice"] = tool_choice
        openai_tools = [convert_to_openai_tool(tool, strict=strict) for tool in tools]
        bound: Runnable[Any, AIMessage] = self.bind(tools=openai_tools, **kwargs)
        return bound

    def with_structured_output(
        self, schema: dict[str, Any] | type, *, include_raw: bool = False, method: str = "json_schema", **kwargs: Any
    ) -> Runnable[Any, Any]:
        """Return a runnable that gives an instance of *schema*, a pydantic class, or a dict for any other schema.

        *method* "function_calling" asks by a forced tool, anything else in the way that the vendor knows best. With
        *include_raw* the result is a dict with `raw`, `parsed` and `parsing_error`.
        """
        if method == "function_calling":
            chosen: Runnable[Any, Any] = super().with_structured_output(schema, include_raw=include_raw, **kwargs)
            return chosen
        kwargs.pop("strict", None)  # the schema is kept to in any case
        is_class = isinstance(schema, type) and issubclass(schema, BaseModel)
        structured_model = schema if is_class else convert_to_json_schema(schema)
        description = {"kwargs": {"method": method}, "schema": schema}
        model = self.bind(structured_model=structured_model, ls_structured_output_format=description, **kwargs)
        parser: Any = PydanticOutputParser(pydantic_object=schema) if is_class else JsonOutputParser()
        if not include_raw:
            parsing: Runnable[Any, Any] = model | parser
            return parsing
        parsed = RunnablePassthrough.assign(parsed=lambda result: parser.invoke(result["raw"]), parsing_error=_nothing)
        failed = RunnablePassthrough.assign(parsed=_nothing)
        parsed_or_failed = parsed.with_fallbacks([failed], exception_key="parsing_error")
        with_raw: Runnable[Any, Any] = RunnableMap(raw=model) | parsed_or_failed
        return with_raw

    def get_num_tokens(self, text: str) -> int:
        """Return an estimate of the tokens in *text*: it is known late which model answers, and counts."""
        return self.get_num_tokens_from_messages([HumanMessage(text)])

    def get_num_tokens_from_messages(
        self,
        messages: list[BaseMessage],
        tools: Sequence[Any] | None = None,  # noqa: ARG002 - nor does LangChain itself count them
    ) -> int:
        """Return an estimate of the tokens in *messages*, as `trim_messages(token_counter=model)` asks for it."""
        count: int = count_tokens_approximately(messages)
        return count


def _nothing(result: Any) -> None:
    """Return None, whatever *result* is."""


# -- messages ----------------------------------------------------------------------------------------------------------


def _make_message(message: BaseMessage) -> Json:
    """Return *message* as one of modelhub's."""
    content = [*_make_blocks(message.content)] if isinstance(message.content, list) else message.content
    if isinstance(message, ToolMessage):
        own = {"role": "tool", "tool_call_id": message.tool_call_id, "name": message.name}
        return {**own, "content": content, "is_error": message.status == "error"}
    if not isinstance(message, AIMessage):
        return {"role": getattr(message, "role", message.type), "content": content, "name": message.name}
    details = message.additional_kwargs.get("modelhub", {})
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
    blocks = [block for block in blocks if block.get("type") != "tool_use"]  # the calls are in the message too
    for call in message.tool_calls:
        block = {"type": "tool_use", "id": call["id"], "name": call["name"], "input": call["args"]}
        blocks.append({**block, **details.get(call["id"], {})})
    return {"role": "assistant", "content": blocks}


def _make_blocks(content: Sequence[str | Json]) -> Iterator[Json]:
    for block in content:
        if isinstance(block, str):
            yield {"type": "text", "text": block}
        elif block.get("type") == "reasoning" and "reasoning" in block:
            yield {"type": "thinking", "thinking": block["reasoning"], **(block.get("extras") or {})}
        elif "base64" in block:
            source = {"type": "base64", "media_type": block.get("mime_type"), "data": block["base64"]}
            yield {"type": block["type"], "source": source}
        else:
            yield {key: value for key, value in block.items() if key not in ("index", "extras")}


# -- replies -----------------------------------------------------------------------------------------------------------


def _make_result(reply: ChatResponse) -> ChatResult:
    # The tool that a structured answer was forced into is not one of the caller's.
    calls = [] if reply.metadata is not None else reply.tool_calls
    message = AIMessage(
        content=_make_content(reply),
        additional_kwargs=_make_details(reply.content),
        tool_calls=[
            {"type": "tool_call", "id": call["id"], "name": call["name"], "args": call["input"]} for call in calls
        ],
        usage_metadata=_make_usage(reply.usage),
        response_metadata=_describe_reply(reply),
        id=reply.id,
    )
    return ChatResult(generations=[ChatGeneration(message=message)])


def _make_content(reply: ChatResponse) -> str | list[str | Json]:
    """Return the text, or a list of blocks if there is more than text. A structured answer is its JSON."""
    if reply.metadata is not None:
        return json.dumps(reply.metadata, ensure_ascii=False)
    blocks = [block for block in reply.content if block["type"] in ("text", "thinking")]
    if all(block["type"] == "text" for block in blocks):
        return reply.text
    return [
        {"type": "text", "text": block["text"]}
        if block["type"] == "text"
        else {"type": "reasoning", "reasoning": block["thinking"], "extras": get_details(block)}
        for block in blocks
    ]


def _make_details(content: Sequence[Block]) -> Json:
    """Return what the calls in *content* have beside their arguments, by their ids."""
    calls = [block for block in content if block["type"] == "tool_use"]
    details = {call["id"]: own for call in calls if (own := get_details(call))}
    return {"modelhub": details} if details else {}


def _make_usage(usage: ChatUsage | None) -> UsageMetadata | None:
    if usage is None:
        return None
    return UsageMetadata(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        total_tokens=usage.total_tokens,
        input_token_details={"cache_read": usage.cache_read_tokens, "cache_creation": usage.cache_write_tokens},
        output_token_details={"reasoning": usage.reasoning_tokens},
    )


def _describe_reply(reply: ChatResponse) -> Json:
    return {
        "model_name": reply.model_name,
        "finish_reason": reply.finish_reason,
        "model": reply.model,
        "provider": find_provider(reply),
        "attempts": len(reply.attempts),
    }


class _ChunkWriter:
    """Makes LangChain's chunks of one stream. Text is plain until there is thinking, and then blocks with an index."""

    def __init__(self) -> None:
        self._indices: dict[tuple[str, int], int] = {}

    def write(self, snapshot: ChatResponse, deltas: Sequence[Delta]) -> Iterator[ChatGenerationChunk]:
        """Yield the chunks of *deltas*, and at the end one with what the complete reply says of itself."""
        if snapshot.is_last and snapshot.metadata is not None:
            yield _make_chunk(content=json.dumps(snapshot.metadata, ensure_ascii=False))
        else:
            yield from (_make_chunk(**self._make_piece(delta)) for delta in deltas)
        if snapshot.is_last:
            extras: list[Json] = []  # what is only known at the end of thinking, such as its signature
            for number, block in enumerate(block for block in snapshot.content if block["type"] == "thinking"):
                index = self._indices.get(("thinking", number))
                if index is not None and (details := get_details(block)):
                    extras.append({"type": "reasoning", "reasoning": "", "extras": details, "index": index})
            yield _make_chunk(
                content=extras or "",
                additional_kwargs=_make_details(snapshot.content),
                usage_metadata=_make_usage(snapshot.usage),
                response_metadata=_describe_reply(snapshot),
                id=snapshot.id,
                chunk_position="last",
            )

    def _make_piece(self, delta: Delta) -> Json:
        if delta.kind == "call":
            call = delta.call or {}
            piece = tool_call_chunk(name=call.get("name"), id=call.get("id"), args=delta.text, index=delta.number)
            return {"content": "", "tool_call_chunks": [piece]}
        if delta.kind == "text" and not self._indices:
            return {"content": delta.text}
        index = self._indices.setdefault((delta.kind, delta.number), len(self._indices))
        key = "text" if delta.kind == "text" else "reasoning"
        return {"content": [{"type": key, key: delta.text, "index": index}]}


def _make_chunk(**fields: Any) -> ChatGenerationChunk:
    return ChatGenerationChunk(message=AIMessageChunk(**fields))
