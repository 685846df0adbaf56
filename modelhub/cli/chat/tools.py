"""Python functions that a model may call during `modelhub chat`."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from modelhub.cli.options import import_name
from modelhub.cli.report import fail_usage

__all__ = ["ToolFunction", "load_tool"]


@dataclass(frozen=True, slots=True)
class ToolFunction:
    """A function, and the pydantic class that its arguments are read with."""

    function: Callable[..., Any]
    arguments: Any

    @property
    def name(self) -> str:
        """The function's name."""
        return self.function.__name__

    @property
    def description(self) -> dict[str, Any]:
        """The tool, as a call takes it."""
        schema = {key: value for key, value in self.arguments.model_json_schema().items() if key != "title"}
        text = inspect.getdoc(self.function) or ""
        return {"type": "function", "function": {"name": self.name, "description": text, "parameters": schema}}

    async def run(self, values: dict[str, Any]) -> str:
        """Return what the function returns for these arguments, as text. What it raises is the text then."""
        try:
            arguments = self.arguments(**values)
            result = self.function(**{name: getattr(arguments, name) for name in type(arguments).model_fields})
            if inspect.isawaitable(result):
                result = await result
        except Exception as error:  # the model is told what went wrong, and may try otherwise
            return f"{type(error).__name__}: {error}"
        return result if isinstance(result, str) else json.dumps(result, ensure_ascii=False, default=str)


def load_tool(name: str) -> ToolFunction:
    """Return the function *name*, such as `app:get_weather`. Exits with a usage error if it cannot be a tool."""
    from pydantic import ConfigDict, PydanticUserError, create_model

    function = import_name(name, "--tool")
    if not callable(function):
        fail_usage(f"{name} is not a function", "--tool")
    try:
        signature = inspect.signature(function, eval_str=True)
        fields: dict[str, Any] = {
            parameter.name: (
                Any if parameter.annotation is parameter.empty else parameter.annotation,
                ... if parameter.default is parameter.empty else parameter.default,
            )
            for parameter in signature.parameters.values()
        }
        arguments = create_model(function.__name__, __config__=ConfigDict(extra="forbid"), **fields)
        tool = ToolFunction(function, arguments)
        _ = tool.description  # types without a JSON Schema are seen now
    except (TypeError, ValueError, NameError, PydanticUserError) as error:
        fail_usage(f"{name} cannot be a tool: {error}", "--tool")
    return tool
