"""Normalise tools and the tool choice of all dialects."""

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
    format_safe_name,
    get_first_alias,
    get_optional_text,
    get_required_name,
    make_missing_error,
    make_type_error,
    make_unknown_error,
    suggest_option,
)

__all__ = ["normalise_tool_choice", "normalise_tools"]

_FUNCTION_EXAMPLE = '{"name": ..., "description": ..., "parameters": ...}'
_TOOL_EXAMPLE = f'{{"type": "function", "function": {_FUNCTION_EXAMPLE}}}'
_MAX_NAME_LENGTH = 512


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
    normalised = []
    for path, declaration in _list_declarations(as_sequence(tools, "tools", "a list of tools")):
        kind = declaration.get("type")
        if kind not in (None, "function", "custom"):
            if not isinstance(kind, str) or not kind.strip() or any(key in declaration for key in _SCHEMA_KEYS):
                raise make_unknown_error(f"{path}.type", "type", kind, ("function",))
            normalised.append(Tool(kind, native=copy_json(declaration, path)))  # it runs on the vendor's server
            continue
        tool = _read_tool(declaration, path)
        place = path.removesuffix(".function")
        if seen.setdefault(tool.name, place) != place:
            raise InvalidRequest(f"{place}: {format_safe_name(tool.name)} is already the name of {seen[tool.name]}")
        normalised.append(tool)
    return tuple(normalised)


def _list_declarations(tools: Sequence[Any]) -> Iterator[tuple[str, Json]]:
    """Yield the path of each tool and the dict that has its name."""
    for index, tool in enumerate(tools):
        path = f"tools[{index}]"
        mapping = as_mapping(tool, path, _TOOL_EXAMPLE)
        key = get_first_alias(mapping, "function_declarations", "functionDeclarations", path)
        if mapping.get(key) is not None:
            for number, function in enumerate(as_sequence(mapping[key], f"{path}.{key}", "a list of functions")):
                place = f"{path}.{key}[{number}]"
                yield place, as_mapping(function, place, _FUNCTION_EXAMPLE)
            continue
        if mapping.get("function") is not None:
            if mapping.get("type") not in (None, "function", "custom"):
                raise make_unknown_error(f"{path}.type", "type", mapping["type"], ("function",))
            declaration = as_mapping(mapping["function"], f"{path}.function", _FUNCTION_EXAMPLE)
            cache = {} if mapping.get("cache_control") is None else {"cache_control": mapping["cache_control"]}
            yield f"{path}.function", {**cache, **declaration}
        else:
            yield path, mapping


def _read_tool(declaration: Json, path: str) -> Tool:
    if declaration.get("name") is None:
        raise make_missing_error(declaration, "name", path)
    name = check_text(get_required_name(declaration, "name", path), f"{path}.name")
    if not name.strip() or not name.isprintable() or len(name) > _MAX_NAME_LENGTH:
        raise InvalidRequest(f"{path}.name: expected 1 to {_MAX_NAME_LENGTH} printable characters")
    description = check_text(get_optional_text(declaration, "description", path) or "", f"{path}.description")
    strict = declaration.get("strict")
    if strict is not None and not isinstance(strict, bool):
        raise make_type_error(f"{path}.strict", "true or false", strict)
    return Tool(name, description, _read_parameters(declaration, path), strict, read_cache(declaration, path))


_SCHEMA_KEYS = ("input_schema", "inputSchema", "parameters", "parameters_json_schema", "parametersJsonSchema")


def _read_parameters(declaration: Json, path: str) -> dict[str, Any]:
    key = next((key for key in _SCHEMA_KEYS if declaration.get(key) is not None), None)
    if key is None:
        return {"type": "object", "properties": {}}
    for alias in _SCHEMA_KEYS:
        if declaration.get(alias) is not None and declaration[alias] != declaration[key]:
            raise InvalidRequest(f"{path}: `{key}` and `{alias}` mean the same here, and differ")
    schema = _read_schema(declaration[key], f"{path}.{key}")
    kind = schema.get("type", "object")
    if kind != "object" and not (isinstance(kind, list) and "object" in kind):
        raise InvalidRequest(f'{path}.{key}.type: expected "object": tools take named arguments')
    schema["type"] = "object"
    schema.setdefault("properties", {})
    return schema


_MAX_CACHED_BYTES = 16_384
"""The largest schema, in bytes, that is cached: tools are the same in every call, and repairing one is slow."""


def _read_schema(schema: Any, place: str) -> dict[str, Any]:
    """Return a repaired copy of *schema*. Raises InvalidRequest, with its *place*, if it is not a JSON object."""
    try:
        marshalled = marshal.dumps(schema, _MARSHAL_VERSION)
        if len(marshalled) <= _MAX_CACHED_BYTES:
            copied: dict[str, Any] = marshal.loads(_repair_marshalled(marshalled))  # noqa: S302 - written here
            return copied
    except (ValueError, InvalidRequest):
        pass  # a type that marshal cannot write, or a mistake, which is reported with its path below
    return repair_schema(copy_json(schema, place))


_MARSHAL_VERSION = 2  # the last that writes equal values alike, however often they are referred to


@functools.lru_cache(maxsize=256)
def _repair_marshalled(schema: bytes) -> bytes:
    # Unlike JSON, marshal distinguishes all types, so that equal bytes mean equal schemas.
    return marshal.dumps(repair_schema(copy_json(marshal.loads(schema), "")), _MARSHAL_VERSION)  # noqa: S302


_CHOICE_MODES: dict[str, Literal["auto", "none", "required"]] = {
    "auto": "auto",
    "none": "none",
    "any": "required",
    "required": "required",
}


def normalise_tool_choice(tool_choice: str | Mapping[str, Any] | None, tools: tuple[Tool, ...]) -> ToolChoice | None:
    """Return the choice in the neutral form, or None if nothing is chosen or there are no tools.

    *tool_choice* is `auto`, `none`, `any` or `required` (the same), a tool's name, or OpenAI's or Anthropic's dict.
    Raises `InvalidRequest` if it is anything else, names an unknown tool, or requires a tool when there are none.
    """
    if tool_choice is None:
        return None
    choice = _read_choice(tool_choice, [tool.name for tool in tools if tool.native is not None])
    if not tools and choice.mode in ("auto", "none"):
        return None
    if not tools:
        raise InvalidRequest("tool_choice: requires a tool, but no tools are given")
    names = [tool.name for tool in tools]
    if choice.name is not None and choice.name not in names:
        hint = suggest_option(choice.name, [*names, *_CHOICE_MODES])
        known = ", ".join(names)
        raise InvalidRequest(f"tool_choice: no tool is named {format_safe_name(choice.name)}{hint} (tools: {known})")
    return choice


def _read_choice(tool_choice: object, native: Sequence[str]) -> ToolChoice:
    """Return the choice; *native* are the types of tools that run on the vendor's server, which can be chosen too."""
    if isinstance(tool_choice, str):
        mode = _CHOICE_MODES.get(tool_choice)
        return ToolChoice("tool", tool_choice) if mode is None else ToolChoice(mode)
    expected = '"auto", "none", "required", a tool\'s name or {"type": "function", "function": {"name": ...}}'
    choice = as_mapping(tool_choice, "tool_choice", expected)
    kind = choice.get("type", "function")
    is_flat = kind == "function" and choice.get("function") is None and choice.get("name") is not None  # of Responses
    if kind == "tool" or is_flat:
        return ToolChoice("tool", get_required_name(choice, "name", "tool_choice"))
    if kind == "function":
        function = as_mapping(choice.get("function"), "tool_choice.function", '{"name": ...}')
        return ToolChoice("tool", get_required_name(function, "name", "tool_choice.function"))
    if kind in native:
        return ToolChoice("tool", str(kind))
    if not isinstance(kind, str) or kind not in _CHOICE_MODES:
        raise make_unknown_error("tool_choice.type", "type", kind, ("function", "tool", *_CHOICE_MODES))
    return ToolChoice(_CHOICE_MODES[kind])
