"""The models and chains of a file and what they lack, for `check`, `list` and `explain`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from modelhub.core.errors import ConfigError, Problem
from modelhub.providers import Provider
from modelhub.providers.sdk_client import check_proxies

if TYPE_CHECKING:
    from modelhub.config.load import Loaded
    from modelhub.hub import Hub

__all__ = ["Entry", "list_entries", "find_missing", "find_missing_in", "find_unchecked"]


@dataclass(frozen=True, slots=True)
class Entry:
    """A model or a chain; `missing` says what must be done before it can be called, or is None."""

    name: str
    kind: str
    provider: str | None = None
    model_name: str | None = None
    models: tuple[str | tuple[str, ...], ...] = ()
    """The places of a chain; the names of arms are a tuple."""
    missing: str | None = None
    missing_keys: tuple[str, ...] = ()
    """What is missing for single keys of a model that has others."""
    call_key: str | None = None
    """The name of the key that comes with each call, if it does."""
    unchecked: str | None = None
    """What must be so for there to be credentials, if only a call can tell."""

    @property
    def is_incomplete(self) -> bool:
        """Whether this is a model that is not configured, or one of whose keys is missing."""
        return self.kind == "model" and bool(self.missing or self.missing_keys)

    @property
    def cells(self) -> tuple[str, str]:
        """The provider and the model's name; for a chain, "chain" and the order of its models."""
        if self.kind == "chain":
            return "chain", " > ".join(place if isinstance(place, str) else " | ".join(place) for place in self.models)
        return self.provider or "-", self.model_name or "-"

    def as_dict(self) -> dict[str, Any]:
        """Return the entry as a JSON-compatible dict, with the keys that apply to its kind."""
        others = (
            {"provider", "model_name", "missing_keys", "call_key", "unchecked"} if self.kind == "chain" else {"models"}
        )
        return {key: value for key, value in asdict(self).items() if key not in others}


def list_entries(
    loaded: Loaded, missing: dict[str, str] | None = None, unchecked: dict[str, str] | None = None
) -> Iterator[Entry]:
    """Yield every model, then every chain, in the order of the file.

    *missing* says what models lack, *unchecked* what must be so for their credentials.
    """
    missing, unchecked = missing or {}, unchecked or {}
    for name, entry in loaded.models.items():
        model_name = entry.options.model_name if entry.options is not None else None
        if model_name == entry.provider == "scripted":
            model_name = None  # a default that is not in the file
        missing_keys = tuple(f"{key.label}: {missing[key.label]}" for key in entry.keys if key.label in missing)
        yield Entry(
            name,
            "model",
            entry.provider,
            model_name,
            missing=missing.get(name),
            missing_keys=() if name in missing else missing_keys,
            call_key=entry.call_key,
            unchecked=unchecked.get(name),
        )
    for name, chain in loaded.chains.items():
        places = tuple(place if isinstance(place, str) else tuple(place.weights()) for place in chain.models)
        is_unconfigured = all(leaf in missing for leaf in _list_leaves(loaded, name))
        reason = "none of its models is configured" if is_unconfigured else None
        yield Entry(name, "chain", models=places, missing=reason)


def _list_leaves(loaded: Loaded, name: str) -> Iterator[str]:
    if name in loaded.chains:
        for member in loaded.chains[name].member_names():
            yield from _list_leaves(loaded, member)
    else:
        yield name


def find_missing(loaded: Loaded, *, check_clients: bool = False) -> dict[str, str]:
    """Return what each model lacks that is not configured, such as a variable, a file or an SDK.

    Raises ConfigError for models that are valid in the file, but refused by their provider.
    """
    from modelhub.hub import Hub

    hub = Hub(loaded)
    try:
        return find_missing_in(hub, check_clients=check_clients)
    finally:
        asyncio.run(hub.aclose())


def _find_client_problems(loaded: Loaded, name: str) -> Iterator[Problem]:
    """Yield the problems of making the client of the model *name*, with their place in the file. Contacts no server."""
    for _, entry in loaded.models[name].list_variants():
        provider = entry.options.connect() if entry.options is not None else None
        if not isinstance(provider, Provider) or (entry is not loaded.models[name] and entry.missing is not None):
            continue
        unset = {reference.path for reference in entry.unset}
        for problem in provider.client_problems() or asyncio.run(provider.try_client()):
            if (path := ("models", name, *problem.path)) not in unset:
                yield loaded.problem(path, f"model `{name}`: {problem.message}", problem.hint)
                return


def find_unchecked(loaded: Loaded) -> dict[str, str]:
    """Return what must be so for models to have credentials that only a call can find."""
    from modelhub.providers.http_provider import HttpProvider

    unchecked: dict[str, str] = {}
    for name, entry in loaded.models.items():
        options = entry.list_variants()[0][1].options
        provider = options.connect() if options is not None else None
        if isinstance(provider, HttpProvider) and (condition := provider.unchecked_credentials()) is not None:
            unchecked[name] = condition
    return unchecked


def find_missing_in(hub: Hub, *, check_clients: bool = False) -> dict[str, str]:
    """Return what the models of *hub* lack, and what keys of models with several lack, by their labels.

    Makes every model and, with *check_clients*, its SDK's client.
    """
    from modelhub.build import Unconfigured

    unconfigured: dict[str, str] = {}
    problems: list[Problem] = []
    for name, entry in hub.loaded.models.items():
        try:
            models = hub.get(name).models
        except ConfigError as error:
            problems.append(hub.loaded.problem(("models", name), f"model `{name}`: {error}"))
            continue
        lacking = [model.problem if isinstance(model, Unconfigured) else None for model in models]
        if entry.keys:
            of_keys = zip(entry.keys, lacking, strict=True)
            unconfigured |= {key.label: problem for key, problem in of_keys if problem is not None}
        if None not in lacking:
            unconfigured[name] = " or ".join(dict.fromkeys(problem for problem in lacking if problem is not None))
        if check_clients and entry.options is not None:
            problems += _find_client_problems(hub.loaded, name)
    if check_clients:
        problems += [hub.loaded.problem((), str(problem)) for problem in check_proxies()]
    if problems:
        raise ConfigError(problems)
    return unconfigured
