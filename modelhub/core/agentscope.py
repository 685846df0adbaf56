"""How agents of AgentScope 2 use a model: they read attributes of it, and call it with messages, of their own.

`modelhub.integrations.agentscope` has what they ask for, and is imported by its name when they do. The agents of
AgentScope 1 need nothing: their formatters write dicts.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from modelhub.core.stream import Reply

__all__ = ["AgentScopeAttributes", "answer_agentscope", "is_for_agentscope"]

_ATTRIBUTES: Final = frozenset({"context_size", "count_tokens", "formatter", "generate_structured_output", "model"})


class AgentScopeAttributes:
    """Gives a model the attributes that an agent reads; there are none where AgentScope 2 is not imported."""

    if not TYPE_CHECKING:  # a type checker still finds misspelt attributes

        def __getattr__(self, name: str) -> Any:
            """Return the attribute *name* of the model as AgentScope's. Raises AttributeError."""
            if name in _ATTRIBUTES and _get_message_class() is not None:
                return getattr(_make_agent_model(self, self.streams), name)
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)


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
