"""What a fire drill plays: which fault, on which models, and what is to come of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from modelhub.cli.output import names
from modelhub.testing import FAULTS, Drill, Fault

if TYPE_CHECKING:
    from modelhub.cli.chain_plan import Plan

__all__ = ["DrillCase", "Candidates", "drill_cases", "find_candidates"]

_OUTAGES = ("overloaded", "silence")
"""What is played on more than the first model: a vendor that says that it is down, and one that says nothing."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """The models of a call in the order in which they are asked.

    `vendors` can be made to fail, `scripted` ones cannot, and those in `left_out` lack what the text says.
    """

    vendors: tuple[str, ...]
    scripted: tuple[str, ...] = ()
    left_out: dict[str, str] = field(default_factory=dict)
    last_is_scripted: bool = False


def find_candidates(plan: Plan) -> Candidates:
    """Who is asked by *plan*; a model that stands at several places once."""
    configured = list({member.name: member for member in plan.configured}.values())
    return Candidates(
        vendors=tuple(member.name for member in configured if not member.scripted),
        scripted=tuple(member.name for member in configured if member.scripted),
        left_out={member.name: member.missing for member in plan.models if member.missing is not None},
        last_is_scripted=bool(configured) and configured[-1].scripted,
    )


@dataclass(frozen=True, slots=True)
class DrillCase:
    """The fault *key*, played *on* some models while *others* do what the drill says of those behind.

    `has_fallback` tells whether anybody is left who could answer.
    """

    key: str
    drill: Drill
    on: tuple[str, ...]
    others: tuple[str, ...]
    has_fallback: bool
    stream: bool
    of: int

    @property
    def title(self) -> str:
        """The fault, and on whom if not on the first alone."""
        if len(self.on) == 1:
            return self.drill.title
        title = FAULTS[_OUTAGES[0]].title if self.drill.all_but_last else self.drill.title
        if len(self.on) == 2:
            return f"{title} on {names(self.on)}"
        return f"{title} on {'all' if len(self.on) == self.of else 'the first'} {len(self.on)}"

    @property
    def expects(self) -> str:
        """What the caller is to get: an `answer` or an `error`."""
        return self.drill.expects if self.has_fallback else self.drill.alone


def drill_cases(lineup: Candidates, *, only: Sequence[str], deep: bool, stream: bool, forced: bool) -> list[DrillCase]:
    """What is played with *lineup*: on the first model everything, on the first two and more the outages.

    *only* these faults, if there are any; everything everywhere if *deep*. *stream* says how is asked: for faults of
    streams as well if it is *forced*, else they are streamed whatever it says.
    """
    chosen = [key for key in FAULTS if (key in only if only else not FAULTS[key].all_but_last)]
    if forced and not stream:
        chosen = [key for key in chosen if not _needs_stream(FAULTS[key])]
    return [
        _exercise(lineup, key, depth, stream=_is_streamed(FAULTS[key], stream, forced))
        for depth in range(1, len(lineup.vendors) + 1)
        for key in chosen
        if _is_played(lineup, key, depth, outages=not only, deep=deep)
    ]


def _is_streamed(drill: Drill, stream: bool, forced: bool) -> bool:
    if drill.plain:
        return False
    return stream or (not forced and _is_of_streams(drill))


def _is_played(lineup: Candidates, key: str, depth: int, *, outages: bool, deep: bool) -> bool:
    if FAULTS[key].all_but_last:
        return depth == max(1, len(lineup.vendors) - (not lineup.last_is_scripted))
    return deep or depth == 1 or (outages and key in _OUTAGES)


def _exercise(lineup: Candidates, key: str, depth: int, *, stream: bool) -> DrillCase:
    on, others = lineup.vendors[:depth], lineup.vendors[depth:]
    has_fallback = bool(others or lineup.scripted)
    return DrillCase(key, FAULTS[key], on, others, has_fallback, stream, len(lineup.vendors))


def _faults(drill: Drill) -> Iterator[type[Fault]]:
    return (type(item) for item in drill.script if isinstance(item, Fault))


def _is_of_streams(drill: Drill) -> bool:
    """Whether *drill* plays what has a way of its own to break a stream."""
    return any(fault.stream is not Fault.stream for fault in _faults(drill))


def _needs_stream(drill: Drill) -> bool:
    """Whether nothing is wrong with a plain answer under *drill*."""
    return all(fault.plain is Fault.plain and fault.stream is not Fault.stream for fault in _faults(drill))
