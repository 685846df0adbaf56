"""A chain as an LLM of LlamaIndex (extra `llamaindex`).

    from llama_index.core.agent.workflow import FunctionAgent

    from modelhub import Hub
    from modelhub.integrations.llamaindex import ModelHubLLM

    hub = Hub.from_yaml("models.yaml")
    llm = ModelHubLLM(hub.get("primary"))
    print(llm.complete("Why is the sky blue?"))
    agent = FunctionAgent(llm=llm, tools=[get_weather])
    print(await agent.run("What is the weather in Oslo?"))

`chat`, `complete`, their streams, tools, `structured_predict` and `as_structured_llm` work, also asynchronously.
Retries, fallbacks, limits and budgets are the chain's. Keywords, of a call or of `ModelHubLLM(chain, parameters={...})`
are parameters by OpenAI's names, spelled for whichever vendor answers. `response.raw` is modelhub's reply, with usage,
who answered and every attempt; `additional_kwargs` has the tokens under the names that LlamaIndex's counters look for.
`structured_predict` asks in the way that the vendor knows best, and an answer that does not fit is asked for again.

If a stream breaks after its first words, another model would begin the answer again, and readers of deltas would see
two answers: with `restarts="error"`, the default, the stream fails with StreamBroken; with `restarts="buffer"`, streams
are held back until the answer is complete. `chat` is not affected.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

from llama_index.core.base.llms.types import (
    AudioBlock,
    ChatMessage,
    ChatResponse,
    ChatResponseAsyncGen,
    ChatResponseGen,
    CompletionResponse,
    CompletionResponseAsyncGen,
    CompletionResponseGen,
    DocumentBlock,
    ImageBlock,
    LLMMetadata,
    MessageRole,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
    VideoBlock,
)
from llama_index.core.bridge.pydantic import BaseModel, Field
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.llm import ToolSelection
from llama_index.core.prompts import PromptTemplate
from llama_index.core.tools import BaseTool

from modelhub.core.model import ChatModelBase
from modelhub.core.response import ChatResponse as Reply
from modelhub.integrations.replies import Delta, Restarts, StreamDeltas, call_blocking, get_details, iterate_blocking

__all__ = ["ModelHubLLM"]

Json = dict[str, Any]


class ModelHubLLM(FunctionCallingLLM):
    """A LlamaIndex LLM that calls *chain*: `hub.get(name)`, or any other model of modelhub.

    *parameters* go with every call, *context_window* (tokens) is what LlamaIndex fits its prompts into, and *restarts*
    says what happens when a stream breaks after its first words; see the module's documentation.
    """

    chain: Any = Field(exclude=True)
    restarts: Restarts = "error"
    parameters: dict[str, Any] = Field(default_factory=dict)
    context_window: int = 128_000

    def __init__(self, chain: ChatModelBase, **options: Any) -> None:
        super().__init__(chain=chain, **options)

    @classmethod
    def class_name(cls) -> str:
        """Return the name of this class in LlamaIndex's serialized form."""
        return "ModelHubLLM"

    @property
    def metadata(self) -> LLMMetadata:
        """What LlamaIndex must know of the model."""
        window = self.chain.context_window or self.context_window
        return LLMMetadata(
            context_window=window, is_chat_model=True, is_function_calling_model=True, model_name=self.chain.name
        )

    # -- chat ----------------------------------------------------------------------------------------------------------

    @llm_chat_callback()
    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Answer *messages*; *kwargs* are parameters of the call. Raises CallError."""
        return _make_response(call_blocking(self.chain, **self._make_arguments(messages, kwargs)))

    @llm_chat_callback()
    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Answer *messages* as `chat` does."""
        reply: Reply = await self.chain(**self._make_arguments(messages, kwargs), stream=False)
        return _make_response(reply)

    @llm_chat_callback()
    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        """Stream the answer to *messages*: each response has the whole answer so far and what is new."""

        def generate() -> ChatResponseGen:
            deltas = StreamDeltas(self.restarts)
            for snapshot in iterate_blocking(self.chain, **self._make_arguments(messages, kwargs)):
                if (added := deltas.add(snapshot)) or snapshot.is_last:
                    yield _make_response(snapshot, added)

        return generate()

    @llm_chat_callback()
    async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseAsyncGen:
        """Stream the answer as `stream_chat` does."""

        async def generate() -> ChatResponseAsyncGen:
            deltas = StreamDeltas(self.restarts)
            async with await self.chain(**self._make_arguments(messages, kwargs), stream=True) as stream:
                async for snapshot in stream:
                    if (added := deltas.add(snapshot)) or snapshot.is_last:
                        yield _make_response(snapshot, added)

        return generate()

    def _make_arguments(self, messages: Sequence[ChatMessage], kwargs: Json) -> Json:
        return {**self.parameters, **kwargs, "messages": [_make_message(message) for message in messages]}

    # -- completion ----------------------------------------------------------------------------------------------------

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:  # noqa: ARG002
        """Answer *prompt*, one user message. Raises CallError."""
        return _make_completion(self.chat([ChatMessage(prompt)], **kwargs))

    @llm_completion_callback()
    async def acomplete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:  # noqa: ARG002
        """Answer *prompt* as `complete` does."""
        return _make_completion(await self.achat([ChatMessage(prompt)], **kwargs))

    @llm_completion_callback()
    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseGen:  # noqa: ARG002
        """Stream the answer to *prompt*."""
        return (_make_completion(response) for response in self.stream_chat([ChatMessage(prompt)], **kwargs))

    @llm_completion_callback()
    async def astream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseAsyncGen:  # noqa: ARG002
        """Stream the answer to *prompt* as `stream_complete` does."""
        responses = await self.astream_chat([ChatMessage(prompt)], **kwargs)
        return (_make_completion(response) async for response in responses)

    # -- tools and structures ------------------------------------------------------------------------------------------

    def _prepare_chat_with_tools(
        self,
        tools: Sequence[BaseTool],
        user_msg: str | ChatMessage | None = None,
        chat_history: list[ChatMessage] | None = None,
        verbose: bool = False,  # noqa: ARG002 - the protocol's parameter
        allow_parallel_tool_calls: bool = False,
        tool_required: bool = False,
        **kwargs: Any,
    ) -> Json:
        messages = list(chat_history or [])
        if user_msg is not None:
            messages.append(ChatMessage(user_msg) if isinstance(user_msg, str) else user_msg)
        if not tools:
            return {"messages": messages, **kwargs}
        choice = kwargs.pop("tool_choice", None) or ("required" if tool_required else "auto")
        specs = [tool.metadata.to_openai_tool(skip_length_check=True) for tool in tools]
        return {
            "messages": messages,
            "tools": specs,
            "parallel_tool_calls": allow_parallel_tool_calls,
            "tool_choice": choice,
            **kwargs,
        }

    def get_tool_calls_from_response(
        self,
        response: ChatResponse,
        error_on_no_tool_call: bool = True,
        **kwargs: Any,  # noqa: ARG002 - the protocol's parameter
    ) -> list[ToolSelection]:
        """Return the tools that *response* calls. Raises ValueError without any, unless that is no error."""
        calls = [block for block in response.message.blocks if isinstance(block, ToolCallBlock)]
        if not calls and error_on_no_tool_call:
            raise ValueError(f"expected at least one tool call, got {len(calls)} tool calls")
        return [
            ToolSelection(tool_id=call.tool_call_id or "", tool_name=call.tool_name, tool_kwargs=call.tool_kwargs)
            for call in calls
        ]

    def structured_predict(
        self, output_cls: type[BaseModel], prompt: PromptTemplate, llm_kwargs: Json | None = None, **prompt_args: Any
    ) -> Any:
        """Return an instance of *output_cls*, which the answer to *prompt* fits. Raises CallError."""
        arguments = self._make_structured_arguments(output_cls, prompt, llm_kwargs, prompt_args)
        return call_blocking(self.chain, **arguments).output

    async def astructured_predict(
        self, output_cls: type[BaseModel], prompt: PromptTemplate, llm_kwargs: Json | None = None, **prompt_args: Any
    ) -> Any:
        """Return what `structured_predict` does."""
        arguments = self._make_structured_arguments(output_cls, prompt, llm_kwargs, prompt_args)
        reply: Reply = await self.chain(**arguments, stream=False)
        return reply.output

    def _make_structured_arguments(
        self, output_cls: type[BaseModel], prompt: PromptTemplate, llm_kwargs: Json | None, prompt_args: Json
    ) -> Json:
        messages = self._extend_messages(prompt.format_messages(**prompt_args))
        return self._make_arguments(messages, {**(llm_kwargs or {}), "structured_model": output_cls})


# -- messages ----------------------------------------------------------------------------------------------------------


def _make_message(message: ChatMessage) -> Json:
    """Return *message* as one of modelhub's."""
    extra = message.additional_kwargs
    content = [_make_block(block, extra.get("modelhub", {})) for block in message.blocks]
    if message.role in (MessageRole.TOOL, MessageRole.FUNCTION):
        call_id = extra.get("tool_call_id")
        return {"role": "tool", "tool_call_id": call_id, "name": extra.get("name"), "content": content}
    if message.role not in (MessageRole.ASSISTANT, MessageRole.CHATBOT, MessageRole.MODEL):
        return {"role": message.role.value, "content": content}
    calls = extra.get("tool_calls")  # other LLMs of LlamaIndex have no blocks for them
    if calls and not any(isinstance(block, ToolCallBlock) for block in message.blocks):
        return {"role": "assistant", "content": content, "tool_calls": calls}
    return {"role": "assistant", "content": content}


def _make_block(block: Any, details: Json) -> Json:
    if isinstance(block, TextBlock):
        return {"type": "text", "text": block.text}
    if isinstance(block, ThinkingBlock):
        own = block.additional_information.get("modelhub", {})
        return {"type": "thinking", "thinking": block.content or "", **own}
    if isinstance(block, ToolCallBlock):
        call = {"id": block.tool_call_id or "", "name": block.tool_name, "input": block.tool_kwargs}
        return {"type": "tool_use", **call, **details.get(call["id"], {})}
    if not isinstance(block, ImageBlock | AudioBlock | VideoBlock | DocumentBlock):
        raise TypeError(f"modelhub cannot send a {type(block).__name__}")
    return {"type": block.block_type, "source": _make_source(block)}


def _make_source(block: Any) -> Json:
    if block.url is not None:
        return {"type": "url", "url": str(block.url)}
    kind = block.block_type
    if kind == "document":
        data, media_type = block.resolve_document(), block.document_mimetype
    else:
        data, media_type = getattr(block, f"resolve_{kind}")(), getattr(block, f"{kind}_mimetype", None)
        if kind == "audio" and block.format:
            media_type = f"audio/{block.format}"
    source = {"type": "base64", "data": base64.b64encode(data.read()).decode()}
    return source if media_type is None else {**source, "media_type": media_type}


# -- replies -----------------------------------------------------------------------------------------------------------


def _make_response(reply: Reply, added: Sequence[Delta] = ()) -> ChatResponse:
    """Return *reply*, complete or so far, of which *added* is new."""
    blocks: list[Any] = []
    calls: list[Json] = []  # as the blocks say, for those parts of LlamaIndex that look for OpenAI's form
    details: Json = {}
    for block in reply.content:
        own = get_details(block)
        if block["type"] == "text":
            blocks.append(TextBlock(text=block["text"]))
        elif block["type"] == "thinking":
            information = {"modelhub": own} if own else {}
            blocks.append(ThinkingBlock(content=block["thinking"], additional_information=information))
        elif block["type"] == "tool_use" and block["name"]:
            blocks.append(ToolCallBlock(tool_call_id=block["id"], tool_name=block["name"], tool_kwargs=block["input"]))
            function = {"name": block["name"], "arguments": block["raw_input"] or "{}"}
            calls.append({"id": block["id"], "type": "function", "function": function})
            details |= {block["id"]: own} if own else {}
    extra = {**({"modelhub": details} if details else {}), **({"tool_calls": calls} if calls else {})}
    message = ChatMessage(role=MessageRole.ASSISTANT, blocks=blocks, additional_kwargs=extra)
    delta = "".join(delta.text for delta in added if delta.kind == "text")
    usage, counts = reply.usage, {}
    if usage is not None:
        counts["prompt_tokens"], counts["completion_tokens"] = usage.input_tokens, usage.output_tokens
        counts["total_tokens"] = usage.total_tokens
    return ChatResponse(message=message, raw=reply, delta=delta, additional_kwargs=counts)


def _make_completion(response: ChatResponse) -> CompletionResponse:
    return CompletionResponse(
        text=response.message.content or "",
        delta=response.delta,
        raw=response.raw,
        additional_kwargs=response.additional_kwargs,
    )
