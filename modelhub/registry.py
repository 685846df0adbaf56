"""What exists: every provider by its kind, every layer by its key, in order.

Those that are built in stand in two tables; third parties add theirs through the entry-point groups
`modelhub.providers` and `modelhub.middleware`. Nothing is imported before it is asked for, and no SDK ever is.
"""

from __future__ import annotations

import difflib
import importlib
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from modelhub.core.errors import ConfigError
from modelhub.core.model import Layer
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
"""Kind to options class. A provider is one folder and one line here."""


@dataclass(frozen=True, slots=True)
class LayerSpec:
    """A layer: its key in the file and where its class is; *plugin* is what brings it, if it is a third party's."""

    key: str
    target: str
    plugin: EntryPoint | None = None

    def load(self) -> type[Layer]:
        """The layer's class. Raises ConfigError for a plug-in that cannot be loaded, or is no layer."""
        if self.plugin is None:
            built_in: type[Layer] = _load(self.target)
            return built_in
        found = _load_plugin("modelhub.middleware", self.key, self.plugin)
        whose = f"layer `{self.key}` of {_owner(self.plugin)}"
        if not _is_a(found, Layer):
            raise ConfigError(f"{whose}: its entry point must name a Layer class, not {found!r}")
        if not (found.Options is None or _is_a(found.Options, LayerOptions)):
            raise ConfigError(f"{whose}: its `Options` must be a LayerOptions class or None, not {found.Options!r}")
        layer: type[Layer] = found
        return layer


LAYERS: tuple[LayerSpec, ...] = (
    LayerSpec("pricing", "modelhub.middleware.usage.layer:Usage"),
    LayerSpec("deadline", "modelhub.middleware.deadline.layer:Deadline"),
    LayerSpec("retry", "modelhub.middleware.retry.layer:Retry"),
    LayerSpec("breaker", "modelhub.middleware.breaker.layer:Breaker"),
    LayerSpec("limit", "modelhub.middleware.limit.layer:Limit"),
    LayerSpec("timeout", "modelhub.middleware.timeout.layer:Timeout"),
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
        found = _load_plugin("modelhub.providers", kind, plugins[kind])
        if not _is_a(found, ProviderOptions):
            whose = f"provider `{kind}` of {_owner(plugins[kind])}"
            raise ConfigError(f"{whose}: its entry point must name a ProviderOptions class, not {found!r}")
    else:
        kinds = provider_kinds()
        close = difflib.get_close_matches(kind, kinds, 1)
        meant = f"; did you mean `{close[0]}`?" if close else ""
        raise ConfigError(f"unknown provider `{kind}`{meant} (providers: {', '.join(kinds)})")
    options: type[ProviderOptions] = found
    return options


def layers() -> tuple[LayerSpec, ...]:
    """All layers, outermost first, those of third parties included."""
    known = {spec.key for spec in LAYERS}
    extra = tuple(
        LayerSpec(name, point.value, point)
        for name, point in sorted(_plugins("modelhub.middleware").items())
        if name not in known
    )
    return LAYERS[:1] + extra + LAYERS[1:]


def _load_plugin(group: str, name: str, point: EntryPoint) -> Any:
    owners = sorted({_owner(one) for one in entry_points(group=group, name=name)})
    if len(owners) > 1:
        raise ConfigError(f"`{name}` is brought by {' and '.join(owners)}: uninstall all of them but one")
    try:
        return point.load()
    except Exception as error:
        raise ConfigError(f"the plug-in `{name}` of {_owner(point)} cannot be loaded: {error}") from error


def _owner(point: EntryPoint) -> str:
    """The distribution that brings *point*."""
    return point.dist.name if point.dist is not None else point.value


def _is_a(found: Any, base: type) -> bool:
    return isinstance(found, type) and issubclass(found, base)
