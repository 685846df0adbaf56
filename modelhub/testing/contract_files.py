"""The contract's fixtures in their folder, and the server that plays them."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelhub.testing.contract_cases import ANSWERS, ERRORS, FACTS, assert_equal
from modelhub.testing.http import LAST_CHUNK, chunk, head_bytes, read_body, read_head

__all__ = ["Fixtures", "FixtureServer"]

_STREAMS = {".sse": "text/event-stream", ".ndjson": "application/x-ndjson"}

# -- the folder --------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Fixtures:
    """What stands in the folder of one provider."""

    folder: Path
    about: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        path = self.folder / "contract.json"
        self.about = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    @property
    def lacks(self) -> Mapping[str, str]:
        """What the vendor cannot do, and why."""
        return self.about.get("lacks") or {}

    @property
    def wire(self) -> bool:
        """Whether a server plays them."""
        return self.about.get("wire", True) is not False

    def wanted(self) -> Iterator[tuple[str, ...]]:
        """Every file that must be there, by the names it may have."""
        yield ("contract.json",)
        for case in (*ANSWERS, *ERRORS):
            if case not in self.lacks:
                yield (f"{case}.json",)
        for case in (*ANSWERS, "broken"):
            if case not in self.lacks and self.wire:
                yield tuple(f"{case}{suffix}" for suffix in _STREAMS)
        if not self.wire:
            yield ("broken.json",)

    def problems(self) -> list[str]:
        """What is wrong with the folder."""
        names = {path.name for path in self.folder.iterdir()} if self.folder.is_dir() else set()
        missing = [" or ".join(one) for one in self.wanted() if not names.intersection(one)]
        found = [f"missing in {self.folder}: {', '.join(missing)}"] if missing else []
        known = {*ANSWERS, *ERRORS, *FACTS}
        found += [f"contract.json: lacks `{name}`, which is no case" for name in self.lacks if name not in known]
        found += [f"contract.json: no reason is given for `{name}`" for name, why in self.lacks.items() if not why]
        wanted = {name for one in self.wanted() for name in one}
        return found + [f"{name} is not wanted" for name in sorted(names - wanted)]

    def read(self, case: str) -> str:
        """The text of a plain answer, or of a failure."""
        return (self.folder / f"{case}.json").read_text(encoding="utf-8")

    def stream(self, case: str) -> tuple[str, str]:
        """The text of a stream, and its content type."""
        if not self.wire:
            return self.read(case), ""
        found = [suffix for suffix in _STREAMS if (self.folder / f"{case}{suffix}").exists()]
        assert_equal(f"files for the stream {case}", len(found), 1)
        data = (self.folder / f"{case}{found[0]}").read_bytes()  # as bytes: line ends are the vendor's
        return data.decode(), _STREAMS[found[0]]

    def events(self, case: str) -> tuple[list[str], str]:
        """The stream's events or lines, and its content type."""
        text, content_type = self.stream(case)
        end = r"(?<=\n\n)|(?<=\n\r\n)" if "event" in content_type else r"(?<=\n)"
        return [piece for piece in re.split(end, text) if piece], content_type


# -- the server --------------------------------------------------------------------------------------------------------


class FixtureServer:
    """Answers every request with what it was told last, and keeps the requests' bodies."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.url = ""
        self._answer: list[bytes] = []
        self._keep = True

    def answers(self, status: int, headers: Mapping[str, str], *pieces: bytes, keep: bool = True) -> None:
        """An answer in *pieces*; with *keep* false the connection breaks after them."""
        head = head_bytes(status, [*headers.items(), ("transfer-encoding", "chunked")])
        self._answer = [head, *(chunk(piece) for piece in pieces if piece), *([LAST_CHUNK] if keep else [])]
        self._keep = keep

    def hangs_up(self) -> None:
        """No answer at all."""
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
        """Answers at `url` as long as this lasts."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()
