"""How agents of AgentScope 2 use a model: they read attributes of it, and call it with messages, of their own.

`modelhub.integrations.agentscope` has what they ask for, and is imported by its name when they do. The agents of
AgentScope 1 need nothing: their formatters write dicts.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from modelhub.core.stream import Reply

__all__ = ["AgentScopeAttributes", "answer_agentscope", "is_for_agentscope"]


class _AgentAttribute:
    """An attribute that an agent reads of a model, which has it only where AgentScope 2 is imported.

    A descriptor for each, because a `__getattr__` would slow down every attribute of every model.
    """

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, model: Any, owner: type) -> Any:
        if model is None or _get_message_class() is None:
            raise AttributeError(
                f"{owner.__name__!r} object has no attribute {self._name!r}", name=self._name, obj=model
            )
        return getattr(_make_agent_model(model, model.streams), self._name)


class AgentScopeAttributes:
    """Gives a model the attributes that an agent reads; there are none where AgentScope 2 is not imported."""

    if not TYPE_CHECKING:  # a type checker still finds misspelt attributes
        context_size = _AgentAttribute()
        count_tokens = _AgentAttribute()
        formatter = _AgentAttribute()
        generate_structured_output = _AgentAttribute()
        model = _AgentAttribute()


def is_for_agentscope(messages: Any) -> bool:
    """Return whether *messages* are those of an agent of AgentScope 2."""
    if "agentscope.message" not in sys.modules or not isinstance(messages, list) or not messages:
        return False
    message_class = _get_message_class()
    return message_class is not None and isinstance(messages[0], message_class)


async def answer_agentscope(model: Any, messages: Any, tools: Any, tool_choice: Any, keywords: dict[str, Any]) -> Reply:
    """Return what *model* answers to the arguments of an agent: in truth, in AgentScope's classes."""
    agent_model = _make_agent_model(model, keywords.pop("stream", model.streams))
    reply: Reply = await agent_model(messages, tools, tool_choice, **keywords)
    return reply


def _get_message_class() -> Any:
    """Return the class of AgentScope 2's messages, or None if nobody has imported it."""
    module: Any = sys.modules.get("agentscope.message")
    return module.Msg if hasattr(module, "DataBlock") else None  # which AgentScope 1 has not


def _make_agent_model(model: Any, streams: bool) -> Any:
    return import_module("modelhub.integrations.agentscope").AgentScopeModel(model, stream=streams)
