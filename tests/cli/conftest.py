"""A file of scripted models, and two ways to run a command: in this process, or as a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer.testing
from typer.testing import CliRunner

from modelhub.cli.application import app
from tests.forked import CommandForker

FILE = """\
version: 1
defaults:
  retry: {max_attempts: 3, initial_wait: 0, max_wait: 0}
limits:
  tier: {requests_per_minute: 500, tokens_per_minute: 200_000, concurrency: 16}
models:
  offline: {provider: scripted, reply: "Blue light scatters."}
  keyless: {provider: scripted, model_name: "${SCRIPT_NAME}"}
  limited:
    provider: scripted
    model_name: script-1
    steps: [{fail: RateLimited, status: 429, retry_after: 38s, message: slow down}]
  flaky:
    provider: scripted
    model_name: script-2
    limit: tier
    steps: [{fail: Overloaded, status: 529, message: Overloaded}, {say: Here it is.}]
  breaking: {provider: scripted, steps: [{say: one two three, break_after: 2}]}
  down: {provider: scripted, steps: [{fail: ConnectFailed, message: "127.0.0.1:11434 refused"}]}
  bad: {provider: scripted, steps: [{fail: InvalidRequest, status: 400, message: max_tokens must be positive}]}
  thinker:
    provider: scripted
    pricing: {input: 3, output: 15}
    steps: [{think: hm hm, say: So it is., finish_reason: length}]
  tool: {provider: scripted, steps: [{call: {name: get_weather, arguments: {city: Paris}}}]}
  slow: {provider: scripted, steps: [{say: one two three four five six seven eight, pause: 200ms}]}
  escape: {provider: scripted, reply: "a\\e[31mb"}
chains:
  primary: {models: [keyless, limited, flaky, offline], deadline: 90s}
  failing: {models: [keyless, limited, down]}
  nested: {models: [failing, down]}
  restart: {models: [breaking, flaky]}
"""

Run = Callable[..., Any]


@pytest.fixture(autouse=True, scope="session")
def _commands_are_built_once() -> Iterator[None]:
    """The runner would read the signatures of all commands again for each run, which takes longer than most runs."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(typer.testing, "_get_command", cache(typer.main.get_command), raising=False)
        yield


@pytest.fixture(autouse=True)
def _any_width(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines may be of any length, whatever runs the tests says of its terminal."""
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file, in the working directory, where every command finds it; no variable of the outside is seen."""
    for name in ("MODELHUB_CONFIG", "SCRIPT_NAME", "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "models.yaml"
    path.write_text(FILE, encoding="utf-8")
    return path


@pytest.fixture
def run(config: Path) -> Run:
    """Run a command in this process."""

    def invoke(*arguments: str, stdin: str | bytes = "") -> Any:
        return CliRunner().invoke(app, list(arguments), input=stdin, prog_name="modelhub")

    return invoke


def _heed_ctrl_c() -> None:
    """Undo what a shell does to a command in the background: it, and what it starts, would ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture(scope="session")
def _forker() -> Iterator[CommandForker]:
    forker = CommandForker()
    yield forker
    forker.close()


@pytest.fixture
def spawn(config: Path, _forker: CommandForker) -> Run:
    """Run a command as a process of its own; with *fresh*, Python starts anew, which takes a second."""

    def start(*arguments: str, env: dict[str, str] | None = None, fresh: bool = False, **streams: Any) -> Any:
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | streams
        environ = {**os.environ, **(env or {})}
        if not fresh:
            return _forker.start(*arguments, cwd=config.parent, env=environ, **streams)
        command = [sys.executable, "-m", "modelhub", *arguments]
        return subprocess.Popen(command, cwd=config.parent, env=environ, preexec_fn=_heed_ctrl_c, **streams)

    return start
