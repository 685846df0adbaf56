"""Which of the recorded answers are read in small pieces too."""

import os

LONG = bool(os.environ.get("MODELHUB_LONG"))


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
