"""The benchmarks run; what they find is not judged here.

By default one vendor's rows and those about imports; with MODELHUB_LONG=1 all of them, which takes half a minute.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LONG = bool(os.environ.get("MODELHUB_LONG"))
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
)
IMPORTS = (
    "`import modelhub`",
    "`import modelhub`: memory",
    "`from modelhub import Hub`",
    "`from modelhub import Hub`: memory",
)
FRAGMENTS = {"openai", "anthropic", "dashscope"}
VENDORS = ("openai", "openai_responses", "anthropic", "gemini", "dashscope", "ollama")


def wanted(*vendors):
    """The vendor and name of every row about *vendors*."""
    usual = {(vendor, what) for vendor in vendors for what in WHATS}
    return usual | {(vendor, "a tool fragment") for vendor in FRAGMENTS.intersection(vendors)}


IMPORTED = {("openai", what) for what in IMPORTS}
ONE = ["--only", "dashscope,imports"], wanted("dashscope") | IMPORTED  # whose SDK takes the least time to load
ALL = [], wanted(*VENDORS) | IMPORTED | {("openai", what) for what in LARGE}


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from Linux's /proc")
def test_every_row_is_printed():
    """`python -m benchmarks --quick` measures a vendor beside its SDK, in every row there is of it."""
    arguments, rows_wanted = ALL if LONG else ONE
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "benchmarks", "--quick", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    table, _, _ = done.stdout.partition("\n\n")
    head, rule, *lines = table.splitlines()
    assert head.count("|") == rule.count("|") == 8
    rows = [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines]
    assert {row[:2] for row in rows} == rows_wanted
    assert len(rows) == len(rows_wanted)
    assert not LONG or {row[1]: row[4] for row in rows}["20 streams at once: finished"] == "20.0"
