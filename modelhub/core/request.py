"""One call as every layer and provider sees it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from modelhub.core.call_options import CallOptions
from modelhub.core.context import CallContext
from modelhub.messages.blocks import Message, Tool, ToolChoice
from modelhub.messages.json_schema import StructuredModel, check_structured_model
from modelhub.messages.tools import normalise_tool_choice, normalise_tools

if TYPE_CHECKING:
    from pydantic import BaseModel

__all__ = ["ChatRequest", "Messages", "ToolChoiceOption", "Tools", "make_request"]

Messages: TypeAlias = str | Sequence[Mapping[str, Any]]
Tools: TypeAlias = Sequence[Mapping[str, Any]] | None
ToolChoiceOption: TypeAlias = str | Mapping[str, Any] | None


class ChatRequest(NamedTuple):
    """One call as every layer and provider sees it; it cannot be changed.

    `stream` is None where the caller left it to the model. `options` are the caller's parameters, by the vendor's
    names. `deadline` is the instant, on the clock's steady scale, at which the call's time is over, or None;
    `time_limit` is what the caller said of it, until a chain has turned it into that instant (see `CallOptions`).
    `has_fallback` tells whether another model will be asked if this one fails, and `has_ready_arm` whether that is an
    arm of the same place which can be asked at once: then nothing is waited for. `fallback` is False where the caller
    wants the first model or nobody. `attempted` is how many attempts the call has made at the model already.
    `stream_inside` tells that a plain answer is streamed beneath, so that the limits of streams hold for it.
    """

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...]
    tool_choice: ToolChoice | None
    structured_model: StructuredModel | None
    stream: bool | None
    options: Mapping[str, Any]
    context: CallContext
    deadline: float | None = None
    has_fallback: bool = False
    attempted: int = 0
    fallback: bool = True
    stream_inside: bool = False
    time_limit: float | None = None
    has_ready_arm: bool = False

    def replace(self, **changes: Any) -> ChatRequest:
        """The same request with *changes*. Raises KeyError for what is no field."""
        fields: list[Any] = list(self)
        for name, value in changes.items():
            fields[_FIELDS[name]] = value
        return ChatRequest(*fields)

    def remaining(self) -> float | None:
        """Seconds until the deadline (not below 0), or None without one."""
        return None if self.deadline is None else max(0.0, self.deadline - self.context.services.clock.now())


_FIELDS = {name: index for index, name in enumerate(ChatRequest._fields)}


def make_request(
    messages: tuple[Message, ...],
    tools: Tools,
    tool_choice: ToolChoiceOption,
    structured_model: type[BaseModel] | Mapping[str, Any] | None,
    options: CallOptions,
    context: CallContext,
) -> ChatRequest:
    """Return the request of a call as its caller wrote it; *messages* are checked already. Raises InvalidRequest."""
    if structured_model is not None and (tools or tool_choice):
        warnings.warn("structured_model is given: tools and tool_choice are ignored", stacklevel=3)
        tools = tool_choice = None
    neutral_tools = normalise_tools(tools)
    return ChatRequest(
        messages=messages,
        tools=neutral_tools,
        tool_choice=normalise_tool_choice(tool_choice, neutral_tools),
        structured_model=None if structured_model is None else check_structured_model(structured_model),
        stream=options.stream,
        options=options.parameters,
        context=context,
        fallback=options.fallback,
        time_limit=options.time_limit,
    )
