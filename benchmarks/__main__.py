"""The full stack beside the bare SDKs, in one table.

    python -m benchmarks [--quick] [--only openai,large:openai,imports]

The full stack is a hub's chain with every layer: usage, deadline, retry, breaker, limit, timeout. Both sides talk to
the same server on loopback, which costs next to nothing, in turns. Below 1 is better but where the unit is a rate.
At the end are the ratios by vendor. --quick runs a little of everything, to see that it works: its figures say nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from benchmarks.rows import Row
from benchmarks.vendors import BARE

PARTS = [*BARE, "large:openai", "imports"]
IMPORTS = ("import modelhub", "from modelhub import Hub")
_IMPORT = """
import os, resource
{line}
used = resource.getrusage(resource.RUSAGE_SELF)
pages = int(open("/proc/self/statm").read().split()[1])
print(used.ru_utime + used.ru_stime, pages * os.sysconf("SC_PAGE_SIZE") / 1e6)
"""


@contextmanager
def server() -> Iterator[str]:
    """The address of a running server."""
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.server"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
    finally:
        process.terminate()
        process.wait()


def rows(part: str, address: str, quick: bool) -> Iterator[dict[str, Any]]:
    """The rows of one vendor, measured in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.rows", part, address, *(["--quick"] if quick else [])]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        yield json.loads(line)
    if process.wait():
        raise SystemExit(f"{part} failed")


def imports(quick: bool) -> Iterator[dict[str, Any]]:
    """What an import costs in a fresh process, beside the SDK's; what Python itself costs is left out of the CPU.

    The first round is not counted: it compiles what is not compiled yet, as an installation does.
    """
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    lines = {"python": "", "bare": "import openai"} | {line: line for line in IMPORTS}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in lines}
    for number in range(2 if quick else 8):
        for name, line in lines.items():
            command = [sys.executable, "-c", _IMPORT.format(line=line)]
            done = subprocess.run(command, check=True, capture_output=True, text=True, env=environ)
            cpu, memory = done.stdout.split()
            if number:
                found[name].append((float(cpu) * 1000, float(memory)))
    python = statistics.median(cpu for cpu, _ in found["python"])
    for line in IMPORTS:
        pairs = [
            (bare - python, ours - python) for (bare, _), (ours, _) in zip(found["bare"], found[line], strict=True)
        ]
        yield asdict(Row.of("openai", f"`{line}`", "ms CPU", pairs))
        pairs = [(bare, ours) for (_, bare), (_, ours) in zip(found["bare"], found[line], strict=True)]
        yield asdict(Row.of("openai", f"`{line}`: memory", "MB", pairs))


def line(row: dict[str, Any]) -> str:
    """One row of Markdown."""
    bare = "" if row["bare"] is None else _number(row["bare"])
    ratio = row.get("ratio")
    if ratio is None and row["bare"] and row["unit"] != "x":
        ratio = row["ours"] / row["bare"]
    spread = f"{row['least']:.2f} - {row['largest']:.2f}" if row.get("least") is not None else ""
    cells = (
        row["vendor"],
        row["what"],
        row["unit"],
        bare,
        _number(row["ours"]),
        f"{ratio:.2f}" if ratio else "",
        spread,
    )
    return f"| {' | '.join(cells)} |"


def ratios(rows: list[dict[str, Any]]) -> Iterator[str]:
    """The ratios of all vendors side by side, as Markdown."""
    vendors = [vendor for vendor in BARE if any(row["vendor"] == vendor for row in rows)]
    found = {(row["vendor"], row["what"]): row["ratio"] for row in rows if row.get("ratio")}
    whats = {what: None for _, what in found if sum((vendor, what) in found for vendor in vendors) > 1}
    yield f"| ratio to the bare SDK | {' | '.join(vendors)} |"
    yield f"|---|{'---:|' * len(vendors)}"
    for what in whats:
        cells = (f"{found[vendor, what]:.2f}" if (vendor, what) in found else "" for vendor in vendors)
        yield f"| {what} | {' | '.join(cells)} |"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="a little of everything, to see that it works")
    parser.add_argument("--only", default=",".join(PARTS), help=f"some of {', '.join(PARTS)}")
    arguments = parser.parse_args()
    print("| vendor | what | unit | bare SDK | modelhub | ratio | spread |")
    print("|---|---|---|---:|---:|---:|---|", flush=True)
    with server() as address, ThreadPoolExecutor(4 if arguments.quick else 1) as pool:

        def measured(part: str) -> list[dict[str, Any]]:
            return list(imports(arguments.quick) if part == "imports" else rows(part, address, arguments.quick))

        measured_rows = []
        for found in pool.map(measured, arguments.only.split(",")):
            measured_rows += found
            for row in found:
                print(line(row), flush=True)
    if len({row["vendor"] for row in measured_rows}) > 1:
        print("", *ratios(measured_rows), sep="\n")


if __name__ == "__main__":
    main()
