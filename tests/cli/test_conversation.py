"""`modelhub chat NAME` at a terminal: a conversation."""

from __future__ import annotations

import os
import pty
import re
import signal

import pytest

from modelhub.cli.exit import Exit


class Terminal:
    """A process whose input and output are a terminal."""

    def __init__(self, spawn, *arguments):
        self._leader, follower = pty.openpty()
        env = {"TERM": "dumb", "NO_COLOR": "1"}
        self._process = spawn(*arguments, env=env, stdin=follower, stdout=follower, stderr=follower)
        os.close(follower)

    def read_until(self, end: str) -> str:
        """Return what is printed until *end* is."""
        printed = ""
        while not re.sub(r"\x1b\[\S*?[a-zA-Z]", "", printed).endswith(end):
            printed += os.read(self._leader, 1).decode(errors="replace")
        return printed.replace("\r\n", "\n")

    def type(self, text: str) -> None:
        """Type *text*."""
        os.write(self._leader, text.encode())

    def interrupt(self) -> None:
        """Press Ctrl-C, which a terminal sends as a signal."""
        self._process.send_signal(signal.SIGINT)

    def leave(self) -> int:
        """Type Ctrl-D, and return the exit status."""
        self.type("\x04")
        status = self._process.wait(60)
        os.close(self._leader)
        return status


@pytest.fixture(name="terminal")
def _terminal(spawn):
    return lambda *arguments: Terminal(spawn, *arguments)


def test_messages_are_answered_one_after_the_other_and_remembered(terminal):
    """The second call has the first exchange before it; `/clear` forgets it."""
    chat = terminal("chat", "offline")
    chat.read_until("offline> ")
    counts = []
    for text in ("hi\n", "and again\n", "/clear\n", "hi\n"):
        chat.type(text)
        counts += re.findall(r"about (\d+) in", chat.read_until("offline> "))
    assert [int(count) for count in counts] == [1, 6, 1]  # two messages and an answer of three words
    assert chat.leave() == Exit.OK


def test_another_model_is_asked_from_then_on(terminal):
    """`/model` lists the names, refuses unknown ones, and changes to another."""
    chat = terminal("chat", "offline")
    chat.read_until("offline> ")
    chat.type("/model\n")
    assert "keyless, limited, flaky" in chat.read_until("offline> ")
    chat.type("/model flak\n")
    assert "did you mean `flaky`?" in chat.read_until("offline> ")
    chat.type("/model flaky\n")
    chat.read_until("flaky> ")
    chat.type("hi\n")
    assert "Here it is." in chat.read_until("flaky> ")
    assert chat.leave() == Exit.OK


def test_a_failed_or_stopped_answer_leaves_the_conversation_as_it_was(terminal):
    """A failure is shown, Ctrl-C stops an answer, and both messages can be asked again."""
    chat = terminal("chat", "bad")
    chat.read_until("bad> ")
    chat.type("hi\n")
    assert "InvalidRequest: bad: max_tokens must be positive" in chat.read_until("bad> ")
    chat.type("/model slow\n")
    chat.read_until("slow> ")
    chat.type("hi\n")
    chat.read_until("two")
    chat.interrupt()
    stopped = chat.read_until("slow> ")
    assert "stopped; this message and its answer are not part of the conversation" in stopped
    assert "about 1 in, " in stopped
    assert chat.leave() == Exit.OK


def test_pictures_that_are_not_there_and_unknown_commands_are_said(terminal):
    """`/image` checks its file, and whatever else begins with a slash shows the commands."""
    chat = terminal("chat", "offline")
    chat.read_until("offline> ")
    chat.type("/image none.png\n")
    assert "none.png is not a file: /image PATH" in chat.read_until("offline> ")
    chat.type("/what\n")
    assert "/clear        forget the conversation" in chat.read_until("offline> ")
    assert chat.leave() == Exit.OK
