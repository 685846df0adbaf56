"""The shape of a call: what it asks for, without what it says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelhub.cli.options import read_yaml
from modelhub.core.call_options import check_keywords
from modelhub.core.context import CallContext, Services
from modelhub.core.errors import ConfigError, InvalidRequest
from modelhub.core.request import ChatRequest
from modelhub.messages.json_schema import check_structured_model
from modelhub.messages.normalize import normalise_messages
from modelhub.messages.tools import normalise_tool_choice, normalise_tools

__all__ = ["MEDIA", "SAMPLE_TOOL", "CallShape", "make_shape", "read_shapes"]

SAMPLE_TOOL = {
    "type": "function",
    "function": {
        "name": "look_up",
        "description": "Look up a word.",
        "parameters": {"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]},
    },
}
MEDIA: Mapping[str, Mapping[str, Any]] = {
    "image": {
        "type": "image_url",
        "image_url": {"url": "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"},
    },
    "audio": {"type": "input_audio", "input_audio": {"data": "UklGRiQAAABXQVZFZm10IBAAAAABAAEA", "format": "wav"}},
    "document": {
        "type": "file",
        "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0xLjQKJSVFT0YK"},
    },
    "video": {"type": "video_url", "video_url": {"url": "data:video/mp4;base64,AAAAGGZ0eXBpc29t"}},
}
"""A sample of each kind of media."""
_SCHEMA = {"type": "object", "properties": {"total": {"type": "number"}}, "required": ["total"]}
_KINDS: Mapping[str, tuple[Any, str]] = {
    "ask": (dict, "a mapping"),
    "native_tools": (list, "a list of types"),
    "schema": (dict | bool, "true or a JSON Schema"),
}
_KEYS = ("tools", "native_tools", "tool_choice", *MEDIA, "schema", "stream", "ask")


@dataclass(frozen=True, slots=True)
class CallShape:
    """A call as a model sees it.

    *parameters* are those of the call, by any names, *native_tools* the types of tools that a vendor runs itself, and
    *media* the kinds of media in its messages. *schema* is the class or JSON Schema of a structured answer.
    """

    name: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    tools: bool = False
    native_tools: tuple[str, ...] = ()
    tool_choice: Any = None
    media: tuple[str, ...] = ()
    schema: Any = None
    stream: bool = False

    def make_request(
        self,
        *,
        tools: bool = False,
        native_tools: tuple[str, ...] = (),
        media: tuple[str, ...] = (),
        schema: bool = False,
        options: Mapping[str, Any] | None = None,
    ) -> ChatRequest:
        """Return a request of this shape; of what it asks for, only what is chosen."""
        parts = [{"type": "text", "text": "Hello."}, *(MEDIA[kind] for kind in media)]
        offered: list[Mapping[str, Any]] = [
            *([SAMPLE_TOOL] if tools else []),
            *({"type": kind} for kind in native_tools),
        ]
        neutral_tools = normalise_tools(offered)
        # The choice of a tool is about the functions, or about the tools of a vendor: only one of them is offered.
        is_choice_native = self.tool_choice in self.native_tools or not self.tools
        choice = self.tool_choice if offered and tools != is_choice_native else None
        return ChatRequest(
            messages=normalise_messages([{"role": "user", "content": parts}]),
            tools=neutral_tools,
            tool_choice=normalise_tool_choice(choice, neutral_tools),
            structured_model=check_structured_model(self.schema) if schema else None,
            stream=self.stream,
            options=options or {},
            context=CallContext(Services(), "fit"),
        )


def read_shapes(path: Path) -> Iterator[CallShape]:
    """Yield the shapes of calls that the YAML file *path* lists.

    Each has a `name`, and any of `tools`, `native_tools` (types), `tool_choice`, `image`, `audio`, `document`, `video`,
    `schema` (true, or a JSON Schema), `stream` and `ask` (parameters). Raises ConfigError for what is none of these.
    """
    listed = read_yaml(path)
    if not isinstance(listed, list) or not all(isinstance(item, dict) for item in listed):
        raise ConfigError(f"{path}: expected a list of calls, such as `- {{name: report, tools: true}}`")
    for number, item in enumerate(listed, 1):
        unknown = sorted(set(item) - {"name", *_KEYS})
        if unknown:
            raise ConfigError(f"{path}: call {number}: unknown key `{unknown[0]}` (keys: name, {', '.join(_KEYS)})")
        for key, (kind, word) in _KINDS.items():
            if item.get(key) is not None and not isinstance(item[key], kind):
                raise ConfigError(f"{path}: call {number}: `{key}` must be {word}")
        shape = make_shape(item, str(item.get("name", f"call {number}")))
        try:
            check_keywords(shape.parameters)
        except InvalidRequest as error:
            raise ConfigError(f"{path}: call {number}: {error}") from None
        yield shape


def make_shape(item: Mapping[str, Any], name: str) -> CallShape:
    """Return the shape called *name* that *item* describes, by the keys of a file of calls."""
    schema = item.get("schema")
    return CallShape(
        name=name,
        parameters=dict(item.get("ask") or {}),
        tools=bool(item.get("tools")),
        native_tools=tuple(item.get("native_tools") or ()),
        tool_choice=item.get("tool_choice"),
        media=tuple(kind for kind in MEDIA if item.get(kind)),
        schema=_SCHEMA if schema is True else schema,
        stream=bool(item.get("stream")),
    )
