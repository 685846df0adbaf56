"""Models as the file means them: an entry with the defaults below it, checked, and what it lacks to be called."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from modelhub.config.check import OptionsChecker
from modelhub.config.hints import missing_key, misspelt
from modelhub.config.interpolate import UnresolvedReference
from modelhub.config.problems import did_you_mean
from modelhub.config.schema import defaults_class, entry_class, free_fields, keys_of, layer_options
from modelhub.config.source import Path, plain_value
from modelhub.config.view import LocatedData, is_secret_path, where
from modelhub.core.errors import ConfigError
from modelhub.options import Options, ProviderOptions
from modelhub.registry import provider_kinds, provider_options

__all__ = ["ModelEntry", "Resolved", "merged", "resolve"]


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """One entry of `models:`, with the defaults in it.

    `options` builds the provider; it is None where a value that is not there keeps it from being built. `layers` has
    every layer's options by its key, None where nothing is said of it; that of `limit` may be a pool's name.
    `missing` says what to do before the model can be called ("set OPENAI_API_KEY"), None if nothing; `unset` has the
    references that lead nowhere, with their places. `line` is where the entry begins, 0 without a file.
    """

    name: str
    provider: str
    options: ProviderOptions | None = field(repr=False)  # a client's headers may be a secret
    layers: Mapping[str, Any]
    missing: str | None = None
    unset: tuple[UnresolvedReference, ...] = ()
    line: int = 0


@dataclass(frozen=True, slots=True)
class Resolved:
    """An entry, and what it was made of: `view` has its values and their places, `config` the checked form."""

    entry: ModelEntry
    view: LocatedData
    config: Options | None = field(repr=False)


def merged(entry: Mapping[str, Any], defaults: Mapping[str, Any], at: Path) -> LocatedData:
    """*entry*, which stands at *at*, over *defaults*, key by key; the entry wins."""
    sources: dict[Path, Path] = {(): at}
    data = _merge(entry, defaults, (), at, sources)
    return LocatedData(data, sources)


def _merge(
    entry: Mapping[str, Any], defaults: Mapping[str, Any], here: Path, at: Path, sources: dict[Path, Path]
) -> dict[str, Any]:
    data = dict(entry)
    for key, default in defaults.items():
        path = (*here, key)
        if key not in data:
            data[key] = default
            sources[path] = ("defaults", *path)
        elif isinstance(data[key], Mapping) and isinstance(default, Mapping):
            data[key] = _merge(data[key], default, path, at, sources)
    return data


def resolve(checker: OptionsChecker, name: str, entry: dict[str, Any], environ: Mapping[str, str]) -> Resolved:
    """The model *name* as the file means it; what is wrong with it is reported."""
    at: Path = ("models", name)
    defaults = checker.filled.data.get("defaults")
    usable = {key: value for key, value in _mapping(defaults).items() if key in defaults_class().model_fields}
    view = merged(entry, usable, at)
    kind, cls = _provider(checker, view)
    unset = tuple(_unset(checker, view))
    config: Options | None = None
    options: ProviderOptions | None = None
    if cls is None:
        rest = {key: value for key, value in view.data.items() if key in defaults_class().model_fields}
        checker.validate(defaults_class(), LocatedData(rest, view.sources))
    else:
        ready = LocatedData(_typed(checker, view, cls), view.sources).without(_no_secrets(checker, view, cls))
        config = checker.validate(cls, ready)
        own = LocatedData({key: value for key, value in ready.data.items() if key not in layer_options()}, view.sources)
        options = checker.validate(provider_options(kind), own) if config is not None else None
    layers = {key: getattr(config, key, None) for key in layer_options()}
    missing = _missing(unset, options, environ)
    return Resolved(ModelEntry(name, kind, options, layers, missing, unset, checker.document.line(at)), view, config)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _no_secrets(checker: OptionsChecker, view: LocatedData, cls: type[ProviderOptions]) -> Iterator[Path]:
    """The secrets that are empty or not there: an empty key is no key, and no placeholder may look like one."""
    for key in keys_of(cls):
        place = view.in_file((key,))
        empty = view.data.get(key) == "" or place in checker.filled.unset
        if empty and is_secret_path(place) and place not in checker.document.empty:
            yield (key,)


def _provider(checker: OptionsChecker, view: LocatedData) -> tuple[str, type[ProviderOptions] | None]:
    """The kind of provider an entry names, and the class of the entry; None if there is no such kind."""
    at = view.in_file(())
    place = (*at, "provider")
    kind = view.data.get("provider")
    if place in checker.filled.unset:
        return str(kind), None
    if "provider" not in view.data:
        if (meant := misspelt("provider", set(view.data) - set(layer_options()), ProviderOptions)) is not None:
            checker.unknown((*at, meant), ProviderOptions)
        else:
            checker.problem(at, f"{where(at)} has no `provider`", _provider_hint(), key=True)
        return "", None
    if kind not in provider_kinds():
        _unknown_provider(checker, place, kind)
        return str(kind), None
    try:
        return kind, entry_class(kind)
    except ConfigError as error:  # a third party's module that cannot be loaded
        checker.problem(place, str(error))
        return kind, None


def _provider_hint() -> str:
    return f"{missing_key('provider', ProviderOptions)} (providers: {', '.join(provider_kinds())})"


def _unknown_provider(checker: OptionsChecker, place: Path, kind: Any) -> None:
    if place in checker.document.empty:
        checker.problem(place, "`provider` has no value", _provider_hint(), key=True)
        return
    known = provider_kinds()
    meant = kind if isinstance(kind, str) and place not in checker.filled.from_environment else ""
    message = f"unknown provider `{checker.written(place)}` in {where(place[:-1])}"
    elsewhere = _OTHER_PROVIDERS.get(re.sub(r"[^a-z]", "", meant.lower()))
    checker.problem(place, message, elsewhere or did_you_mean(meant, known, kind="providers"))


_OPENAI_COMPATIBLE = {
    "openrouter": "https://openrouter.ai/api/v1",
    "groq": "https://api.groq.com/openai/v1",
    "deepseek": "https://api.deepseek.com",
    "mistral": "https://api.mistral.ai/v1",
    "xai": "https://api.x.ai/v1",
    "together": "https://api.together.xyz/v1",
    "fireworks": "https://api.fireworks.ai/inference/v1",
    "vllm": "http://localhost:8000/v1",
    "lmstudio": "http://localhost:1234/v1",
    "llamacpp": "http://localhost:8080/v1",
    "litellm": "http://localhost:4000/v1",
}
_VERTEX = "write `provider: gemini` with `client_args: {vertexai: true, project: ..., location: ...}`"
_AZURE = "write `provider: openai` with `client_type: azure`, `base_url` and `client_args: {api_version: ...}`"
_OTHER_PROVIDERS = {
    "azure": _AZURE,
    "azureopenai": _AZURE,
    "vertex": _VERTEX,
    "vertexai": _VERTEX,
    **dict.fromkeys(("google", "googlegenai", "googleai", "palm"), "write `provider: gemini`"),
    "claude": "write `provider: anthropic`",
    **dict.fromkeys(("qwen", "alibaba", "tongyi", "modelstudio"), "write `provider: dashscope`"),
    **dict.fromkeys(("gpt", "chatgpt"), "write `provider: openai`"),
    **dict.fromkeys(
        ("bedrock", "awsbedrock", "aws"),
        "Bedrock is not offered: use `anthropic`, or a gateway that speaks OpenAI's API with `provider: openai`",
    ),
    **{name: f"write `provider: openai` with `base_url: {url}`" for name, url in _OPENAI_COMPATIBLE.items()},
}
"""Vendors that people name, and where each is done."""


def _unset(checker: OptionsChecker, view: LocatedData) -> Iterator[UnresolvedReference]:
    """Every reference of the entry that leads nowhere, in the order of the file."""
    at = view.in_file(())
    own = checker.filled.unset_below(at)
    taken = [path for path in _inherited(view) if path in checker.filled.unset]
    for path in (*own, *taken):
        yield from checker.filled.unset[path]


def _inherited(view: LocatedData) -> Iterator[Path]:
    """The path in `defaults:` of every value that came from there."""
    for path, place in view.sources.items():
        if place[0] == "defaults":
            value = view.data
            for part in path:
                value = value[str(part)]
            yield from _leaves(value, place)


def _leaves(value: Any, path: Path) -> Iterator[Path]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _leaves(inner, (*path, index))
    else:
        yield path


def _typed(checker: OptionsChecker, view: LocatedData, cls: type[ProviderOptions]) -> dict[str, Any]:
    """The data, in which references without quotes are what they look like: where no type says what they must be."""
    free = free_fields(cls)

    def typed(value: Any, path: Path) -> Any:
        if isinstance(value, Mapping):
            return {key: typed(inner, (*path, key)) for key, inner in value.items()}
        if isinstance(value, list):
            return [typed(inner, (*path, index)) for index, inner in enumerate(value)]
        return plain_value(value) if isinstance(value, str) and _is_bare(checker, view.in_file(path)) else value

    return {key: typed(value, (key,)) if key in free else value for key, value in view.data.items()}


def _is_bare(checker: OptionsChecker, path: Path) -> bool:
    """Whether the value at *path* is one reference without quotes, and no secret."""
    place = checker.document.places.get(path)
    if path not in checker.filled.from_environment or path in checker.filled.unset or is_secret_path(path):
        return False
    if place is None or place.written is None or not place.bare:
        return False
    return place.written.startswith("${") and place.written.find("}") == len(place.written) - 1


def _missing(
    unset: tuple[UnresolvedReference, ...], options: ProviderOptions | None, environ: Mapping[str, str]
) -> str | None:
    """What is to be done before the model can be called, None if nothing."""
    wanted = list(dict.fromkeys(item.what for item in unset))
    names_key = any(item.path[-1] == "api_key" for item in unset)
    own = options.missing(environ) if options is not None and not names_key else None
    if own is not None and own not in wanted:
        wanted.append(own)
    return _joined(wanted) or None


def _joined(wanted: list[str]) -> str:
    """["set A", "set B"] as "set A and B"."""
    text = ""
    for item in wanted:
        verb, _, thing = item.partition(" ")
        text += f" and {thing if text.startswith(verb) else item}" if text else item
    return text
