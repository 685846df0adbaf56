"""Which of the recorded answers are read in small pieces too, and how many are read one after another."""

import asyncio
import itertools
import os

LONG = bool(os.environ.get("MODELHUB_LONG"))
LANES = 8
_keys = itertools.count()


def sample(records):
    """Return the shortest of *records* of each kind, or all of them with MODELHUB_LONG=1.

    A kind is what the recording's tags say of the request and of the answer, with the endpoint and the status.
    """
    if LONG:
        return records
    kinds = {}
    for record in sorted(records, key=lambda record: len(record["response"])):
        kinds.setdefault((record["endpoint"], record["status"], *sorted(record["tags"])), record)
    return list(kinds.values())


def address_of(replay, lane, options=""):
    """Return where the replay server answers the first request with the first record of *lane*, and so on."""
    return f"{replay.url}/seq/{next(_keys)}/" + ",".join(f"{record['id']}{options}" for record in lane)


async def check_in_lanes(records, model_for, check):
    """Return what `check(record, model)` finds wrong, by the id of the record.

    Eight models ask at the same time. Each, which is made by *model_for* for a list of records, reads those one after
    another: to make a model for each record takes longer than to read it.
    """

    async def check_lane(lane):
        async with model_for(lane) as model:
            return {record["id"]: await check(record, model) for record in lane}

    lanes = [lane for start in range(LANES) if (lane := records[start::LANES])]
    results = await asyncio.gather(*map(check_lane, lanes))
    return {record_id: wrong for result in results for record_id, wrong in result.items() if wrong}
