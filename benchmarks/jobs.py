"""What jobs over many rows cost: `python -m benchmarks.jobs --rows 100000 --what gather,map,batch`.

Each row is asked of a scripted model, so that nothing but this package is measured. `gather` is `asyncio.gather` over
as many rows at a time as calls are under way in the others, and `semaphore` over all rows, each with a semaphore; `map`
is `chain.map(rows)`. `batch` is a job from a JSONL file into another, with its journal, `batch_ordered` one whose
output is in order, `csv` one from a CSV file into another, and `command` the first as `modelhub batch`. Each runs in a
process of its own, in turns; rates are rows a second of CPU time and of wall time, memory is the largest resident size.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from modelhub import Hub

CONFIG = {"version": 1, "models": {"m": {"provider": "scripted", "reply": "Blue light scatters more than red."}}}
WHATS = ("gather", "semaphore", "map", "ordered", "batch", "batch_ordered", "csv", "command")


def make_rows(count: int) -> Iterator[str]:
    return (f"Why is the sky blue at {number}?" for number in range(count))


async def run_gather(count: int, at_once: int) -> int:
    answered = 0
    async with Hub.from_dict(CONFIG) as hub:
        chain, rows = hub.get("m"), make_rows(count)
        while chunk := list(islice(rows, at_once)):
            replies = await asyncio.gather(*(chain(row) for row in chunk))
            answered += sum(reply.text != "" for reply in replies)
    return answered


async def run_semaphore(count: int, at_once: int) -> int:
    async with Hub.from_dict(CONFIG) as hub:
        chain, semaphore = hub.get("m"), asyncio.Semaphore(at_once)

        async def ask(row: str) -> bool:
            async with semaphore:
                return (await chain(row)).text != ""

        return sum(await asyncio.gather(*(ask(row) for row in make_rows(count))))


async def run_map(count: int, at_once: int, *, ordered: bool = False) -> int:
    answered = 0
    async with Hub.from_dict(CONFIG) as hub:
        async for row in hub.get("m").map(make_rows(count), concurrency=at_once, ordered=ordered):
            answered += row.text != ""
    return answered


async def run_batch(at_once: int, folder: Path, ending: str = "jsonl", *, ordered: bool = False) -> int:
    from modelhub.jobs.batch_job import BatchJob
    from modelhub.jobs.journal import Journal, find_journal
    from modelhub.jobs.plan import JobOptions, JobRows
    from modelhub.jobs.row_keys import RowKeys, describe_entries

    source, output = folder / f"rows.{ending}", folder / f"answers.{ending}"
    options = JobOptions(source, output, concurrency=at_once, ordered=ordered)
    async with Hub.from_dict(CONFIG) as hub:
        rows = JobRows(options, RowKeys(describe_entries(hub.loaded, "m"), {}))
        journal = Journal(find_journal(options.output))
        progress = await BatchJob(hub.get("m"), options, rows, journal).run()
        journal.close()
    return progress.answered


def run_command(at_once: int, folder: Path) -> int:
    from modelhub.cli.application import app

    (folder / "models.json").write_text(json.dumps(CONFIG))
    paths = [str(folder / name) for name in ("rows.jsonl", "answers.jsonl", "models.json")]
    arguments = ["batch", "m", paths[0], "-o", paths[1], "--file", paths[2], "--concurrency", str(at_once)]
    app(arguments, standalone_mode=False)
    with Path(paths[1]).open() as file:
        return sum(1 for _ in file)


def write_rows(folder: Path, count: int) -> None:
    with (folder / "rows.jsonl").open("w") as file:
        file.writelines(json.dumps({"prompt": row}) + "\n" for row in make_rows(count))
    with (folder / "rows.csv").open("w") as file:
        file.writelines(f"{row}\n" for row in ("prompt", *make_rows(count)))


def run_one(what: str, count: int, at_once: int) -> dict[str, Any]:
    """Run one of them in this process."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        works = {
            "gather": lambda: asyncio.run(run_gather(count, at_once)),
            "semaphore": lambda: asyncio.run(run_semaphore(count, at_once)),
            "map": lambda: asyncio.run(run_map(count, at_once)),
            "ordered": lambda: asyncio.run(run_map(count, at_once, ordered=True)),
            "batch": lambda: asyncio.run(run_batch(at_once, folder)),
            "batch_ordered": lambda: asyncio.run(run_batch(at_once, folder, ordered=True)),
            "csv": lambda: asyncio.run(run_batch(at_once, folder, "csv")),
            "command": lambda: run_command(at_once, folder),
        }
        write_rows(folder, count if what in ("batch", "batch_ordered", "csv", "command") else 0)
        began, spent = time.perf_counter(), time.process_time()
        assert works[what]() == count
        wall, cpu = time.perf_counter() - began, time.process_time() - spent
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"what": what, "rows": count, "wall": count / wall, "cpu": count / cpu, "seconds": wall, "peak_mb": peak}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--at-once", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--what", default=",".join(WHATS))
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(run_one(options.one, options.rows, options.at_once)))
        return
    whats = options.what.split(",")
    results: dict[str, list[dict[str, Any]]] = {what: [] for what in whats}
    for number in range(options.rounds):
        for what in whats if number % 2 == 0 else reversed(whats):
            size = ["--rows", str(options.rows), "--at-once", str(options.at_once)]
            command = [sys.executable, "-W", "ignore", "-m", "benchmarks.jobs", "--one", what, *size]
            result = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
            results[what].append(result)
            print(json.dumps(result), file=sys.stderr, flush=True)
    print(f"{'':14}{'rows/s (CPU)':>14}{'rows/s (wall)':>15}{'peak MB':>10}")
    for what, measured in results.items():
        cpu, wall, peak = (statistics.median(result[key] for result in measured) for key in ("cpu", "wall", "peak_mb"))
        print(f"{what:14}{cpu:14,.0f}{wall:15,.0f}{peak:10.0f}")


if __name__ == "__main__":
    main()
