"""`modelhub chat`: ask a model or a chain from the terminal."""

from __future__ import annotations

import asyncio
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelhub.cli.options import AsJson, ConfigFile, Name
from modelhub.cli.report import reported, usage_error

if TYPE_CHECKING:
    from modelhub.cli.call_trace import CallTrace
    from modelhub.cli.screen import Screen
    from modelhub.core.response import ChatResponse
    from modelhub.core.stream import ChatStream

__all__ = ["chat"]


def chat(
    name: Name,
    prompt: Annotated[
        str | None,
        typer.Argument(
            metavar="PROMPT", help="What to ask. What is piped in is appended, or asked if this is missing."
        ),
    ] = None,
    system: Annotated[str | None, typer.Option("--system", "-s", metavar="TEXT", help="The system message.")] = None,
    deadline: Annotated[
        str | None, typer.Option("--deadline", metavar="TIME", help="Give up after this time, such as 30s or 2m.")
    ] = None,
    stream: Annotated[
        bool | None,
        typer.Option(
            "--stream/--no-stream",
            help="Print the answer as it comes (default on a terminal; a pipe gets it when it is complete).",
            show_default=False,
        ),
    ] = None,
    thinking: Annotated[bool, typer.Option("--thinking", help="Show the model's thinking, on standard error.")] = False,
    as_json: AsJson = False,
    file: ConfigFile = None,
) -> None:
    """Ask a model or a chain.

    The answer goes to standard output; who gave it, and what failed before, to standard error. With --json standard
    output is one object: the reply, or {"error": ...}.

    \b
    Examples:
      modelhub chat primary "Why is the sky blue?"
      git diff | modelhub chat primary "Write a commit message." | tee message
    """
    from modelhub.cli.call_trace import CallTrace

    story = CallTrace()
    with reported(as_json=as_json, story=story):
        call = Call(name, _messages(_question(prompt), system), _seconds(deadline), file)
        call.stream = stream is not False and not as_json
        call.live = stream if stream is not None else sys.stdout.isatty()
        call.thinking, call.as_json = thinking, as_json
        asyncio.run(_ask(call, story))


@dataclass(slots=True)
class Call:
    """What is asked, and how the answer is to be shown."""

    name: str
    messages: list[dict[str, str]]
    deadline: float | None
    file: Path | None
    stream: bool = True
    live: bool = False
    thinking: bool = False
    as_json: bool = False
    started: float = field(default_factory=time.monotonic)


def _messages(question: str, system: str | None) -> list[dict[str, str]]:
    messages = [{"role": "system", "content": system}] if system is not None else []
    return [*messages, {"role": "user", "content": question}]


def _question(prompt: str | None) -> str:
    """The prompt and what is piped in, a blank line between them."""
    parts = [part for part in (prompt, _piped()) if part is not None and part.strip()]
    if not parts:
        usage_error("there is nothing to ask: write it after the name, or pipe it in", "PROMPT")
    return "\n\n".join(parts)


def _piped() -> str | None:
    """What is piped in; None on a terminal, or without standard input."""
    if sys.stdin is None or sys.stdin.isatty():
        return None
    try:
        return sys.stdin.buffer.read().decode("utf-8-sig").strip("\r\n")
    except UnicodeDecodeError:
        usage_error("what is piped in is not UTF-8 text", "PROMPT")


def _seconds(text: str | None) -> float | None:
    if text is None:
        return None
    from modelhub.options import parse_duration

    try:
        return float(parse_duration(text))
    except ValueError as error:
        usage_error(str(error), "--deadline")


async def _ask(call: Call, story: CallTrace) -> None:
    from modelhub.cli.answer_summary import footer
    from modelhub.cli.output import print_json, say
    from modelhub.cli.screen import say_wait
    from modelhub.core.context import Services
    from modelhub.hub import Hub
    from modelhub.logs import LogObserver

    options: dict[str, Any] = {} if call.deadline is None else {"deadline": call.deadline}
    observers = (LogObserver(), story, *(() if call.as_json else (say_wait,)))
    async with Hub.from_yaml(call.file, services=Services(observers=observers)) as hub:
        model = hub.get(call.name)
        call.started = time.monotonic()
        reply = await _shown(call, await model(call.messages, stream=call.stream, **options), story)
        took = time.monotonic() - call.started
    if call.as_json:
        print_json(reply)
    else:
        say(*footer(reply, story, took, streamed=call.stream), err=True)


async def _shown(call: Call, reply: ChatResponse | ChatStream, story: CallTrace) -> ChatResponse:
    """Print the answer as it comes; gives the complete one."""
    from modelhub.cli.screen import Screen
    from modelhub.core.response import ChatResponse

    if isinstance(reply, ChatResponse) and call.as_json:
        return reply
    screen = Screen(story, thinking=call.thinking, live=call.live)
    try:
        last = await _spans(reply, screen)
    except BaseException:
        screen.cut()
        raise
    screen.end()
    return last


async def _spans(reply: ChatResponse | ChatStream, screen: Screen) -> ChatResponse:
    from modelhub.core.response import ChatResponse

    if isinstance(reply, ChatResponse):
        screen.show(reply)
        return reply
    async with reply:
        async for snapshot in reply:
            screen.show(snapshot)
    return await reply.final()
