"""Format a plan, as text and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from modelhub.accounting.location import parse_location
from modelhub.accounting.usage_totals import UsageTotals
from modelhub.cli.cache_shares import CACHE_DAYS, read_cache_totals
from modelhub.cli.chain_plan import TOKENS, Member, Plan, WorstCase
from modelhub.cli.chain_warnings import list_warnings
from modelhub.cli.output import align_columns, format_cost, format_count, format_duration, format_setting, make_line
from modelhub.config.schema import load_layer_options
from modelhub.middleware.limit.layer import RateLimitPool
from modelhub.middleware.limit.options import LimitOptions
from modelhub.options import LayerOptions
from modelhub.registry import list_layers
from modelhub.shared.connection import describe_address

if TYPE_CHECKING:
    from rich.text import Text

    from modelhub.cli.output import Cell
    from modelhub.config.load import Origin
    from modelhub.middleware.chain.options import ChainOptions

__all__ = ["make_plan_dict", "format_plan"]

_LABEL_WIDTH = 9
_SHOWN_ABOVE = ("provider", "model_name", "models", "steps", "reply")
"""Keys whose values are in the first lines already; where they come from is shown if the file has several layers."""


def format_plan(plan: Plan) -> list[Text]:
    """Return the lines that show *plan*."""
    return [
        *(
            _format_single_model(plan)
            if plan.chain is None
            else (_format_header(plan, plan.chain), *_format_members(plan))
        ),
        *_label_lines("layers", [" > ".join(_list_layer_names())]),
        *_label_lines("at worst", _format_worst(plan)),
        *_label_lines("cached", _format_cached(plan)),
        *_label_lines("left", [f"{pool.name}: {pool.left()} ({_find_scope(plan)})" for pool in _make_pools(plan)]),
        *_label_lines("budgets", _format_budgets(plan)),
        *_label_lines("shared", _format_shared(plan)),
        *_label_lines("ledger", [f"calls are recorded in {ledger}"] if (ledger := _find_ledger(plan)) else []),
        *_label_lines("files", _format_files(plan)),
        *_label_lines("watch", list_warnings(plan), "yellow"),
        *_format_origins(plan),
    ]


def _format_cached(plan: Plan) -> list[str]:
    """Return the line about the share of the input that came from prompt caches lately, if any did."""
    totals = read_cache_totals(plan.loaded, plan.name)
    overall = UsageTotals()
    for total in totals.values():
        overall.add(total)
    if not overall.cache_read_tokens:
        return []
    models = ", ".join(f"{model} {total.cache_share:.0%}" for model, total in totals.items())
    return [f"{overall.cache_share:.0%} of the input of the last {CACHE_DAYS} days came from prompt caches ({models})"]


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


def _make_shared_dict(plan: Plan) -> dict[str, Any] | None:
    shared = plan.loaded.config.shared
    if shared is None:
        return None
    address = describe_address(shared.url.get_secret_value())
    return {**shared.model_dump(mode="json", exclude={"url"}), "address": address}


def _find_ledger(plan: Plan) -> str | None:
    """Return where calls are recorded, without credentials, or None."""
    ledger = plan.loaded.config.usage.ledger
    return None if ledger is None else str(parse_location(ledger))


def _format_files(plan: Plan) -> list[str]:
    allowed = plan.loaded.config.files.allow
    return [] if allowed is None else [f"messages may refer to files in {', '.join(allowed)}" if allowed else "none"]


def _format_header(plan: Plan, chain: ChainOptions) -> Text:
    facts = ["chain"]
    if chain.deadline is not None:
        facts.append(f"deadline {format_setting(chain.deadline)}")
    if chain.stream:
        facts.append("streams")
    restart = chain.on_broken_stream == "restart"
    facts.append("broken streams restart on the next model" if restart else "broken streams raise")
    return make_line((plan.name, "bold"), f"  {', '.join(facts)}")


def _format_single_model(plan: Plan) -> Iterator[Text]:
    """Yield the first lines of a single model."""
    rows = [[(member.label, "bold"), "model", *_make_row(plan, member)] for member in plan.members]
    for row, member in zip(align_columns(rows, indent=0), plan.members, strict=True):
        yield row
        if member.configured:
            yield make_line("  ", (" · ".join(_format_options(member)), "dim"))


def _list_layer_names() -> list[str]:
    """Return the names of the layers from the outermost to the provider."""
    return ["chain", *(spec.title for spec in list_layers()), "provider"]


# -- the models --------------------------------------------------------------------------------------------------------


def _format_members(plan: Plan) -> Iterator[Text]:
    names = ["  " * member.depth + f"{member.number} {member.label}" for member in plan.members]
    rows = align_columns([name, *_make_row(plan, member)] for name, member in zip(names, plan.members, strict=True))
    indent = 2 + max(map(len, names)) + 2
    for row, member in zip(rows, plan.members, strict=True):
        yield row
        if member.configured and not member.never_fails:
            yield make_line(" " * indent, (" · ".join(_format_options(member)), "dim"))


def _make_row(plan: Plan, member: Member) -> list[Cell]:
    if member.entry is None:
        deadline = member.chain.deadline if member.chain is not None else None
        name = f"chain, deadline {format_setting(deadline)}" if deadline is not None else "chain"
        return [name, _format_share(member)]
    options = member.entry.options
    model_name = options.model_name if options is not None else ""
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
    name = f"limit {limit}" if isinstance(limit, str) else "its own limit"
    return f"{name} ({', '.join(_format_rates(pool))})"


def _format_rates(pool: LimitOptions) -> Iterator[str]:
    for quantity, rate in pool.rates():
        yield f"{_shorten(rate.amount)} {quantity.replace('_', ' ')}/{rate.unit}"
    if pool.concurrency == "auto":
        yield "concurrency adapts to the vendor"
    elif pool.concurrency is not None:
        yield f"{_shorten(pool.concurrency)} at once"


def _shorten(number: int) -> str:
    for size, unit in ((1_000_000, "M"), (1_000, "k")):
        if number >= size and number % (size // 10) == 0:
            return f"{number / size:g}{unit}"
    return f"{number:,}"


def _format_options(member: Member) -> Iterator[str]:
    retry, timeout = member.retry, member.timeout
    if member.entry is not None and member.entry.options is not None:
        yield from member.entry.options.describe()
    if retry.max_attempts > 1:
        waits = (
            f"{format_setting(retry.initial_wait)} to {format_setting(retry.max_wait)}" if retry.max_wait else "at once"
        )
        yield f"retry {retry.max_attempts} attempts, {waits}"
    else:
        yield "no retry"
    yield f"connect {format_setting(timeout.connect)}"
    of_streams = [f"first token {format_setting(timeout.first_token)}", f"idle {format_setting(timeout.idle)}"]
    of_streams += [f"slow below {timeout.slow.below:g}/s"] if timeout.slow is not None else []
    if member.streams_inside:
        yield from of_streams
    else:
        yield f"streams: {', '.join(of_streams)}"
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
    plain, streamed = plan.find_worst_case(stream=False), plan.find_worst_case(stream=True)
    if not plain.attempts:
        return []
    more = f" ({streamed.attempts} if streamed)" if streamed.attempts != plain.attempts else ""
    words = f"{format_count(plain.attempts, 'attempt')}{more}, {_format_seconds(plain)}"
    dearest = plan.find_highest_cost()
    if dearest is None:
        return [words]
    cost, name = dearest
    tokens = " in, ".join(_shorten(number) for number in TOKENS)
    at = f" (at {name})" if len(plan.configured) > 1 else ""
    lines = [f"{words}; highest cost of a call with {tokens} out: {format_cost(cost)}{at}"]
    if (hop := plan.find_hop_cost()) is not None:
        first, cached, second, fresh = hop
        prompt = _shorten(TOKENS[0])
        from_cache = f"{prompt} of prompt: {format_cost(cached)} from the cache of {first}"
        lines.append(f"{from_cache}, {format_cost(fresh)} after a hop to {second}")
    return lines


def _format_seconds(worst: WorstCase) -> str:
    longer = ", or longer if a vendor or a limit makes calls wait" if worst.open else ""
    return f"{format_setting(round(worst.seconds)) if worst.seconds < 300 else format_duration(worst.seconds)}{longer}"


def _label_lines(label: str, texts: list[str], style: str = "") -> Iterator[Text]:
    for index, text in enumerate(texts):
        yield make_line((f"{label if index == 0 else '':<{_LABEL_WIDTH}}", "bold"), (text, style))


def _find_scope(plan: Plan) -> str:
    return "in a new process" if plan.loaded.config.shared is None else "before any process has asked"


def _make_pools(plan: Plan) -> list[RateLimitPool]:
    """Return the named limits of the plan as they are in a new process."""
    used = dict.fromkeys(limit for member in plan.models if isinstance(limit := member.get_layer("limit"), str))
    return [RateLimitPool(name, plan.loaded.limits[name]) for name in used]


# -- where settings come from ------------------------------------------------------------------------------------------


def _format_origins(plan: Plan) -> Iterator[Text]:
    rows = [
        (f"{path} = {_truncate(origin.shown)}", ", ".join(filter(None, (section, f"{origin.file}:{origin.line}"))))
        for path, section, origin in _list_origins(plan)
    ]
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


def _truncate(text: str, limit: int = 60) -> str:
    return text if len(text) <= limit else f"{text[: limit - 2]}.."


# -- JSON --------------------------------------------------------------------------------------------------------------


def _make_hop_dict(plan: Plan) -> dict[str, Any] | None:
    hop = plan.find_hop_cost()
    if hop is None:
        return None
    first, cached, second, fresh = hop
    return {"tokens": TOKENS[0], "from": first, "cached": str(cached), "to": second, "fresh": str(fresh)}


def make_plan_dict(plan: Plan) -> dict[str, Any]:
    """Return *plan* as a JSON-compatible dict."""
    plain, streamed = plan.find_worst_case(stream=False), plan.find_worst_case(stream=True)
    dearest = plan.find_highest_cost()
    return {
        "name": plan.name,
        "kind": "model" if plan.chain is None else "chain",
        "options": None if plan.chain is None else plan.chain.model_dump(mode="json"),
        "members": [_make_member_dict(plan, member) for member in plan.members],
        "layers": _list_layer_names(),
        "cache_shares": {
            model: round(total.cache_share or 0.0, 4)
            for model, total in read_cache_totals(plan.loaded, plan.name).items()
        },
        "worst": {
            "attempts": plain.attempts,
            "attempts_streamed": streamed.attempts,
            "seconds": plain.seconds,
            "may_wait_longer": plain.open,
            "dearest_call": None if dearest is None else {"cost": str(dearest[0]), "model": dearest[1]},
            "hop": _make_hop_dict(plan),
        },
        "left": {pool.name: pool.left().as_dict() for pool in _make_pools(plan)},
        "budgets": {name: budget.model_dump(mode="json") for name, budget in plan.find_budgets().items()},
        "shared": _make_shared_dict(plan),
        "ledger": _find_ledger(plan),
        "files": plan.loaded.config.files.allow,
        "watch": list_warnings(plan),
        "where": [
            {"path": path, "value": origin.shown, "source": origin.source, "file": origin.file, "line": origin.line}
            for path, _, origin in _list_origins(plan)
        ],
    }


def _make_member_dict(plan: Plan, member: Member) -> dict[str, Any]:
    common: dict[str, Any] = {"name": member.name, "number": member.number, "depth": member.depth}
    if member.share is not None:
        common |= {"share": member.share.of_calls, "by": member.share.by, "pick": member.share.pick}
        common |= {"key": member.key} if member.key is not None else {}
    if member.entry is None:
        return {**common, "kind": "chain"}
    options = member.entry.options
    return {
        **common,
        "kind": "model",
        "provider": member.entry.provider,
        "model_name": options.model_name if options is not None else None,
        "missing": member.missing,
        "call_key": member.entry.call_key,
        "unsupported_parameters": member.find_unsupported(plan),
        "layers": {key: _make_layer_dict(value) for key, value in member.entry.layers.items() if value is not None},
    }


def _make_layer_dict(value: LayerOptions | str) -> Any:
    return value if isinstance(value, str) else value.model_dump(mode="json")
