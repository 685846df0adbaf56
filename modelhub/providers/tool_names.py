"""Names of tools that a vendor takes, in the place of those that it refuses, and back."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Iterable, Mapping

from modelhub.core.request import ChatRequest
from modelhub.messages.blocks import Message, Tool, ToolResultBlock, ToolUseBlock

__all__ = ["with_vendor_names"]

_REPLACED = re.compile(r"[^a-zA-Z0-9_-]")


def with_vendor_names(request: ChatRequest, pattern: re.Pattern[str] | None) -> tuple[ChatRequest, Mapping[str, str]]:
    """Return *request* with every tool name in a form that matches *pattern*, and the names that it had, by the new.

    Tools, the choice of one, and earlier calls and results are renamed alike. A name that differs in punctuation only
    is recognised by a model; a description that stands for another one begins with the name.
    """
    if pattern is None:
        return request, {}
    blocks = (block for message in request.messages for block in message.blocks)
    called = (block.name for block in blocks if isinstance(block, (ToolUseBlock, ToolResultBlock)) and block.name)
    names = dict.fromkeys([*(tool.name for tool in request.tools), *called])
    wrong = [name for name in names if not pattern.fullmatch(name)]
    if not wrong:
        return request, {}
    taken = names.keys() - set(wrong)
    renamed: dict[str, str] = {}
    for name in wrong:
        renamed[name] = _vendor_name(name, taken, pattern)
        taken = taken | {renamed[name]}
    return _rename(request, renamed), {new: name for name, new in renamed.items()}


def _vendor_name(name: str, taken: Iterable[str], pattern: re.Pattern[str]) -> str:
    plain = _REPLACED.sub("_", name)
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
    tools: list[Tool] = []
    for tool in request.tools:
        name, description = renamed.get(tool.name, tool.name), tool.description
        if name != _REPLACED.sub("_", tool.name):
            description = f"{tool.name}: {tool.description}".removesuffix(": ")
        tools.append(dataclasses.replace(tool, name=name, description=description) if name != tool.name else tool)
    messages: list[Message] = []
    for message in request.messages:
        blocks = [
            dataclasses.replace(block, name=renamed[block.name])
            if isinstance(block, (ToolUseBlock, ToolResultBlock)) and block.name in renamed
            else block
            for block in message.blocks
        ]
        messages.append(dataclasses.replace(message, blocks=tuple(blocks)))
    return request.replace(tools=tuple(tools), tool_choice=choice, messages=tuple(messages))
