"""Names of tools that a vendor takes, in the place of those that it refuses, and back."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping

from modelhub.core.request import ChatRequest
from modelhub.messages.blocks import ContentBlock, Tool, ToolResultBlock, ToolUseBlock

__all__ = ["with_vendor_names"]


def with_vendor_names(request: ChatRequest, pattern: re.Pattern[str] | None) -> tuple[ChatRequest, Mapping[str, str]]:
    """Return *request* with every tool name in a form that matches *pattern*, and the names that it had, by the new.

    Tools, the choice of one, and earlier calls and results are renamed alike. A name that differs in punctuation only
    is recognised by a model; a description that stands for another one begins with the name.
    """
    if pattern is None:
        return request, {}
    names = dict.fromkeys(_names(request))
    wrong = [name for name in names if not pattern.fullmatch(name)]
    if not wrong:
        return request, {}
    taken = names.keys() - set(wrong)
    renamed: dict[str, str] = {}
    for name in wrong:
        renamed[name] = _vendor_name(name, taken, pattern)
        taken = taken | {renamed[name]}
    return _rename(request, renamed), {new: name for name, new in renamed.items()}


_NAMED = (ToolUseBlock, ToolResultBlock)


def _names(request: ChatRequest) -> Iterator[str]:
    yield from (tool.name for tool in request.tools)
    for message in request.messages:
        for block in message.blocks:
            if isinstance(block, _NAMED) and block.name:
                yield block.name


def _vendor_name(name: str, taken: Iterable[str], pattern: re.Pattern[str]) -> str:
    plain = re.sub(r"[^a-zA-Z0-9_-]", "_", name)
    if not re.match(r"[a-zA-Z_]", plain):
        plain = f"_{plain}"
    if name.isascii() and plain not in taken and pattern.fullmatch(plain):
        return plain
    # What is lost, or would be another tool's name, is made up for by a part of the name's hash.
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{plain[:55].rstrip('_')}_{digest}" if plain.strip("_") else f"tool_{digest}"


def _rename(request: ChatRequest, renamed: Mapping[str, str]) -> ChatRequest:
    choice = request.tool_choice
    if choice is not None and choice.name is not None and choice.name in renamed:
        choice = dataclasses.replace(choice, name=renamed[choice.name])
    return request.replace(
        tools=tuple(_rename_tool(tool, renamed) for tool in request.tools),
        tool_choice=choice,
        messages=tuple(
            dataclasses.replace(message, blocks=tuple(_rename_block(block, renamed) for block in message.blocks))
            for message in request.messages
        ),
    )


def _rename_tool(tool: Tool, renamed: Mapping[str, str]) -> Tool:
    name = renamed.get(tool.name)
    if name is None:
        return tool
    is_alike = name == re.sub(r"[^a-zA-Z0-9_-]", "_", tool.name)
    description = tool.description if is_alike else f"{tool.name}: {tool.description}".removesuffix(": ")
    return dataclasses.replace(tool, name=name, description=description)


def _rename_block(block: ContentBlock, renamed: Mapping[str, str]) -> ContentBlock:
    if isinstance(block, (ToolUseBlock, ToolResultBlock)) and block.name in renamed:
        return dataclasses.replace(block, name=renamed[block.name])
    return block
