"""The benchmarks run; what they find is not judged here.

By default one vendor's rows, in this process; with MODELHUB_LONG=1 the command with all of them, which takes half a
minute.
"""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import line
from benchmarks.rows import QUICK, Bench, measure
from benchmarks.server import Server

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


EVERY_ROW = wanted(*VENDORS) | {("openai", what) for what in IMPORTS + LARGE}


def read_cells(lines):
    return [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines]


async def measure_vendor(vendor):
    """The lines of a vendor's rows, measured against the benchmarks' own server in this loop."""
    loop = asyncio.get_running_loop()
    async with await loop.create_server(Server, "127.0.0.1", 0, backlog=2048) as server:
        address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        return [line(row) async for row in measure(Bench(vendor, address, QUICK))]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from Linux's /proc")
def test_every_row_of_a_vendor_is_measured():
    """A vendor is measured beside its SDK, in every row there is of it."""
    rows = read_cells(asyncio.run(measure_vendor("openai")))
    assert len(rows) == len(wanted("openai"))
    assert {row[:2] for row in rows} == wanted("openai")
    assert {len(row) for row in rows} == {7}


@pytest.mark.skipif(not LONG, reason="MODELHUB_LONG=1 runs the command, which measures every vendor")
def test_every_row_is_printed():
    """`python -m benchmarks --quick` prints a table with every row there is."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "benchmarks", "--quick"],
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
    rows = read_cells(lines)
    assert {row[:2] for row in rows} == EVERY_ROW
    assert len(rows) == len(EVERY_ROW)
    assert {row[1]: row[4] for row in rows}["20 streams at once: finished"] == "20.0"
