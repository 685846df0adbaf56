"""Resolve entries of `models:`: apply the defaults, validate, and find out what is missing before a call."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from modelhub.config.check import OptionsChecker
from modelhub.config.hints import find_misspelt_key, suggest_missing_key
from modelhub.config.interpolate import UnresolvedReference, get_call_key
from modelhub.config.model_entry import ModelEntry, add_keys, describe_missing
from modelhub.config.problems import suggest_name
from modelhub.config.schema import get_free_keys, get_keys, load_layer_options, make_defaults_class, make_entry_class
from modelhub.config.source import Path, parse_plain_value
from modelhub.config.view import LocatedData, describe_path, is_secret_path
from modelhub.core.errors import ConfigError
from modelhub.options import Options, ProviderOptions
from modelhub.registry import list_providers, load_provider_options

__all__ = ["ModelEntry", "Resolved", "merge_defaults", "resolve_entry"]


@dataclass(frozen=True, slots=True)
class Resolved:
    """A resolved entry with its merged data (`view`) and, if it is valid, its validated form (`config`)."""

    entry: ModelEntry
    view: LocatedData
    config: Options | None = field(repr=False)


def merge_defaults(entry: Mapping[str, Any], defaults: Mapping[str, Any], at: Path) -> LocatedData:
    """Merge *entry*, which is at path *at*, with *defaults*, key by key; the entry takes precedence."""
    sources: dict[Path, Path] = {(): at}
    data = _merge_mappings(entry, defaults, (), at, sources)
    return LocatedData(data, sources)


def _merge_mappings(
    entry: Mapping[str, Any], defaults: Mapping[str, Any], here: Path, at: Path, sources: dict[Path, Path]
) -> dict[str, Any]:
    data = dict(entry)
    for key, default in defaults.items():
        path = (*here, key)
        if key not in data:
            data[key] = default
            sources[path] = ("defaults", *path)
        elif isinstance(data[key], Mapping) and isinstance(default, Mapping):
            data[key] = _merge_mappings(data[key], default, path, at, sources)
    return data


def resolve_entry(checker: OptionsChecker, name: str, entry: dict[str, Any], environ: Mapping[str, str]) -> Resolved:
    """Validate the model *name* with the defaults applied; problems are reported to *checker*."""
    at: Path = ("models", name)
    defaults = checker.interpolated.data.get("defaults")
    known_defaults = {
        key: value for key, value in _as_mapping(defaults).items() if key in make_defaults_class().model_fields
    }
    view = merge_defaults(entry, known_defaults, at)
    kind, cls = _find_provider(checker, view)
    unset = tuple(_find_unset(checker, view))
    config: Options | None = None
    options: ProviderOptions | None = None
    if cls is None:
        common = {key: value for key, value in view.data.items() if key in make_defaults_class().model_fields}
        checker.validate(make_defaults_class(), LocatedData(common, view.sources))
    else:
        ready = LocatedData(_parse_bare_references(checker, view, cls), view.sources).without(
            _find_empty_secrets(checker, view, cls)
        )
        config = checker.validate(cls, ready)
        provider_data = LocatedData(
            {key: value for key, value in ready.data.items() if key not in {*load_layer_options(), "keys"}},
            view.sources,
        )
        options = checker.validate(load_provider_options(kind), provider_data) if config is not None else None
    layers = {key: getattr(config, key, None) for key in load_layer_options()}
    line = checker.document.find_line(at)
    keys = getattr(config, "keys", None) or ()
    missing = None if keys else describe_missing(unset, options, environ)
    call_key = get_call_key(view.data.get("api_key"))
    model = ModelEntry(name, kind, options, layers, missing, unset, line, call_key=call_key)
    return Resolved(add_keys(model, keys) if keys else model, view, config)


def _as_mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _find_empty_secrets(checker: OptionsChecker, view: LocatedData, cls: type[ProviderOptions]) -> Iterator[Path]:
    """Yield the paths of secrets that are empty or unset, so that no placeholder is used as a key."""
    for key in get_keys(cls):
        place = view.source_path((key,))
        empty = view.data.get(key) == "" or place in checker.interpolated.unset
        if empty and is_secret_path(place) and place not in checker.document.empty:
            yield (key,)


def _find_provider(checker: OptionsChecker, view: LocatedData) -> tuple[str, type[ProviderOptions] | None]:
    """Return the provider's name and the class of the entry, or None for the class if the provider is unknown."""
    at = view.source_path(())
    place = (*at, "provider")
    kind = view.data.get("provider")
    if place in checker.interpolated.unset:
        return str(kind), None
    if "provider" not in view.data:
        if (
            misspelt_key := find_misspelt_key("provider", set(view.data) - set(load_layer_options()), ProviderOptions)
        ) is not None:
            checker.unknown((*at, misspelt_key), ProviderOptions)
        else:
            checker.problem(at, f"{describe_path(at)} has no `provider`", _suggest_provider(), key=True)
        return "", None
    if kind not in list_providers():
        _report_unknown_provider(checker, place, kind)
        return str(kind), None
    try:
        return kind, make_entry_class(kind)
    except ConfigError as error:  # a third party's module that cannot be loaded
        checker.problem(place, str(error))
        return kind, None


def _suggest_provider() -> str:
    return f"{suggest_missing_key('provider', ProviderOptions)} (providers: {', '.join(list_providers())})"


def _report_unknown_provider(checker: OptionsChecker, place: Path, kind: Any) -> None:
    if place in checker.document.empty:
        checker.problem(place, "`provider` has no value", _suggest_provider(), key=True)
        return
    known = list_providers()
    name = kind if isinstance(kind, str) and place not in checker.interpolated.from_environment else ""
    message = f"unknown provider `{checker.written(place)}` in {describe_path(place[:-1])}"
    advice = _OTHER_PROVIDERS.get(re.sub(r"[^a-z]", "", name.lower()))
    checker.problem(place, message, advice or suggest_name(name, known, kind="providers"))


_SERVERS = {
    **{name: name for name in ("openrouter", "groq", "deepseek", "mistral", "xai", "moonshot", "zai", "together")},
    **{name: name for name in ("fireworks", "cerebras", "perplexity", "vllm", "lmstudio", "llamacpp")},
    "grok": "xai",
    "kimi": "moonshot",
    "zhipu": "zai",
    "togetherai": "together",
    "fireworksai": "fireworks",
}
"""Servers that speak like OpenAI, by what they are called, and their names for `compat`."""
_VERTEX = "write `provider: gemini` with `client_args: {vertexai: true, project: my-project, location: europe-west4}`"
_AZURE = "write `provider: openai` with `base_url: https://NAME.openai.azure.com/openai/v1`"
_BEDROCK = (
    "write `provider: openai` with `base_url: https://bedrock-runtime.REGION.amazonaws.com/openai/v1` "
    "and `api_key: ${AWS_BEARER_TOKEN_BEDROCK}`, a Bedrock API key"
)
_OTHER_PROVIDERS = {
    **dict.fromkeys(("azure", "azureopenai", "azureai", "microsoft"), _AZURE),
    **dict.fromkeys(("vertex", "vertexai", "googlevertex", "googlevertexai"), _VERTEX),
    **dict.fromkeys(("google", "googlegenai", "googleai", "palm"), "write `provider: gemini`"),
    "claude": "write `provider: anthropic`",
    **dict.fromkeys(("qwen", "alibaba", "tongyi", "modelstudio"), "write `provider: dashscope`"),
    **dict.fromkeys(("gpt", "chatgpt"), "write `provider: openai`"),
    **dict.fromkeys(("bedrock", "awsbedrock", "amazonbedrock", "aws", "amazon"), _BEDROCK),
    **{name: f"write `provider: openai` with `compat: {compat}`" for name, compat in _SERVERS.items()},
    "litellm": "write `provider: openai` with `base_url: http://localhost:4000/v1`",
}
"""Other names of providers, and what to write instead."""


def _find_unset(checker: OptionsChecker, view: LocatedData) -> Iterator[UnresolvedReference]:
    """Yield every unresolved reference of the entry, in the order of the file."""
    at = view.source_path(())
    paths = checker.interpolated.list_unset(at)
    inherited = [path for path in _find_inherited(view) if path in checker.interpolated.unset]
    for path in (*paths, *inherited):
        yield from checker.interpolated.unset[path]


def _find_inherited(view: LocatedData) -> Iterator[Path]:
    """Yield the path in `defaults:` of every value that came from there."""
    for path, place in view.sources.items():
        if place[0] == "defaults":
            value = view.data
            for part in path:
                value = value[str(part)]
            yield from _walk_leaves(value, place)


def _walk_leaves(value: Any, path: Path) -> Iterator[Path]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _walk_leaves(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _walk_leaves(inner, (*path, index))
    else:
        yield path


def _parse_bare_references(checker: OptionsChecker, view: LocatedData, cls: type[ProviderOptions]) -> dict[str, Any]:
    """Return the data with the values of unquoted references in free-form fields parsed as YAML scalars."""
    free = get_free_keys(cls)

    def parse(value: Any, path: Path) -> Any:
        if isinstance(value, Mapping):
            return {key: parse(inner, (*path, key)) for key, inner in value.items()}
        if isinstance(value, list):
            return [parse(inner, (*path, index)) for index, inner in enumerate(value)]
        return (
            parse_plain_value(value) if isinstance(value, str) and _is_bare(checker, view.source_path(path)) else value
        )

    return {key: parse(value, (key,)) if key in free else value for key, value in view.data.items()}


def _is_bare(checker: OptionsChecker, path: Path) -> bool:
    """Return whether the value at *path* is a single unquoted reference, and not a secret."""
    place = checker.document.places.get(path)
    if path not in checker.interpolated.from_environment or path in checker.interpolated.unset or is_secret_path(path):
        return False
    if place is None or place.written is None or not place.bare:
        return False
    return place.written.startswith("${") and place.written.find("}") == len(place.written) - 1
