"""Warnings about a chain, such as single points of failure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from modelhub.cli.chain_plan import Member, Plan
from modelhub.cli.output import join_names

__all__ = ["list_warnings", "warn_long_timeout"]


def list_warnings(plan: Plan) -> list[str]:
    """Return one sentence for each warning."""
    return [
        *_warn_single_vendor(plan),
        *_warn_unreachable(plan),
        *_warn_shared_limit(plan),
        *_warn_no_deadline(plan),
        *warn_long_timeout(plan),
        *_warn_left_out(plan),
        *_warn_own_keys(plan),
        *_warn_keys_share_limit(plan),
    ]


def _warn_single_vendor(plan: Plan) -> Iterator[str]:
    if not plan.configured:
        instructions = dict.fromkeys(member.missing for member in plan.models if member.missing)
        yield f"nothing is configured, so every call fails: {'; '.join(instructions)}"
        return
    if not plan.vendors:
        if len(plan.configured) < len(plan.models):
            yield "no vendor is configured: only scripted models are called"
        return
    if len({member.endpoint for member in plan.vendors}) > 1:
        return
    names, provider = _list_names(plan.vendors), plan.vendors[0].endpoint[0]
    scripted = [member.name for member in plan.configured if member.scripted]
    remaining = f"the scripted reply of {scripted[0]}" if scripted else "no answer"
    if len(names) > 1 and len({member.account for member in plan.vendors}) == 1:
        shared = f"{join_names(names)} share one endpoint and key ({provider})"
        yield f"{shared}: one outage, or one revoked key, leaves {remaining}"
    elif len(names) > 1:
        yield f"{join_names(names)} share one endpoint ({provider}): one outage leaves {remaining}"
    elif plan.chain is not None:
        yield f"{names[0]} is the only configured model of a vendor: its outage leaves {remaining}"


def _list_names(members: Sequence[Member]) -> list[str]:
    return list(dict.fromkeys(member.name for member in members))


def _warn_unreachable(plan: Plan) -> Iterator[str]:
    for index, member in enumerate(plan.models):
        behind = plan.models[index + 1 :]
        place = member.number, member.depth
        unreachable = _list_names([each for each in behind if not each.share or (each.number, each.depth) != place])
        if member.never_fails and unreachable:
            verb = "is" if len(unreachable) == 1 else "are"
            yield f"{member.name} always answers: {join_names(unreachable)} after it {verb} never called"
            return


def _warn_shared_limit(plan: Plan) -> Iterator[str]:
    pools = {limit if isinstance(limit := member.get_layer("limit"), str) else None for member in plan.vendors}
    names = _list_names(plan.vendors)
    if len(names) > 1 and len(pools) == 1 and None not in pools:
        yield f"{join_names(names)} share limit {pools.pop()}: while one waits for it, so do the others"


def _warn_no_deadline(plan: Plan) -> Iterator[str]:
    if plan.chain is not None and plan.configured and plan.find_worst_case().open:
        yield "no deadline: a call may wait as long as a vendor or a limit makes it; add `deadline:`"


def _warn_left_out(plan: Plan) -> Iterator[str]:
    of_chain = plan.chain.ask.given() if plan.chain is not None and plan.chain.ask is not None else {}
    consequence = "is left out" if plan.loaded.config.parameters.unsupported == "drop" else "keeps it from being called"
    for name in _list_names(plan.configured):
        member = next(member for member in plan.configured if member.name == name)
        ask = member.options.ask if member.options is not None else None
        asked = {**(ask.given() if ask is not None else {}), **of_chain}
        unsupported = member.find_unsupported(plan) if asked else {}
        for parameter, reason in unsupported.items():
            if parameter in asked:
                yield f"`{parameter}` of `ask` {consequence} for {name}: {reason}"


def _warn_keys_share_limit(plan: Plan) -> Iterator[str]:
    """Warn of keys of one model that name the same limit: it is paused for all when one is rate limited."""
    limits: dict[tuple[str, str], list[str]] = {}
    for member in plan.configured:
        if member.key is not None and isinstance(limit := member.get_layer("limit"), str):
            limits.setdefault((limit, member.name), []).append(member.key)
    for (limit, _), keys in limits.items():
        if len(shared := list(dict.fromkeys(keys))) > 1:
            yield f"{join_names(shared)} share limit {limit}: a rate limit of one pauses all; give each its own `limit`"


def _warn_own_keys(plan: Plan) -> Iterator[str]:
    """Warn of models with the application's own key in a chain to whose calls others bring their keys."""
    entries = [member.entry for member in plan.vendors if member.entry is not None]
    own = list(dict.fromkeys(entry.name for entry in entries if entry.call_key is None))
    if own and len(own) < len({entry.name for entry in entries}):
        verb = "has" if len(own) == 1 else "have"
        yield (
            f"{join_names(own)} {verb} the application's own key: calls that bring theirs are answered at its expense "
            "where their models fail"
        )


def warn_long_timeout(plan: Plan) -> Iterator[str]:
    """Warn of the first model that can use up the deadline by its silence, although another one is behind it.

    Keys that are not set make no difference: the file is also used where they are.
    """
    deadline = plan.chain.deadline if plan.chain is not None else None
    if plan.chain is None or deadline is None:
        return
    for index, member in enumerate(plan.models):
        has_fallback = any(other.name != member.name for other in plan.models[index + 1 :])
        timeout = member.timeout
        key = "first_token" if member.streams_inside and timeout.first_token <= timeout.total else "total"
        seconds = getattr(timeout, key)
        if has_fallback and not member.scripted and seconds >= deadline:
            yield (
                f"{member.name} alone may use up the deadline ({seconds:g} of {deadline:g} s), so that no other model "
                f"is tried if it does not answer; lower its `timeout.{key}`, or raise the `deadline`"
            )
            return
