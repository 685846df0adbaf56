"""What tools a call offers, and which of them the model must choose, whatever dialect the caller wrote."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from modelhub._shapes import (
    Json,
    as_mapping,
    as_sequence,
    check_keys,
    copied,
    either,
    optional_text,
    required_name,
    required_text,
    shown,
    suggestion,
    unknown,
    wrong,
)
from modelhub.blocks import Tool, ToolChoice
from modelhub.errors import InvalidRequest

__all__ = ["normalise_tool_choice", "normalise_tools"]

_TOOL_NAME = re.compile(r"[a-zA-Z0-9_.:-]{1,128}")
_TOOL = '{"type": "function", "function": {"name": ..., "description": ..., "parameters": ...}}'
_FUNCTION_KEYS = frozenset({"name", "description", "parameters", "strict"})


def normalise_tools(tools: Sequence[Mapping[str, Any]] | None) -> tuple[Tool, ...]:
    """The tools in the neutral form, from OpenAI's form or the flat one (`name`, `description`, `input_schema`).

    Raises `InvalidRequest`, with the place and what was expected, for a wrong shape, an unknown key, an unusable or
    repeated name.
    """
    if tools is None:
        return ()
    seen: dict[str, int] = {}
    read = []
    for index, tool in enumerate(as_sequence(tools, "tools", "a list of tools")):
        one = _read_one_tool(tool, f"tools[{index}]")
        if seen.setdefault(one.name, index) != index:
            raise InvalidRequest(f"tools[{index}]: `{one.name}` is already the name of tools[{seen[one.name]}]")
        read.append(one)
    return tuple(read)


def _read_one_tool(tool: object, at: str) -> Tool:
    found = as_mapping(tool, at, _TOOL)
    if found.get("type") not in (None, "function", "custom"):
        raise unknown(f"{at}.type", "type", found["type"], ("function",))
    if "function" in found:
        check_keys(found, frozenset({"type", "function"}), at)
        at = f"{at}.function"
        found = as_mapping(found["function"], at, '{"name": ..., "description": ..., "parameters": ...}')
        check_keys(found, _FUNCTION_KEYS, at)
    else:
        check_keys(found, _FUNCTION_KEYS | {"type", "input_schema"}, at)
    return Tool(_tool_name(found, at), optional_text(found, "description", at) or "", *_tool_details(found, at))


def _tool_name(found: Json, at: str) -> str:
    name = required_text(found, "name", at)
    if not _TOOL_NAME.fullmatch(name):
        raise InvalidRequest(f"{at}.name: expected 1 to 128 letters, digits or any of `_.:-`")
    return name


def _tool_details(found: Json, at: str) -> tuple[dict[str, Any], bool | None]:
    key = either(found, "input_schema", "parameters", at)
    schema = {} if found.get(key) is None else copied(found[key], f"{at}.{key}")
    if schema.setdefault("type", "object") != "object":
        raise InvalidRequest(f'{at}.{key}.type: expected "object": tools take named arguments')
    schema.setdefault("properties", {})
    strict = found.get("strict")
    if strict is not None and not isinstance(strict, bool):
        raise wrong(f"{at}.strict", "true or false", strict)
    return schema, strict


_MODES: dict[str, Literal["auto", "none", "required"]] = {
    "auto": "auto",
    "none": "none",
    "any": "required",
    "required": "required",
}


def normalise_tool_choice(tool_choice: str | Mapping[str, Any] | None, tools: tuple[Tool, ...]) -> ToolChoice | None:
    """The choice in the neutral form; None where nothing is chosen or there is nothing to choose from.

    *tool_choice* is `auto`, `none`, `any` or `required` (the same), a tool's name, or OpenAI's or Anthropic's dict.
    Raises `InvalidRequest` if it is anything else, names no tool of *tools*, or demands a tool where there is none.
    """
    if tool_choice is None:
        return None
    choice = _chosen(tool_choice)
    if not tools and choice.mode in ("auto", "none"):
        return None
    if not tools:
        raise InvalidRequest("tool_choice: demands a tool, but no tools are given")
    names = [tool.name for tool in tools]
    if choice.name is not None and choice.name not in names:
        hint = suggestion(choice.name, [*names, *_MODES])
        known = ", ".join(names)
        raise InvalidRequest(f"tool_choice: no tool is named {shown(choice.name)}{hint} (tools: {known})")
    return choice


def _chosen(tool_choice: object) -> ToolChoice:
    if isinstance(tool_choice, str):
        mode = _MODES.get(tool_choice)
        return ToolChoice("tool", tool_choice) if mode is None else ToolChoice(mode)
    expected = '"auto", "none", "required", a tool\'s name or {"type": "function", "function": {"name": ...}}'
    found = as_mapping(tool_choice, "tool_choice", expected)
    kind = found.get("type", "function")
    if kind == "function":
        check_keys(found, frozenset({"type", "function"}), "tool_choice")
        function = as_mapping(found.get("function"), "tool_choice.function", '{"name": ...}')
        check_keys(function, frozenset({"name"}), "tool_choice.function")
        return ToolChoice("tool", required_name(function, "name", "tool_choice.function"))
    if kind == "tool":
        check_keys(found, frozenset({"type", "name"}), "tool_choice")
        return ToolChoice("tool", required_name(found, "name", "tool_choice"))
    if not isinstance(kind, str) or kind not in _MODES:
        raise unknown("tool_choice.type", "type", kind, ("function", "tool", *_MODES))
    check_keys(found, frozenset({"type"}), "tool_choice")
    return ToolChoice(_MODES[kind])
