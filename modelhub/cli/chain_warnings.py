"""What a person should know about a chain before it is needed: single points of failure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from modelhub.cli.chain_plan import Member, Plan
from modelhub.cli.output import names
from modelhub.middleware.timeout.options import TimeoutOptions

__all__ = ["notes"]


def notes(plan: Plan) -> list[str]:
    """One sentence for each thing to watch."""
    return [*_vendors(plan), *_never_asked(plan), *_one_pool(plan), *_no_deadline(plan), *_no_turn(plan)]


def _vendors(plan: Plan) -> Iterator[str]:
    real = [member for member in plan.configured if not member.scripted]
    if not plan.configured:
        todo = list(dict.fromkeys(member.missing for member in plan.models if member.missing))
        yield f"nothing is configured: every call fails until you {names(todo, 'or')}"
        return
    if not real:
        if len(plan.configured) < len(plan.models):
            yield "no vendor is configured: only scripted models are asked"
        return
    if len({member.vendor for member in real}) > 1:
        return
    left = _left(plan)
    if len(_distinct(real)) == 1:
        if plan.chain is not None:
            yield f"{real[0].name} is the only model of a vendor that is configured: its outage leaves {left}"
        return
    who, provider = names(_distinct(real)), real[0].vendor[0]
    same_key = len({member.access for member in real}) == 1
    if same_key:
        yield f"{who} share one endpoint and key ({provider}): one outage, or one revoked key, leaves {left}"
    else:
        yield f"{who} share one endpoint ({provider}): one outage leaves {left}"


def _left(plan: Plan) -> str:
    scripts = [member.name for member in plan.configured if member.scripted]
    return f"the scripted reply of {scripts[0]}" if scripts else "no answer"


def _distinct(members: Sequence[Member]) -> list[str]:
    return list(dict.fromkeys(member.name for member in members))


def _never_asked(plan: Plan) -> Iterator[str]:
    for at, member in enumerate(plan.models):
        has_fallback = _distinct(plan.models[at + 1 :])
        if member.never_fails and has_fallback:
            yield f"{member.name} always answers: {names(has_fallback)} behind it {_is(has_fallback)} never asked"
            return


def _is(found: Sequence[str]) -> str:
    return "is" if len(found) == 1 else "are"


def _one_pool(plan: Plan) -> Iterator[str]:
    real = [member for member in plan.configured if not member.scripted]
    pools = {limit if isinstance(limit := member.layer("limit"), str) else None for member in real}
    if len(_distinct(real)) > 1 and len(pools) == 1 and None not in pools:
        yield f"{names(_distinct(real))} share limit {pools.pop()}: while one waits for it, so do the others"


def _no_deadline(plan: Plan) -> Iterator[str]:
    if plan.chain is not None and plan.configured and plan.worst(stream=False).open:
        yield "no deadline: a call may wait as long as a vendor or a limit makes it; add `deadline:`"


def _no_turn(plan: Plan) -> Iterator[str]:
    deadline = plan.chain.deadline if plan.chain is not None else None
    real = [member for member in plan.configured if not member.scripted]
    if deadline is None or len(plan.configured) < 2:
        return
    for member in real[: len(plan.configured) - 1]:
        total = (member.layer("timeout") or TimeoutOptions()).total
        if total >= deadline:
            yield (
                f"{member.name} alone may use up the deadline ({total:g} of {deadline:g} s): if it is silent, nobody "
                "behind it is asked; lower its `timeout.total`"
            )
            return
