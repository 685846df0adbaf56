"""One exchange with a model: the answer is printed as it comes, and the tools that it calls are run."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelhub.cli.call_trace import CallTrace
from modelhub.cli.chat.screen import Progress, Screen, format_summary
from modelhub.cli.chat.tools import ToolFunction
from modelhub.cli.options import load_hub
from modelhub.cli.output import make_line, print_json, print_lines
from modelhub.cli.report import fail_usage
from modelhub.core.context import Services
from modelhub.core.response import ChatResponse
from modelhub.core.stream import ChatStream
from modelhub.hub import Hub
from modelhub.logs import LogObserver

__all__ = ["AnswerStyle", "ChatSession"]

_MAX_ROUNDS = 20
"""How often tools are run for one message."""
_MAX_RESULT_CHARS = 200
"""How much of what a tool returned is shown."""


@dataclass(frozen=True, slots=True)
class AnswerStyle:
    """How an answer is shown: whether it *streams*, appears *live*, with its *thinking*, or as *json*."""

    streams: bool = True
    live: bool = False
    thinking: bool = False
    json: bool = False


@dataclass
class ChatSession:
    """Messages to a model, and its answers."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    tools: list[ToolFunction] = field(default_factory=list)
    style: AnswerStyle = AnswerStyle()
    profile: str | None = None
    messages: list[dict[str, Any]] = field(default_factory=list)
    trace: CallTrace = field(default_factory=CallTrace)

    def __post_init__(self) -> None:
        self._progress = Progress(is_shown=not self.style.json)

    def open_hub(self, file: Path | None) -> Hub:
        """Return the hub of *file*, whose calls are followed here."""
        services = Services(observers=(LogObserver(), self.trace, self._progress))
        return load_hub(file, self.profile, services=services)

    def add_message(self, text: str, images: list[Path]) -> None:
        """Add a user message of *text* and of the pictures in the files *images*.

        Exits with a usage error if one of them is missing.
        """
        if not images:
            self.messages.append({"role": "user", "content": text})
            return
        for path in images:
            if not path.is_file():
                fail_usage(f"{path} is not a file", "--image")
        parts = [{"type": "image", "source": {"type": "path", "path": str(path)}} for path in images]
        self.messages.append({"role": "user", "content": [{"type": "text", "text": text}, *parts]})

    async def answer(self, hub: Hub) -> None:
        """Ask for the answer to the messages so far, print it, and add it to them; the same after each call of a tool.

        Raises CallError.
        """
        for _ in range(_MAX_ROUNDS):
            self.trace.clear()
            reply = await self._ask(hub)
            self.messages.append({"role": "assistant", "content": list(reply.content)})
            results = [await self._run_tool(call) for call in reply.tool_calls if self.tools]
            self.messages += results
            if not results:
                return

    async def _ask(self, hub: Hub) -> ChatResponse:
        """Make one call and print its answer; of a call that is interrupted, what has come so far."""
        options = self.options | ({"tools": [tool.description for tool in self.tools]} if self.tools else {})
        started = time.monotonic()
        self._progress.start(self.name)
        last: list[ChatResponse] = []
        try:
            call = hub.get(self.name)(self.messages, stream=self.style.streams, **options)
            reply = await self._print_reply(await call, last)
        except asyncio.CancelledError:
            if last:
                self._print_summary(last[0], time.monotonic() - started)
            raise
        finally:
            self._progress.stop()
        if self.style.json:
            print_json(reply)
        else:
            self._print_summary(reply, time.monotonic() - started)
        return reply

    async def _print_reply(self, reply: ChatResponse | ChatStream, last: list[ChatResponse]) -> ChatResponse:
        """Print the answer as it arrives, and return the complete one; *last* holds what has come until then."""
        if isinstance(reply, ChatResponse) and self.style.json:
            return reply
        screen = Screen(self.trace, thinking=self.style.thinking, live=self.style.live)
        try:
            async for snapshot in _snapshots(reply):
                if not last:
                    self._progress.stop()
                last[:] = [snapshot]
                screen.show(snapshot)
        except BaseException:
            screen.end_line()
            raise
        screen.finish()
        return last[0]

    def _print_summary(self, reply: ChatResponse, seconds: float) -> None:
        print_lines(*format_summary(reply, self.trace, seconds, streamed=self.style.streams), err=True)

    async def _run_tool(self, call: dict[str, Any]) -> dict[str, Any]:
        """Run the tool that *call* names, print its result, and return the message that has it."""
        tool = next((tool for tool in self.tools if tool.name == call["name"]), None)
        if "error" in call or tool is None:
            result = str(call.get("error") or f"there is no tool {call['name']}")
        else:
            result = await tool.run(call["input"])
        if not self.style.json:
            line = " ".join(result.split())
            shown = line if len(line) <= _MAX_RESULT_CHARS else f"{line[:_MAX_RESULT_CHARS]}..."
            print_lines(make_line("  ", (f"{call['name']} returned {shown}", "dim")), err=True)
        return {"role": "tool", "tool_call_id": call["id"], "content": result}


async def _snapshots(reply: ChatResponse | ChatStream) -> AsyncIterator[ChatResponse]:
    """Yield the snapshots of a stream, the last of which is the complete answer; of a plain reply, itself."""
    if isinstance(reply, ChatResponse):
        yield reply
        return
    async with reply:
        async for snapshot in reply:
            yield snapshot
