"""The contract's fixture files, and the server that plays them."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from modelhub.testing.contract_cases import ANSWERS, ERRORS, FACTS, assert_equal
from modelhub.testing.http import LAST_CHUNK, chunk, head_bytes, read_body, read_head

__all__ = ["Fixtures", "FixtureServer"]

_STREAMS = {".sse": "text/event-stream", ".ndjson": "application/x-ndjson"}

# -- the folder --------------------------------------------------------------------------------------------------------


class Fixtures:
    """The fixture files of one provider, in *folder*.

    `lacks` is what the vendor cannot do, and why; `wire` is whether the fixtures are played by a server.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        path = folder / "contract.json"
        self.settings: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        self.lacks: Mapping[str, str] = self.settings.get("lacks") or {}
        self.wire = self.settings.get("wire", True) is not False

    def find_problems(self) -> list[str]:
        """Return the problems of the folder: missing and unexpected files, and invalid settings."""
        # Every required file, as the names that it may have.
        required: list[tuple[str, ...]] = [("contract.json",)]
        required += [(f"{case}.json",) for case in (*ANSWERS, *ERRORS) if case not in self.lacks]
        if self.wire:
            streams = [case for case in (*ANSWERS, "broken") if case not in self.lacks]
            required += [tuple(f"{case}{suffix}" for suffix in _STREAMS) for case in streams]
        else:
            required.append(("broken.json",))
        present = {path.name for path in self.folder.iterdir()} if self.folder.is_dir() else set()
        missing = [" or ".join(options) for options in required if not present.intersection(options)]
        problems = [f"missing in {self.folder}: {', '.join(missing)}"] if missing else []
        valid = {*ANSWERS, *ERRORS, *FACTS}
        problems += [f"contract.json: lacks `{name}`, which is no case" for name in self.lacks if name not in valid]
        problems += [f"contract.json: no reason is given for `{name}`" for name, why in self.lacks.items() if not why]
        expected = {name for alternatives in required for name in alternatives}
        return problems + [f"{name} is not wanted" for name in sorted(present - expected)]

    def read(self, case: str) -> str:
        """Return the text of a plain answer or an error."""
        return (self.folder / f"{case}.json").read_text(encoding="utf-8")

    def stream(self, case: str) -> tuple[str, str]:
        """Return the text of a stream and its content type."""
        if not self.wire:
            return self.read(case), ""
        suffixes = [suffix for suffix in _STREAMS if (self.folder / f"{case}{suffix}").exists()]
        assert_equal(f"files for the stream {case}", len(suffixes), 1)
        data = (self.folder / f"{case}{suffixes[0]}").read_bytes()  # as bytes: line ends are the vendor's
        return data.decode(), _STREAMS[suffixes[0]]

    def events(self, case: str) -> tuple[list[str], str]:
        """Return the events or lines of a stream and its content type."""
        text, content_type = self.stream(case)
        end = r"(?<=\n\n)|(?<=\n\r\n)" if "event" in content_type else r"(?<=\n)"
        return [piece for piece in re.split(end, text) if piece], content_type


# -- the server --------------------------------------------------------------------------------------------------------


class FixtureServer:
    """Answers every request with the last answer that was set, and records the bodies of requests."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.url = ""
        self._answer: list[bytes] = []
        self._keep = True

    def set_answer(self, status: int, headers: Mapping[str, str], *pieces: bytes, keep: bool = True) -> None:
        """Answer in *pieces*; without *keep*, the connection is closed after them."""
        head = head_bytes(status, [*headers.items(), ("transfer-encoding", "chunked")])
        self._answer = [head, *(chunk(piece) for piece in pieces if piece), *([LAST_CHUNK] if keep else [])]
        self._keep = keep

    def set_no_answer(self) -> None:
        """Close connections without an answer."""
        self._answer, self._keep = [], False

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (head := await read_head(reader)) is not None:
                self.bodies.append(await read_body(reader, head.headers))
                for piece in self._answer:
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0)
                if not self._keep:
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[FixtureServer]:
        """Serve at `url` inside the context."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()
