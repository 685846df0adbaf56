"""Plan a drill: which faults are played on which models, and what the caller should get."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from modelhub.cli.output import join_names
from modelhub.testing import FAULTS, Drill, Fault

if TYPE_CHECKING:
    from modelhub.cli.chain_plan import Plan

__all__ = ["DrillCase", "Candidates", "make_drill_cases", "find_candidates"]

_OUTAGES = ("overloaded", "silence")
"""The faults that are also played on more than one model: a vendor that reports an outage, and a silent one."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """The models of a call in the order in which they are tried.

    Faults can be played on `vendors`, but not on `scripted` models. `left_out` says why models are not configured.
    """

    vendors: tuple[str, ...]
    scripted: tuple[str, ...] = ()
    left_out: dict[str, str] = field(default_factory=dict)
    last_is_scripted: bool = False


def find_candidates(plan: Plan) -> Candidates:
    """Return the models of *plan*, each of them once."""
    configured = list({member.name: member for member in plan.configured}.values())
    return Candidates(
        vendors=tuple(member.name for member in configured if not member.scripted),
        scripted=tuple(member.name for member in configured if member.scripted),
        left_out={member.name: member.missing for member in plan.models if member.missing is not None},
        last_is_scripted=bool(configured) and configured[-1].scripted,
    )


@dataclass(frozen=True, slots=True)
class DrillCase:
    """The fault *key*, played *on* some models; *others*, the models after them, follow the drill's script for others.

    `has_fallback` is whether a model is left that could answer.
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
        """The title of the fault, with the models if it is not played on the first alone."""
        if len(self.on) == 1:
            return self.drill.title
        title = FAULTS[_OUTAGES[0]].title if self.drill.all_but_last else self.drill.title
        if len(self.on) == 2:
            return f"{title} on {join_names(self.on)}"
        return f"{title} on {'all' if len(self.on) == self.of else 'the first'} {len(self.on)}"

    @property
    def expects(self) -> str:
        """What the caller should get: an `answer` or an `error`."""
        return self.drill.expects if self.has_fallback else self.drill.alone


def make_drill_cases(
    candidates: Candidates, *, only: Sequence[str], deep: bool, stream: bool, forced: bool
) -> list[DrillCase]:
    """Return the cases of a drill: every fault on the first model, and outages on the first two models and more.

    With *only*, just these faults; with *deep*, every fault on any number of models. *stream* is whether calls are
    streamed; faults of streams are always streamed, unless it is *forced*.
    """
    vendors, cases = candidates.vendors, []
    chosen = [key for key in FAULTS if (key in only if only else not FAULTS[key].all_but_last)]
    if forced and not stream:
        chosen = [key for key in chosen if not _needs_stream(FAULTS[key])]
    for depth in range(1, len(vendors) + 1):
        on, others = vendors[:depth], vendors[depth:]
        has_fallback = bool(others or candidates.scripted)
        for key in chosen:
            if _is_included(candidates, key, depth, outages=not only, deep=deep):
                drill = FAULTS[key]
                is_streamed = not drill.plain and (stream or (not forced and _has_stream_fault(drill)))
                cases.append(DrillCase(key, drill, on, others, has_fallback, is_streamed, len(vendors)))
    return cases


def _is_included(candidates: Candidates, key: str, depth: int, *, outages: bool, deep: bool) -> bool:
    if FAULTS[key].all_but_last:
        return depth == max(1, len(candidates.vendors) - (not candidates.last_is_scripted))
    return deep or depth == 1 or (outages and key in _OUTAGES)


def _has_stream_fault(drill: Drill) -> bool:
    """Return whether *drill* has a fault that treats streams differently from plain answers."""
    return any(item.stream_effect != "same" for item in drill.script if isinstance(item, Fault))


def _needs_stream(drill: Drill) -> bool:
    """Return whether *drill* only affects streams."""
    effects = [item.stream_effect for item in drill.script if isinstance(item, Fault)]
    return all(effect == "none on plain answers" for effect in effects)
