"""How a plan looks, in words and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from modelhub.cli.chain_plan import TOKENS, Member, Plan, Worst
from modelhub.cli.chain_warnings import notes
from modelhub.cli.output import columns, counted, line, money, span, took
from modelhub.config.schema import load_layer_options
from modelhub.middleware.limit.layer import RateLimitPool
from modelhub.middleware.limit.options import LimitOptions
from modelhub.options import LayerOptions
from modelhub.registry import list_layers

if TYPE_CHECKING:
    from rich.text import Text

    from modelhub.cli.output import Cell
    from modelhub.config.load import Origin
    from modelhub.middleware.chain.options import ChainOptions

__all__ = ["as_dict", "lines"]

_LABEL = 9
_SEEN_ABOVE = ("provider", "model_name", "models", "steps", "reply")
"""Keys whose values stand in the first lines already."""


def lines(plan: Plan) -> list[Text]:
    """The lines that tell of *plan*."""
    return [
        *(_one(plan) if plan.chain is None else (_header(plan, plan.chain), *_members(plan))),
        *_labelled("layers", [" > ".join(_layers())]),
        *_labelled("at worst", _worst(plan)),
        *_labelled("left", [f"{pool.name}: {pool.left()} (in a new process)" for pool in _pools(plan)]),
        *_labelled("budgets", _budgets(plan)),
        *_labelled("files", _files(plan)),
        *_labelled("watch", notes(plan), "yellow"),
        *_where(plan),
    ]


def _budgets(plan: Plan) -> list[str]:
    """What may be spent, and what happens to a call that would exceed it."""
    rows = []
    for name, budget in plan.budgets().items():
        amount = f"${budget.usd.normalize():f}" if budget.usd is not None else f"{budget.tokens:,} tokens"
        subjects = {"model": budget.model, "chain": budget.chain, "tag": budget.tag}
        subject = next((f"{kind} {value}" for kind, value in subjects.items() if value is not None), "every call")
        each = " (for each value)" if budget.tag is not None and "=" not in budget.tag else ""
        then = "then calls fail" if budget.on_exceeded == "fail" else "then a warning"
        rows.append(f"{name}: {amount} per {budget.per} for {subject}{each}, {then}")
    return rows


def _files(plan: Plan) -> list[str]:
    allowed = plan.loaded.config.files.allow
    return [] if allowed is None else [f"messages may name those below {', '.join(allowed)}" if allowed else "none"]


def _header(plan: Plan, chain: ChainOptions) -> Text:
    facts = ["chain"]
    if chain.deadline is not None:
        facts.append(f"deadline {span(chain.deadline)}")
    if chain.stream:
        facts.append("streams")
    restart = chain.on_broken_stream == "restart"
    facts.append("broken streams restart on the next model" if restart else "broken streams raise")
    return line((plan.name, "bold"), f"  {', '.join(facts)}")


def _one(plan: Plan) -> Iterator[Text]:
    """The first lines of a model that stands alone."""
    member = plan.members[0]
    yield from columns([[(plan.name, "bold"), "model", *_row(plan, member)]], indent=0)
    if member.configured:
        yield line("  ", (" · ".join(_details(member)), "dim"))


def _layers() -> list[str]:
    """The layers' names from the outermost to the provider."""
    return ["chain", *(spec.title for spec in list_layers()), "provider"]


# -- who is asked ------------------------------------------------------------------------------------------------------


def _members(plan: Plan) -> Iterator[Text]:
    names = ["  " * member.depth + f"{member.number} {member.name}" for member in plan.members]
    rows = columns([name, *_row(plan, member)] for name, member in zip(names, plan.members, strict=True))
    indent = 2 + max(map(len, names)) + 2
    for row, member in zip(rows, plan.members, strict=True):
        yield row
        if member.configured and not member.never_fails:
            yield line(" " * indent, (" · ".join(_details(member)), "dim"))


def _row(plan: Plan, member: Member) -> list[Cell]:
    if member.entry is None:
        deadline = member.chain.deadline if member.chain is not None else None
        return [f"chain, deadline {span(deadline)}" if deadline is not None else "chain"]
    options = member.entry.options
    model_name = options.model_name if options is not None else ""
    named = "" if model_name == member.entry.provider else f" {model_name}"
    what = f"{member.entry.provider}{named}"
    if member.missing is not None:
        return [what, (f"not configured ({member.missing}): skipped", "yellow")]
    return [what, _limit(plan, member)]


def _limit(plan: Plan, member: Member) -> str:
    limit = member.layer("limit")
    if limit is None:
        return ""
    pool: LimitOptions = plan.loaded.limits[limit] if isinstance(limit, str) else limit
    name = f"limit {limit}" if isinstance(limit, str) else "limit of its own"
    return f"{name} ({', '.join(_bounds(pool))})"


def _bounds(pool: LimitOptions) -> Iterator[str]:
    for what, rate in pool.rates():
        yield f"{_short(rate.amount)} {what.replace('_', ' ')}/{rate.unit}"
    if pool.concurrency == "auto":
        yield "as many at once as the vendor bears"
    elif pool.concurrency is not None:
        yield f"{_short(pool.concurrency)} at once"


def _short(number: int) -> str:
    for size, unit in ((1_000_000, "M"), (1_000, "k")):
        if number >= size and number % (size // 10) == 0:
            return f"{number / size:g}{unit}"
    return f"{number:,}"


def _details(member: Member) -> Iterator[str]:
    retry, timeout = member.retry, member.timeout
    if member.entry is not None and member.entry.options is not None:
        yield from member.entry.options.describe()
    if retry.max_attempts > 1:
        waits = f"{span(retry.initial_wait)} to {span(retry.max_wait)}" if retry.max_wait else "at once"
        yield f"retry {retry.max_attempts} attempts, {waits}"
    else:
        yield "no retry"
    for name in ("connect", "first_token", "idle", "total"):
        yield f"{name.replace('_', ' ')} {span(getattr(timeout, name))}"
    if (breaker := member.layer("breaker")) is not None:
        pauses = f"{span(breaker.pause)} to {span(breaker.max_pause)}"
        yield f"left alone after {counted(breaker.failures, 'failure')}, {pauses}"
    if (pricing := member.layer("pricing")) is not None:
        yield f"${pricing.input:f} in, ${pricing.output:f} out a million tokens"
    known = {"retry", "timeout", "breaker", "pricing", "limit"}
    yield from (key for key in load_layer_options() if key not in known and member.layer(key) is not None)


# -- how much ----------------------------------------------------------------------------------------------------------


def _worst(plan: Plan) -> list[str]:
    plain, streamed = plan.worst(stream=False), plan.worst(stream=True)
    if not plain.attempts:
        return []
    more = f" ({streamed.attempts} if streamed)" if streamed.attempts != plain.attempts else ""
    words = f"{counted(plain.attempts, 'attempt')}{more}, {_seconds(plain)}"
    dearest = plan.dearest()
    if dearest is None:
        return [words]
    cost, name = dearest
    tokens = " in, ".join(_short(number) for number in TOKENS)
    at = f" (at {name})" if len(plan.configured) > 1 else ""
    return [f"{words}; dearest call of {tokens} out: {money(cost)}{at}"]


def _seconds(worst: Worst) -> str:
    longer = ", or longer if a vendor or a limit makes it wait" if worst.open else ""
    return f"{span(round(worst.seconds)) if worst.seconds < 300 else took(worst.seconds)}{longer}"


def _labelled(label: str, texts: list[str], style: str = "") -> Iterator[Text]:
    for at, text in enumerate(texts):
        yield line((f"{label if at == 0 else '':<{_LABEL}}", "bold"), (text, style))


def _pools(plan: Plan) -> list[RateLimitPool]:
    """The named limits of the plan, as a process that begins now would find them."""
    used = dict.fromkeys(limit for member in plan.models if isinstance(limit := member.layer("limit"), str))
    return [RateLimitPool(name, plan.loaded.limits[name]) for name in used]


# -- where it is said --------------------------------------------------------------------------------------------------


def _where(plan: Plan) -> Iterator[Text]:
    found = [
        (f"{path} = {_cut(origin.shown)}", ", ".join(filter(None, (section, f"{plan.loaded.file}:{origin.line}"))))
        for path, section, origin in _origins(plan)
    ]
    for at, row in enumerate(columns(found, indent=0, room=_LABEL)):
        yield line((f"{'where' if at == 0 else '':<{_LABEL}}", "bold")).append_text(row)


def _origins(plan: Plan) -> Iterator[tuple[str, str, Origin]]:
    """What the file sets for the plan, in the order of the file: its name, the section if it is not the entry's own."""
    found: dict[tuple[int, str], tuple[str, str, Origin]] = {}
    for name in dict.fromkeys([plan.name, *(member.name for member in plan.members)]):
        for origin in plan.loaded.list_origins(name):
            if origin.source == "built-in default" or origin.path.split(".")[0] in _SEEN_ABOVE:
                continue
            shared = origin.source == "defaults"
            path = origin.path if shared else f"{name}.{origin.path}"
            found[origin.line, path] = (path, "defaults" if shared else "", origin)
    yield from (found[key] for key in sorted(found, key=lambda key: key[0]))


def _cut(text: str, most: int = 60) -> str:
    return text if len(text) <= most else f"{text[: most - 2]}.."


# -- JSON --------------------------------------------------------------------------------------------------------------


def as_dict(plan: Plan) -> dict[str, Any]:
    """*plan* as JSON has it."""
    plain, streamed = plan.worst(stream=False), plan.worst(stream=True)
    dearest = plan.dearest()
    return {
        "name": plan.name,
        "kind": "model" if plan.chain is None else "chain",
        "options": None if plan.chain is None else plan.chain.model_dump(mode="json"),
        "members": [_member_dict(member) for member in plan.members],
        "layers": _layers(),
        "worst": {
            "attempts": plain.attempts,
            "attempts_streamed": streamed.attempts,
            "seconds": plain.seconds,
            "may_wait_longer": plain.open,
            "dearest_call": None if dearest is None else {"cost": str(dearest[0]), "model": dearest[1]},
        },
        "left": {pool.name: pool.left().as_dict() for pool in _pools(plan)},
        "budgets": {name: budget.model_dump(mode="json") for name, budget in plan.budgets().items()},
        "files": plan.loaded.config.files.allow,
        "watch": notes(plan),
        "where": [
            {"path": path, "value": origin.shown, "source": origin.source, "line": origin.line}
            for path, _, origin in _origins(plan)
        ],
    }


def _member_dict(member: Member) -> dict[str, Any]:
    found: dict[str, Any] = {"name": member.name, "number": member.number, "depth": member.depth}
    if member.entry is None:
        return {**found, "kind": "chain"}
    options = member.entry.options
    return {
        **found,
        "kind": "model",
        "provider": member.entry.provider,
        "model_name": options.model_name if options is not None else None,
        "missing": member.missing,
        "layers": {key: _layer_dict(value) for key, value in member.entry.layers.items() if value is not None},
    }


def _layer_dict(value: LayerOptions | str) -> Any:
    return value if isinstance(value, str) else value.model_dump(mode="json")
