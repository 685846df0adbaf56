"""A valid configuration, as `load` makes it."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from modelhub.config.entries import ModelEntry
from modelhub.config.origins import Origin
from modelhub.config.problems import Report
from modelhub.config.schema import HubConfig
from modelhub.config.source import Document, Path
from modelhub.core.errors import ConfigError, Problem, UnknownModel
from modelhub.middleware.chain.options import ChainOptions
from modelhub.middleware.limit.options import LimitOptions

__all__ = ["Loaded"]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A valid configuration. `file` is its name, empty for configuration from a dict."""

    file: str
    config: HubConfig = field(repr=False)
    models: Mapping[str, ModelEntry]
    chains: Mapping[str, ChainOptions]
    limits: Mapping[str, LimitOptions]
    lines: Mapping[str, int] = field(default_factory=dict)
    """The line where each model and chain begins."""
    profile: str | None = None
    """The name of the profile that applies."""
    profiles: tuple[str, ...] = ()
    """The names of all profiles."""
    renewable: frozenset[str] = frozenset()
    """The models that have a value from a file or a command."""
    _document: Document | None = field(default=None, repr=False)
    _resolve: Callable[[], Loaded] | None = field(default=None, repr=False)
    _settings: Mapping[tuple[str, str], Callable[[], tuple[Origin, ...]]] = field(default_factory=dict, repr=False)

    def problem(self, path: Path, message: str, hint: str = "") -> Problem:
        """Return a problem with the value at *path* of the file, or with the enclosing value if *path* is absent."""
        if self._document is None:
            return Problem(message, self.file, hint=hint)
        span = self._document.find_span(_find_written_path(self._document, path)) if path else None
        return Report(*self._document.sources).make_problem(span, message, hint)

    def resolve_again(self) -> Loaded:
        """Return the same configuration with its references resolved as they are now; its files are not read again.

        Raises ConfigError with every problem, and if a model has lost what it needs for a call.
        """
        if self._resolve is None:
            return self
        loaded = self._resolve()
        lost = [
            self.problem(("models", name), f"model `{name}` cannot be used any more: {entry.missing}")
            for name, entry in loaded.models.items()
            if entry.missing is not None and self.models[name].missing is None
        ]
        if lost:
            raise ConfigError(lost)
        return loaded

    def list_settings(self) -> Mapping[tuple[Any, str], tuple[Origin, ...]]:
        """Return the origins of all values of every entry, by its kind ("model", "limit", ...) and its name.

        A section without named entries, such as `usage:`, is of the kind "setting".
        """
        return {key: find() for key, find in self._settings.items()}

    def list_origins(self, name: str) -> list[Origin]:
        """Return every value of the model or chain *name* and where it comes from. Raises UnknownModel."""
        names = [*self.models, *self.chains]
        if name not in names:
            raise UnknownModel(f"no model or chain `{name}`{_suggest(name, names)}")
        return list(self._settings["chain" if name in self.chains else "model", name]())

    def __contains__(self, name: object) -> bool:
        """Return whether *name* is a model or a chain."""
        return name in self.models or name in self.chains

    def check_name(self, name: str) -> None:
        """Raise UnknownModel, with the names that exist and a suggestion, if *name* is no model and no chain."""
        names = [*self.chains, *self.models]
        if name not in names:
            raise UnknownModel(f"no model or chain is called `{name}`{_suggest(name, names)}")


def _suggest(name: object, names: Iterable[str]) -> str:
    """Return the end of a message about an unknown *name*: the one of *names* that was probably meant, and all."""
    known = list(names)
    matches = difflib.get_close_matches(str(name), known, 1)
    suggestion = f"; did you mean `{matches[0]}`?" if matches else ""
    return f"{suggestion} (there are: {', '.join(known)})"


def _find_written_path(document: Document, path: Path) -> Path:
    """Return *path* with the alias of each key that the file uses."""
    for key in path:
        for aliases in _KEY_ALIASES:
            for alias in aliases if key in aliases else ():
                written = tuple(alias if part == key else part for part in path)
                if written in document.places:
                    return written
    return path


_KEY_ALIASES = (("client_args", "client_kwargs"), ("base_url", "host", "base_http_api_url"))
