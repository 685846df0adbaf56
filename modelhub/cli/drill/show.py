"""Format the report of a drill, as a table and as JSON, and show its progress."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from modelhub.cli.output import align_columns, can_rewrite_lines, format_count, format_duration, make_line
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
    first, several = _split_rows(report.rows)
    head = f"fault on {report.candidates.vendors[0]}"
    return [
        *(_format_left_out(name, missing) for name, missing in report.candidates.left_out.items()),
        *_format_table(head, first),
        *([make_line("")] if first and several else []),
        *_format_table("fault on several", several),
        make_line(""),
        _format_summary(report),
    ]


def _split_rows(rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    return (
        [row for row in rows if len(row.case.on) == 1],
        [row for row in rows if len(row.case.on) > 1],
    )


def _format_left_out(name: str, missing: str) -> Text:
    return make_line((name, "bold"), " ", (f"left out: {missing}", "yellow"))


def _format_table(head: str, rows: Sequence[Row]) -> list[Text]:
    if not rows:
        return []
    header: list[Cell] = [(word, "bold") for word in (head, "caller got", "by", "attempts", "took", "verdict")]
    return align_columns([header, *map(_make_cells, rows)], indent=0, labels=("", "got", "by", "attempts", "took", ""))


def _make_cells(row: Row) -> list[Cell]:
    outcome, evaluation = row.outcome, row.evaluation
    return [
        row.case.title,
        _format_result(row),
        outcome.by or "-",
        _format_attempts(outcome.count_attempts()),
        format_duration(outcome.took),
        _format_verdict(evaluation),
    ]


def _format_attempts(counts: dict[str, int]) -> str:
    """Format attempts as `gpt 3 claude 1`; for many models only the sum, so that it fits a terminal."""
    if len(counts) > _MAX_NAMED_MODELS:
        return f"{sum(counts.values())} at {len(counts)} models"
    return " ".join(f"{model} {count}" for model, count in counts.items()) or "-"


def _format_result(row: Row) -> Cell:
    style = _VERDICT_STYLES[row.evaluation.verdict]
    if row.evaluation.verdict == "lost":
        return "LOST", style
    return (_RESULT_TEXTS[row.outcome.got], style if row.evaluation.verdict == "wrong" else "")


def _format_verdict(evaluation: Evaluation) -> Text:
    style = _VERDICT_STYLES[evaluation.verdict]
    if evaluation.verdict == "ok":
        return make_line(("ok", style), (f" ({evaluation.why})" if evaluation.why else "", "dim"))
    return make_line((evaluation.verdict, style), f": {evaluation.why}" if evaluation.why else "")


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
    case, outcome = row.case, row.outcome
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
        "error": _make_error_dict(outcome.error),
    }


def _make_error_dict(error: Exception | None) -> dict[str, str] | None:
    if error is None:
        return None
    kind = error.kind if isinstance(error, CallError) else type(error).__name__
    return {"kind": kind, "message": str(error)}


# -- while it is played ------------------------------------------------------------------------------------------------


@contextmanager
def show_progress(total: int) -> Iterator[Callable[[str], None]]:
    """Show a progress bar on standard error, if that is a terminal; yields a function to call with the next title."""
    if not can_rewrite_lines(sys.stderr):
        yield lambda title: None  # noqa: ARG005
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    console = Console(stderr=True, color_system=None if os.environ.get("NO_COLOR") else "auto")
    bar = Progress(BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), console=console, transient=True)
    with bar:
        task = bar.add_task("", total=total)
        done = -1

        def advance(title: str) -> None:
            nonlocal done
            done += 1
            bar.update(task, completed=done, description=title)

        yield advance
