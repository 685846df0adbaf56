"""`modelhub batch`: ask a model once for each row of a file, and go on where a killed job stopped."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelhub.cli.exit import Exit
from modelhub.cli.options import (
    AsJson,
    ConfigFile,
    Name,
    Parameters,
    Profile,
    SchemaSource,
    load_hub,
    parse_pairs,
    parse_parameters,
    read_schema,
)
from modelhub.cli.output import show_waiting
from modelhub.cli.report import fail_usage, print_simple_error, report_errors

if TYPE_CHECKING:
    from modelhub.jobs.plan import JobOptions

__all__ = ["batch"]


Source = Annotated[
    Path, typer.Argument(metavar="INPUT", help="The rows: a file that ends in .jsonl, .csv or .parquet.")
]
Output = Annotated[Path, typer.Option("--output", "-o", metavar="PATH", help="The answers: .jsonl, .csv or .parquet.")]
PromptTemplate = Annotated[
    str | None,
    typer.Option("--prompt", "-p", metavar="TEMPLATE", help='A prompt with columns, as in "Summarise: {text}".'),
]
SystemMessage = Annotated[
    str | None, typer.Option("--system", "-s", metavar="TEXT", help="The system message of every row.")
]
Tags = Annotated[
    list[str] | None, typer.Option("--tag", metavar="NAME=VALUE", help="A tag of every call; can be repeated.")
]
Deadline = Annotated[
    str | None, typer.Option("--deadline", metavar="TIME", help="The time of each call, such as 30s or 2m.")
]
Concurrency = Annotated[
    int, typer.Option("--concurrency", "-c", metavar="N", min=1, help="How many calls are under way at a time.")
]
Budget = Annotated[
    str | None, typer.Option("--budget", metavar="AMOUNT", help="Begin no row that could exceed this, such as 20usd.")
]
Ordered = Annotated[
    bool, typer.Option("--ordered", help="Write the answers in the order of the rows, when all are there.")
]
RetryFailed = Annotated[bool, typer.Option("--retry-failed", help="Ask rows again that failed before.")]
IsDryRun = Annotated[bool, typer.Option("--dry-run", help="Ask nobody; say what it may cost.")]


def batch(
    name: Name,
    source: Source,
    output: Output,
    prompt: PromptTemplate = None,
    system: SystemMessage = None,
    schema: SchemaSource = None,
    ask: Parameters = None,
    tag: Tags = None,
    deadline: Deadline = None,
    concurrency: Concurrency = 16,
    budget: Budget = None,
    ordered: Ordered = False,
    retry_failed: RetryFailed = False,
    dry_run: IsDryRun = False,
    as_json: AsJson = False,
    file: ConfigFile = None,
    profile: Profile = None,
) -> None:
    """Ask a model or a chain once for each row of a file.

    A row is a prompt, or messages, or any columns with --prompt. A journal beside the output keeps every answer: the
    same command goes on where a job was interrupted or killed, and asks nothing twice. Ctrl-C finishes the calls under
    way, a second one cancels them.

    \b
    Examples:
      modelhub batch primary prompts.jsonl -o answers.jsonl --dry-run
      modelhub batch primary reviews.csv -o topics.csv --prompt "Name the topic: {text}" --ask temperature=0
      modelhub batch primary scans.parquet -o invoices.parquet -p "{text}" --schema app:Invoice --budget 20usd
    """
    with report_errors(as_json=as_json), _report_job_errors(as_json=as_json):
        from modelhub.jobs.plan import JobOptions

        parameters, structure = _make_parameters(ask, tag, deadline), None if schema is None else read_schema(schema)
        how = (parameters, structure, concurrency, _parse_budget(budget), ordered, retry_failed)
        command = _BatchCommand(name, JobOptions(source, output, prompt, system, *how), file, profile, as_json)
        command.execute(is_dry_run=dry_run)


def _make_parameters(ask: list[str] | None, tags: list[str] | None, deadline: str | None) -> dict[str, Any]:
    """Return the keywords of every call."""
    parameters = parse_parameters(ask)
    if tags:
        parameters["tags"] = parse_pairs(tags, "--tag", "job=nightly")
    if deadline is not None:
        parameters["deadline"] = deadline
    return parameters


@contextmanager
def _report_job_errors(*, as_json: bool) -> Iterator[None]:
    """Print the error of a job that cannot begin, and exit with the status of a wrong command line."""
    from modelhub.jobs.errors import JobError

    try:
        yield
    except JobError as error:
        print_simple_error("JobError", str(error), as_json)
        raise typer.Exit(Exit.USAGE) from None


def _parse_budget(text: str | None) -> Decimal | None:
    if text is None:
        return None
    from modelhub.jobs.budget import parse_budget

    try:
        return parse_budget(text)
    except ValueError as error:
        fail_usage(str(error), "--budget")


@dataclass(frozen=True, slots=True)
class _BatchCommand:
    """The arguments of the command."""

    name: str
    options: JobOptions
    file: Path | None
    profile: str | None
    as_json: bool

    def execute(self, *, is_dry_run: bool) -> None:
        """Run the job, or say what it would do; exit with a status if that is not 0."""
        import asyncio

        status = asyncio.run(self.plan() if is_dry_run else self.run())
        if status:
            raise typer.Exit(status)

    async def plan(self) -> Exit:
        """Print what the job would do, and what it may cost."""
        from modelhub.cli.batch.show import print_plan
        from modelhub.jobs.batch_job import open_rows
        from modelhub.jobs.dry_run import plan_run
        from modelhub.jobs.journal import Journal, find_journal
        from modelhub.jobs.vendor_batch.batch_model import find_batch_entry

        async with load_hub(self.file, self.profile) as hub:
            rows = open_rows(hub, self.name, self.options)
            path = find_journal(self.options.output)
            journal = Journal(path) if path.exists() else None
            try:
                in_batches = find_batch_entry(hub.loaded, self.name) is not None
                with show_waiting(f"reading {self.options.source}"):
                    run = plan_run(hub.get(self.name), self.options, rows, journal, in_batches=in_batches)
            finally:
                if journal is not None:
                    journal.close()
        print_plan(self.name, run, self.options, as_json=self.as_json)
        return Exit.OK

    async def run(self) -> Exit:
        """Run the job, print its summary, and return the exit status."""
        from modelhub.cli.batch.interrupt import stop_on_interrupt
        from modelhub.cli.batch.show import print_summary, show_progress
        from modelhub.jobs.batch_job import open_job

        async with load_hub(self.file, self.profile) as hub:
            with open_job(hub, self.name, self.options) as job:
                with stop_on_interrupt(job) as interrupts, _collect_garbage_less_often():
                    async with show_progress(job.progress):
                        progress = await job.run()
                totals = job.journal.sum_totals()
        print_summary(progress, totals, self.options, interrupted=interrupts.count > 0, as_json=self.as_json)
        if interrupts.count and progress.left:
            return Exit.INTERRUPTED
        return Exit.FAILED if progress.failed or progress.left else Exit.OK


@contextmanager
def _collect_garbage_less_often() -> Iterator[None]:
    """Let the collector pass over what was loaded, and run less often.

    The calls under way have thousands of objects that live as long as they do. At the usual rate these are gone through
    again and again, which is a tenth of what a job costs.
    """
    thresholds = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(20_000, *thresholds[1:])
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()
