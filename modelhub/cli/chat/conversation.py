"""A conversation at a terminal: messages and commands are read line by line, and answered one after the other."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from modelhub.cli.error_view import format_call_error
from modelhub.cli.output import make_line, print_lines
from modelhub.core.errors import CallError, UnknownModel

if TYPE_CHECKING:
    from modelhub.cli.chat.session import ChatSession
    from modelhub.hub import Hub

__all__ = ["TerminalConversation"]

_HELP = """\
  /model NAME   ask another model or chain from now on; without a name, list them
  /image PATH   send a picture with the next message
  /clear        forget the conversation, but for the system message
  /help         show this list
  /exit         leave (Ctrl-D does, too); Ctrl-C stops an answer"""

_ENDS = ("/exit", "/quit")


class TerminalConversation:
    """Messages from the terminal to *session*, until the end of input; *images* go with the first one."""

    def __init__(self, session: ChatSession, images: list[Path]) -> None:
        self._session = session
        self._images = list(images)
        self._first = len(session.messages)

    def run(self, file: Path | None) -> None:
        """Hold the conversation with the models of *file*. Raises ConfigError and UnknownModel before it begins."""
        with suppress(ImportError):
            import readline  # noqa: F401 - lines can be edited, and the arrow keys find earlier ones
        with asyncio.Runner() as runner:
            hub = self._session.open_hub(file)
            try:
                hub.get(self._session.name)
                self._say(f"{self._session.name}: /help lists the commands, Ctrl-D leaves")
                while (line := self._read_line()) not in _ENDS:
                    self._handle(line, hub, runner)
            finally:
                runner.run(hub.aclose())

    def _read_line(self) -> str:
        """Return the next line, or "/exit" at the end of input. Ctrl-C begins another line."""
        while True:
            try:
                return input(f"{self._session.name}> ").strip()
            except KeyboardInterrupt:
                print_lines("", err=True)
            except EOFError:
                print_lines("", err=True)
                return "/exit"

    def _handle(self, line: str, hub: Hub, runner: asyncio.Runner) -> None:
        command, _, argument = line.partition(" ")
        if not command.startswith("/"):
            if line:
                self._send(line, hub, runner)
        elif command == "/model":
            self._change_model(argument.strip(), hub)
        elif command == "/image":
            path = Path(argument.strip()).expanduser()
            if path.is_file():
                self._images.append(path)
            else:
                self._say(f"{argument.strip() or 'the picture'} is not a file: /image PATH")
        elif command == "/clear":
            del self._session.messages[self._first :]
            self._images.clear()
        else:
            print_lines(*_HELP.splitlines(), err=True)

    def _change_model(self, name: str, hub: Hub) -> None:
        if not name:
            self._say(", ".join(hub))
            return
        try:
            hub.get(name)
        except UnknownModel as error:
            self._say(str(error))
        else:
            self._session.name = name

    def _send(self, text: str, hub: Hub, runner: asyncio.Runner) -> None:
        """Send a message and print the answer. What was not answered is taken back, so that it can be asked again."""
        messages = self._session.messages
        length = len(messages)
        self._session.add_message(text, self._images)
        self._images.clear()
        try:
            runner.run(self._session.answer(hub))
        except CallError as error:
            del messages[length:]
            print_lines(*format_call_error(error, self._session.trace), err=True)
        except KeyboardInterrupt:
            del messages[length:]
            self._say("stopped; this message and its answer are not part of the conversation")
        print_lines("", err=True)

    def _say(self, text: str) -> None:
        print_lines(make_line((text, "dim")), err=True)
