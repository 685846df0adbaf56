"""Settings that contradict each other, or that cannot be meant, although each of them is right by itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelhub.config.check import OptionsChecker
from modelhub.config.entries import Resolved
from modelhub.config.problems import did_you_mean
from modelhub.config.source import Path
from modelhub.config.view import LocatedData, value_at
from modelhub.core.errors import AllModelsFailed, failure_classes

__all__ = ["check_failures", "check_model"]

_FAILURES = [cls.__name__ for cls in failure_classes() if cls is not AllModelsFailed]
_ORDERED = (
    (("timeout", "first_token"), ("timeout", "total")),
    (("timeout", "idle"), ("timeout", "total")),
    (("timeout", "connect"), ("timeout", "total")),
    (("retry", "initial_wait"), ("retry", "max_wait")),
    (("breaker", "pause"), ("breaker", "max_pause")),
)
"""What may not be longer than another; a default that nobody wrote contradicts nothing."""
_OWNED = {
    "model": "set `model_name`",
    "messages": "they come with each call",
    "contents": "they come with each call",
    "stream": "set `stream` on the model or chain",
    "previous_response_id": "it belongs to one call",
}
_SAME = (("host", "base_url"), ("base_http_api_url", "base_url"))


def check_model(checker: OptionsChecker, resolved: Resolved) -> None:
    """Report what contradicts itself in one model."""
    view, config = resolved.view, resolved.config
    for smaller, larger in _ORDERED if config is not None else ():
        _check_order(checker, view, config, smaller, larger)
    if view.data.get("provider") == "scripted" and view.data.get("reply") and view.data.get("steps"):
        checker.problem(view.in_file(("steps",)), "`steps` and `reply` are both given", "keep one of them", key=True)
    for name, hint in _OWNED.items():
        if name in (value_at(view.data, ("generate_kwargs",)) or ()):
            message = f"`{name}` cannot be set in `generate_kwargs`"
            checker.problem(view.in_file(("generate_kwargs", name)), message, hint, key=True)
    _check_name(checker, view)
    _check_addresses(checker, view)


def _check_order(checker: OptionsChecker, view: LocatedData, config: Any, smaller: Path, larger: Path) -> None:
    places = view.in_file(smaller), view.in_file(larger)
    given = [value_at(view.data, path) is not None for path in (smaller, larger)]
    if not all(given) or places[0][0] != places[1][0]:
        return
    section = getattr(config, str(smaller[0]), None)
    low, high = getattr(section, str(smaller[1]), None), getattr(section, str(larger[1]), None)
    if isinstance(low, int | float) and isinstance(high, int | float) and low > high:
        message = f"{checker.subject(places[0])} is longer than {checker.subject(places[1])}"
        checker.problem(places[0], message, f"it must be at most `{larger[1]}`")


def _check_name(checker: OptionsChecker, view: LocatedData) -> None:
    name, place = view.data.get("model_name"), view.in_file(("model_name",))
    if not isinstance(name, str) or place in checker.filled.unset:
        return
    if not name.isprintable():
        checker.problem(place, "`model_name` has a line break or a control character in it", "write it on one line")
    elif name != name.strip():
        checker.problem(place, "`model_name` begins or ends with a space", "remove it")


def _check_addresses(checker: OptionsChecker, view: LocatedData) -> None:
    for one, other in _SAME:
        values = view.data.get(one), view.data.get(other)
        if all(values) and values[0] != values[1]:
            message = f"`{one}` and `{other}` are two names of the same, with different values"
            checker.problem(view.in_file((one,)), message, "keep one of them", key=True)
    for name in ("base_url", "api_key"):
        for key in ("client_args", "client_kwargs"):
            inner = value_at(view.data, (key, name))
            if inner is not None and view.data.get(name) is not None and inner != view.data.get(name):
                message = f"`{name}` is given twice, here and in the model itself"
                checker.problem(view.in_file((key, name)), message, "keep one of them", key=True)


def check_failures(checker: OptionsChecker, chains: Mapping[str, Any]) -> None:
    """Report names in `fallback_on` and `no_fallback_on` that are no failures, or stand in both."""
    for chain, options in chains.items():
        lists = {key: options.get(key) for key in ("fallback_on", "no_fallback_on")} if options else {}
        for key, names in lists.items():
            for index, name in enumerate(names if isinstance(names, list) else ()):
                place: Path = ("chains", chain, key, index)
                if isinstance(name, str) and place not in checker.filled.unset:
                    _check_failure(checker, place, name, lists)


def _check_failure(checker: OptionsChecker, place: Path, name: str, lists: Mapping[str, Any]) -> None:
    written = checker.written(place)
    if name == AllModelsFailed.__name__:
        message = f"`{name}` in `{place[2]}` is what a chain raises at its end, not what a model does"
        checker.problem(place, message, "name the failures of models")
    elif name not in _FAILURES:
        meant = "" if place in checker.filled.from_environment else name
        checker.problem(
            place, f"unknown failure `{written}` in `{place[2]}`", did_you_mean(meant, _FAILURES, kind="failures")
        )
    elif place[2] == "no_fallback_on" and name in (lists["fallback_on"] or ()):
        checker.problem(place, f"`{name}` is in `fallback_on` too", "keep it in one of them")
