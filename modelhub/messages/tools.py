"""What tools a call offers, and which of them the model must choose, whatever dialect the caller wrote."""

from __future__ import annotations

import functools
import marshal
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from modelhub.core.errors import InvalidRequest
from modelhub.messages.blocks import Tool, ToolChoice
from modelhub.messages.content_parts import read_cache
from modelhub.messages.sanitize import check_text, copy_json
from modelhub.messages.schema_repair import repair_schema
from modelhub.messages.validation import (
    Json,
    as_mapping,
    as_sequence,
    either,
    missing,
    optional_text,
    required_name,
    shown,
    suggestion,
    unknown,
    wrong,
)

__all__ = ["normalise_tool_choice", "normalise_tools"]

_TOOL = '{"type": "function", "function": {"name": ..., "description": ..., "parameters": ...}}'
_MAX_NAME = 512


def normalise_tools(tools: Sequence[Mapping[str, Any]] | None) -> tuple[Tool, ...]:
    """The tools in the neutral form.

    *tools* are in OpenAI's form or the flat one (`name`, `description`, and the schema as `input_schema`, MCP's
    `inputSchema` or `parameters`), or Gemini's `function_declarations`. Names may be any text: vendors that take fewer
    get others in their place. Further keys are left out. A tool that a vendor runs itself (`{"type": "web_search"}`) is
    taken in the vendor's own form. Raises `InvalidRequest`, with the place and what was expected,
    for a wrong shape, an empty or repeated name, or a schema that is no JSON.
    """
    if tools is None:
        return ()
    seen: dict[str, str] = {}
    read = []
    for at, found in _declarations(as_sequence(tools, "tools", "a list of tools")):
        if _is_native(found, at):
            read.append(Tool(str(found["type"]), native=copy_json(found, at)))
            continue
        tool = _read_tool(found, at)
        place = at.removesuffix(".function")
        if seen.setdefault(tool.name, place) != place:
            raise InvalidRequest(f"{place}: {shown(tool.name)} is already the name of {seen[tool.name]}")
        read.append(tool)
    return tuple(read)


def _declarations(tools: Sequence[Any]) -> Iterator[tuple[str, Json]]:
    """Each tool's place and the dict that has its name."""
    for index, tool in enumerate(tools):
        at = f"tools[{index}]"
        found = as_mapping(tool, at, _TOOL)
        key = either(found, "function_declarations", "functionDeclarations", at)
        if found.get(key) is not None:
            for number, one in enumerate(as_sequence(found[key], f"{at}.{key}", "a list of functions")):
                place = f"{at}.{key}[{number}]"
                yield place, as_mapping(one, place, '{"name": ..., "description": ..., "parameters": ...}')
            continue
        if found.get("function") is not None:
            if found.get("type") not in (None, "function", "custom"):
                raise unknown(f"{at}.type", "type", found["type"], ("function",))
            inner = as_mapping(
                found["function"], f"{at}.function", '{"name": ..., "description": ..., "parameters": ...}'
            )
            cache = {} if found.get("cache_control") is None else {"cache_control": found["cache_control"]}
            yield f"{at}.function", {**cache, **inner}
        else:
            yield at, found


def _is_native(tool: Json, at: str) -> bool:
    """Whether *tool* is one that a vendor runs itself. Raises InvalidRequest for a function of a type that is none."""
    kind = tool.get("type")
    if kind in (None, "function", "custom"):
        return False
    if not isinstance(kind, str) or not kind.strip() or any(key in tool for key in _SCHEMA_KEYS):
        raise unknown(f"{at}.type", "type", kind, ("function",))
    return True


def _read_tool(found: Json, at: str) -> Tool:
    if found.get("name") is None:
        raise missing(found, "name", at)
    name = check_text(required_name(found, "name", at), f"{at}.name")
    if not name.strip() or not name.isprintable() or len(name) > _MAX_NAME:
        raise InvalidRequest(f"{at}.name: expected 1 to {_MAX_NAME} printable characters")
    description = check_text(optional_text(found, "description", at) or "", f"{at}.description")
    strict = found.get("strict")
    if strict is not None and not isinstance(strict, bool):
        raise wrong(f"{at}.strict", "true or false", strict)
    return Tool(name, description, _parameters(found, at), strict, read_cache(found, at))


_SCHEMA_KEYS = ("input_schema", "inputSchema", "parameters", "parameters_json_schema", "parametersJsonSchema")


def _parameters(found: Json, at: str) -> dict[str, Any]:
    key = next((key for key in _SCHEMA_KEYS if found.get(key) is not None), None)
    if key is None:
        return {"type": "object", "properties": {}}
    for other in _SCHEMA_KEYS:
        if found.get(other) is not None and found[other] != found[key]:
            raise InvalidRequest(f"{at}: `{key}` and `{other}` mean the same here, and differ")
    schema = _read_schema(found[key], f"{at}.{key}")
    kind = schema.get("type", "object")
    if kind != "object" and not (isinstance(kind, list) and "object" in kind):
        raise InvalidRequest(f'{at}.{key}.type: expected "object": tools take named arguments')
    schema["type"] = "object"
    schema.setdefault("properties", {})
    return schema


_MAX_REMEMBERED = 16_384
"""The size in bytes up to which a schema is remembered: tools are the same in every call, and reading one is slow."""


def _read_schema(schema: Any, place: str) -> dict[str, Any]:
    """Return a copy of *schema*, repaired. Raises InvalidRequest, with its *place*, for what is no JSON object."""
    try:
        written = marshal.dumps(schema, _MARSHAL_VERSION)
        if len(written) <= _MAX_REMEMBERED:
            copied: dict[str, Any] = marshal.loads(_repair_marshalled(written))  # noqa: S302 - written here
            return copied
    except (ValueError, InvalidRequest):
        pass  # a type that only the slow way can read, or a mistake, of which it tells the place
    return repair_schema(copy_json(schema, place))


_MARSHAL_VERSION = 2  # the last that writes equal values alike, however often they are referred to


@functools.lru_cache(maxsize=256)
def _repair_marshalled(schema: bytes) -> bytes:
    # Unlike JSON, marshal tells every type from every other, so no wrong schema passes for a right one.
    return marshal.dumps(repair_schema(copy_json(marshal.loads(schema), "")), _MARSHAL_VERSION)  # noqa: S302


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
    choice = _chosen(tool_choice, [tool.name for tool in tools if tool.native is not None])
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


def _chosen(tool_choice: object, native: Sequence[str]) -> ToolChoice:
    """Return the choice; *native* are the types of tools that the vendor runs itself, each of which may be chosen."""
    if isinstance(tool_choice, str):
        mode = _MODES.get(tool_choice)
        return ToolChoice("tool", tool_choice) if mode is None else ToolChoice(mode)
    expected = '"auto", "none", "required", a tool\'s name or {"type": "function", "function": {"name": ...}}'
    found = as_mapping(tool_choice, "tool_choice", expected)
    kind = found.get("type", "function")
    if kind == "function" and found.get("function") is None and found.get("name") is not None:  # the Responses form
        return ToolChoice("tool", required_name(found, "name", "tool_choice"))
    if kind == "function":
        function = as_mapping(found.get("function"), "tool_choice.function", '{"name": ...}')
        return ToolChoice("tool", required_name(function, "name", "tool_choice.function"))
    if kind == "tool":
        return ToolChoice("tool", required_name(found, "name", "tool_choice"))
    if kind in native:
        return ToolChoice("tool", str(kind))
    if not isinstance(kind, str) or kind not in _MODES:
        raise unknown("tool_choice.type", "type", kind, ("function", "tool", *_MODES))
    return ToolChoice(_MODES[kind])
