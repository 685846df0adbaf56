"""`modelhub chat`: send a message to a model or a chain from the terminal."""

from __future__ import annotations

import asyncio
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelhub.cli.options import AsJson, ConfigFile, Name
from modelhub.cli.report import fail_usage, report_errors

if TYPE_CHECKING:
    from modelhub.cli.call_trace import CallTrace
    from modelhub.cli.screen import Screen
    from modelhub.core.response import ChatResponse
    from modelhub.core.stream import ChatStream

__all__ = ["chat"]

Prompt = Annotated[
    str | None,
    typer.Argument(metavar="PROMPT", help="The message. Piped input is appended to it, or used if it is missing."),
]
SystemMessage = Annotated[str | None, typer.Option("--system", "-s", metavar="TEXT", help="The system message.")]
DeadlineText = Annotated[
    str | None, typer.Option("--deadline", metavar="TIME", help="Give up after this time, such as 30s or 2m.")
]
StreamAnswer = Annotated[
    bool | None,
    typer.Option(
        "--stream/--no-stream",
        help="Print the answer as it arrives (default on a terminal), or when it is complete (default in a pipe).",
        show_default=False,
    ),
]
ShowThinking = Annotated[bool, typer.Option("--thinking", help="Show the model's thinking, on standard error.")]


def chat(
    name: Name,
    prompt: Prompt = None,
    system: SystemMessage = None,
    deadline: DeadlineText = None,
    stream: StreamAnswer = None,
    thinking: ShowThinking = False,
    as_json: AsJson = False,
    file: ConfigFile = None,
) -> None:
    """Send a message to a model or a chain.

    The answer goes to standard output, a summary to standard error. With --json, standard output is one object: the
    reply, or {"error": ...}.

    \b
    Examples:
      modelhub chat primary "Why is the sky blue?"
      git diff | modelhub chat primary "Write a commit message." | tee message
    """
    from modelhub.cli.call_trace import CallTrace

    trace = CallTrace()
    with report_errors(as_json=as_json, trace=trace):
        call = ChatCall(name, _make_messages(_read_question(prompt), system), _parse_deadline(deadline), file)
        call.stream = stream is not False and not as_json
        call.live = stream if stream is not None else sys.stdout.isatty()
        call.thinking, call.as_json = thinking, as_json
        asyncio.run(_ask(call, trace))


@dataclass(slots=True)
class ChatCall:
    """What to send, and how to show the answer."""

    name: str
    messages: list[dict[str, str]]
    deadline: float | None
    file: Path | None
    stream: bool = True
    live: bool = False
    thinking: bool = False
    as_json: bool = False
    started: float = field(default_factory=time.monotonic)


def _make_messages(question: str, system: str | None) -> list[dict[str, str]]:
    messages = [{"role": "system", "content": system}] if system is not None else []
    return [*messages, {"role": "user", "content": question}]


def _read_question(prompt: str | None) -> str:
    """Return the prompt and the piped input, separated by a blank line."""
    parts = [part for part in (prompt, _read_stdin()) if part is not None and part.strip()]
    if not parts:
        fail_usage("there is no message: write it after the name, or pipe it in", "PROMPT")
    return "\n\n".join(parts)


def _read_stdin() -> str | None:
    """Return the piped input, or None on a terminal or without standard input."""
    if sys.stdin is None or sys.stdin.isatty():
        return None
    try:
        return sys.stdin.buffer.read().decode("utf-8-sig").strip("\r\n")
    except UnicodeDecodeError:
        fail_usage("the piped input is not UTF-8 text", "PROMPT")


def _parse_deadline(text: str | None) -> float | None:
    if text is None:
        return None
    from modelhub.options import parse_duration

    try:
        return float(parse_duration(text))
    except ValueError as error:
        fail_usage(str(error), "--deadline")


async def _ask(call: ChatCall, trace: CallTrace) -> None:
    from modelhub.cli.answer_summary import format_summary
    from modelhub.cli.output import print_json, print_lines
    from modelhub.cli.screen import print_wait
    from modelhub.core.context import Services
    from modelhub.hub import Hub
    from modelhub.logs import LogObserver

    options: dict[str, Any] = {} if call.deadline is None else {"deadline": call.deadline}
    observers = (LogObserver(), trace, *(() if call.as_json else (print_wait,)))
    async with Hub.from_yaml(call.file, services=Services(observers=observers)) as hub:
        model = hub.get(call.name)
        call.started = time.monotonic()
        reply = await _print_reply(call, await model(call.messages, stream=call.stream, **options), trace)
        took = time.monotonic() - call.started
    if call.as_json:
        print_json(reply)
    else:
        print_lines(*format_summary(reply, trace, took, streamed=call.stream), err=True)


async def _print_reply(call: ChatCall, reply: ChatResponse | ChatStream, trace: CallTrace) -> ChatResponse:
    """Print the answer as it arrives, and return the complete one."""
    from modelhub.cli.screen import Screen
    from modelhub.core.response import ChatResponse

    if isinstance(reply, ChatResponse) and call.as_json:
        return reply
    screen = Screen(trace, thinking=call.thinking, live=call.live)
    try:
        last = await _print_snapshots(reply, screen)
    except BaseException:
        screen.end_line()
        raise
    screen.finish()
    return last


async def _print_snapshots(reply: ChatResponse | ChatStream, screen: Screen) -> ChatResponse:
    from modelhub.core.response import ChatResponse

    if isinstance(reply, ChatResponse):
        screen.show(reply)
        return reply
    async with reply:
        async for snapshot in reply:
            screen.show(snapshot)
    return await reply.final()
