"""Format the report of a drill, as a table and as JSON, and show its progress."""

from __future__ import annotations

import itertools
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from modelhub.cli.output import align_columns, can_rewrite_lines, format_count, format_duration, make_line, show_bar
from modelhub.core.errors import CallError

if TYPE_CHECKING:
    from rich.text import Text

    from modelhub.cli.drill.evaluate import Evaluation
    from modelhub.cli.drill.plan import Candidates, DrillCase
    from modelhub.cli.drill.play import DrillOutcome
    from modelhub.cli.output import Cell

__all__ = ["DrillReport", "Row", "make_report_dict", "format_report", "show_progress"]

_MAX_NAMED_MODELS = 3
_VERDICT_STYLES = {"ok": "green", "slow": "yellow", "lost": "bold red", "wrong": "bold red"}
_RESULT_TEXTS = {
    "answer": "answer",
    "offline": "offline reply",
    "error": "clean error",
    "truncated": "truncated!",
    "nothing": "nothing",
    "crash": "crash",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One case and its outcome."""

    case: DrillCase
    outcome: DrillOutcome
    evaluation: Evaluation


@dataclass(frozen=True, slots=True)
class DrillReport:
    """The results of a drill of *name*."""

    name: str
    candidates: Candidates
    rows: Sequence[Row]

    @property
    def counts(self) -> Counter[str]:
        """The number of rows with each verdict."""
        return Counter(row.evaluation.verdict for row in self.rows)

    def survived(self, *, strict: bool) -> bool:
        """Return whether every fault was survived, and with *strict* also in time."""
        bad = {"lost", "wrong", "slow"} if strict else {"lost", "wrong"}
        return not bad & set(self.counts)


# -- the table ---------------------------------------------------------------------------------------------------------


def format_report(report: DrillReport) -> list[Text]:
    """Return the lines of the table and the summary."""
    lines = [
        make_line((name, "bold"), " ", (f"left out: {missing}", "yellow"))
        for name, missing in report.candidates.left_out.items()
    ]
    first = [row for row in report.rows if len(row.case.on) == 1]
    several = [row for row in report.rows if len(row.case.on) > 1]
    lines += _format_table(f"fault on {report.candidates.vendors[0]}", first)
    if first and several:
        lines.append(make_line(""))
    lines += _format_table("fault on several", several)
    return [*lines, make_line(""), _format_summary(report)]


def _format_table(head: str, rows: Sequence[Row]) -> list[Text]:
    if not rows:
        return []
    header: list[Cell] = [(word, "bold") for word in (head, "caller got", "by", "attempts", "took", "verdict")]
    return align_columns([header, *map(_make_cells, rows)], indent=0, labels=("", "got", "by", "attempts", "took", ""))


def _make_cells(row: Row) -> list[Cell]:
    outcome, verdict, why = row.outcome, row.evaluation.verdict, row.evaluation.why
    style, counts = _VERDICT_STYLES[verdict], outcome.count_attempts()
    attempts = " ".join(f"{model} {count}" for model, count in counts.items()) or "-"
    if len(counts) > _MAX_NAMED_MODELS:  # only the sum, so that it fits a terminal
        attempts = f"{sum(counts.values())} at {len(counts)} models"
    result = "LOST" if verdict == "lost" else _RESULT_TEXTS[outcome.got]
    reason = (f" ({why})" if why else "", "dim") if verdict == "ok" else (f": {why}" if why else "", "")
    return [
        row.case.title,
        (result, style if verdict in ("lost", "wrong") else ""),
        outcome.by or "-",
        attempts,
        format_duration(outcome.took),
        make_line((verdict, style), reason),
    ]


def _format_summary(report: DrillReport) -> Text:
    counts = report.counts
    parts: list[tuple[str, str] | str] = [
        (format_count(len(report.rows), "fault"), "bold"),
        f": {counts['ok']} survived",
    ]
    parts += [", ", (f"{counts['slow']} slow", _VERDICT_STYLES["slow"] if counts["slow"] else "")]
    for verdict in ("lost", "wrong"):
        if counts[verdict] or verdict == "lost":
            parts += [", ", (f"{counts[verdict]} {verdict}", _VERDICT_STYLES[verdict] if counts[verdict] else "")]
    return make_line(*parts)


# -- JSON --------------------------------------------------------------------------------------------------------------


def make_report_dict(report: DrillReport, *, strict: bool) -> dict[str, Any]:
    """Return the report as a JSON-compatible dict."""
    counts = report.counts
    return {
        "name": report.name,
        "ok": report.survived(strict=strict),
        "vendors": list(report.candidates.vendors),
        "scripted": list(report.candidates.scripted),
        "left_out": report.candidates.left_out,
        "counts": {verdict: counts[verdict] for verdict in _VERDICT_STYLES},
        "faults": [_make_row_dict(row) for row in report.rows],
    }


def _make_row_dict(row: Row) -> dict[str, Any]:
    case, outcome, error = row.case, row.outcome, row.outcome.error
    kind = error.kind if isinstance(error, CallError) else type(error).__name__
    return {
        "fault": case.key,
        "title": case.drill.title,
        "on": list(case.on),
        "stream": case.stream,
        "expected": case.expects,
        "got": outcome.got,
        "by": outcome.by,
        "attempts": outcome.count_attempts(),
        "restarts": outcome.restarts,
        "took": round(outcome.took, 3),
        "verdict": row.evaluation.verdict,
        "why": row.evaluation.why or None,
        "error": None if error is None else {"kind": kind, "message": str(error)},
    }


# -- while it is played ------------------------------------------------------------------------------------------------


@contextmanager
def show_progress(total: int) -> Iterator[Callable[[str], None]]:
    """Show a progress bar on standard error, if that is a terminal; yields a function to call with the next title."""
    if not can_rewrite_lines(sys.stderr):
        yield lambda title: None  # noqa: ARG005
        return
    done = itertools.count()
    with show_bar(total) as update:
        yield lambda title: update(next(done), title)
