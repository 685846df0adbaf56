"""A production chain in a job that nobody watches: the first model has a bad day, and every report is summarised.

What went wrong on the way is in `reply.attempts`; the log says it too, as soon as the app configures logging. A call
that fails for good raises an error that says what each model answered, and the job goes on with the next report.
"""

import asyncio
import logging
from pathlib import Path

from modelhub import CallError, Hub

CONFIG = Path(__file__).with_name("models.yaml")
REPORTS = ["first report", "second report", "third report"]


async def main() -> None:
    logging.basicConfig(level=logging.ERROR, format="%(levelname)s %(message)s")
    async with Hub.from_yaml(CONFIG) as hub:
        summarise = hub.get("job")
        for report in REPORTS:
            try:
                stream = await summarise(f"Summarise: {report}", stream=True, tags={"job": "nightly"})
                reply = await stream.final()
            except CallError as error:
                print(f"{report}: failed: {error}")
                continue
            story = ", then ".join(f"{attempt.model} {attempt.outcome}" for attempt in reply.attempts)
            print(f"{report}: {reply.text}")
            print(f"    {story}")


asyncio.run(main())
