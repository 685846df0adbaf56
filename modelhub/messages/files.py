"""Read local files in messages, if that is allowed.

A message is data, and may come from an untrusted user. So a path or a `file:` URL in it is not read unless the
configuration allows its folder (`files: {allow: [folder]}`). Files that the application itself names are read: a
`pathlib.Path` always, because it cannot come from JSON, and a source `{"type": "path", "path": ...}` unless the
configuration has a list, which then applies to it too. An application that passes on its users' blocks should therefore
set the list (empty, if no file is to be read), or remove such sources.
"""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import mimetypes
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from pydantic import field_validator
from pydantic_core import PydanticCustomError

from modelhub.core.errors import InvalidRequest
from modelhub.messages.blocks import (
    Base64Source,
    ContentBlock,
    MediaBlock,
    Message,
    PathSource,
    ToolResultBlock,
    find_media,
)
from modelhub.options import Options

__all__ = ["MAX_FILE_BYTES", "FileAccess", "FileOptions", "has_files", "read_files"]

MAX_FILE_BYTES = 64 * 1024 * 1024
"""The largest file that is read into a request."""

_KERNEL_FOLDERS = (Path("/proc"), Path("/sys"), Path("/dev"))
"""Folders that are never read: they expose the machine and the process, and hold no media."""


class FileOptions(Options):
    """Which local files messages may refer to."""

    allow: list[str] | None = None
    """Folders whose files messages may refer to, by a path, a `file:` URL or a `path` block, such as `[uploads]`;
    relative to this file. Without the list, only `path` blocks are read, from any folder; an empty list allows none."""

    @field_validator("allow")
    @classmethod
    def _folders(cls, folders: list[str] | None) -> list[str] | None:
        for folder in folders or ():
            if not folder.strip() or "\0" in folder:
                raise PydanticCustomError("folder", "expected the path of a folder, such as `uploads`")
        return folders

    def access(self, base: Path) -> FileAccess:
        """Return the access rules; relative folders are relative to *base*."""
        if self.allow is None:
            return FileAccess()
        return FileAccess(tuple((base.absolute() / Path(folder).expanduser()) for folder in self.allow))


class FileAccess(NamedTuple):
    """Which local files may be read: those in *folders* (absolute paths); None if the configuration has no list."""

    folders: tuple[Path, ...] | None = None

    def check(self, source: PathSource, path: Path) -> None:
        """Raise InvalidRequest unless the resolved *path* may be read for *source*."""
        if any(path.is_relative_to(folder) for folder in _KERNEL_FOLDERS):
            raise InvalidRequest(f"{source.place}: is no regular file")
        if source.origin == "object" or (source.origin == "block" and self.folders is None):
            return
        if not any(path.is_relative_to(folder.resolve()) for folder in self.folders or ()):
            raise InvalidRequest(f"{source.place}: {_ELSEWHERE}")


_NOT_ALLOWED = (
    "is neither a URL nor base64 data, and local files are only read if the application names them: pass a "
    '`pathlib.Path`, or `{"type": "path", "path": ...}` as the `source`, or allow the folder in the configuration '
    "(`files: {allow: [folder]}`)"
)
_ELSEWHERE = "is no address and no file below a folder that `files: {allow: [...]}` of the configuration names"


def has_files(messages: Iterable[Message]) -> bool:
    """Return whether *messages* refer to a local file."""
    return any(isinstance(media.source, PathSource) for media in find_media(messages))


async def read_files(messages: tuple[Message, ...], access: FileAccess) -> tuple[Message, ...]:
    """Return *messages* with local files replaced by their content, which is read in a thread.

    Raises InvalidRequest for a file that *access* does not allow, that is not a regular file, is empty or too large, or
    cannot be read.
    """

    def read(message: Message) -> Message:
        return dataclasses.replace(message, blocks=tuple(_read_block(block, access) for block in message.blocks))

    return await asyncio.to_thread(lambda: tuple(map(read, messages)))


def _read_block(block: ContentBlock, access: FileAccess) -> ContentBlock:
    if isinstance(block, ToolResultBlock):
        output = tuple(_read_media(part, access) if isinstance(part, MediaBlock) else part for part in block.output)
        return dataclasses.replace(block, output=output)
    return _read_media(block, access) if isinstance(block, MediaBlock) else block


def _read_media(block: MediaBlock, access: FileAccess) -> MediaBlock:
    source = block.source
    if not isinstance(source, PathSource):
        return block
    if source.origin == "address" and access.folders is None:
        raise InvalidRequest(f"{source.place}: {_NOT_ALLOWED}")
    path = Path(source.path)
    try:
        path = path.expanduser().resolve()
        access.check(source, path)
        data = _read_regular_file(path, source.place)
    except InvalidRequest:
        raise
    except OSError as error:
        raise InvalidRequest(f"{source.place}: the file {path.name} cannot be read: {error.strerror}") from error
    except (ValueError, RuntimeError):  # a NUL, a lone surrogate, or the home of an unknown user
        raise InvalidRequest(f"{source.place}: is no path that a file can have") from None
    media_type = source.media_type or mimetypes.guess_type(path.name, strict=False)[0]
    if media_type is None:
        raise InvalidRequest(f"{source.place}: the file's name does not show its media type: give `media_type`")
    encoded = Base64Source(base64.b64encode(data).decode("ascii"), media_type)
    return dataclasses.replace(block, source=encoded, name=block.name or path.name)


def _read_regular_file(path: Path, place: str) -> bytes:
    # Opening a FIFO would block, and the path may have been replaced by a link since it was resolved.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    with os.fdopen(os.open(path, flags | getattr(os, "O_NOCTTY", 0)), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise InvalidRequest(f"{place}: is no regular file")
        data = file.read(min(os.fstat(file.fileno()).st_size, MAX_FILE_BYTES) + 1)
    if not data:
        raise InvalidRequest(f"{place}: the file is empty")
    if len(data) > MAX_FILE_BYTES:
        raise InvalidRequest(f"{place}: the file is larger than {MAX_FILE_BYTES} bytes")
    return data
