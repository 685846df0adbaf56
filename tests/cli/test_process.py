"""The command as a process of its own: pipes, terminals, signals, exit statuses."""

from __future__ import annotations

import os
import pty
import re
import resource
import signal
import subprocess
import sys

import pytest

import modelhub
from modelhub.cli.application import app
from modelhub.cli.exit import Exit

ESCAPE = b"\x1b"


def on_a_terminal(spawn, *arguments, **env):
    """What stays on a terminal of what a command prints, and its exit status."""
    leader, follower = pty.openpty()
    process = spawn(*arguments, env={"TERM": "xterm-256color", **env}, stdout=follower, stderr=follower)
    os.close(follower)
    printed = b""
    while True:
        try:
            piece = os.read(leader, 65536)
        except OSError:  # Linux says so at the end of a terminal
            break
        if not piece:
            break
        printed += piece
    os.close(leader)
    # A slow machine is waited for in a line, which is overwritten.
    return re.sub(rb"[^\n]*\r(?!\n)", b"", printed).replace(b"\r\n", b"\n"), process.wait()


def finished(process):
    """A process's output, errors and status."""
    stdout, stderr = process.communicate(timeout=60)
    return (stdout or b"").decode(), stderr.decode(), process.returncode


def test_a_terminal_gets_colour_and_a_blank_line_before_the_footer(spawn):
    """On a terminal the footer is dim and stands apart."""
    printed, status = on_a_terminal(spawn, "chat", "offline", "hi")
    assert status == Exit.OK
    assert printed.startswith(b"Blue light scatters.\n\n  \x1b[2mscripted via offline")


@pytest.mark.parametrize("env", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_no_colour_where_it_is_not_wanted(spawn, env):
    """NO_COLOR and a dumb terminal get plain text."""
    printed, _ = on_a_terminal(spawn, "check", **env)
    assert b"not configured: set SCRIPT_NAME" in printed
    assert ESCAPE not in printed


def test_no_colour_and_no_wrapping_in_a_pipe(spawn):
    """What is piped is plain, and its lines are whole unless $COLUMNS asks for a width."""
    stdout, stderr, _ = finished(spawn("explain", "primary"))
    assert "\x1b" not in stdout + stderr
    assert "primary  chain, deadline 90 s, broken streams restart on the next model\n" in stdout


def test_an_answer_cannot_steer_the_terminal(spawn, run):
    """Control characters are shown on a terminal, not obeyed; a pipe gets them as they are."""
    printed, _ = on_a_terminal(spawn, "chat", "escape", "hi")
    assert printed.startswith("a␛[31mb\n".encode())
    assert run("chat", "escape", "hi").stdout == "a\x1b[31mb\n"


@pytest.mark.parametrize(
    "command", [("chat", "slow", "hi", "--stream"), ("list",), ("explain", "primary"), ("schema",)]
)
def test_a_reader_that_goes_away_is_no_error_to_speak_of(spawn, command):
    """`| head -1` ends the command quietly, with the status of a closed pipe."""
    reading, writing = os.pipe()
    os.close(reading)
    process = spawn(*command, stdout=writing)
    os.close(writing)
    _, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (Exit.PIPE_CLOSED, b"")


@pytest.mark.parametrize("option", ["--stream", "--no-stream", "--json"])
def test_a_standard_output_that_is_closed_is_no_error(config, monkeypatch, capsys, option):
    """`>&-`: Python has None there then."""
    monkeypatch.chdir(config.parent)
    monkeypatch.setattr(sys, "stdin", None)
    monkeypatch.setattr(sys, "stdout", None)
    assert app(["chat", "offline", "hi", option], standalone_mode=False) in (None, Exit.OK)
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")  # noqa: PTH110
def test_a_full_disk_is_told_in_one_line(spawn):
    """What cannot be written is said, without a traceback."""
    with open("/dev/full", "wb") as full:  # noqa: PTH123
        _, stderr, status = finished(spawn("list", stdout=full))
    assert status == Exit.FAILED
    assert stderr == "Error: cannot write the output: no space left on device\n"


def test_ctrl_c_keeps_what_has_come_and_leaves_with_130(spawn):
    """An interrupt ends the stream on a line of its own, and says what was used by then."""
    process = spawn("chat", "slow", "hi", "--stream")
    assert process.stdout.read(3) == b"one"
    process.send_signal(signal.SIGINT)
    stdout, stderr, status = finished(process)
    assert status == Exit.INTERRUPTED
    assert stdout.endswith("\n")
    assert re.fullmatch(r"  scripted via slow · .* · about 1 in, \d out · about \$0\ninterrupted\n", stderr)


def test_a_terminal_without_a_question_is_a_usage_error(spawn):
    """Without a prompt and without a pipe nothing is waited for."""
    leader, follower = pty.openpty()
    _, stderr, status = finished(spawn("chat", "offline", stdin=follower))
    os.close(follower)
    os.close(leader)
    assert status == Exit.USAGE
    assert "there is no message: write it after the name, or pipe it in" in stderr


def test_what_comes_through_a_pipe_is_asked(spawn):
    """`cat file | modelhub chat NAME` works."""
    process = spawn("chat", "offline", "--json", stdin=subprocess.PIPE)
    stdout, _ = process.communicate(b"Why is the sky blue?\n", timeout=60)
    assert b'"input_tokens": 5' in stdout


def test_the_lines_of_a_loop_are_left_to_it(spawn, tmp_path):
    """With a message, a file that was read before is not read on: `while read line; do ...; done < lines`."""
    lines = tmp_path / "lines"
    lines.write_text("one\ntwo two two\n")
    with lines.open("rb", buffering=0) as file:
        file.read(4)
        stdout, _, _ = finished(spawn("chat", "offline", "one", "--json", stdin=file))
        assert file.tell() == 4
    assert b'"input_tokens": 1' in stdout.encode()


def test_a_poor_encoding_loses_signs_not_the_answer(spawn):
    """A terminal without UTF-8 gets question marks."""
    _, stderr, status = finished(spawn("chat", "offline", "hi", env={"PYTHONIOENCODING": "ascii"}))
    assert status == Exit.OK
    assert "scripted via offline ? 0." in stderr


def test_help_loads_no_sdk_and_nothing_heavy():
    """Help is quick: it imports neither an SDK nor pydantic, rich or asyncio."""
    code = (
        "import sys\nfrom modelhub.cli.application import app\n"
        "try: app(['--help'])\nexcept SystemExit: pass\n"
        "heavy = {'openai', 'anthropic', 'dashscope', 'ollama', 'google.genai', 'pydantic', 'rich', 'httpx'}\n"
        "heavy.add('asyncio')\n"
        "sys.exit(' '.join(heavy & set(sys.modules)) or 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (result.stderr, result.returncode) == ("", 0)
    assert "Usage: " in result.stdout


def test_the_exit_statuses_are_in_the_help(run):
    """Every status of the enumeration is documented."""
    text = run("--help").stdout
    for status in Exit:
        assert f" {status.value}  " in text


@pytest.mark.parametrize("command", ["chat", "check", "list", "explain", "drill", "schema"])
def test_every_command_has_an_example(run, command):
    """Help shows how a command is used."""
    text = run(command, "--help").stdout
    assert f"    modelhub {command}" in text


def test_version(run):
    """`--version` prints the package's version."""
    assert run("--version").stdout == f"modelhub {modelhub.__version__}\n"


def test_start_is_quick(spawn):
    """`--help` takes well under a second of a processor; the bound is generous for slow machines."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    _, _, status = finished(spawn("--help", fresh=True))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert status == Exit.OK
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 2
