"""Open a job: its rows, its journal, and the batch API that it goes through, if it does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from modelhub.core.call_options import parse_call_options
from modelhub.hub import Hub
from modelhub.jobs.batch_job import BatchJob
from modelhub.jobs.journal import Journal, find_journal
from modelhub.jobs.keys import RowKeys, describe_entries
from modelhub.jobs.plan import JobOptions, JobRows
from modelhub.jobs.vendor_batch.batch_model import BatchModel, find_batch_entry, find_batch_options
from modelhub.jobs.vendor_batch.phase import BatchPhase

__all__ = ["open_job", "open_rows"]


def open_rows(hub: Hub, name: str, options: JobOptions) -> JobRows:
    """Return the rows of a job that asks *name*. Raises JobError for its files, InvalidRequest for its options."""
    options.check_files()
    hub.loaded.check_name(name)
    parsed = parse_call_options(dict(options.parameters))  # what is wrong is said before a row is read
    entries = describe_entries(hub.loaded, name)
    return JobRows(options, RowKeys(entries, parsed.parameters, options.structured_model))


@contextmanager
def open_job(hub: Hub, name: str, options: JobOptions) -> Iterator[BatchJob]:
    """Open the job that asks the chain or model *name* of *hub* as *options* say: `await job.run()` runs it.

    Raises JobError, InvalidRequest and UnknownModel if it cannot begin.
    """
    rows = open_rows(hub, name, options)
    journal = Journal(find_journal(options.output))
    try:
        yield BatchJob(hub.get(name), options, rows, journal, _open_phase(hub, name, options, rows, journal))
    finally:
        journal.close()


def _open_phase(hub: Hub, name: str, options: JobOptions, rows: JobRows, journal: Journal) -> BatchPhase | None:
    """Return what takes the rows through a vendor's batch API, if a model of the chain is to be asked so."""
    entry = find_batch_entry(hub.loaded, name)
    batch = None if entry is None else find_batch_options(entry)
    if entry is None or batch is None:
        return None
    model = BatchModel(hub, entry.name, name, options.parameters, options.structured_model)
    return BatchPhase(model, rows, journal, window=batch.window, has_output=options.has_output)
