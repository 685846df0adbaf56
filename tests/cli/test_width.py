"""What commands print fits a narrow terminal, and nothing is lost to that."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from rich.cells import cell_len

from tests.tables import table

ROOT = Path(__file__).parents[2]
LONG = "a-model-with-a-very-long-name-that-nobody-would-type-twice-but-generators-do"
LONG_NAMES = f"""\
version: 1
models:
  short: {{provider: scripted, reply: x, pricing: {{input: 1, output: 1}}}}
  {LONG}:
    provider: scripted
    model_name: some-very-long-vendor/model-name-with-a-date-2026-01-31-preview
    steps: [{{fail: Overloaded, status: 529, message: Overloaded}}]
    retry: {{max_attempts: 1}}
  gpt: {{provider: openai, model_name: gpt-5-mini, api_key: "${{OPENAI_API_KEY}}", limit: a-limit-with-a-long-name}}
limits:
  a-limit-with-a-long-name: {{requests_per_minute: 500, tokens_per_minute: 200_000, concurrency: 16}}
chains:
  primary: {{models: [{LONG}, gpt, short], deadline: 90s}}
  failing: {{models: [{LONG}, gpt]}}
usage: {{ledger: usage.db, batch: 0}}
"""
README = re.search(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
FILES = {
    "long names": LONG_NAMES,
    "README": README[1] if README else "",
    "shipped": (ROOT / "models.yaml").read_text(encoding="utf-8"),
}
COMMANDS = [
    ["list"],
    ["check"],
    ["explain", "primary"],
    ["explain", "--failures"],
    ["drill", "primary", "--only", "silence"],
    ["chat", "primary", "hello there"],
    ["chat", "failing", "hello there"],
    ["usage"],
    ["usage", "--by", "tag:user"],
]


@pytest.fixture(name="printed")
def _printed(config, run, monkeypatch):
    def run_command(text, command, width=None):
        config.write_text(text, encoding="utf-8")
        monkeypatch.delenv("COLUMNS", raising=False)
        if width is not None:
            monkeypatch.setenv("COLUMNS", str(width))
        return run(*command).output

    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "DASHSCOPE_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    return run_command


def facts(output):
    """What *output* says, without times and bars, which differ from run to run and from width to width."""
    return sorted(re.sub(r"[█▏▎▍▌▋▊▉]", "", re.sub(r"[0-9.]+\s+s\b|since .*|\s", "", output)))


@table("command", COMMANDS[:5], ids=" ".join)
@table("file", FILES)
def test_every_line_fits_and_says_the_same(printed, file, command):
    """However long the names are; headers of columns become labels where a table is told line by line."""
    widest = None if command[0] == "drill" else facts(printed(FILES[file], command))
    for width in (60, 80):
        narrow = printed(FILES[file], command, width)
        assert max(map(cell_len, narrow.splitlines())) <= width
        assert widest in (None, facts(narrow))


def test_calls_and_their_costs_fit(printed):
    """The footer of an answer, the tree of a failed chain, and the report of both."""
    for width in (60, 80):
        for command in COMMANDS[5:]:
            narrow = printed(LONG_NAMES, command, width)
            assert max(map(cell_len, narrow.splitlines())) <= width
            assert not narrow.isspace()


def test_a_narrow_report_labels_its_figures(printed):
    """Each figure stands behind the header of its column."""
    printed(LONG_NAMES, ["chat", "primary", "hello there"])
    words = " ".join(printed(LONG_NAMES, ["usage"], 60).split())
    assert "short calls 1 failed 0 attempts 1 input 2 cached 0 output 1 cost $0" in words
    assert re.sub(r"\s", "", f"{LONG} calls 0 failed 0 attempts 1") in words.replace(" ", "")


def test_pipes_get_a_line_for_each_row(printed):
    """Where there is no terminal, and no $COLUMNS, nothing is wrapped."""
    assert len(printed(LONG_NAMES, ["list"]).splitlines()) == 5


def test_the_list_of_commands_shows_whole_sentences(printed):
    """The first sentence of each command fits a terminal of 80 columns: it is not cut off by dots."""
    commands = printed(LONG_NAMES, ["--help"], 80).partition("Commands:")[2].partition("Exit status:")[0]
    assert "  fit " in commands
    assert [line for line in commands.splitlines() if line.strip() and not line.endswith(".")] == []
    assert "..." not in commands
