"""The tool that an answer must call, checked here for the vendors whose API cannot demand it."""

from __future__ import annotations

from modelhub.messages.blocks import ToolChoice
from modelhub.providers.provider_errors import make_misfit
from modelhub.providers.response_builder import ResponseBuilder

__all__ = ["REQUEST_IN_WORDS", "check_called_tool", "check_required_tool", "find_required_tool"]

REQUEST_IN_WORDS = "Answer by calling one of the tools, not in words of your own."
"""What a model is told whose API cannot demand a call."""


def find_required_tool(choice: ToolChoice | None) -> str | None:
    """Return the name of the tool that *choice* demands, "" for any of them, None if none is demanded."""
    return (choice.name or "") if choice is not None and choice.mode in ("required", "tool") else None


def check_called_tool(name: str | None, answer: ResponseBuilder) -> None:
    """Raise BadReply if the model called the tool *name* where *answer* must call another one."""
    if answer.required_tool and name and name != answer.required_tool:
        raise make_misfit(f"the model called `{name}`, not `{answer.required_tool}`")


def check_required_tool(answer: ResponseBuilder) -> None:
    """Raise BadReply if *answer*, which has come to its end, must call a tool and calls none."""
    if answer.required_tool is not None and not answer.has_tools:
        tool = f"`{answer.required_tool}`" if answer.required_tool else "a tool"
        raise make_misfit(f"the model answered without calling {tool}")
