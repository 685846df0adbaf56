"""The neutral form of tools and of the choice among them."""

from __future__ import annotations

from typing import Any

import pytest

from modelhub.core.errors import InvalidRequest
from modelhub.messages.blocks import Tool, ToolChoice
from modelhub.messages.tools import normalise_tool_choice, normalise_tools
from tests.messages.conversations import TOOLS, function
from tests.tables import table

SCHEMA = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}
EMPTY = {"type": "object", "properties": {}}


@table(
    ("tool", "neutral"),
    [
        (function(description="d", parameters=SCHEMA, strict=True), Tool("f", "d", SCHEMA, True)),
        ({"function": {"name": "f", "parameters": {}}}, Tool("f", "", EMPTY)),
        (function(parameters=None, description=None), Tool("f", "", EMPTY)),
        ({"name": "f", "description": "d", "input_schema": SCHEMA}, Tool("f", "d", SCHEMA)),
        ({"type": "custom", "name": "f", "parameters": {"properties": {}}}, Tool("f", "", EMPTY)),
        (
            function(parameters={"$ref": "#/$defs/F", "$defs": {"F": SCHEMA}}),
            Tool("f", "", {"$ref": "#/$defs/F", "$defs": {"F": SCHEMA}, **EMPTY}),
        ),
    ],
)
def test_tools_of_both_forms(tool: dict[str, Any], neutral: Tool) -> None:
    """OpenAI's form and the flat one give the same tool, its parameters always an object's schema."""
    assert normalise_tools([tool]) == (neutral,)


def test_no_tools() -> None:
    """None and an empty list are no tools."""
    assert normalise_tools(None) == normalise_tools([]) == ()


@table(
    ("tools", "message"),
    [
        ({}, "tools: expected a list of tools, got dict"),
        (
            [print],
            (
                'tools[0]: expected {"type": "function", "function": {"name": ..., "description": ..., "parameters": '
                "...}}, got builtin_function_or_method"
            ),
        ),
        (
            [{"type": "functoin", "function": {"name": "f"}}],
            "tools[0].type: unknown type `functoin`; did you mean `function`?",
        ),
        (
            [{"type": "func", "name": "f", "parameters": {}}],
            "tools[0].type: unknown type `func`; did you mean `function`?",
        ),
        ([{"type": "function"}], "tools[0]: `name` is missing"),
        (
            [{"type": "function", "function": "f"}],
            'tools[0].function: expected {"name": ..., "description": ..., "parameters": ...}, got str',
        ),
        ([function("a\nb")], "tools[0].function.name: expected 1 to 512 printable characters"),
        ([function("")], "tools[0].function.name: is empty"),
        ([function(parameters=[])], "tools[0].function.parameters: expected an object (a dict), got list"),
        (
            [{"name": "f", "input_schema": {"type": "string"}}],
            'tools[0].input_schema.type: expected "object": tools take named arguments',
        ),
        ([function(strict="yes")], "tools[0].function.strict: expected true or false, got str"),
        ([function(description=1)], "tools[0].function.description: expected a string, got int"),
        ([function(), {"name": "f"}], "tools[1]: `f` is already the name of tools[0]"),
    ],
)
def test_wrong_tools(tools: Any, message: str) -> None:
    """A wrong tool is refused with its place, what was expected and what was found."""
    with pytest.raises(InvalidRequest) as caught:
        normalise_tools(tools)
    assert str(caught.value) == message


@table(
    ("choice", "neutral"),
    [
        (None, None),
        ("auto", ToolChoice("auto")),
        ("none", ToolChoice("none")),
        ("any", ToolChoice("required")),
        ("required", ToolChoice("required")),
        ("get_time", ToolChoice("tool", "get_time")),
        ({"type": "function", "function": {"name": "get_time"}}, ToolChoice("tool", "get_time")),
        ({"function": {"name": "get_time"}}, ToolChoice("tool", "get_time")),
        ({"type": "tool", "name": "get_time"}, ToolChoice("tool", "get_time")),
        ({"type": "any"}, ToolChoice("required")),
    ],
)
def test_tool_choices(choice: Any, neutral: ToolChoice | None) -> None:
    """A mode, a name and both vendors' dicts become the neutral choice."""
    assert normalise_tool_choice(choice, TOOLS) == neutral


@table("choice", [None, "auto", "none", {"type": "auto"}])
def test_nothing_to_choose_from(choice: Any) -> None:
    """Without tools a choice that demands none is no choice."""
    assert normalise_tool_choice(choice, ()) is None


@table(
    ("choice", "tools", "message"),
    [
        (
            "get_wether",
            TOOLS,
            "tool_choice: no tool is named `get_wether`; did you mean `get_weather`? (tools: get_weather, get_time)",
        ),
        (
            "requird",
            TOOLS,
            "tool_choice: no tool is named `requird`; did you mean `required`? (tools: get_weather, get_time)",
        ),
        ("required", (), "tool_choice: requires a tool, but no tools are given"),
        ("get_time", (), "tool_choice: requires a tool, but no tools are given"),
        (
            7,
            TOOLS,
            (
                'tool_choice: expected "auto", "none", "required", a tool\'s name or '
                '{"type": "function", "function": {"name": ...}}, got int'
            ),
        ),
        ({"type": "function"}, TOOLS, 'tool_choice.function: expected {"name": ...}, got None'),
        (
            {"type": "tools"},
            TOOLS,
            "tool_choice.type: unknown type `tools`; did you mean `tool`?",
        ),
    ],
)
def test_wrong_tool_choices(choice: Any, tools: tuple[Tool, ...], message: str) -> None:
    """A choice that cannot be met is refused, with the tools there are."""
    with pytest.raises(InvalidRequest) as caught:
        normalise_tool_choice(choice, tools)
    assert str(caught.value) == message
