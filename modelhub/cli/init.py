"""`modelhub init`: write a file for the keys that are set."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from modelhub.cli.output import make_line, print_lines
from modelhub.cli.report import fail, report_errors
from modelhub.version import install_command

__all__ = ["STARTERS", "init"]

Target = Annotated[Path, typer.Argument(metavar="PATH", help="The file to write.")]
Force = Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")]


@dataclass(frozen=True, slots=True)
class Starter:
    """A model to begin with: its name in the file, the variables that its key may be in, and its keys."""

    name: str
    variables: tuple[str, ...]
    sdk: str
    lines: str


STARTERS = (
    Starter("gpt", ("OPENAI_API_KEY",), "openai", "provider: openai\nmodel_name: gpt-5-mini"),
    Starter(
        "claude",
        ("ANTHROPIC_API_KEY",),
        "anthropic",
        "provider: anthropic\nmodel_name: claude-sonnet-5\nmax_tokens: 2048            # the API requires a limit",
    ),
    Starter("gemini", ("GEMINI_API_KEY", "GOOGLE_API_KEY"), "gemini", "provider: gemini\nmodel_name: gemini-2.5-flash"),
    Starter("qwen", ("DASHSCOPE_API_KEY",), "dashscope", "provider: dashscope\nmodel_name: qwen-plus"),
    Starter(
        "deepseek",
        ("DEEPSEEK_API_KEY",),
        "openai",
        "provider: openai            # a server that speaks like OpenAI's\ncompat: deepseek\nmodel_name: deepseek-chat",
    ),
    Starter(
        "mistral", ("MISTRAL_API_KEY",), "openai", "provider: openai\ncompat: mistral\nmodel_name: mistral-large-latest"
    ),
    Starter("grok", ("XAI_API_KEY",), "openai", "provider: openai\ncompat: xai\nmodel_name: grok-4"),
    Starter("groq", ("GROQ_API_KEY",), "openai", "provider: openai\ncompat: groq\nmodel_name: openai/gpt-oss-120b"),
    Starter(
        "router",
        ("OPENROUTER_API_KEY",),
        "openai",
        "provider: openai\ncompat: openrouter\nmodel_name: openai/gpt-5-mini",
    ),
    Starter("llama", ("OLLAMA_HOST",), "ollama", "provider: ollama\nmodel_name: llama3.2"),
)
_DEFAULT = ("gpt", "claude")
"""The models of a file for which no key is set."""
_HEAD = """\
# The chat models of this app. `modelhub check` says what is wrong or missing here, `modelhub explain primary` what a
# call would do, and `modelhub drill primary` what happens when vendors fail.
version: 1

# What holds for every model. Times are 500ms, 5s, 2m; first_token and idle are those of streams (or `stream_inside`).
defaults:
  timeout: {connect: 5s, first_token: 15s, idle: 15s, total: 60s}   # of one attempt
  retry: {max_attempts: 3, initial_wait: 500ms, max_wait: 20s}      # of one model; the first attempt counts

models:
"""
_TAIL = """\
  offline: {{provider: scripted, reply: "The assistant is not available at the moment."}}   # when nobody else answers

chains:
  primary:
    models: [{names}]{room}# in the order in which they are tried
    deadline: {deadline:<18}# for the whole call: all attempts and waits, with time for each model

# Record every call, and limit what is spent:
# usage: {{ledger: usage.db}}
# budgets:
#   month: {{usd: 50, per: month}}
"""


def init(path: Target = Path("models.yaml"), force: Force = False) -> None:
    """Write a file for the keys that are set.

    The file has a model for each vendor whose key is in the environment, and a chain of them. Asks for nothing, and
    contacts no vendor.

    \b
    Examples:
      modelhub init
      modelhub init deploy/models.yaml --force
    """
    with report_errors():
        if path.exists() and not force:
            fail(f"{path} exists; --force replaces it")
        with_keys = [starter for starter in STARTERS if any(os.environ.get(name) for name in starter.variables)]
        starters = with_keys or [starter for starter in STARTERS if starter.name in _DEFAULT]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_make_text(starters), encoding="utf-8")
        _report(path, starters, has_keys=bool(with_keys))


def _make_text(starters: list[Starter]) -> str:
    models = ""
    for starter in starters:
        lines = starter.lines.splitlines()
        variable = next((name for name in starter.variables if os.environ.get(name)), starter.variables[0])
        if variable.endswith("_KEY"):
            lines.append(f"api_key: ${{{variable}}}")
        models += "".join([f"  {starter.name}:\n", *(f"    {line}\n" for line in lines), "\n"])
    names = ", ".join([*(starter.name for starter in starters), "offline"])
    deadline = f"{len(starters) + 1}m"  # an attempt takes a minute at most
    return _HEAD + models + _TAIL.format(names=names, room=" " * max(2, 18 - len(names)), deadline=deadline)


def _report(path: Path, starters: list[Starter], *, has_keys: bool) -> None:
    names = " > ".join([*(starter.name for starter in starters), "offline"])
    print_lines(make_line("wrote ", (str(path), "bold"), f": chain `primary`: {names}"), err=True)
    if not has_keys:
        variables = ", ".join(starter.variables[0] for starter in starters)
        print_lines(f"no key is set: set {variables}, or change the file", err=True)
    missing = {starter.sdk for starter in starters if not _is_installed(starter.sdk)}
    if missing:
        print_lines(f"next: {install_command(','.join(sorted(missing)))}", err=True)
    file = "" if path == Path("models.yaml") else f" --file {path}"
    print_lines(f'next: modelhub check{file}, modelhub chat primary "Hello"{file}', err=True)


def _is_installed(extra: str) -> bool:
    try:
        return importlib.util.find_spec("google.genai" if extra == "gemini" else extra) is not None
    except ModuleNotFoundError:
        return False
