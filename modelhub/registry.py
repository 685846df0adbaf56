"""The registry of providers and layers.

Built-in ones are in two tables; third parties add theirs through the entry-point groups `modelhub.providers` and
`modelhub.middleware`. A module is imported when it is first needed; an SDK is never imported here.
"""

from __future__ import annotations

import difflib
import importlib
import re
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from modelhub.core.errors import ConfigError
from modelhub.core.model import Layer
from modelhub.options import LayerOptions, ProviderOptions

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = ["LAYERS", "PROVIDERS", "LayerSpec", "list_layers", "list_providers", "load_provider_options"]

PROVIDERS: dict[str, str] = {
    "anthropic": "modelhub.providers.anthropic:AnthropicOptions",
    "dashscope": "modelhub.providers.dashscope:DashScopeOptions",
    "ollama": "modelhub.providers.ollama:OllamaOptions",
    "gemini": "modelhub.providers.gemini:GeminiOptions",
    "openai": "modelhub.providers.openai:OpenAIOptions",
    "scripted": "modelhub.providers.scripted:ScriptedOptions",
}
"""The options class of each provider. A provider is one folder and one line here."""


class LayerSpec(NamedTuple):
    """A layer: its key in the file, and its class as "module:name". *plugin* is the entry point of a third party."""

    key: str
    target: str
    plugin: EntryPoint | None = None

    @property
    def title(self) -> str:
        """The name of the layer's class in words, such as "prompt cache"."""
        return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", self.target.rpartition(":")[2]).lower()

    def load(self) -> type[Layer]:
        """Import the layer's class. Raises ConfigError for a plug-in that cannot be loaded, or is not a layer."""
        if self.plugin is None:
            built_in: type[Layer] = load_target(self.target)
            return built_in
        layer_class = _load_plugin("modelhub.middleware", self.key, self.plugin)
        subject = f"layer `{self.key}` of {_get_distribution(self.plugin)}"
        if not _is_subclass(layer_class, Layer):
            raise ConfigError(f"{subject}: its entry point must name a Layer class, not {layer_class!r}")
        if not (layer_class.Options is None or _is_subclass(layer_class.Options, LayerOptions)):
            raise ConfigError(
                f"{subject}: its `Options` must be a LayerOptions class or None, not {layer_class.Options!r}"
            )
        checked: type[Layer] = layer_class
        return checked


LAYERS: tuple[LayerSpec, ...] = (
    LayerSpec("pricing", "modelhub.middleware.usage.layer:Usage"),
    LayerSpec("deadline", "modelhub.middleware.deadline.layer:Deadline"),
    LayerSpec("retry", "modelhub.middleware.retry.layer:Retry"),
    LayerSpec("breaker", "modelhub.middleware.breaker.layer:Breaker"),
    LayerSpec("limit", "modelhub.middleware.limit.layer:Limit"),
    LayerSpec("timeout", "modelhub.middleware.timeout.layer:Timeout"),
    LayerSpec("prompt_cache", "modelhub.middleware.prompt_cache.layer:PromptCache"),
)
"""The order of the layers, outermost first; a chain is above them and a provider below. A layer is one folder and one
line here. Layers of third parties are just below `usage`, in the order of their names."""


def load_target(target: str) -> Any:
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)


@cache
def read_plugins() -> dict[str, dict[str, EntryPoint]]:
    from importlib.metadata import entry_points  # it loads much, and only a configuration needs it

    points = entry_points()  # of all groups: for each single one the files of all distributions are read again
    groups = ("modelhub.providers", "modelhub.middleware")
    return {group: {point.name: point for point in points.select(group=group)} for group in groups}


def find_plugins(group: str) -> dict[str, EntryPoint]:
    return read_plugins()[group]


def list_providers() -> list[str]:
    """Return every name that is valid under `provider:`, sorted."""
    return sorted({*PROVIDERS, *find_plugins("modelhub.providers")})


@cache
def load_provider_options(kind: str) -> type[ProviderOptions]:
    """Import the options class of the provider *kind*.

    Raises ConfigError for an unknown provider, with a suggestion, and for a plug-in that cannot be loaded.
    """
    if kind in PROVIDERS:
        options_class = load_target(PROVIDERS[kind])
    elif kind in (plugins := find_plugins("modelhub.providers")):
        options_class = _load_plugin("modelhub.providers", kind, plugins[kind])
        if not _is_subclass(options_class, ProviderOptions):
            subject = f"provider `{kind}` of {_get_distribution(plugins[kind])}"
            raise ConfigError(f"{subject}: its entry point must name a ProviderOptions class, not {options_class!r}")
    else:
        kinds = list_providers()
        close = difflib.get_close_matches(kind, kinds, 1)
        suggestion = f"; did you mean `{close[0]}`?" if close else ""
        raise ConfigError(f"unknown provider `{kind}`{suggestion} (providers: {', '.join(kinds)})")
    checked: type[ProviderOptions] = options_class
    return checked


def list_layers() -> tuple[LayerSpec, ...]:
    """Return all layers, outermost first, those of third parties included."""
    known = {spec.key for spec in LAYERS}
    extra = tuple(
        LayerSpec(name, point.value, point)
        for name, point in sorted(find_plugins("modelhub.middleware").items())
        if name not in known
    )
    return LAYERS[:1] + extra + LAYERS[1:]


def _load_plugin(group: str, name: str, point: EntryPoint) -> Any:
    from importlib.metadata import entry_points

    distributions = sorted({_get_distribution(other) for other in entry_points(group=group, name=name)})
    if len(distributions) > 1:
        raise ConfigError(f"`{name}` is provided by {' and '.join(distributions)}: uninstall all but one of them")
    try:
        return point.load()
    except Exception as error:
        raise ConfigError(f"the plug-in `{name}` of {_get_distribution(point)} cannot be loaded: {error}") from error


def _get_distribution(point: EntryPoint) -> str:
    """Return the name of the distribution that *point* belongs to."""
    return point.dist.name if point.dist is not None else point.value


def _is_subclass(value: Any, base: type) -> bool:
    return isinstance(value, type) and issubclass(value, base)
