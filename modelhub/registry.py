"""What exists: every provider by its kind, every layer by its key, in order.

Built-in rooms stand in two tables; third parties add theirs through the entry-point groups `modelhub.providers` and
`modelhub.middleware`. Nothing is imported before it is asked for, and no SDK ever is.
"""

from __future__ import annotations

import difflib
import importlib
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from modelhub.errors import ConfigError
from modelhub.model import Layer
from modelhub.options import LayerOptions, ProviderOptions

__all__ = ["LAYERS", "PROVIDERS", "LayerSpec", "layers", "provider_kinds", "provider_options"]

PROVIDERS: dict[str, str] = {
    "anthropic": "modelhub.providers.anthropic:AnthropicOptions",
    "dashscope": "modelhub.providers.dashscope:DashScopeOptions",
    "ollama": "modelhub.providers.ollama:OllamaOptions",
    "gemini": "modelhub.providers.gemini:GeminiOptions",
    "openai": "modelhub.providers.openai:OpenAIOptions",
    "scripted": "modelhub.providers.scripted:ScriptedOptions",
}
"""Kind to options class. A provider is one file and one line here."""


@dataclass(frozen=True, slots=True)
class LayerSpec:
    """A layer: its key in the file and where its class is; *plugin* is what brings it, if it is a third party's."""

    key: str
    target: str
    plugin: EntryPoint | None = None

    def load(self) -> type[Layer]:
        """The layer's class. Raises ConfigError for a plug-in that cannot be loaded, or is no layer."""
        found = _load(self.target) if self.plugin is None else _load_plugin(self.plugin)
        if not (isinstance(found, type) and issubclass(found, Layer)):
            raise ConfigError(f"layer `{self.key}`: its entry point must name a Layer class, not {found!r}")
        options = found.Options
        if not (options is None or (isinstance(options, type) and issubclass(options, LayerOptions))):
            raise ConfigError(f"layer `{self.key}`: its `Options` must be a LayerOptions class or None, not {options!r}")
        return found


LAYERS: tuple[LayerSpec, ...] = (
    LayerSpec("pricing", "modelhub.middleware.usage:Usage"),
    LayerSpec("deadline", "modelhub.middleware.deadline:Deadline"),
    LayerSpec("retry", "modelhub.middleware.retry:Retry"),
    LayerSpec("breaker", "modelhub.middleware.breaker:Breaker"),
    LayerSpec("limit", "modelhub.middleware.limit:Limit"),
    LayerSpec("timeout", "modelhub.middleware.timeout:Timeout"),
)
"""The one tuple of layer order, outermost first; a chain stands above it and a provider below. A layer is one file
and one line here. Layers of third parties stand just below `usage`, in the order of their names."""


def _load(target: str) -> Any:
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)


@cache
def _plugins(group: str) -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=group)}


def provider_kinds() -> list[str]:
    """Every kind a file may name under `provider:`."""
    return sorted({*PROVIDERS, *_plugins("modelhub.providers")})


@cache
def provider_options(kind: str) -> type[ProviderOptions]:
    """The options class of *kind*.

    Raises ConfigError for an unknown kind, with the known ones and what was probably meant, and for a plug-in that
    cannot be loaded.
    """
    if kind in PROVIDERS:
        found = _load(PROVIDERS[kind])
    elif kind in (plugins := _plugins("modelhub.providers")):
        found = _load_plugin(plugins[kind])
    else:
        kinds = provider_kinds()
        close = difflib.get_close_matches(kind, kinds, 1)
        meant = f"; did you mean `{close[0]}`?" if close else ""
        raise ConfigError(f"unknown provider `{kind}`{meant} (providers: {', '.join(kinds)})")
    if not (isinstance(found, type) and issubclass(found, ProviderOptions)):
        raise ConfigError(f"provider `{kind}`: its entry point must name a ProviderOptions class, not {found!r}")
    return found


def layers() -> tuple[LayerSpec, ...]:
    """All layers, outermost first, those of third parties included."""
    known = {spec.key for spec in LAYERS}
    extra = tuple(
        LayerSpec(name, point.value, point)
        for name, point in sorted(_plugins("modelhub.middleware").items())
        if name not in known
    )
    return LAYERS[:1] + extra + LAYERS[1:]


def _load_plugin(point: EntryPoint) -> Any:
    try:
        return point.load()
    except Exception as error:
        owner = point.dist.name if point.dist is not None else point.value
        raise ConfigError(f"the plug-in `{point.name}` of {owner} cannot be loaded: {error}") from error
