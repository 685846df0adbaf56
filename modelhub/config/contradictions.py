"""Report settings that contradict each other although each is valid by itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelhub.config.check import OptionsChecker
from modelhub.config.entries import Resolved
from modelhub.config.source import Path
from modelhub.config.view import LocatedData, get_value
from modelhub.core.call_options import FOREIGN_KEYWORDS
from modelhub.core.errors import AllModelsFailed, failure_classes

__all__ = ["check_failures", "check_model"]

_FAILURE_NAMES = [cls.__name__ for cls in failure_classes() if cls is not AllModelsFailed]
_ORDERED_PAIRS = (
    (("timeout", "first_token"), ("timeout", "total")),
    (("timeout", "idle"), ("timeout", "total")),
    (("timeout", "connect"), ("timeout", "total")),
    (("retry", "initial_wait"), ("retry", "max_wait")),
    (("breaker", "pause"), ("breaker", "max_pause")),
)
"""Pairs of durations, the first of which may not be longer than the second where both are written in the file."""
_RESERVED_PARAMETERS = {
    **{name: hint for name, hint in FOREIGN_KEYWORDS.items() if name != "timeout"},  # of the SDKs, for a request
    "model": "set `model_name`",
    "messages": "they come with each call",
    "contents": "they come with each call",
    "stream": "set `stream` on the model or chain",
    "previous_response_id": "it belongs to one call",
}
_ADDRESS_ALIASES = (("host", "base_url"), ("base_http_api_url", "base_url"))


def check_model(checker: OptionsChecker, resolved: Resolved) -> None:
    """Report the contradictions in one model."""
    view, config = resolved.view, resolved.config
    for smaller, larger in _ORDERED_PAIRS if config is not None else ():
        _check_order(checker, view, config, smaller, larger)
    if view.data.get("provider") == "scripted" and view.data.get("reply") and view.data.get("steps"):
        checker.problem(view.source_path(("steps",)), "`steps` and `reply` are both set", "keep one of them", key=True)
    generate_kwargs = view.data.get("generate_kwargs")
    for name, hint in _RESERVED_PARAMETERS.items():
        if isinstance(generate_kwargs, dict) and name in generate_kwargs:
            message = f"`{name}` cannot be set in `generate_kwargs`"
            checker.problem(view.source_path(("generate_kwargs", name)), message, hint, key=True)
    _check_name(checker, view)
    _check_addresses(checker, view)
    _check_keys(checker, resolved)


def _check_order(checker: OptionsChecker, view: LocatedData, config: Any, smaller: Path, larger: Path) -> None:
    places = view.source_path(smaller), view.source_path(larger)
    is_given = [get_value(view.data, path) is not None for path in (smaller, larger)]
    if not all(is_given) or places[0][0] != places[1][0]:
        return
    section = getattr(config, str(smaller[0]), None)
    low, high = getattr(section, str(smaller[1]), None), getattr(section, str(larger[1]), None)
    if isinstance(low, int | float) and isinstance(high, int | float) and low > high:
        message = f"{checker.subject(places[0])} is longer than {checker.subject(places[1])}"
        checker.problem(places[0], message, f"it must be at most `{larger[1]}`")


def _check_name(checker: OptionsChecker, view: LocatedData) -> None:
    name, place = view.data.get("model_name"), view.source_path(("model_name",))
    if not isinstance(name, str) or place in checker.interpolated.unset:
        return
    if not name.isprintable():
        checker.problem(place, "`model_name` contains a line break or a control character", "write it on one line")
    elif name != name.strip():
        checker.problem(place, "`model_name` begins or ends with a space", "remove it")


def _check_addresses(checker: OptionsChecker, view: LocatedData) -> None:
    for alias, name in _ADDRESS_ALIASES:
        values = view.data.get(alias), view.data.get(name)
        if all(values) and values[0] != values[1]:
            message = f"`{alias}` and `{name}` are two names for the same setting, with different values"
            checker.problem(view.source_path((alias,)), message, "keep one of them", key=True)
    for name in ("base_url", "api_key"):
        for container in ("client_args", "client_kwargs"):
            inner = get_value(view.data, (container, name))
            if inner is not None and view.data.get(name) is not None and inner != view.data.get(name):
                message = f"`{name}` is set twice, here and in the model itself"
                checker.problem(view.source_path((container, name)), message, "keep one of them", key=True)


def _check_keys(checker: OptionsChecker, resolved: Resolved) -> None:
    """Report `keys` beside another key, and keys that are the same or have the same name."""
    view, keys = resolved.view, resolved.entry.keys
    if not keys:
        return
    for path in (("api_key",), ("client_args", "api_key"), ("client_kwargs", "api_key")):
        if get_value(view.data, path) is not None:
            message = f"`{path[-1]}` and `keys` are both set"
            checker.problem(view.source_path(path), message, "keep one of them", key=True)
    written: set[Any] = set()
    labels: set[str] = set()
    for index, key in enumerate(keys):
        place = view.source_path(("keys", index))
        secret = get_value(checker.document.data, (*place, "api_key"))  # a reference as it is in the file
        if secret in written:
            message = f"item {index + 1} of `keys` is the same key as an earlier one"
            checker.problem((*place, "api_key"), message, "remove one of them")
        elif key.label in labels:
            checker.problem(place, f"two of the `keys` are called `{key.label}`", "give one of them another name")
        labels.add(key.label)
        written.add(secret)


def check_failures(checker: OptionsChecker, chains: Mapping[str, Any]) -> None:
    """Report names in `fallback_on` and `no_fallback_on` that are not failures, or that are in both lists."""
    for chain, options in chains.items():
        for key in ("fallback_on", "no_fallback_on"):
            names = options.get(key)
            for index, name in enumerate(names if isinstance(names, list) else ()):
                place: Path = ("chains", chain, key, index)
                if isinstance(name, str) and place not in checker.interpolated.unset:
                    _check_failure(checker, place, name, options.get("fallback_on"))


def _check_failure(checker: OptionsChecker, place: Path, name: str, fallback_on: Any) -> None:
    if name == AllModelsFailed.__name__:
        message = f"`{name}` in `{place[2]}` is raised by a chain, never by one of its models"
        checker.problem(place, message, "name the failures of models")
    elif name not in _FAILURE_NAMES:
        message = f"unknown failure `{checker.written(place)}` in `{place[2]}`"
        checker.problem(place, message, checker.suggest_name(place, name, _FAILURE_NAMES, kind="failures"))
    elif place[2] == "no_fallback_on" and isinstance(fallback_on, list) and name in fallback_on:
        checker.problem(place, f"`{name}` is in `fallback_on` too", "keep it in one of them")
