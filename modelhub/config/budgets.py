"""Budgets: that each has one measure and one subject, and that the subject exists."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelhub.config.check import Checker
from modelhub.config.problems import did_you_mean
from modelhub.config.source import Path
from modelhub.config.view import where

__all__ = ["check_budgets"]

_SUBJECTS = ("model", "chain", "tag")


def check_budgets(checker: Checker, sections: Mapping[str, Mapping[str, Any]]) -> None:
    """Every entry of `budgets:` says how much, and of what there is."""
    models, chains = dict(sections["models"]), dict(sections["chains"])
    for name, entry in sections["budgets"].items():
        if not isinstance(entry, Mapping):
            continue
        at: Path = ("budgets", name)
        _check_measure(checker, at, entry)
        for other in [key for key in _SUBJECTS if key in entry][1:]:
            checker.problem((*at, other), f"{where(at)} is for more than one thing", "make it two budgets", key=True)
        _check_name(checker, (*at, "model"), entry.get("model"), models)
        # What is asked for by its name is a chain of one.
        _check_name(checker, (*at, "chain"), entry.get("chain"), {**chains, **models})


def _check_measure(checker: Checker, at: Path, entry: Mapping[str, Any]) -> None:
    if "usd" in entry and "tokens" in entry:
        checker.problem((*at, "tokens"), f"{where(at)} has both `usd` and `tokens`", "make it two budgets", key=True)
    elif "usd" not in entry and "tokens" not in entry:
        checker.problem(at, f"{where(at)} bounds nothing", "add `usd` or `tokens`", key=True)


def _check_name(checker: Checker, place: Path, name: Any, known: Mapping[str, Any]) -> None:
    if not isinstance(name, str) or name in known or place in checker.filled.unset:
        return
    kind = f"{place[-1]}s"
    meant = did_you_mean("" if place in checker.filled.touched else name, sorted(known), kind=kind)
    checker.problem(place, f"{where(place[:-1])} names an unknown {place[-1]} `{checker.written(place)}`", meant)
