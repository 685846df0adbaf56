"""Many rows over several processes: each has a hub of its own, and all write to one ledger.

One process with asyncio makes hundreds of calls at a time; several are worth it where the work on each row is.
"""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from modelhub import CallError, Hub

hub: Hub


def open_hub() -> None:
    global hub
    hub = Hub.from_yaml(Path(__file__).with_name("models.yaml"))


def label(row: str) -> tuple[str, str]:
    try:
        return row, hub.get("primary").sync(row, stream=False, tags={"job": "rows"}).text
    except CallError as error:
        return row, f"failed: {error.kind}"  # one row must not end the others


def main() -> None:
    rows = [f"row {number}" for number in range(20)]
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=spawn, initializer=open_hub) as pool:
        for row, answer in pool.map(label, rows, chunksize=5):
            print(f"{row}: {answer}")


if __name__ == "__main__":
    main()
