"""Structured output: asking for an answer that fits a pydantic model, and reading it."""

from __future__ import annotations

import json
import re
from typing import Any, Literal

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

from modelhub.blocks import Tool, ToolChoice
from modelhub.errors import BadReply

__all__ = ["TOOL_NAME", "Method", "Structured"]

Method = Literal["native", "tool", "prompt"]
"""How the structure is asked for: by the vendor's JSON schema mode, by a forced tool, or in words."""

TOOL_NAME = "generate_structured_output"
_FENCE = re.compile(r"^\s*```(?:json)?\s*\n(.*?)\n?\s*```\s*$", re.DOTALL)


class Structured:
    """One wish for structured output: the *model* to fit, and the *method* of asking."""

    def __init__(self, model: type[BaseModel], method: Method) -> None:
        self.model = model
        self.method = method

    @property
    def schema(self) -> dict[str, Any]:
        """The JSON Schema of the model, a fresh copy."""
        return self.model.model_json_schema()

    def tool(self) -> Tool:
        """The tool that a model is forced to call."""
        return Tool(TOOL_NAME, "Give the answer in this structure. Always call this tool.", self.schema)

    def tool_choice(self) -> ToolChoice:
        """The choice of that tool."""
        return ToolChoice("tool", TOOL_NAME)

    def prompt(self) -> str:
        """The wish in words, for models that know no other way."""
        return (
            "Answer with one JSON object and nothing else: no explanation, no code fence. "
            "It must fit this JSON Schema:\n" + json.dumps(self.schema, ensure_ascii=False)
        )

    def partial(self, raw: str) -> Any:
        """What can be read of *raw* so far, unvalidated, or None."""
        try:
            return from_json(self._body(raw), allow_partial="trailing-strings")
        except ValueError:
            return None

    def read(self, raw: str) -> Any:
        """The validated answer as plain JSON data. Raises BadReply, naming the fields, if it does not fit."""
        name = self.model.__name__
        try:
            return self.model.model_validate_json(self._body(raw)).model_dump(mode="json")
        except ValidationError as error:
            problems = [
                f"{'.'.join(str(part) for part in problem['loc']) or 'answer'}: {problem['msg']}"
                for problem in error.errors(include_input=False, include_url=False, include_context=False)
            ]
            misfit = BadReply(f"the answer does not fit {name}: {'; '.join(problems[:5])}")
            misfit.request_specific = True  # it is the caller's own class that refuses it
            raise misfit from None

    def _body(self, raw: str) -> str:
        match = _FENCE.match(raw) if self.method != "tool" else None
        return match[1] if match else raw
