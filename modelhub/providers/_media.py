"""Local files in messages, read when a request is sent and off the event loop."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
from pathlib import Path

from modelhub.blocks import Base64Source, ContentBlock, MediaBlock, Message, PathSource, ToolResultBlock
from modelhub.errors import InvalidRequest
from modelhub.model import ChatRequest

__all__ = ["MOST_BYTES", "with_files_read"]

MOST_BYTES = 64 * 1024 * 1024
"""The largest file that is read into a request."""


async def with_files_read(request: ChatRequest) -> ChatRequest:
    """The same request with every local file's bytes in the place of its path.

    Only files whose path the caller gave are read. Raises InvalidRequest for one that cannot be, or is too large.
    """
    if not any(_has_file(block) for message in request.messages for block in message.blocks):
        return request
    messages = await asyncio.to_thread(lambda: tuple(_read_message(message) for message in request.messages))
    return request.replace(messages=messages)


def _has_file(block: ContentBlock) -> bool:
    if isinstance(block, ToolResultBlock):
        return any(_has_file(part) for part in block.output)
    return isinstance(block, MediaBlock) and isinstance(block.source, PathSource)


def _read_message(message: Message) -> Message:
    return dataclasses.replace(message, blocks=tuple(_read_block(block) for block in message.blocks))


def _read_block(block: ContentBlock) -> ContentBlock:
    if isinstance(block, ToolResultBlock):
        output = tuple(_read_media(part) if isinstance(part, MediaBlock) else part for part in block.output)
        return dataclasses.replace(block, output=output)
    return _read_media(block) if isinstance(block, MediaBlock) else block


def _read_media(block: MediaBlock) -> MediaBlock:
    if not isinstance(block.source, PathSource):
        return block
    path = Path(block.source.path).expanduser()
    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise InvalidRequest(f"the file {path} has {size} bytes; at most {MOST_BYTES} can be sent")
        data = base64.b64encode(path.read_bytes()).decode("ascii")
    except OSError as error:
        raise InvalidRequest(f"the file {path} cannot be read: {error.strerror}") from error
    return dataclasses.replace(block, source=Base64Source(data, block.source.media_type), name=block.name or path.name)
