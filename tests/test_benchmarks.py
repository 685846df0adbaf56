"""The benchmarks run; what they find is not judged here."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WHATS = (
    "a call",
    "10 at once: calls",
    "10 at once: a call",
    "a failed hop",
    "a chunk of 20",
    "a chunk of 40",
    "time to first content",
    "growth over 20 calls",
)
LARGE = (
    "1 MB in",
    "1 MB in: longest step",
    "1 MB in: memory",
    "1 MB out",
    "1 MB out: longest step",
    "1 MB out: memory",
    "1,000 characters of arguments",
    "2,000 characters of arguments",
    "twice the arguments",
    "20 streams at once: finished",
    "20 streams at once: last after first",
    "20 streams at once: a stream",
    "`import modelhub`",
    "`import modelhub`: memory",
    "`from modelhub import Hub`",
    "`from modelhub import Hub`: memory",
)
FRAGMENTS = {"openai", "anthropic", "dashscope"}


@pytest.mark.skipif("BENCHMARKS" not in os.environ, reason="BENCHMARKS is not set: every row takes half a minute")
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from Linux's /proc")
def test_every_row_is_printed():
    """`python -m benchmarks --quick` measures every vendor beside its SDK, and all that is large."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "benchmarks", "--quick"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    head, rule, *lines = done.stdout.splitlines()
    assert head.count("|") == rule.count("|") == 8
    rows = [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines]
    wanted = {(vendor, what) for vendor in ("openai", "anthropic", "gemini", "dashscope", "ollama") for what in WHATS}
    wanted |= {(vendor, "a tool fragment") for vendor in FRAGMENTS} | {("openai", what) for what in LARGE}
    assert {row[:2] for row in rows} == wanted
    assert len(rows) == len(wanted)
    assert {row[1]: row[4] for row in rows}["20 streams at once: finished"] == "20.0"
