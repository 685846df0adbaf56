"""What a file has, as `check`, `list` and `explain` show it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from modelhub.cli.output import counted
from modelhub.core.errors import ConfigError, Problem
from modelhub.providers import Provider
from modelhub.providers.sdk_client import check_proxies

if TYPE_CHECKING:
    from modelhub.config.load import Loaded
    from modelhub.hub import Hub

__all__ = ["Entry", "entries", "missing", "missing_in", "summary"]


@dataclass(frozen=True, slots=True)
class Entry:
    """A model or a chain; `missing` says what keeps it from being called."""

    name: str
    kind: str
    provider: str | None = None
    model_name: str | None = None
    models: tuple[str, ...] = ()
    missing: str | None = None

    @property
    def what(self) -> tuple[str, str]:
        """The provider and the model's name; of a chain, the order in which its models are asked."""
        if self.kind == "chain":
            return "chain", " > ".join(self.models)
        return self.provider or "-", self.model_name or "-"

    def as_dict(self) -> dict[str, Any]:
        """The entry as JSON has it: the keys that its kind has."""
        others = {"provider", "model_name"} if self.kind == "chain" else {"models"}
        return {key: value for key, value in asdict(self).items() if key not in others}


def entries(loaded: Loaded, lacking: dict[str, str] | None = None) -> Iterator[Entry]:
    """Every model, then every chain, in the order of the file; *lacking* has what models lack."""
    lacking = lacking or {}
    for name, entry in loaded.models.items():
        model_name = entry.options.model_name if entry.options is not None else None
        if model_name == entry.provider == "scripted":
            model_name = None  # nobody gave it that name
        yield Entry(name, "model", entry.provider, model_name, missing=lacking.get(name))
    for name, chain in loaded.chains.items():
        members = tuple(chain.models)
        none = all(leaf in lacking for leaf in _leaves(loaded, name))
        yield Entry(name, "chain", models=members, missing="none of its models is configured" if none else None)


def _leaves(loaded: Loaded, name: str) -> Iterator[str]:
    if name in loaded.chains:
        for member in loaded.chains[name].models:
            yield from _leaves(loaded, member)
    else:
        yield name


def missing(loaded: Loaded, *, check_clients: bool = False) -> dict[str, str]:
    """What each model lacks that cannot be called: a variable, a file, an SDK.

    Raises ConfigError for models that the file describes well, but their provider refuses.
    """
    from modelhub.hub import Hub

    hub = Hub(loaded)
    try:
        return missing_in(hub, check_clients=check_clients)
    finally:
        asyncio.run(hub.aclose())


def client_problems(loaded: Loaded, name: str) -> Iterator[Problem]:
    """Yield what keeps the client of the model *name* from being made, with its place in the file. Asks no server."""
    options = loaded.models[name].options
    provider = options.connect() if options is not None else None
    if not isinstance(provider, Provider):
        return
    problems = [*provider.client_problems(), *provider.client_settings().misnamed()]
    for problem in problems or asyncio.run(provider.try_client()):
        yield loaded.problem(("models", name, *problem.path), f"model `{name}`: {problem.message}", problem.hint)


def missing_in(hub: Hub, *, check_clients: bool = False) -> dict[str, str]:
    """The same of all models of *hub*, which are made for it; with *check_clients*, their SDKs' clients too."""
    from modelhub.build import Unconfigured

    unconfigured, problems = {}, []
    for name, entry in hub.loaded.models.items():
        try:
            model = hub.get(name).models[0]
        except ConfigError as error:
            problems.append(Problem(f"model `{name}`: {error}", hub.loaded.file, entry.line))
            continue
        if isinstance(model, Unconfigured):
            unconfigured[name] = model.problem
        if check_clients and entry.options is not None:
            problems += client_problems(hub.loaded, name)
    if check_clients:
        problems += [hub.loaded.problem((), str(problem)) for problem in check_proxies()]
    if problems:
        raise ConfigError(problems)
    return unconfigured


def summary(loaded: Loaded) -> str:
    """`5 models, 2 chains, 1 limit`."""
    parts = {"model": loaded.models, "chain": loaded.chains, "limit": loaded.limits}
    return ", ".join(counted(len(found), thing) for thing, found in parts.items() if found)
