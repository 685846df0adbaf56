"""Names: what they may look like, that they are used once, and that they lead somewhere."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from modelhub.config.check import OptionsChecker
from modelhub.config.problems import did_you_mean
from modelhub.config.schema import NAME
from modelhub.config.source import Path
from modelhub.config.view import LocatedData, where
from modelhub.middleware.limit.options import LimitOptions

__all__ = ["check_chains", "check_limit", "check_names", "check_pool"]

_NAME = re.compile(NAME)


def check_names(checker: OptionsChecker, sections: Mapping[str, Mapping[str, Any]]) -> None:
    """Names are plain, and no model bears the name of a chain."""
    for section, entries in sections.items():
        for name in entries:
            if not _NAME.fullmatch(name):
                message = (
                    f"a name in `{section}` has letters, digits, `.`, `_` and `-`, and begins with a letter or digit"
                )
                checker.problem((section, name), message, key=True)
    for name in sections["chains"]:
        if name in sections["models"]:
            _named_twice(checker, name)


def _named_twice(checker: OptionsChecker, name: str) -> None:
    model, chain = ("models", name), ("chains", name)
    lines = checker.document.line(model), checker.document.line(chain)
    later, first = (model, lines[1]) if lines[0] > lines[1] else (chain, lines[0])
    other = "chain" if later is model else "model"
    place = f"; the {other} is on line {first}" if first else ""
    checker.problem(
        later, f"`{name}` names both a model and a chain", f"give one of them another name{place}", key=True
    )


def check_limit(checker: OptionsChecker, view: LocatedData, limits: Mapping[str, Any]) -> None:
    """A model's `limit` names an entry of `limits:`."""
    place = view.in_file(("limit",))
    name = view.data.get("limit")
    if isinstance(name, dict):
        check_pool(checker, place, name)
    if isinstance(name, str) and name not in limits and place not in checker.filled.unset:
        message = f"unknown limit `{checker.written(place)}` in {_owner(view)}"
        checker.problem(place, message, _meant(checker, place, name, sorted(limits), "limits"))


def check_pool(checker: OptionsChecker, path: Path, data: Mapping[str, Any]) -> None:
    """What a pool admits has a bound; where a key is misspelt, that is told instead."""
    known = set(LimitOptions.model_fields)
    if known.issuperset(data) and all(data.get(key) is None for key in LimitOptions.BOUNDS):
        hint = "add `requests_per_minute`, `tokens_per_minute` or `concurrency`"
        checker.problem(path, f"{where(path)} bounds nothing", hint, key=True)


def _owner(view: LocatedData) -> str:
    place = view.in_file(("limit",))
    return "`defaults`" if place[0] == "defaults" else f"model `{view.in_file(())[-1]}`"


def check_chains(checker: OptionsChecker, chains: Mapping[str, Any], models: Mapping[str, Any]) -> None:
    """Every member of a chain exists, stands in it once, and does not lead back to the chain."""
    members = {name: _members(chain) for name, chain in chains.items()}
    ways = {name: listed for name, listed in members.items() if name not in models}
    cyclic, names = _find_cyclic(ways), {*models, *chains}
    for name, listed in members.items():
        if checker.report.is_full:
            break
        seen: set[str] = set()
        for index, member in enumerate(listed):
            _check_member(checker, name, index, member, names, seen)
            if name in cyclic and isinstance(member, str) and member in cyclic:
                _check_cycle(checker, name, index, member, ways)


def _members(chain: Any) -> list[Any]:
    listed = chain.get("models") if isinstance(chain, Mapping) else None
    return listed if isinstance(listed, list) else []


def _find_cyclic(ways: Mapping[str, list[Any]]) -> set[str]:
    """Return the chains of *ways* that lead to a cycle: all but those that only lead to models."""
    callers: dict[str, list[str]] = {}
    open_ways = dict.fromkeys(ways, 0)
    for name, members in ways.items():
        for member in members:
            if isinstance(member, str) and member in ways:
                callers.setdefault(member, []).append(name)
                open_ways[name] += 1
    done = [name for name, count in open_ways.items() if not count]
    for name in done:
        for caller in callers.get(name, ()):
            open_ways[caller] -= 1
            if not open_ways[caller]:
                done.append(caller)
    return set(ways).difference(done)


def _check_member(checker: OptionsChecker, name: str, index: int, member: Any, names: set[str], seen: set[str]) -> None:
    place: Path = ("chains", name, "models", index)
    if not isinstance(member, str) or place in checker.filled.unset or member == name:
        return
    if member not in names:
        message = f"chain `{name}` names an unknown model `{checker.written(place)}`"
        known = sorted(names - {name}) if not checker.report.has_many else []
        checker.problem(place, message, _meant(checker, place, member, known, "models") if known else "")
    elif member not in seen:
        seen.add(member)
    else:
        checker.problem(place, f"chain `{name}` lists `{checker.written(place)}` twice", "remove one of them")


def _meant(checker: OptionsChecker, place: Path, name: str, known: Sequence[str], kind: str) -> str:
    return did_you_mean("" if place in checker.filled.from_environment else name, known, kind=kind)


def _check_cycle(checker: OptionsChecker, name: str, index: int, member: Any, members: Mapping[str, list[Any]]) -> None:
    """Report the way from *member* back to *name*: once for a cycle, at the first of its chains in the file."""
    way = _way(member, name, members) if name in members and isinstance(member, str) else None
    if way is not None and name == min(way, key=list(members).index):
        message = f"chain cycle: {' > '.join([name, *way])}"
        checker.problem(("chains", name, "models", index), message, "a chain cannot lead back to itself")


def _way(start: str, goal: str, members: Mapping[str, list[Any]]) -> list[str] | None:
    """The shortest way over chains from *start* to *goal*, both included."""
    ways = [[start]]
    seen: set[str] = set()
    for way in ways:
        if way[-1] == goal:
            return way
        if way[-1] in seen:
            continue
        seen.add(way[-1])
        ways += [[*way, member] for member in members.get(way[-1], ()) if isinstance(member, str)]
    return None
