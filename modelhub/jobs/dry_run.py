"""What a job would do, and may cost, without asking anybody."""

from __future__ import annotations

from dataclasses import dataclass, field

from modelhub.core.errors import InvalidRequest
from modelhub.core.model import ChatModelBase
from modelhub.jobs.estimate import CostEstimate, CostEstimator
from modelhub.jobs.journal import Journal
from modelhub.jobs.plan import MAX_SAMPLES, JobOptions, JobRows
from modelhub.jobs.vendor_batch.interface import PRICE_FACTOR

__all__ = ["DryRun", "plan_run"]


@dataclass(slots=True)
class DryRun:
    """What a job would do.

    Of `total` rows, `asked` would be asked, `reused` have their answer in the journal, `repeated` are like a row before
    them, and `invalid` cannot be asked. `estimate` is what the rows to ask may cost, with answers of `output_tokens`
    as expected, which are an average of the journal if `is_measured`. `unpriced` models have no known price, and the
    answers of `unbounded` ones may be of any length.
    """

    total: int = 0
    asked: int = 0
    reused: int = 0
    repeated: int = 0
    invalid: int = 0
    estimate: CostEstimate = field(default_factory=CostEstimate)
    output_tokens: int = 0
    is_measured: bool = False
    in_batches: bool = False
    unpriced: list[str] = field(default_factory=list)
    unbounded: list[str] = field(default_factory=list)
    samples: list[str] = field(default_factory=list)
    """The errors of the first rows that cannot be asked."""


def plan_run(
    model: ChatModelBase, options: JobOptions, rows: JobRows, journal: Journal | None, *, in_batches: bool = False
) -> DryRun:
    """Return what a job of *model* over *rows* would do; *journal* is that of earlier runs, if there is one.

    With *in_batches*, rows go through a vendor's batch API: what is expected is at its price, and the worst is that all
    rows are asked one by one as well.
    """
    average = None if journal is None else journal.sum_totals().average_output
    run = DryRun(is_measured=average is not None, in_batches=in_batches)
    estimator = CostEstimator(model, options.parameters, average)
    run.output_tokens, run.unpriced, run.unbounded = estimator.output_tokens, estimator.unpriced, estimator.unbounded
    seen: set[bytes] = set()
    for job_row in rows.read(journal):
        run.total += 1
        if job_row.answer is not None:
            run.reused += bool(job_row.key)
            if not job_row.key:
                _count_invalid(run, str(job_row.answer.columns["error"]))
        elif job_row.key in seen:
            run.repeated += 1
        else:
            seen.add(job_row.key)
            try:
                run.estimate.add(estimator.estimate(job_row.messages))
                run.asked += 1
            except InvalidRequest as error:
                _count_invalid(run, f"{job_row.row.place}: {error}")
    if in_batches:
        run.estimate.apply_batches(PRICE_FACTOR)
    return run


def _count_invalid(run: DryRun, error: str) -> None:
    run.invalid += 1
    if len(run.samples) < MAX_SAMPLES:
        run.samples.append(error)
