"""Resolve entries of `models:`: apply the defaults, validate, and find out what is missing before a call."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from modelhub.config.check import OptionsChecker
from modelhub.config.hints import find_misspelt_key, suggest_missing_key
from modelhub.config.interpolate import UnresolvedReference, get_call_key
from modelhub.config.problems import suggest_name
from modelhub.config.schema import (
    ApiKeyOptions,
    get_free_keys,
    get_keys,
    load_layer_options,
    make_defaults_class,
    make_entry_class,
)
from modelhub.config.source import Path, parse_plain_value
from modelhub.config.view import LocatedData, change_texts, describe_path, get_value, is_secret_path, walk_leaves
from modelhub.core.errors import ConfigError
from modelhub.options import Options, ProviderOptions
from modelhub.registry import list_providers, load_provider_options

__all__ = ["KeyEntry", "ModelEntry", "Resolved", "resolve_entry"]


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """One entry of `models:`, with the defaults applied.

    `keys` are the keys of the model if it has several, `call_key` is the name of the one that comes with each call.
    `options` builds the provider; it is None if a missing value prevents that. `layers` has every layer's options by
    its key, None where the file has none; that of `limit` may be a pool's name. `missing` says what to do before the
    model can be called ("set OPENAI_API_KEY"), or is None; `unset` has the unresolved references. `line` is where the
    entry begins, 0 without a file.
    """

    name: str
    provider: str
    options: ProviderOptions | None = field(repr=False)  # a client's headers may be a secret
    layers: Mapping[str, Any]
    missing: str | None = None
    unset: tuple[UnresolvedReference, ...] = ()
    line: int = 0
    keys: tuple[KeyEntry, ...] = ()
    call_key: str | None = None

    def list_variants(self) -> list[tuple[str, ModelEntry]]:
        """Return the model once for each of its keys, by the labels of these; by its name if it has but one."""
        return [(key.label, key.entry) for key in self.keys] or [(self.name, self)]


@dataclass(frozen=True, slots=True)
class KeyEntry:
    """One of several keys of a model: *entry* is the model with this key and its limit.

    *label* is what records call it, such as `gpt#1`, and *identity* what stays the same when other keys come and go.
    """

    label: str
    weight: float
    entry: ModelEntry
    identity: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Resolved:
    """A resolved entry with its merged data (`view`) and, if it is valid, its validated form (`config`)."""

    entry: ModelEntry
    view: LocatedData
    config: Options | None = field(repr=False)


def resolve_entry(checker: OptionsChecker, name: str, entry: dict[str, Any], environ: Mapping[str, str]) -> Resolved:
    """Validate the model *name* with the defaults applied; problems are reported to *checker*."""
    at: Path = ("models", name)
    defaults = checker.interpolated.data.get("defaults")
    if not isinstance(defaults, dict):
        defaults = {}  # what is wrong with the section is reported by itself
    shared_keys = make_defaults_class().model_fields
    known_defaults = {key: value for key, value in defaults.items() if key in shared_keys}
    sources: dict[Path, Path] = {(): at}
    view = LocatedData(_merge_defaults(entry, known_defaults, (), sources), sources)
    kind, cls = _find_provider(checker, view)
    unset = tuple(_find_unset(checker, view))
    config: Options | None = None
    options: ProviderOptions | None = None
    if cls is None:
        common = {key: value for key, value in view.data.items() if key in shared_keys}
        checker.validate(make_defaults_class(), LocatedData(common, sources))
    else:
        ready = LocatedData(_parse_bare_references(checker, view, cls), sources)
        ready = ready.without(_find_empty_secrets(checker, view, cls))
        config = checker.validate(cls, ready)
        if config is not None:
            of_provider = {key: ready.data[key] for key in ready.data if key not in {*load_layer_options(), "keys"}}
            options = checker.validate(load_provider_options(kind), LocatedData(of_provider, sources))
    layers = {key: getattr(config, key, None) for key in load_layer_options()}
    keys = getattr(config, "keys", None) or ()
    missing = None if keys else _describe_missing(unset, options, environ)
    call_key = get_call_key(view.data.get("api_key"))
    line = checker.document.find_line(at)
    model = ModelEntry(name, kind, options, layers, missing, unset, line, call_key=call_key)
    return Resolved(_add_keys(model, keys) if keys else model, view, config)


def _merge_defaults(
    entry: Mapping[str, Any], defaults: Mapping[str, Any], here: Path, sources: dict[Path, Path]
) -> dict[str, Any]:
    """Return *entry* with what it lacks of *defaults*, key by key; *sources* gets where that is in the file."""
    data = dict(entry)
    for key, default in defaults.items():
        path = (*here, key)
        if key not in data:
            data[key] = default
            sources[path] = ("defaults", *path)
        elif isinstance(data[key], Mapping) and isinstance(default, Mapping):
            data[key] = _merge_defaults(data[key], default, path, sources)
    return data


def _find_unset(checker: OptionsChecker, view: LocatedData) -> Iterator[UnresolvedReference]:
    """Yield every unresolved reference of the entry, in the order of the file, then those of its defaults."""
    yield from checker.interpolated.list_unset(view.source_path(()))
    for path, place in view.sources.items():
        if place[0] == "defaults":
            for inherited, _ in walk_leaves(get_value(view.data, path), place):
                yield from checker.interpolated.unset.get(inherited, ())


def _parse_bare_references(checker: OptionsChecker, view: LocatedData, cls: type[ProviderOptions]) -> dict[str, Any]:
    """Return the data with the values of unquoted references in free-form fields parsed as YAML scalars.

    Secrets, and text of which the reference is only a part, stay text.
    """
    interpolated, free = checker.interpolated, get_free_keys(cls)

    def parse(text: str, path: Path) -> Any:
        path = view.source_path(path)
        if path not in interpolated.from_environment or path in interpolated.unset or is_secret_path(path):
            return text
        place = checker.document.places.get(path)
        written = place.written if place is not None and place.bare else None
        is_reference = written is not None and written.startswith("${") and written.find("}") == len(written) - 1
        return parse_plain_value(text) if is_reference else text

    return {key: change_texts(value, parse, (key,)) if key in free else value for key, value in view.data.items()}


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


def _add_keys(entry: ModelEntry, keys: Sequence[ApiKeyOptions]) -> ModelEntry:
    """Return *entry* with *keys*; what is missing for one of them is missing for that key alone."""
    unset: dict[Any, list[UnresolvedReference]] = {}  # by the position of the key, None for the whole model
    for reference in entry.unset:
        _, _, *path = reference.path
        is_of_key = len(path) > 1 and path[0] == "keys" and isinstance(path[1], int)
        unset.setdefault(path[1] if is_of_key else None, []).append(reference)
    common = tuple(unset.get(None, ()))
    model = replace(entry, unset=common, missing=_describe_missing(common, None, {}))
    entries = tuple(_make_key(model, at, key, tuple(unset.get(at, ()))) for at, key in enumerate(keys))
    missing = list(dict.fromkeys(key.entry.missing for key in entries))
    if None in missing:
        return replace(model, keys=entries)
    return replace(model, keys=entries, missing=" or ".join(text for text in missing if text is not None))


def _make_key(model: ModelEntry, position: int, key: ApiKeyOptions, unset: tuple[UnresolvedReference, ...]) -> KeyEntry:
    name = key.name or str(position + 1)
    secret = key.api_key.get_secret_value()
    missing = model.missing or _describe_missing(unset, None, {}) or (None if secret else "give it a key")
    options = model.options.model_copy(update={"api_key": key.api_key}) if model.options is not None else None
    layers = {**model.layers, "limit": key.limit} if key.limit is not None else model.layers
    entry = replace(model, options=options, layers=layers, missing=missing, unset=(*model.unset, *unset))
    # An unnamed key that is known keeps its tags wherever it stands; nothing can be read from the hash of one.
    is_known = key.name is None and not missing
    identity = hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest() if is_known else name
    return KeyEntry(f"{model.name}#{name}", key.weight, entry, f"{model.name}#{identity}")


def _describe_missing(
    unset: tuple[UnresolvedReference, ...], options: ProviderOptions | None, environ: Mapping[str, str]
) -> str | None:
    """Return what must be done before the model can be called, such as "set A and B", or None."""
    instructions = list(dict.fromkeys(item.instruction for item in unset))
    names_key = any(item.path[-1] == "api_key" for item in unset)
    instruction = options.missing(environ) if options is not None and not names_key else None
    if instruction is not None and instruction not in instructions:
        instructions.append(instruction)
    text = ""
    for item in instructions:
        verb, _, thing = item.partition(" ")
        text += f" and {thing if text.startswith(verb) else item}" if text else item
    return text or None
