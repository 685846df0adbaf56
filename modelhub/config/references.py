"""Check names: that they are well-formed and unique, and that references to them exist."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from modelhub.config.check import OptionsChecker
from modelhub.config.schema import NAME_PATTERN
from modelhub.config.source import Path
from modelhub.config.view import LocatedData, describe_path, get_value, walk_leaves
from modelhub.middleware.limit.options import LimitOptions

__all__ = ["check_chains", "check_limit", "check_names", "check_pool", "check_served"]

_NAME_REGEX = re.compile(NAME_PATTERN)


def check_names(checker: OptionsChecker, sections: Mapping[str, Mapping[str, Any]]) -> None:
    """Report names with characters that are not allowed, and names that a model and a chain share."""
    for section, entries in sections.items():
        for name in entries:
            if not _NAME_REGEX.fullmatch(name):
                message = (
                    f"a name in `{section}` has letters, digits, `.`, `_` and `-`, and begins with a letter or digit"
                )
                checker.problem((section, name), message, key=True)
    for name in sections["chains"]:
        if name not in sections["models"]:
            continue
        model, chain = ("models", name), ("chains", name)
        lines = checker.document.find_line(model), checker.document.find_line(chain)
        later, first = (model, lines[1]) if lines[0] > lines[1] else (chain, lines[0])
        other = "chain" if later is model else "model"
        place = f"; the {other} is on line {first}" if first else ""
        hint = f"give one of them another name{place}"
        checker.problem(later, f"`{name}` names both a model and a chain", hint, key=True)


def check_limit(checker: OptionsChecker, view: LocatedData, limits: Mapping[str, Any]) -> None:
    """Report a `limit` of a model or of one of its keys that is no entry of `limits:`, or a pool without any limit."""
    of_keys: list[Path] = [("keys", index, "limit") for index, _ in enumerate(_as_list(view.data.get("keys")))]
    for path in [("limit",), *of_keys]:
        place, name = view.source_path(path), get_value(view.data, path)
        if isinstance(name, dict):
            check_pool(checker, place, name)
        if isinstance(name, str) and name not in limits and place not in checker.interpolated.unset:
            owner = "`defaults`" if place[0] == "defaults" else f"model `{view.source_path(())[-1]}`"
            message = f"unknown limit `{checker.written(place)}` in {owner}"
            checker.problem(place, message, checker.suggest_name(place, name, sorted(limits), kind="limits"))


def check_pool(checker: OptionsChecker, path: Path, data: Mapping[str, Any]) -> None:
    """Report a pool without any limit, unless it has an unknown key, which is reported instead."""
    known = set(LimitOptions.model_fields)
    if known.issuperset(data) and all(data.get(key) is None for key in LimitOptions.BOUNDS):
        hint = "add `requests_per_minute`, `tokens_per_minute` or `concurrency`"
        checker.problem(path, f"{describe_path(path)} sets no limit", hint, key=True)


class _Member(NamedTuple):
    """A member of a chain: its name, where it stands in `models`, and whether it is a key there, with a weight."""

    name: Any
    path: Path
    is_key: bool = False


def check_chains(checker: OptionsChecker, chains: Mapping[str, Any], models: Mapping[str, Any]) -> None:
    """Report members of chains that do not exist, are listed twice, or lead back to the chain."""
    members = {name: list(_list_members(chain)) for name, chain in chains.items()}
    ways = {name: [member.name for member in listed] for name, listed in members.items() if name not in models}
    cyclic, names = _find_cyclic(ways), {*models, *chains}
    kind = "models and chains" if len(chains) > 1 else "models"
    for name, listed in members.items():
        if checker.report.is_full:
            break
        seen: set[str] = set()
        for member in listed:
            _check_member(checker, name, member, names, seen, kind)
            if name not in cyclic or not isinstance(member.name, str) or member.name not in cyclic:
                continue
            way = _find_way(member.name, name, ways)
            if way is not None and name == min(way, key=list(ways).index):  # once, at the first chain in the file
                message = f"chain cycle: {' > '.join([name, *way])}"
                place = ("chains", name, "models", *member.path)
                checker.problem(place, message, "a chain cannot lead back to itself", key=member.is_key)


def _list_members(chain: Any) -> Iterator[_Member]:
    """Yield the members of *chain*, arms included, each with its path in `models`."""
    listed = chain.get("models") if isinstance(chain, Mapping) else None
    for index, place in enumerate(_as_list(listed)):
        arms = place.get("arms") if isinstance(place, Mapping) else None
        if not isinstance(place, Mapping):
            yield _Member(place, (index,))
        elif isinstance(arms, Mapping):
            yield from (_Member(name, (index, "arms", name), is_key=True) for name in arms)
        else:
            yield from (_Member(name, (index, "arms", number)) for number, name in enumerate(_as_list(arms)))


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _find_cyclic(ways: Mapping[str, list[Any]]) -> set[str]:
    """Return the chains of *ways* that lead to a cycle; a chain that only leads to models is not one of them."""
    callers: dict[str, list[str]] = {}
    open_ways = dict.fromkeys(ways, 0)
    for name, members in ways.items():
        for member in members:
            if isinstance(member, str) and member in ways:
                callers.setdefault(member, []).append(name)
                open_ways[name] += 1
    acyclic = [name for name, count in open_ways.items() if not count]
    for name in acyclic:
        for caller in callers.get(name, ()):
            open_ways[caller] -= 1
            if not open_ways[caller]:
                acyclic.append(caller)
    return set(ways).difference(acyclic)


def _check_member(
    checker: OptionsChecker, chain: str, member: _Member, names: set[str], seen: set[str], kind: str
) -> None:
    place: Path = ("chains", chain, "models", *member.path)
    name = member.name
    if not isinstance(name, str) or place in checker.interpolated.unset or name == chain:
        return
    written = name if member.is_key else checker.written(place)
    if name not in names:
        known = sorted(names - {chain}) if not checker.report.has_many else []
        hint = checker.suggest_name(place, name, known, kind=kind) if known else ""
        checker.problem(place, f"chain `{chain}` names an unknown model `{written}`", hint, key=member.is_key)
    elif name not in seen:
        seen.add(name)
    else:
        checker.problem(place, f"chain `{chain}` lists `{written}` twice", "remove one of them", key=member.is_key)


def check_served(checker: OptionsChecker, serve: Any, names: Iterable[str]) -> None:
    """Report models in the section *serve* of the file that are none of *names*."""
    known = sorted(names)
    for place, name in walk_leaves(serve, ("serve",)):
        is_name = (
            len(place) in (3, 5) and place[-2] == "models" and isinstance(place[-1], int) and isinstance(name, str)
        )
        if is_name and name not in known and place not in checker.interpolated.unset:
            message = f"{describe_path(place[:-2])} names an unknown model `{name}`"
            checker.problem(place, message, checker.suggest_name(place, name, known, kind="models"))


def _find_way(start: str, goal: str, members: Mapping[str, list[Any]]) -> list[str] | None:
    """Return the shortest path over chains from *start* to *goal*, both included, or None."""
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
