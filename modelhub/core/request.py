"""One call as every layer and provider sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from modelhub.core.context import CallContext
from modelhub.messages.blocks import Message, Tool, ToolChoice
from modelhub.messages.json_schema import StructuredModel

__all__ = ["ChatRequest", "Messages", "ToolChoiceOption", "Tools"]

Messages: TypeAlias = str | Sequence[Mapping[str, Any]]
Tools: TypeAlias = Sequence[Mapping[str, Any]] | None
ToolChoiceOption: TypeAlias = str | Mapping[str, Any] | None


class ChatRequest(NamedTuple):
    """One call as every layer and provider sees it; it cannot be changed.

    `stream` is None where the caller left it to the model. `options` are the caller's further keywords, by the
    vendor's names. `deadline` is the instant, on the clock's steady scale, at which the call's time is over, or None.
    `has_fallback` tells whether another model will be asked if this one fails; `fallback` is False where the caller
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
