"""Structured output: asking for an answer that fits a pydantic model or a JSON Schema, and reading it."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

from modelhub.core.request import ChatRequest
from modelhub.messages.blocks import Tool, ToolChoice
from modelhub.messages.json_schema import find_schema_problems
from modelhub.providers.json_text import clean_value, make_misfit
from modelhub.providers.tool_arguments import LENIENT_JSON

__all__ = ["CALL_PROMPT", "TOOL_NAME", "Method", "Structured", "offer_tools", "write_json_prompt"]

Method = Literal["native", "tool", "prompt"]
"""How the structure is asked for: by the vendor's JSON schema mode, by a forced tool, or in words."""

TOOL_NAME = "generate_structured_output"
CALL_PROMPT = "Answer by calling one of the tools, not in words of your own."
"""What a model is told whose API cannot demand a call."""
_THINKING_END = re.compile(r"</(?:think|thinking|thought|reasoning)>", re.IGNORECASE)
_FENCE = re.compile(r"```[\w+-]*")
_START = re.compile(r"[{\[]")
_MAX_STARTS = 64
"""How many brackets are tried: text with thousands of them, none of which begins JSON, must not cost their square."""


@dataclass(frozen=True, eq=False)
class Structured:
    """A request for structured output: the *model* or JSON Schema to fit, and the *method* of asking."""

    model: type[BaseModel] | Mapping[str, Any]
    method: Method

    @property
    def schema(self) -> dict[str, Any]:
        """The JSON Schema of the model, a fresh copy."""
        if isinstance(self.model, Mapping):
            return copy.deepcopy(dict(self.model))
        return self.model.model_json_schema()

    def tool(self) -> Tool:
        """The tool that a model is forced to call."""
        return Tool(TOOL_NAME, "Give the answer in this structure. Always call this tool.", self.schema)

    def tool_choice(self) -> ToolChoice:
        """The choice of that tool."""
        return ToolChoice("tool", TOOL_NAME)

    def prompt(self) -> str:
        """The request in words, for models that know no other way."""
        return write_json_prompt(self.schema)

    def partial(self, raw: str) -> Any:
        """What can be read of *raw* so far, unvalidated, or None."""
        text = _after_thinking(raw).lstrip()
        if (fence := _FENCE.match(text)) is not None:
            text = text[fence.end() :]
        elif text[:1] not in ("{", "[") and (start := _START.search(text)) is not None:
            text = text[start.start() :]
        try:
            return from_json(text, allow_partial="trailing-strings", allow_inf_nan=False)
        except ValueError:
            return None

    def read(self, raw: str) -> tuple[Any, Any]:
        """Return the answer as data that the class validates again, and what the class makes of them.

        For a JSON Schema both are the data. Raises BadReply, naming the fields, if the answer does not fit.
        """
        problems: list[str] = []
        for value in _values_in(raw):
            output, problem = self._validate(value)
            if problem is None:
                return _dump_output(output, value), output
            problems.append(problem)
        problems.append("there is no JSON in it")
        raise make_misfit(f"the answer does not fit {self.name}: {problems[0]}")

    @property
    def name(self) -> str:
        """What the structure is called: the class's name, or the schema's title."""
        return str(self.model.get("title") or "schema") if isinstance(self.model, Mapping) else self.model.__name__

    def _validate(self, value: Any) -> tuple[Any, str | None]:
        """Return what the class makes of *value* and None, or None and where it does not fit."""
        try:
            if isinstance(self.model, Mapping):
                return value, next(find_schema_problems(value, self.model, self.model, "answer"), None)
            return self.model.model_validate_json(json.dumps(value)), None
        except ValidationError as error:
            problems = [
                f"{'.'.join(str(part) for part in problem['loc']) or 'answer'}: {problem['msg']}"
                for problem in error.errors(include_input=False, include_url=False, include_context=False)
            ]
            return None, "; ".join(problems[:5])
        except Exception as error:  # the caller's own validators may raise anything
            return None, f"{type(error).__name__}: {error}"


def write_json_prompt(schema: Mapping[str, Any] | None) -> str:
    """Return the request in words for an answer in JSON that fits *schema*, or for any JSON object."""
    prompt = "Answer with one JSON object and nothing else: no explanation, no code fence."
    if schema is not None:
        prompt += " It must fit this JSON Schema:\n" + json.dumps(schema, ensure_ascii=False)
    return prompt


def offer_tools(
    request: ChatRequest, structured: Structured | None
) -> tuple[Sequence[Tool], ToolChoice | None, str | None]:
    """Return the tools, the choice of one, and what must be said in words, for *request* with *structured* output."""
    if structured is not None and structured.method == "tool":
        return (structured.tool(),), structured.tool_choice(), None
    instruction = structured.prompt() if structured is not None and structured.method == "prompt" else None
    return request.tools, request.tool_choice, instruction


def _dump_output(output: Any, value: Any) -> Any:
    """Return data that the class of *output* reads as the same output: its own dump, or *value*, as the model wrote it.

    What a class leaves out, hides or names otherwise when it writes is not what it reads.
    """
    if not isinstance(output, BaseModel):
        return value
    for mode in ("json", "python"):  # a strict class reads the types themselves, not the JSON of them
        with suppress(Exception):  # whatever the caller's own serializers and validators raise
            data = output.model_dump(mode=mode, by_alias=True, round_trip=True)
            if type(output).model_validate(data) == output:
                return data
        with suppress(ValidationError):
            type(output).model_validate(value)
            return value
    return value


def _after_thinking(text: str) -> str:
    """What follows the last thought: some servers leave `<think>` in the text, or its end alone."""
    ends = [match.end() for match in _THINKING_END.finditer(text)]
    return text[ends[-1] :] if ends else text


def _values_in(raw: str) -> Iterator[Any]:
    """The JSON values that *raw* may mean, the likeliest first: all of it, then what stands in it, last to first."""
    values = _decode(raw.strip()) or [*reversed([*_find_values(_after_thinking(raw))])]
    yield from values
    if len(values) == 1 and isinstance(values[0], str):  # JSON that was encoded twice
        yield from _decode(values[0].strip())


def _decode(text: str) -> list[Any]:
    """The value that *text* is, in a list, which is empty if it is none, or more than one."""
    try:
        value = LENIENT_JSON.decode(text)
        return [clean_value(value) if "\\u" in text else value]
    except (ValueError, RecursionError):
        return []


def _find_values(text: str) -> Iterator[Any]:
    """The JSON objects and arrays that stand in *text*, in order; not what stands inside a broken one."""
    position = 0
    for _ in range(_MAX_STARTS):
        start = _START.search(text, position)
        if start is None:
            return
        try:
            value, position = LENIENT_JSON.raw_decode(text, start.start())
            yield clean_value(value)
        except json.JSONDecodeError as error:
            position = max(error.pos, start.end())
        except ValueError:
            position = start.end()
        except RecursionError:
            return
