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
* `<case>.json` for each of `ERRORS`: `{"status": ..., "headers": {...}, "body": ...}`. `error_rate_limited` asks to
  wait for 7 seconds, `error_auth` repeats the key, which is `KEY`;
* `contract.json`: `options`, the keys of an entry of `models:` besides `provider`, `base_url` and `api_key`; `lacks`,
  what the vendor cannot do (a case, or one of `FACTS`) and why, for which then no file is wanted; `after_end`, how
  many events may be missing at the end of a stream without loss. With `"wire": false` there is no server: *connect*
  makes a model of each file, the same for plain and streamed answers.

A server on loopback plays the files, the provider asks it through its SDK, and the checks compare. They raise
AssertionError, with the check's name and both values.
"""

from __future__ import annotations

import asyncio
import copy
import json
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from modelhub.core.errors import BadReply, CallError, ConnectionLost, StreamBroken
from modelhub.core.model import ChatModelBase
from modelhub.core.response import ChatResponse
from modelhub.core.stream import ChatStream
from modelhub.registry import load_provider_options
from modelhub.testing.contract_cases import (
    ANSWERS,
    CALLS,
    DATA,
    ERRORS,
    FACTS,
    KEY,
    QUESTION,
    REFUSAL,
    TEXT,
    THOUGHT,
    TOOL,
    USAGE,
    Timetable,
    assert_equal,
    assert_same_reply,
    assert_true,
    check_answer,
)
from modelhub.testing.contract_files import Fixtures, FixtureServer

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

_EMPTY_HANDED = (BadReply, ConnectionLost)
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
    contract = _Contract(kind, Fixtures(Path(fixtures)), connect)
    return [Check(f"{kind}-{name}", run) for name, run in contract.checks()]


# -- the checks --------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Contract:
    kind: str
    fixtures: Fixtures
    connect: Connect | None
    server: FixtureServer = field(default_factory=FixtureServer)

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
        problems = self.fixtures.find_problems()
        assert_true(not problems, f"the fixtures of `{self.kind}`: {'; '.join(problems)}")

    # What is asked, and of whom.

    @asynccontextmanager
    async def _asking(self, fixture: str = "") -> AsyncIterator[ChatModelBase]:
        """Serve, and give a model that asks the server, or one that *connect* makes for the text *fixture*."""
        self.server = FixtureServer()
        async with self.server.running():
            if self.connect is not None:
                model = self.connect(Served(self.server.url, fixture))
            else:
                cls = load_provider_options(self.kind)
                entry = {"provider": self.kind, "base_url": self.server.url, **self.fixtures.settings["options"]}
                if "api_key" in cls.model_fields:
                    entry["api_key"] = KEY
                options = cls.model_validate(entry)
                model = options.connect()
                for shown in (repr(options), str(options), options.model_dump_json(), repr(model), str(vars(model))):
                    assert_true(KEY not in shown, f"the key is shown: {shown}")
            try:
                yield model
            finally:
                if (close := getattr(model, "aclose", None)) is not None:
                    await close()

    def _serve(self, case: str, *, streamed: bool) -> None:
        """Let the server give the answer of *case*."""
        events, content_type = (
            self.fixtures.events(case) if streamed else ([self.fixtures.read(case)], "application/json")
        )
        self.server.set_answer(200, {"content-type": content_type}, *(event.encode() for event in events))

    async def _ask(
        self, model: ChatModelBase, *, streamed: bool, case: str = "text", messages: Sequence[Any] | None = None
    ) -> list[ChatResponse]:
        """Return every snapshot of the answer; a plain answer is the only one."""
        conversation: list[Any] = list(messages or [{"role": "user", "content": QUESTION}])
        before, asked = copy.deepcopy(conversation), len(self.server.bodies)
        more: dict[str, Any] = {"tools": [TOOL]} if case in ("tool", "parallel") else {}
        if case == "structured":
            more["structured_model"] = Timetable
        try:
            reply = await model(conversation, stream=streamed, **more)
            snapshots = [snapshot async for snapshot in reply] if isinstance(reply, ChatStream) else [reply]
        finally:
            assert_equal("the caller's messages", conversation, before)
            if self.fixtures.wire:
                assert_equal("requests for one call", len(self.server.bodies) - asked, 1)
        for snapshot in snapshots:
            assert_true(isinstance(snapshot, ChatResponse), f"a ChatResponse: {snapshot!r}")
            assert_true(KEY not in repr(snapshot), "the key is shown in a reply")
            assert_equal("restarts", snapshot.restarts, 0)
            json.dumps(snapshot)
        return snapshots

    # Answers.

    async def _answer(self, case: str, *, streamed: bool) -> list[ChatResponse]:
        text = self.fixtures.stream(case)[0] if streamed else self.fixtures.read(case)
        async with self._asking(text) as model:
            self._serve(case, streamed=streamed)
            return await self._ask(model, streamed=streamed, case=case)

    async def _plain(self, case: str) -> None:
        (reply,) = await self._answer(case, streamed=False)
        check_answer(case, reply, self.fixtures.lacks)
        assert_equal("is_last", reply.is_last, True)
        assert_equal("delta", reply.delta, reply.text)
        assert_equal("outcomes", [attempt["outcome"] for attempt in reply.attempts], ["ok"])
        assert_equal("provider", [attempt["provider"] for attempt in reply.attempts], [self.kind])
        assert_true(reply.id and reply.created_at, "a reply has an id and an hour")
        if "usage" not in self.fixtures.lacks:
            assert_true(reply.usage is not None and not reply.usage["estimated"], "a reply has the vendor's usage")

    async def _streamed(self, case: str) -> None:
        (plain,) = await self._answer(case, streamed=False)
        snapshots = await self._answer(case, streamed=True)
        last = snapshots[-1]
        check_answer(case, last, self.fixtures.lacks)
        assert_same_reply(last, plain, by_id=plain.id in self.fixtures.read(case))
        assert_equal("is_last", [snapshot.is_last for snapshot in snapshots], [False] * (len(snapshots) - 1) + [True])
        assert_equal("deltas", "".join(snapshot.delta for snapshot in snapshots), last.text)
        for before, after in pairwise(snapshots):
            assert_true(after.text.startswith(before.text), f"snapshots grow: {before.text!r}, {after.text!r}")
            assert_true(after.thinking.startswith(before.thinking), "snapshots grow in thinking")
        if case == "text":
            assert_true(len(snapshots) > 2, f"text in pieces gives several snapshots, not {len(snapshots)}")

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
            assert_equal("the text", answer.text, TEXT)
            for call in CALLS if self.fixtures.wire else ():
                sent = self.server.bodies[-1].decode()
                assert_equal(f"times that `{_result(call)}` is sent", sent.count(_result(call)), 1)
                assert_true(sent.count(call["name"]) > len(CALLS), "the calls are sent, and the tool")

    # Failures.

    async def _fails(self, model: ChatModelBase, *, streamed: bool) -> CallError:
        """The call's failure, with the model's name on it and no secret in it."""
        try:
            snapshots = await self._ask(model, streamed=streamed)
        except CallError as error:
            shown = "".join(traceback.format_exception(error)) + repr(error) + json.dumps(error.attempts)
            assert_true(KEY not in shown, f"the key is shown: {shown}")
            assert_true(QUESTION not in shown, f"the question is shown: {shown}")
            assert_equal("error.provider", error.provider, self.kind)
            assert_equal("error.model", error.model, model.model_name)
            return error
        raise AssertionError(f"nothing is raised: {snapshots[-1]!r}")

    async def _error(self, case: str, *, streamed: bool) -> None:
        text = self.fixtures.read(case)
        fixture = json.loads(text)
        async with self._asking(text) as model:
            body = fixture.get("body")
            data = body if isinstance(body, str) else json.dumps(body)
            headers = {"content-type": "application/json", **fixture.get("headers", {})}
            self.server.set_answer(fixture.get("status", 200), headers, data.encode())
            error = await self._fails(model, streamed=streamed)
        assert_equal("the class", type(error).__name__, ERRORS[case].__name__)
        assert_equal("status", error.status, fixture.get("status"))
        assert_equal("retry_after", error.retry_after, 7.0 if case == "error_rate_limited" else None)
        assert_true(str(error), "an error says what happened")

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
                self.server.set_answer(200, {"content-type": content_type}, *pieces)
                assert_same_reply((await self._ask(model, streamed=True, case="parallel"))[-1], plain, by_id=False)

    async def _cut(self) -> None:
        """A stream without its end is never a success, whether the connection ends in order or breaks."""
        events, content_type = self.fixtures.events("text")
        complete_count = len(events) - int(self.fixtures.settings.get("after_end", 0))
        broken = 0
        async with self._asking() as model:
            for count in range(len(events)):
                for keep in (True, False):
                    pieces = [event.encode() for event in events[:count]]
                    self.server.set_answer(200, {"content-type": content_type}, *pieces, keep=keep)
                    if count >= complete_count:
                        assert_equal("the text", (await self._ask(model, streamed=True))[-1].text, TEXT)
                        continue
                    error = await self._fails(model, streamed=True)
                    assert_true(isinstance(error, (StreamBroken, *_EMPTY_HANDED)), f"after {count} events: {error!r}")
                    if isinstance(error, StreamBroken):
                        _check_partial(error)
                        broken += 1
        assert_true(broken, "a stream that is cut after its first content is a StreamBroken")

    async def _no_answer(self, pieces: Sequence[bytes], *, streamed: bool) -> None:
        async with self._asking() as model:
            content_type = "text/html" if pieces else "application/json"
            self.server.set_answer(200, {"content-type": content_type}, *pieces)
            error = await self._fails(model, streamed=streamed)
            assert_true(isinstance(error, _EMPTY_HANDED), f"an answer without content: {error!r}")

    async def _hung_up(self) -> None:
        async with self._asking() as model:
            for streamed in (False, True):
                self.server.set_no_answer()
                error = await self._fails(model, streamed=streamed)
                assert_equal("the class", type(error).__name__, "ConnectionLost")


def _result(call: Mapping[str, Any]) -> str:
    return f"{call['input']['seats']} seats at 07:15"


def _check_partial(error: CallError) -> None:
    assert_equal("the class", type(error).__name__, "StreamBroken")
    partial_text = error.partial.text if isinstance(error, StreamBroken) and error.partial is not None else ""
    assert_true(partial_text and TEXT.startswith(partial_text), f"the partial answer: {partial_text!r}")
