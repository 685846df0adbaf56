"""Check that each budget has one measure and one subject, and that the subject exists."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelhub.accounting.prices import PriceBook
from modelhub.config.check import OptionsChecker
from modelhub.config.entries import Resolved
from modelhub.config.problems import format_choice
from modelhub.config.source import Path
from modelhub.config.view import describe_path
from modelhub.core.errors import ConfigError
from modelhub.core.response import ChatUsage

__all__ = ["check_budgets"]

_SUBJECTS = ("model", "chain", "tag")


def check_budgets(
    checker: OptionsChecker, sections: Mapping[str, Mapping[str, Any]], resolved: Mapping[str, Resolved]
) -> None:
    """Report every entry of `budgets:` without exactly one measure, or with an unknown or ambiguous subject."""
    models, chains = dict(sections["models"]), dict(sections["chains"])
    for name, entry in sections["budgets"].items():
        if not isinstance(entry, Mapping):
            continue
        at: Path = ("budgets", name)
        if "usd" in entry and "tokens" in entry:
            message = f"{describe_path(at)} has both `usd` and `tokens`"
            checker.problem((*at, "tokens"), message, "make it two budgets", key=True)
        elif "usd" not in entry and "tokens" not in entry:
            checker.problem(at, f"{describe_path(at)} sets no limit", "add `usd` or `tokens`", key=True)
        for other in [key for key in _SUBJECTS if key in entry][1:]:
            message = f"{describe_path(at)} has more than one subject"
            checker.problem((*at, other), message, "make it two budgets", key=True)
        if "usd" in entry and entry.get("on_unpriced") != "allow":
            _check_prices(checker, at, entry, sections, resolved)
        _check_name(checker, (*at, "model"), entry.get("model"), models)
        # A model that is called by its own name counts as a chain of one.
        _check_name(checker, (*at, "chain"), entry.get("chain"), {**chains, **models})


def _check_prices(
    checker: OptionsChecker,
    at: Path,
    entry: Mapping[str, Any],
    sections: Mapping[str, Mapping[str, Any]],
    resolved: Mapping[str, Resolved],
) -> None:
    """Report the models whose prices are unknown, so that a budget in dollars cannot count them."""
    usage = checker.interpolated.data.get("usage")
    book = PriceBook(mode=not (isinstance(usage, Mapping) and usage.get("cost") is False) and "auto")
    subject = entry.get("model") or entry.get("chain")
    names = _find_models(subject, sections["chains"], set()) if isinstance(subject, str) else list(resolved)
    unpriced = [name for name in names if name in resolved and not _has_price(book, resolved[name])]
    if unpriced:
        listed = f"{format_choice(unpriced[:3])}{' ...' if len(unpriced) > 3 else ''}"
        message = f"{describe_path(at)} counts dollars, but the price of {listed} is unknown"
        hint = "set `pricing:` on the model, or `on_unpriced: allow` on the budget"
        checker.problem((*at, "usd"), message, hint, key=True)


def _find_models(name: str, chains: Mapping[str, Any], seen: set[str]) -> list[str]:
    """Return the names of all models in the chain *name*, nested chains included; [*name*] if it is not a chain."""
    chain = chains.get(name)
    if name in seen or not isinstance(chain, Mapping):
        return [] if name in seen else [name]
    seen.add(name)
    members = chain.get("models")
    names = [member for member in members if isinstance(member, str)] if isinstance(members, list) else []
    return [model for member in names for model in _find_models(member, chains, seen)]


def _has_price(book: PriceBook, resolved: Resolved) -> bool:
    """Return whether the model's price is known; True where it cannot be built, which is reported elsewhere."""
    options, pricing = resolved.entry.options, resolved.entry.layers.get("pricing")
    if pricing is not None or options is None or resolved.entry.missing is not None:
        return True
    try:
        price = book.price(options.connect())
    except ConfigError:
        return True
    return price is not None and price.cost(ChatUsage(1000, 1000)) is not None


def _check_name(checker: OptionsChecker, place: Path, name: Any, known: Mapping[str, Any]) -> None:
    if not isinstance(name, str) or name in known or place in checker.interpolated.unset:
        return
    kind = "models" if place[-1] == "model" else "models and chains"
    message = f"{describe_path(place[:-1])} names an unknown {place[-1]} `{checker.written(place)}`"
    checker.problem(place, message, checker.suggest_name(place, name, sorted(known), kind=kind))
