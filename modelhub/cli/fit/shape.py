"""The shape of a call: what it asks for, without what it says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelhub.core.context import CallContext, Services
from modelhub.core.errors import ConfigError
from modelhub.core.request import ChatRequest
from modelhub.messages.json_schema import check_structured_model
from modelhub.messages.normalize import normalise_messages
from modelhub.messages.tools import normalise_tool_choice, normalise_tools

__all__ = ["SAMPLE_TOOL", "CallShape", "read_shapes"]

SAMPLE_TOOL = {
    "type": "function",
    "function": {
        "name": "look_up",
        "description": "Look up a word.",
        "parameters": {"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]},
    },
}
_IMAGE = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"
_SCHEMA = {"type": "object", "properties": {"total": {"type": "number"}}, "required": ["total"]}
_KEYS = ("tools", "tool_choice", "image", "schema", "stream", "ask")


@dataclass(frozen=True, slots=True)
class CallShape:
    """A call as a model sees it.

    *parameters* are those of the call, by any names. *schema* is the class or JSON Schema of a structured answer.
    """

    name: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    tools: bool = False
    tool_choice: Any = None
    image: bool = False
    schema: Any = None
    stream: bool = False

    def make_request(self, *, tools: bool, image: bool, schema: bool, options: Mapping[str, Any]) -> ChatRequest:
        """Return a request of this shape; of what it asks for, only what is chosen."""
        parts: list[dict[str, Any]] = [{"type": "text", "text": "Hello."}]
        if image:
            parts.append({"type": "image_url", "image_url": {"url": _IMAGE}})
        neutral_tools = normalise_tools([SAMPLE_TOOL] if tools else None)
        choice = self.tool_choice if tools else None
        return ChatRequest(
            messages=normalise_messages([{"role": "user", "content": parts}]),
            tools=neutral_tools,
            tool_choice=None if choice is None else normalise_tool_choice(choice, neutral_tools),
            structured_model=check_structured_model(self.schema) if schema else None,
            stream=self.stream,
            options=options,
            context=CallContext(Services(), "fit"),
        )


def read_shapes(path: Path) -> Iterator[CallShape]:
    """Yield the shapes of calls that the YAML file *path* lists.

    Each has a `name`, and any of `tools`, `tool_choice`, `image`, `schema` (true, or a JSON Schema), `stream` and `ask`
    (parameters). Raises ConfigError for what is none of these.
    """
    import yaml

    try:
        listed = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: {error}") from None
    if not isinstance(listed, list) or not all(isinstance(item, dict) for item in listed):
        raise ConfigError(f"{path}: expected a list of calls, such as `- {{name: report, tools: true}}`")
    for number, item in enumerate(listed, 1):
        unknown = sorted(set(item) - {"name", *_KEYS})
        if unknown:
            raise ConfigError(f"{path}: call {number}: unknown key `{unknown[0]}` (keys: name, {', '.join(_KEYS)})")
        schema = item.get("schema")
        yield CallShape(
            name=str(item.get("name", f"call {number}")),
            parameters=dict(item.get("ask") or {}),
            tools=bool(item.get("tools")),
            tool_choice=item.get("tool_choice"),
            image=bool(item.get("image")),
            schema=_SCHEMA if schema is True else schema,
            stream=bool(item.get("stream")),
        )
