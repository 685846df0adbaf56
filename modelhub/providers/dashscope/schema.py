"""Tools, with the schemas of their arguments, and the choice of one, as DashScope takes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from modelhub.core.errors import UnsupportedFeature
from modelhub.messages.blocks import Tool, ToolChoice
from modelhub.providers.tool_schema import plain_root

__all__ = ["encode_tools"]


def encode_tools(tools: Sequence[Tool], choice: ToolChoice | None, is_thinking: bool) -> dict[str, Any]:
    """Return the parameters that offer *tools*.

    The vendor cannot be made to demand any tool, and none at all if it thinks, which is an UnsupportedFeature.
    """
    if not tools:
        return {}
    functions = []
    for tool in tools:
        schema, description = plain_root(tool)
        functions.append({"name": tool.name, "description": description, "parameters": schema})
    parameters: dict[str, Any] = {"tools": [{"type": "function", "function": function} for function in functions]}
    if choice is not None and choice.mode == "tool":
        if is_thinking:
            raise UnsupportedFeature(
                f"dashscope cannot force the tool `{choice.name}` in thinking mode: set `enable_thinking: false`"
            )
        parameters["tool_choice"] = {"type": "function", "function": {"name": choice.name}}
    elif choice is not None:
        parameters["tool_choice"] = "none" if choice.mode == "none" else "auto"
    return parameters
