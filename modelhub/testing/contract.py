"""What every provider must do, as checks over recorded answers: for the built-in ones, and for yours.

A provider keeps the contract if the same question gives the same `ChatResponse`, the same snapshots and the same errors
as with every other one. You write down, in your vendor's own form, answers whose contents are given here (`TEXT`,
`THOUGHT`, `CALLS`, `DATA`, ...), one file for each case and way of answering, and run the checks in your own tests:

    from modelhub.testing.contract import provider_contract

    @pytest.mark.parametrize("check", provider_contract("acme", Path(__file__).parent / "fixtures"), ids=str)
    async def test_contract(check):
        await check()

The folder holds:

* `<case>.json`: the body of a plain answer, for each of `ANSWERS`;
* `<case>.sse` or `<case>.ndjson`: the same answer streamed; its text in several pieces;
* `broken.sse` or `broken.ndjson`: a stream that begins with `TEXT` and then tells of an error, as the vendor does;
* `<case>.json` for each of `ERRORS`: `{"status": ..., "headers": {...}, "body": ...}`. `error_rate_limited` asks to wait
  for 7 seconds, `error_auth` repeats the key, which is `KEY`;
* `contract.json`: `options`, the keys of an entry of `models:` besides `provider`, `base_url` and `api_key`; `lacks`, what
  the vendor cannot do (a case, or one of `FACTS`) and why, for which then no file is wanted; `after_end`, how many
  events may be missing at the end of a stream without loss. With `"wire": false` there is no server: the files are
  what *connect* makes a model of, the same for plain and streamed answers.

A server on loopback plays the files, the provider asks it through its SDK, and the checks compare. They raise
AssertionError, with the check's name and both values.
"""

from __future__ import annotations

import asyncio
import copy
import json
import re
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from modelhub import errors
from modelhub.errors import CallError, StreamBroken
from modelhub.model import ChatModelBase
from modelhub.registry import provider_options
from modelhub.response import Block, ChatResponse

__all__ = [
    "ANSWERS",
    "CALLS",
    "DATA",
    "ERRORS",
    "FACTS",
    "KEY",
    "QUESTION",
    "REFUSAL",
    "TEXT",
    "THOUGHT",
    "TOOL",
    "USAGE",
    "Check",
    "Served",
    "Timetable",
    "provider_contract",
]

KEY = "key-of-the-contract-0001"
"""The API key that the provider is given; no error, record or repr may show it."""
QUESTION = "When does the ferry to the island leave, and is there room for two?"
"""What is asked."""
TEXT = "The ferry to Ærø leaves at seven."
"""The text of every answer that has one in full."""
THOUGHT = "The timetable of the harbour says seven."
"""What the model of `thinking` thinks before it says `TEXT`."""
REFUSAL = "I cannot help with that."
"""What the model of `refusal` says."""
CALLS: tuple[Block, ...] = (
    {"id": "call_1", "name": "find_ferry", "input": {"harbour": "Søby", "seats": 2}},
    {"id": "call_2", "name": "find_ferry", "input": {"harbour": "Faaborg", "seats": 1}},
)
"""The calls of `parallel`; the first one alone is that of `tool`."""
DATA = {"harbour": "Søby", "hours": [7, 12]}
"""The answer of `structured`, which fits `Timetable`."""
USAGE = {
    "input_tokens": 120,
    "output_tokens": 45,
    "cache_read_tokens": 30,
    "cache_write_tokens": 10,
    "reasoning_tokens": 25,
}
"""The counts of `usage`: totals, and the parts in them."""
TOOL = {
    "type": "function",
    "function": {
        "name": "find_ferry",
        "description": "Find the next ferry with room.",
        "parameters": {
            "type": "object",
            "properties": {"harbour": {"type": "string"}, "seats": {"type": "integer"}},
            "required": ["harbour", "seats"],
        },
    },
}
"""The tool that is offered."""


class Timetable(BaseModel):
    """The structure that is asked for."""

    harbour: str
    hours: list[int]


ANSWERS: dict[str, str] = {
    "text": "`TEXT`, and the finish reason stop",
    "usage": "`TEXT`, with the counts of `USAGE`",
    "thinking": "`THOUGHT`, then `TEXT`",
    "tool": "the first of `CALLS`",
    "parallel": "both `CALLS`",
    "structured": "`DATA`, the way this provider asks for it",
    "length": "the beginning of `TEXT`, cut off by the limit of tokens",
    "content_filter": "the beginning of `TEXT` or nothing, cut off by a filter",
    "refusal": "`REFUSAL`",
}
"""Every case that is answered, and with what."""

ERRORS: dict[str, type[CallError]] = {
    "error_auth": errors.AuthenticationFailed,
    "error_not_found": errors.ModelNotFound,
    "error_rate_limited": errors.RateLimited,
    "error_quota": errors.QuotaExhausted,
    "error_overloaded": errors.Overloaded,
    "error_server": errors.ServerError,
    "error_context": errors.ContextTooLong,
    "error_blocked": errors.ContentBlocked,
    "error_invalid": errors.InvalidRequest,
}
"""Every case that fails, and what it is."""

FACTS: dict[str, str] = {
    "call_ids": "calls have ids of the vendor's; else they are made, and only must be there",
    "model_name": "answers name the vendor's model",
    "cache_read_tokens": "usage tells them",
    "cache_write_tokens": "usage tells them",
    "reasoning_tokens": "usage tells them",
}
"""What else a vendor may lack."""

_STREAMS = {".sse": "text/event-stream", ".ndjson": "application/x-ndjson"}
_EMPTY_HANDED = (errors.BadReply, errors.ConnectionLost)
_PATIENCE = 20.0


@dataclass(frozen=True, slots=True)
class Served:
    """What a model is made for: the address that it asks, or, without a server, the fixture's text."""

    url: str
    fixture: str


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that a provider must do: await it. Its text form is a name for the test."""

    name: str
    run: Callable[[], Awaitable[None]]

    async def __call__(self) -> None:
        """Raises AssertionError if the provider does not do it."""
        await asyncio.wait_for(self.run(), _PATIENCE)

    def __str__(self) -> str:
        return self.name


Connect = Callable[[Served], ChatModelBase]


def provider_contract(kind: str, fixtures: str | Path, connect: Connect | None = None) -> list[Check]:
    """The checks for the provider *kind*, over the folder *fixtures*, as the module's text describes it.

    *connect* makes the model that is asked; without it, the model is made as from a file: from the options class that
    is registered under *kind*, with `contract.json`'s `options`.

    Files that are missing or not wanted fail the first check, `fixtures`, by their names, and those that need them.
    """
    contract = _Contract(kind, _Fixtures(Path(fixtures)), connect)
    return [Check(f"{kind}-{name}", run) for name, run in contract.checks()]


# -- the folder --------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Fixtures:
    folder: Path
    about: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        path = self.folder / "contract.json"
        self.about = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    @property
    def lacks(self) -> Mapping[str, str]:
        return self.about.get("lacks") or {}

    @property
    def wire(self) -> bool:
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
        return (self.folder / f"{case}.json").read_text(encoding="utf-8")

    def stream(self, case: str) -> tuple[str, str]:
        """The text of a stream, and its content type."""
        if not self.wire:
            return self.read(case), ""
        found = [suffix for suffix in _STREAMS if (self.folder / f"{case}{suffix}").exists()]
        _agree(f"files for the stream {case}", len(found), 1)
        data = (self.folder / f"{case}{found[0]}").read_bytes()  # as bytes: line ends are the vendor's
        return data.decode(), _STREAMS[found[0]]

    def events(self, case: str) -> tuple[list[str], str]:
        """The stream's events or lines, and its content type."""
        text, content_type = self.stream(case)
        end = r"(?<=\n\n)|(?<=\n\r\n)" if "event" in content_type else r"(?<=\n)"
        return [piece for piece in re.split(end, text) if piece], content_type


# -- the server --------------------------------------------------------------------------------------------------------


class _Server:
    """Answers every request with what it was told last, and keeps the requests' bodies."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.url = ""
        self._answer: list[bytes] = []
        self._keep = True

    def answers(self, status: int, headers: Mapping[str, str], *pieces: bytes, keep: bool = True) -> None:
        """An answer in *pieces*; with *keep* false the connection breaks after them."""
        lines = [f"HTTP/1.1 {status} -", *(f"{name}: {value}" for name, value in headers.items())]
        head = "\r\n".join([*lines, "transfer-encoding: chunked", "", ""]).encode()
        chunks = [b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces if piece]
        self._answer, self._keep = [head, *chunks, *([b"0\r\n\r\n"] if keep else [])], keep

    def hangs_up(self) -> None:
        """No answer at all."""
        self._answer, self._keep = [], False

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin1").lower()
                length = re.search(r"\r\ncontent-length: *(\d+)", head)
                self.bodies.append(await reader.readexactly(int(length[1]) if length else 0))
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
    async def running(self) -> AsyncIterator[_Server]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()


# -- the checks --------------------------------------------------------------------------------------------------------


def _agree(what: str, found: object, wanted: object) -> None:
    if found != wanted:
        raise AssertionError(f"{what}: {found!r}, not {wanted!r}")


def _demand(holds: object, what: str) -> None:
    if not holds:
        raise AssertionError(what)


@dataclass(slots=True)
class _Contract:
    kind: str
    fixtures: _Fixtures
    connect: Connect | None
    server: _Server = field(default_factory=_Server)

    def checks(self) -> Iterator[tuple[str, Callable[[], Awaitable[None]]]]:
        lacks, wire = self.fixtures.lacks, self.fixtures.wire
        yield "fixtures", self._folder
        for case in ANSWERS:
            if case not in lacks:
                yield f"{case}-plain", partial(self._plain, case)
                yield f"{case}-streamed", partial(self._streamed, case)
        yield "round_trip", self._round_trip
        for case in ERRORS:
            if case not in lacks:
                yield f"{case}-plain", partial(self._error, case, streamed=False)
                yield f"{case}-streamed", partial(self._error, case, streamed=True)
        yield "broken", self._broken
        if wire:
            yield "in_small_pieces", self._in_small_pieces
            yield "cut", self._cut
            for name, pieces in (("empty", ()), ("html", (b"<html><body>Welcome</body></html>",))):
                yield f"{name}-plain", partial(self._no_answer, pieces, streamed=False)
                yield f"{name}-streamed", partial(self._no_answer, pieces, streamed=True)
            yield "hung_up", self._hung_up

    async def _folder(self) -> None:
        problems = self.fixtures.problems()
        _demand(not problems, f"the fixtures of `{self.kind}`: {'; '.join(problems)}")

    # What is asked, and of whom.

    def _model(self, fixture: str) -> ChatModelBase:
        if self.connect is not None:
            return self.connect(Served(self.server.url, fixture))
        cls = provider_options(self.kind)
        entry: dict[str, Any] = {"provider": self.kind, "base_url": self.server.url, **self.fixtures.about["options"]}
        if "api_key" in cls.model_fields:
            entry["api_key"] = KEY
        options = cls.model_validate(entry)
        model: ChatModelBase = options.connect()
        for shown in (repr(options), str(options), options.model_dump_json(), repr(model), str(vars(model))):
            _demand(KEY not in shown, f"the key is shown: {shown}")
        return model

    @asynccontextmanager
    async def _asking(self, fixture: str = "") -> AsyncIterator[ChatModelBase]:
        self.server = _Server()
        async with self.server.running():
            model = self._model(fixture)
            try:
                yield model
            finally:
                if (close := getattr(model, "aclose", None)) is not None:
                    await close()

    def _serve(self, case: str, *, streamed: bool) -> str:
        """Tell the server the answer of *case*; gives its text."""
        if streamed:
            events, content_type = self.fixtures.events(case)
            self.server.answers(200, {"content-type": content_type}, *(event.encode() for event in events))
            return "".join(events)
        text = self.fixtures.read(case)
        self.server.answers(200, {"content-type": "application/json"}, text.encode())
        return text

    async def _ask(
        self, model: ChatModelBase, *, streamed: bool, case: str = "text", messages: Sequence[Any] | None = None
    ) -> list[ChatResponse]:
        """Every snapshot of the answer; a plain answer is the only one."""
        told: list[Any] = list(messages or [{"role": "user", "content": QUESTION}])
        before, asked = copy.deepcopy(told), len(self.server.bodies)
        more: dict[str, Any] = {"tools": [TOOL]} if case in ("tool", "parallel") else {}
        if case == "structured":
            more["structured_model"] = Timetable
        try:
            reply = await model(told, stream=streamed, **more)
            found = [snapshot async for snapshot in reply] if streamed else [reply]
        finally:
            _agree("the caller's messages", told, before)
            if self.fixtures.wire:
                _agree("requests for one call", len(self.server.bodies) - asked, 1)
        for snapshot in found:
            self._check_snapshot(snapshot)
        return found

    def _check_snapshot(self, snapshot: ChatResponse) -> None:
        _demand(isinstance(snapshot, ChatResponse), f"a ChatResponse: {snapshot!r}")
        _demand(KEY not in repr(snapshot), "the key is shown in a reply")
        _agree("restarts", snapshot.restarts, 0)
        json.dumps(snapshot)

    # Answers.

    async def _answer(self, case: str, *, streamed: bool) -> list[ChatResponse]:
        text = self.fixtures.stream(case)[0] if streamed else self.fixtures.read(case)
        async with self._asking(text) as model:
            self._serve(case, streamed=streamed)
            return await self._ask(model, streamed=streamed, case=case)

    async def _plain(self, case: str) -> None:
        (reply,) = await self._answer(case, streamed=False)
        _CASES[case](reply, self.fixtures.lacks)
        _agree("is_last", reply.is_last, True)
        _agree("delta", reply.delta, reply.text)
        _agree("outcomes", [attempt["outcome"] for attempt in reply.attempts], ["ok"])
        _agree("provider", [attempt["provider"] for attempt in reply.attempts], [self.kind])
        _demand(reply.id and reply.created_at, "a reply has an id and an hour")
        if case != "usage" and "usage" in self.fixtures.lacks:
            return
        _demand(reply.usage is not None and not reply.usage["estimated"], "a reply has the vendor's usage")

    async def _streamed(self, case: str) -> None:
        (plain,) = await self._answer(case, streamed=False)
        snapshots = await self._answer(case, streamed=True)
        last = snapshots[-1]
        _CASES[case](last, self.fixtures.lacks)
        _same(last, plain, by_id=plain.id in self.fixtures.read(case))
        _agree("is_last", [one.is_last for one in snapshots], [False] * (len(snapshots) - 1) + [True])
        _agree("deltas", "".join(one.delta for one in snapshots), last.text)
        for before, after in zip(snapshots, snapshots[1:], strict=False):
            _demand(after.text.startswith(before.text), f"snapshots grow: {before.text!r}, {after.text!r}")
            _demand(after.thinking.startswith(before.thinking), "snapshots grow in thinking")
        if case == "text":
            _demand(len(snapshots) > 2, f"text in pieces gives several snapshots, not {len(snapshots)}")

    async def _round_trip(self) -> None:
        """The reply is the next message; its calls are answered, and the answers reach the vendor."""
        (reply,) = await self._answer("parallel", streamed=False)
        messages: list[Any] = [
            {"role": "user", "content": QUESTION},
            {"role": "assistant", "content": reply.content},
            *({"role": "tool", "tool_call_id": call["id"], "content": _result(call)} for call in reply.tool_calls),
        ]
        async with self._asking(self.fixtures.read("text")) as model:
            self._serve("text", streamed=False)
            (answer,) = await self._ask(model, streamed=False, case="parallel", messages=messages)
            _agree("the text", answer.text, TEXT)
            for call in CALLS if self.fixtures.wire else ():
                sent = json.dumps(json.loads(self.server.bodies[-1]), ensure_ascii=False)
                _agree(f"times that `{_result(call)}` is sent", sent.count(_result(call)), 1)
                _demand(call["input"]["harbour"] in sent.replace("\\\\u00f8", "ø"), f"the call is sent: {call}")

    # Failures.

    async def _fails(self, model: ChatModelBase, *, streamed: bool) -> CallError:
        """The call's failure, with the model's name on it and no secret in it."""
        try:
            found = await self._ask(model, streamed=streamed)
        except CallError as error:
            shown = "".join(traceback.format_exception(error)) + repr(error) + json.dumps(error.attempts)
            _demand(KEY not in shown, f"the key is shown: {shown}")
            _demand(QUESTION not in shown, f"the question is shown: {shown}")
            _agree("error.provider", error.provider, self.kind)
            _agree("error.model", error.model, model.model_name)
            return error
        raise AssertionError(f"nothing is raised: {found[-1]!r}")

    async def _error(self, case: str, *, streamed: bool) -> None:
        text = self.fixtures.read(case)
        fixture = json.loads(text)
        async with self._asking(text) as model:
            body = fixture.get("body")
            data = body if isinstance(body, str) else json.dumps(body)
            headers = {"content-type": "application/json", **fixture.get("headers", {})}
            self.server.answers(fixture.get("status", 200), headers, data.encode())
            error = await self._fails(model, streamed=streamed)
        _agree("the class", type(error).__name__, ERRORS[case].__name__)
        _agree("status", error.status, fixture.get("status"))
        _agree("retry_after", error.retry_after, 7.0 if case == "error_rate_limited" else None)
        _demand(str(error), "an error says what happened")

    async def _broken(self) -> None:
        """A stream that fails after its first content keeps what had come."""
        text, _ = self.fixtures.stream("broken")
        async with self._asking(text) as model:
            self._serve("broken", streamed=True)
            _check_partial(await self._fails(model, streamed=True))

    async def _in_small_pieces(self) -> None:
        """However the network cuts a stream, the answer is the same."""
        (plain,) = await self._answer("parallel", streamed=False)
        text, content_type = self.fixtures.stream("parallel")
        async with self._asking() as model:
            for size in (1, 7):
                data = text.encode()
                pieces = [data[start : start + size] for start in range(0, len(data), size)]
                self.server.answers(200, {"content-type": content_type}, *pieces)
                _same((await self._ask(model, streamed=True, case="parallel"))[-1], plain, by_id=False)

    async def _cut(self) -> None:
        """A stream without its end is never a success, whether the connection ends in order or breaks."""
        events, content_type = self.fixtures.events("text")
        whole = len(events) - int(self.fixtures.about.get("after_end", 0))
        broken = 0
        async with self._asking() as model:
            for count in range(len(events)):
                for keep in (True, False):
                    pieces = [event.encode() for event in events[:count]]
                    self.server.answers(200, {"content-type": content_type}, *pieces, keep=keep)
                    if count >= whole:
                        _agree("the text", (await self._ask(model, streamed=True))[-1].text, TEXT)
                        continue
                    error = await self._fails(model, streamed=True)
                    _demand(isinstance(error, (StreamBroken, *_EMPTY_HANDED)), f"after {count} events: {error!r}")
                    if isinstance(error, StreamBroken):
                        _check_partial(error)
                        broken += 1
        _demand(broken, "a stream that is cut after its first content is a StreamBroken")

    async def _no_answer(self, pieces: Sequence[bytes], *, streamed: bool) -> None:
        async with self._asking() as model:
            content_type = "text/html" if pieces else "application/json"
            self.server.answers(200, {"content-type": content_type}, *pieces)
            error = await self._fails(model, streamed=streamed)
            _demand(isinstance(error, _EMPTY_HANDED), f"an answer without content: {error!r}")

    async def _hung_up(self) -> None:
        async with self._asking() as model:
            for streamed in (False, True):
                self.server.hangs_up()
                error = await self._fails(model, streamed=streamed)
                _agree("the class", type(error).__name__, "ConnectionLost")


def _result(call: Mapping[str, Any]) -> str:
    return f"{call['input']['seats']} seats at 07:15"


def _check_partial(error: CallError) -> None:
    _agree("the class", type(error).__name__, "StreamBroken")
    partial_text = error.partial.text if isinstance(error, StreamBroken) and error.partial is not None else ""
    _demand(partial_text and TEXT.startswith(partial_text), f"the partial answer: {partial_text!r}")


def _told(reply: ChatResponse) -> dict[str, Any]:
    """What must be the same, plain or streamed: not what is made up, nor how arguments were spaced."""
    made = ("id", "raw_input")
    blocks = [{key: value for key, value in block.items() if key not in made} for block in reply.content]
    usage = {**reply.usage, "time": 0.0} if reply.usage is not None else None
    return {
        "content": blocks,
        "usage": usage,
        "metadata": reply.metadata,
        "finish_reason": reply.finish_reason,
        "model_name": reply.model_name,
        "model": reply.model,
        "requested": reply.requested,
    }


def _same(last: ChatResponse, plain: ChatResponse, *, by_id: bool) -> None:
    found, wanted = _told(last), _told(plain)
    for key, value in wanted.items():
        _agree(f"{key} of the last snapshot", found[key], value)
    if by_id:
        _agree("id of the last snapshot", last.id, plain.id)


# -- what each answer must be ------------------------------------------------------------------------------------------

_Lacks = Mapping[str, str]


def _is_text(reply: ChatResponse, lacks: _Lacks) -> None:
    _agree("the kinds of blocks", [block["type"] for block in reply.content], ["text"])
    _agree("the text", reply.text, TEXT)
    _agree("finish_reason", reply.finish_reason, "stop")
    if "model_name" not in lacks:
        _demand(reply.model_name, "the reply names the vendor's model")


def _is_usage(reply: ChatResponse, lacks: _Lacks) -> None:
    _is_text(reply, lacks)
    for name, count in USAGE.items():
        _agree(name, reply.usage[name] if reply.usage else None, 0 if name in lacks else count)
    _agree("total_tokens", reply.usage and reply.usage.total_tokens, 165)


def _is_thinking(reply: ChatResponse, lacks: _Lacks) -> None:  # noqa: ARG001 - one form for the table
    _agree("the kinds of blocks", [block["type"] for block in reply.content], ["thinking", "text"])
    _agree("the thinking", reply.thinking, THOUGHT)
    _agree("the text", reply.text, TEXT)


def _is_calls(reply: ChatResponse, lacks: _Lacks, count: int) -> None:
    _agree("the kinds of blocks", [block["type"] for block in reply.content], ["tool_use"] * count)
    for found, wanted in zip(reply.tool_calls, CALLS, strict=False):
        _agree("the call", (found["name"], found["input"]), (wanted["name"], wanted["input"]))
        _agree("raw_input", json.loads(found["raw_input"]), wanted["input"])
        if "call_ids" not in lacks:
            _agree("the call's id", found["id"], wanted["id"])
    ids = {call["id"] for call in reply.tool_calls}
    _demand(len(ids) == count and all(ids), f"every call has an id of its own: {ids}")
    _agree("finish_reason", reply.finish_reason, "tool_calls")


def _is_structured(reply: ChatResponse, lacks: _Lacks) -> None:  # noqa: ARG001 - one form for the table
    _agree("metadata", reply.metadata, DATA)


def _ends(reason: str, text: str | None = None) -> Callable[[ChatResponse, _Lacks], None]:
    def check(reply: ChatResponse, lacks: _Lacks) -> None:  # noqa: ARG001 - one form for the table
        _agree("finish_reason", reply.finish_reason, reason)
        _demand((text or TEXT).startswith(reply.text), f"the text: {reply.text!r}")
        _demand(text is None or text == reply.text, f"the text: {reply.text!r}, not {text!r}")

    return check


_CASES: dict[str, Callable[[ChatResponse, _Lacks], None]] = {
    "text": _is_text,
    "usage": _is_usage,
    "thinking": _is_thinking,
    "tool": partial(_is_calls, count=1),
    "parallel": partial(_is_calls, count=2),
    "structured": _is_structured,
    "length": _ends("length"),
    "content_filter": _ends("content_filter"),
    "refusal": _ends("refusal", REFUSAL),
}
