"""Format a plan, as text and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelhub.accounting.accounting import find_ledger
from modelhub.accounting.ledger_location import LedgerError, parse_location
from modelhub.accounting.usage_totals import UsageTotals
from modelhub.cli.chain_plan import TOKENS, Member, Plan
from modelhub.cli.chain_warnings import list_warnings
from modelhub.cli.output import (
    align_columns,
    format_cost,
    format_count,
    format_duration,
    format_setting,
    make_line,
    show_waiting,
)
from modelhub.config.schema import load_layer_options
from modelhub.middleware.limit.layer import RateLimitPool
from modelhub.middleware.limit.options import LimitOptions
from modelhub.registry import list_layers
from modelhub.shared.connection import describe_address

if TYPE_CHECKING:
    from rich.text import Text

    from modelhub.cli.output import Cell
    from modelhub.config.load import Origin
    from modelhub.middleware.chain.options import ChainOptions

__all__ = ["make_plan_dict", "format_plan"]

_CACHE_DAYS = 7
"""The number of days whose calls are looked at for prompt caches."""
_LABEL_WIDTH = 9
_MAX_VALUE_CHARS = 60
_SHOWN_ABOVE = ("provider", "model_name", "models", "steps", "reply")
"""Keys whose values are in the first lines already; where they come from is shown if the file has several layers."""


def format_plan(plan: Plan) -> list[Text]:
    """Return the lines that show *plan*."""
    config = plan.loaded.config
    scope = "in a new process" if config.shared is None else "before any process has asked"
    files = "none" if not config.files.allow else f"messages may refer to files in {', '.join(config.files.allow)}"
    sections = {
        "layers": [" > ".join(_list_layer_names())],
        "at worst": _format_worst(plan),
        "cached": _format_cached(plan),
        "left": [f"{pool.name}: {pool.left()} ({scope})" for pool in _make_pools(plan)],
        "budgets": _format_budgets(plan),
        "shared": _format_shared(plan),
        "ledger": [f"calls are recorded in {ledger}"] if (ledger := _find_ledger(plan)) is not None else [],
        "files": [] if config.files.allow is None else [files],
    }
    lines = [*_format_members(plan)]
    for label, texts in sections.items():
        lines += _label_lines(label, texts)
    return [*lines, *_label_lines("watch", list_warnings(plan), "yellow"), *_format_origins(plan)]


def _label_lines(label: str, texts: list[str], style: str = "") -> Iterator[Text]:
    for index, text in enumerate(texts):
        yield make_line((f"{label if index == 0 else '':<{_LABEL_WIDTH}}", "bold"), (text, style))


def _list_layer_names() -> list[str]:
    """Return the names of the layers from the outermost to the provider."""
    return ["chain", *(spec.title for spec in list_layers()), "provider"]


def _format_cached(plan: Plan) -> list[str]:
    """Return the line about the share of the input that came from prompt caches lately, if any did."""
    totals = _read_cache_totals(plan)
    overall = UsageTotals()
    for total in totals.values():
        overall.add(total)
    if not overall.cache_read_tokens:
        return []
    models = ", ".join(f"{model} {total.cache_share:.0%}" for model, total in totals.items())
    return [f"{overall.cache_share:.0%} of the input of the last {_CACHE_DAYS} days came from prompt caches ({models})"]


def _read_cache_totals(plan: Plan) -> dict[str, UsageTotals]:
    """Return the totals of the calls to the plan's name in the last days, by model; {} if they are not known.

    Only a ledger in a file is read, and one that cannot be read counts as empty: `modelhub usage` says what is wrong.
    """
    location = find_ledger(plan.loaded.config.usage, Path(plan.loaded.file).parent)
    if location is None or location.path is None or not location.exists():
        return {}
    from modelhub.accounting.report import query_report

    since = datetime.now(UTC) - timedelta(days=_CACHE_DAYS)
    try:
        with show_waiting(f"reading {location}"):
            totals = query_report(location, since, "model", only={"chain": plan.name})
    except LedgerError:
        return {}
    return {model: total for model, total in totals.items() if model and total.input_tokens}


def _format_budgets(plan: Plan) -> list[str]:
    """Return a line for each budget: its limit, and what happens to a call that would exceed it."""
    rows = []
    for name, budget in plan.find_budgets().items():
        amount = f"${budget.usd.normalize():f}" if budget.usd is not None else f"{budget.tokens:,} tokens"
        subjects = {"model": budget.model, "chain": budget.chain, "tag": budget.tag}
        subject = next((f"{kind} {value}" for kind, value in subjects.items() if value is not None), "every call")
        scope = " (for each value)" if budget.tag is not None and "=" not in budget.tag else ""
        consequence = "then calls fail" if budget.on_exceeded == "fail" else "then a warning"
        rows.append(f"{name}: {amount} per {budget.per} for {subject}{scope}, {consequence}")
    return rows


def _format_shared(plan: Plan) -> list[str]:
    """Return where limits and budgets are kept that several processes share, and what holds when that is down."""
    shared = plan.loaded.config.shared
    if shared is None:
        return []
    parts = "" if shared.replicas is None else f" by {shared.replicas} or more"
    limits = f"split{parts}" if shared.when_down.limits == "split" else shared.when_down.limits
    return [
        f"limits, cooldowns and budgets in {describe_address(shared.url.get_secret_value())}, prefix {shared.prefix}",
        f"when it is down: limits {limits}, budgets {shared.when_down.budgets}",
    ]


def _find_ledger(plan: Plan) -> str | None:
    """Return where calls are recorded, without credentials, or None."""
    ledger = plan.loaded.config.usage.ledger
    return None if ledger is None else str(parse_location(ledger))


# -- the models --------------------------------------------------------------------------------------------------------


def _format_members(plan: Plan) -> Iterator[Text]:
    """Yield the chain's own line, and for each model a line, and below it one with its options."""
    if plan.chain is None:
        indent = 2
        cells = [[(member.label, "bold"), "model", *_make_row(plan, member)] for member in plan.members]
        rows = align_columns(cells, indent=0)
    else:
        yield _format_header(plan.name, plan.chain)
        names = ["  " * member.depth + f"{member.number} {member.label}" for member in plan.members]
        rows = align_columns([name, *_make_row(plan, member)] for name, member in zip(names, plan.members, strict=True))
        indent = 2 + max(map(len, names)) + 2
    for row, member in zip(rows, plan.members, strict=True):
        yield row
        if member.configured and (plan.chain is None or not member.never_fails):
            yield make_line(" " * indent, (" · ".join(_format_options(member)), "dim"))


def _format_header(name: str, chain: ChainOptions) -> Text:
    facts = ["chain"]
    if chain.deadline is not None:
        facts.append(f"deadline {format_setting(chain.deadline)}")
    if chain.stream:
        facts.append("streams")
    restart = chain.on_broken_stream == "restart"
    facts.append("broken streams restart on the next model" if restart else "broken streams raise")
    return make_line((name, "bold"), f"  {', '.join(facts)}")


def _make_row(plan: Plan, member: Member) -> list[Cell]:
    if member.entry is None:
        deadline = member.chain.deadline if member.chain is not None else None
        name = f"chain, deadline {format_setting(deadline)}" if deadline is not None else "chain"
        return [name, _format_share(member)]
    model_name = member.options.model_name if member.options is not None else ""
    suffix = "" if model_name == member.entry.provider else f" {model_name}"
    model = f"{member.entry.provider}{suffix}"
    if member.missing is not None:
        return [model, (f"not configured ({member.missing}): skipped", "yellow")]
    call_key = f"key of the call ({member.entry.call_key})" if member.entry.call_key is not None else ""
    return [model, ", ".join(filter(None, (_format_share(member), call_key, _format_limit(plan, member))))]


def _format_share(member: Member) -> str:
    """Return how many of the calls an arm gets, and how it is picked; "" for a model with a place to itself."""
    share = member.share
    if share is None:
        return ""
    pick = "" if share.pick == "weighted" else ", least busy"
    by = f", by {share.by}" if share.by is not None else ""
    return f"{'arm' if member.key is None else 'key'}: {100 * share.of_calls:.3g} % of the calls{pick}{by}"


def _format_limit(plan: Plan, member: Member) -> str:
    limit = member.get_layer("limit")
    if limit is None:
        return ""
    pool: LimitOptions = plan.loaded.limits[limit] if isinstance(limit, str) else limit
    rates = [f"{_shorten(rate.amount)} {quantity.replace('_', ' ')}/{rate.unit}" for quantity, rate in pool.rates()]
    if pool.concurrency == "auto":
        rates.append("concurrency adapts to the vendor")
    elif pool.concurrency is not None:
        rates.append(f"{_shorten(pool.concurrency)} at once")
    return f"{f'limit {limit}' if isinstance(limit, str) else 'its own limit'} ({', '.join(rates)})"


def _shorten(number: int) -> str:
    for size, unit in ((1_000_000, "M"), (1_000, "k")):
        if number >= size and number % (size // 10) == 0:
            return f"{number / size:g}{unit}"
    return f"{number:,}"


def _format_options(member: Member) -> Iterator[str]:
    retry, timeout = member.retry, member.timeout
    if member.options is not None:
        yield from member.options.describe()
    waits = f"{format_setting(retry.initial_wait)} to {format_setting(retry.max_wait)}" if retry.max_wait else "at once"
    yield f"retry {retry.max_attempts} attempts, {waits}" if retry.max_attempts > 1 else "no retry"
    yield f"connect {format_setting(timeout.connect)}"
    of_streams = [f"first token {format_setting(timeout.first_token)}", f"idle {format_setting(timeout.idle)}"]
    of_streams += [f"slow below {timeout.slow.below:g}/s"] if timeout.slow is not None else []
    yield from of_streams if member.streams_inside else [f"streams: {', '.join(of_streams)}"]
    yield f"total {format_setting(timeout.total)}"
    if (breaker := member.get_layer("breaker")) is not None:
        pauses = f"{format_setting(breaker.pause)} to {format_setting(breaker.max_pause)}"
        yield f"breaker opens after {format_count(breaker.failures, 'failure')}, for {pauses}"
    if (pricing := member.get_layer("pricing")) is not None:
        yield f"${pricing.input:f} in, ${pricing.output:f} out per million tokens"
    known = {"retry", "timeout", "breaker", "pricing", "limit"}
    yield from (key for key in load_layer_options() if key not in known and member.get_layer(key) is not None)


# -- the limits --------------------------------------------------------------------------------------------------------


def _format_worst(plan: Plan) -> list[str]:
    worst, dearest = plan.find_worst_case(), plan.find_highest_cost()
    if not worst.attempts:
        return []
    longer = ", or longer if a vendor or a limit makes calls wait" if worst.open else ""
    seconds = format_setting(round(worst.seconds)) if worst.seconds < 300 else format_duration(worst.seconds)
    bounds = f"{format_count(worst.attempts, 'attempt')}, {seconds}{longer}"
    if dearest is None or not dearest[0]:
        return [bounds]
    cost, name = dearest
    tokens = " in, ".join(_shorten(number) for number in TOKENS)
    at = f" (at {name})" if len(plan.configured) > 1 else ""
    lines = [f"{bounds}; highest cost of a call with {tokens} out: {format_cost(cost)}{at}"]
    if (hop := plan.find_hop_cost()) is not None:
        first, cached, second, fresh = hop
        from_cache = f"{_shorten(TOKENS[0])} of prompt: {format_cost(cached)} from the cache of {first}"
        lines.append(f"{from_cache}, {format_cost(fresh)} after a hop to {second}")
    return lines


def _make_pools(plan: Plan) -> list[RateLimitPool]:
    """Return the named limits of the plan as they are in a new process."""
    used = dict.fromkeys(limit for member in plan.models if isinstance(limit := member.get_layer("limit"), str))
    return [RateLimitPool(name, plan.loaded.limits[name]) for name in used]


# -- where settings come from ------------------------------------------------------------------------------------------


def _format_origins(plan: Plan) -> Iterator[Text]:
    rows = []
    for path, section, origin in _list_origins(plan):
        value = origin.shown if len(origin.shown) <= _MAX_VALUE_CHARS else f"{origin.shown[: _MAX_VALUE_CHARS - 2]}.."
        rows.append((f"{path} = {value}", ", ".join(filter(None, (section, f"{origin.file}:{origin.line}")))))
    for index, row in enumerate(align_columns(rows, indent=0, reserved=_LABEL_WIDTH)):
        yield make_line((f"{'where' if index == 0 else '':<{_LABEL_WIDTH}}", "bold")).append_text(row)


def _list_origins(plan: Plan) -> Iterator[tuple[str, str, Origin]]:
    """Yield what the file sets for the plan, in its order: the path, the sections or "", and the origin."""
    origins: dict[tuple[bool, str, int, str], tuple[str, str, Origin]] = {}
    for name in dict.fromkeys([plan.name, *(member.name for member in plan.members)]):
        for origin in plan.loaded.list_origins(name):
            is_layered = origin.is_from_profile or origin.file != plan.loaded.file
            is_shown_above = origin.path.split(".")[0] in _SHOWN_ABOVE
            if origin.source == "built-in default" or (is_shown_above and not is_layered):
                continue
            shared = origin.source == "defaults"
            path = origin.path if shared else f"{name}.{origin.path}"
            key = origin.file != plan.loaded.file, origin.file, origin.line, path
            sections = ["defaults"] * shared + [f"profile {plan.loaded.profile}"] * origin.is_from_profile
            origins[key] = (path, ", ".join(sections), origin)
    yield from (origins[key] for key in sorted(origins, key=lambda key: key[:3]))


# -- JSON --------------------------------------------------------------------------------------------------------------


def make_plan_dict(plan: Plan) -> dict[str, Any]:
    """Return *plan* as a JSON-compatible dict."""
    shared, shared_dict = plan.loaded.config.shared, None
    if shared is not None:
        address = describe_address(shared.url.get_secret_value())
        shared_dict = {**shared.model_dump(mode="json", exclude={"url"}), "address": address}
    cached = {model: round(total.cache_share or 0.0, 4) for model, total in _read_cache_totals(plan).items()}
    return {
        "name": plan.name,
        "kind": "model" if plan.chain is None else "chain",
        "options": None if plan.chain is None else plan.chain.model_dump(mode="json"),
        "members": [_make_member_dict(plan, member) for member in plan.members],
        "layers": _list_layer_names(),
        "cache_shares": cached,
        "worst": _make_worst_dict(plan),
        "left": {pool.name: pool.left().as_dict() for pool in _make_pools(plan)},
        "budgets": {name: budget.model_dump(mode="json") for name, budget in plan.find_budgets().items()},
        "shared": shared_dict,
        "ledger": _find_ledger(plan),
        "files": plan.loaded.config.files.allow,
        "watch": list_warnings(plan),
        "where": [
            {"path": path, "value": origin.shown, "source": origin.source, "file": origin.file, "line": origin.line}
            for path, _, origin in _list_origins(plan)
        ],
    }


def _make_worst_dict(plan: Plan) -> dict[str, Any]:
    worst, dearest, hop = plan.find_worst_case(), plan.find_highest_cost(), plan.find_hop_cost()
    hop_dict: dict[str, Any] | None = None
    if hop is not None:
        first, cached, second, fresh = hop
        hop_dict = {"tokens": TOKENS[0], "from": first, "cached": str(cached), "to": second, "fresh": str(fresh)}
    return {
        "attempts": worst.attempts,
        "attempts_streamed": worst.attempts,
        "seconds": worst.seconds,
        "may_wait_longer": worst.open,
        "dearest_call": {"cost": str(dearest[0]), "model": dearest[1]} if dearest is not None and dearest[0] else None,
        "hop": hop_dict,
    }


def _make_member_dict(plan: Plan, member: Member) -> dict[str, Any]:
    common: dict[str, Any] = {"name": member.name, "number": member.number, "depth": member.depth}
    if member.share is not None:
        common |= {"share": member.share.of_calls, "by": member.share.by, "pick": member.share.pick}
        common |= {"key": member.key} if member.key is not None else {}
    if member.entry is None:
        return {**common, "kind": "chain"}
    layers = {key: value for key, value in member.entry.layers.items() if value is not None}
    return {
        **common,
        "kind": "model",
        "provider": member.entry.provider,
        "model_name": member.options.model_name if member.options is not None else None,
        "missing": member.missing,
        "call_key": member.entry.call_key,
        "unsupported_parameters": member.find_unsupported(plan),
        "layers": {
            key: value if isinstance(value, str) else value.model_dump(mode="json") for key, value in layers.items()
        },
    }
