"""How a fire drill looks: a table, JSON, and a bar while it is played."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from modelhub.cli.output import columns, counted, line, took
from modelhub.core.errors import CallError

if TYPE_CHECKING:
    from rich.text import Text

    from modelhub.cli.drill.evaluate import Evaluation
    from modelhub.cli.drill.plan import Candidates, DrillCase
    from modelhub.cli.drill.play import Outcome
    from modelhub.cli.output import Cell

__all__ = ["Report", "Row", "as_dict", "lines", "progress"]

_MANY = 3
_STYLES = {"ok": "green", "slow": "yellow", "lost": "bold red", "wrong": "bold red"}
_GOT = {
    "answer": "answer",
    "offline": "offline reply",
    "error": "clean error",
    "truncated": "truncated!",
    "nothing": "nothing",
    "crash": "crash",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One fault and what came of it."""

    exercise: DrillCase
    outcome: Outcome
    judgement: Evaluation


@dataclass(frozen=True, slots=True)
class Report:
    """A whole drill of *name*."""

    name: str
    lineup: Candidates
    rows: Sequence[Row]

    @property
    def counts(self) -> Counter[str]:
        """How many rows have each verdict."""
        return Counter(row.judgement.verdict for row in self.rows)

    def survived(self, *, strict: bool) -> bool:
        """Whether every fault was survived; if *strict*, in time."""
        bad = {"lost", "wrong", "slow"} if strict else {"lost", "wrong"}
        return not bad & set(self.counts)


# -- the table ---------------------------------------------------------------------------------------------------------


def lines(report: Report) -> list[Text]:
    """The table, and the sum of it."""
    first, more = _parted(report.rows)
    head = f"fault on {report.lineup.vendors[0]}"
    return [
        *(_left_out(name, missing) for name, missing in report.lineup.left_out.items()),
        *_table(head, first),
        *([line("")] if first and more else []),
        *_table("fault on several", more),
        line(""),
        _summary(report),
    ]


def _parted(rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    return (
        [row for row in rows if len(row.exercise.on) == 1],
        [row for row in rows if len(row.exercise.on) > 1],
    )


def _left_out(name: str, missing: str) -> Text:
    return line((name, "bold"), " ", (f"takes no part: {missing}", "yellow"))


def _table(head: str, rows: Sequence[Row]) -> list[Text]:
    if not rows:
        return []
    header: list[Cell] = [(word, "bold") for word in (head, "caller got", "by", "attempts", "took", "verdict")]
    return columns([header, *map(_cells, rows)], indent=0, labels=("", "got", "by", "attempts", "took", ""))


def _cells(row: Row) -> list[Cell]:
    outcome, judgement = row.outcome, row.judgement
    return [
        row.exercise.title,
        _got(row),
        outcome.by or "-",
        _attempts(outcome.counts()),
        took(outcome.took),
        _verdict(judgement),
    ]


def _attempts(counts: dict[str, int]) -> str:
    """`gpt 3 claude 1`; of many models only the sum, or no terminal would be wide enough."""
    if len(counts) > _MANY:
        return f"{sum(counts.values())} at {len(counts)} models"
    return " ".join(f"{model} {count}" for model, count in counts.items()) or "-"


def _got(row: Row) -> Cell:
    style = _STYLES[row.judgement.verdict]
    if row.judgement.verdict == "lost":
        return "LOST", style
    return (_GOT[row.outcome.got], style if row.judgement.verdict == "wrong" else "")


def _verdict(judgement: Evaluation) -> Text:
    style = _STYLES[judgement.verdict]
    if judgement.verdict == "ok":
        return line(("ok", style), (f" ({judgement.why})" if judgement.why else "", "dim"))
    return line((judgement.verdict, style), f": {judgement.why}" if judgement.why else "")


def _summary(report: Report) -> Text:
    counts = report.counts
    parts: list[tuple[str, str] | str] = [(counted(len(report.rows), "fault"), "bold"), f": {counts['ok']} survived"]
    parts += [", ", (f"{counts['slow']} slow", _STYLES["slow"] if counts["slow"] else "")]
    for verdict in ("lost", "wrong"):
        if counts[verdict] or verdict == "lost":
            parts += [", ", (f"{counts[verdict]} {verdict}", _STYLES[verdict] if counts[verdict] else "")]
    return line(*parts)


# -- JSON --------------------------------------------------------------------------------------------------------------


def as_dict(report: Report, *, strict: bool) -> dict[str, Any]:
    """The drill as JSON has it."""
    counts = report.counts
    return {
        "name": report.name,
        "ok": report.survived(strict=strict),
        "vendors": list(report.lineup.vendors),
        "scripted": list(report.lineup.scripted),
        "left_out": report.lineup.left_out,
        "counts": {verdict: counts[verdict] for verdict in _STYLES},
        "faults": [_row_as_dict(row) for row in report.rows],
    }


def _row_as_dict(row: Row) -> dict[str, Any]:
    exercise, outcome = row.exercise, row.outcome
    return {
        "fault": exercise.key,
        "title": exercise.drill.title,
        "on": list(exercise.on),
        "stream": exercise.stream,
        "expected": exercise.expects,
        "got": outcome.got,
        "by": outcome.by,
        "attempts": outcome.counts(),
        "restarts": outcome.restarts,
        "took": round(outcome.took, 3),
        "verdict": row.judgement.verdict,
        "why": row.judgement.why or None,
        "error": _error(outcome.error),
    }


def _error(error: Exception | None) -> dict[str, str] | None:
    if error is None:
        return None
    kind = error.kind if isinstance(error, CallError) else type(error).__name__
    return {"kind": kind, "message": str(error)}


# -- while it is played ------------------------------------------------------------------------------------------------


@contextmanager
def progress(total: int) -> Iterator[Callable[[str], None]]:
    """A bar on standard error, if that is a terminal; what is yielded says what is played next."""
    if sys.stderr is None or not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield lambda title: None  # noqa: ARG005
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    console = Console(stderr=True, color_system=None if os.environ.get("NO_COLOR") else "auto")
    bar = Progress(BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), console=console, transient=True)
    with bar:
        task = bar.add_task("", total=total)
        done = -1

        def tell(title: str) -> None:
            nonlocal done
            done += 1
            bar.update(task, completed=done, description=title)

        yield tell
