"""The command `modelhub chat`."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelhub.cli.options import (
    AsJson,
    ConfigFile,
    Name,
    Profile,
    SchemaSource,
    parse_parameters,
    parse_seconds,
    read_schema,
)
from modelhub.cli.output import is_terminal
from modelhub.cli.report import fail_usage, report_errors

if TYPE_CHECKING:
    from modelhub.cli.chat.session import ChatSession
    from modelhub.cli.chat.tools import ToolFunction

__all__ = ["chat"]

Prompt = Annotated[
    str | None,
    typer.Argument(
        metavar="PROMPT",
        help="The message. Piped input is appended to it, or used if it is missing. Without both, on a terminal, "
        "a conversation begins.",
    ),
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
CallParameters = Annotated[
    list[str] | None,
    typer.Option("--ask", "-o", metavar="NAME=VALUE", help="A parameter, such as temperature=0; can be repeated."),
]
Images = Annotated[
    list[Path] | None,
    typer.Option("--image", "-i", metavar="PATH", help="A picture to send with the message; can be repeated."),
]
ToolNames = Annotated[
    list[str] | None,
    typer.Option(
        "--tool", metavar="FUNCTION", help="A Python function that the model may call: module:name; can be repeated."
    ),
]


def chat(
    name: Name,
    prompt: Prompt = None,
    system: SystemMessage = None,
    image: Images = None,
    ask: CallParameters = None,
    schema: SchemaSource = None,
    tool: ToolNames = None,
    deadline: DeadlineText = None,
    stream: StreamAnswer = None,
    thinking: ShowThinking = False,
    as_json: AsJson = False,
    file: ConfigFile = None,
    profile: Profile = None,
) -> None:
    """Send a message to a model or a chain.

    The answer goes to standard output, a summary to standard error. With --json, standard output is one object: the
    reply, or {"error": ...}. Without a message, at a terminal, it is a conversation.

    \b
    Examples:
      modelhub chat primary "Why is the sky blue?"
      git diff | modelhub chat primary "Write a commit message." | tee message
      modelhub chat primary "What does it cost?" --image bill.png --schema app:Invoice
      modelhub chat primary
    """
    from modelhub.cli.chat.session import AnswerStyle, ChatSession

    is_live = stream if stream is not None else is_terminal(sys.stdout)
    style = AnswerStyle(streams=stream is not False and not as_json, live=is_live, thinking=thinking, json=as_json)
    session = ChatSession(name, style=style, profile=profile)
    with report_errors(as_json=as_json, trace=session.trace):
        session.options = _make_options(ask, schema, deadline)
        session.tools = _load_tools(tool)
        session.messages = [] if system is None else [{"role": "system", "content": system}]
        if prompt is None and not as_json and is_terminal(sys.stdin) and is_terminal(sys.stdout):
            _converse(session, file, image or [])
        else:
            _send(session, file, prompt, image or [])


def _make_options(ask: list[str] | None, schema: str | None, deadline: str | None) -> dict[str, Any]:
    options = parse_parameters(ask)
    if schema is not None:
        options["structured_model"] = read_schema(schema)
    if deadline is not None:
        options["deadline"] = parse_seconds(deadline, "--deadline")
    return options


def _load_tools(names: list[str] | None) -> list[ToolFunction]:
    if not names:
        return []
    from modelhub.cli.chat.tools import load_tool

    return [load_tool(name) for name in names]


def _converse(session: ChatSession, file: Path | None, images: list[Path]) -> None:
    from modelhub.cli.chat.conversation import TerminalConversation

    TerminalConversation(session, images).run(file)


def _send(session: ChatSession, file: Path | None, prompt: str | None, images: list[Path]) -> None:
    import asyncio

    session.add_message(_read_question(prompt), images)

    async def send() -> None:
        async with session.open_hub(file) as hub:
            await session.answer(hub)

    asyncio.run(send())


def _read_question(prompt: str | None) -> str:
    """Return the prompt and the piped input, separated by a blank line. Exits with a usage error without either."""
    piped = None
    if sys.stdin is not None and not sys.stdin.isatty() and (prompt is None or _is_meant_for_us()):
        try:
            piped = sys.stdin.buffer.read().decode("utf-8-sig").strip("\r\n")
        except UnicodeDecodeError:
            fail_usage("the piped input is not UTF-8 text", "PROMPT")
    parts = [part for part in (prompt, piped) if part is not None and part.strip()]
    if not parts:
        fail_usage("there is no message: write it after the name, or pipe it in", "PROMPT")
    return "\n\n".join(parts)


def _is_meant_for_us() -> bool:
    """Return whether standard input is a pipe, or a file that nobody has read from.

    A file that was read before is the input of a loop in a shell (`while read line; do ...; done < lines`), which would
    lose its other lines. Devices, such as /dev/null, and sockets are what a scheduler leaves a program.
    """
    try:
        descriptor = sys.stdin.fileno()
        mode = os.fstat(descriptor).st_mode
    except (OSError, ValueError):
        return True  # not a real file: a program has put something in its place
    if stat.S_ISREG(mode):
        return os.lseek(descriptor, 0, os.SEEK_CUR) == 0
    return stat.S_ISFIFO(mode)
