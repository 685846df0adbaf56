"""The shape of the file: what its sections are, and what an entry may say.

A model's entry is its provider's options plus one key for each layer. Its class is made when a file names the
provider, so that nothing is imported that no file asks for.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import AliasChoices, BaseModel, Discriminator, Field, Tag, create_model
from pydantic.fields import FieldInfo

from modelhub import registry
from modelhub.accounting.options import SpendingOptions, UsageOptions
from modelhub.core.errors import ConfigError
from modelhub.messages.files import FileOptions
from modelhub.middleware.chain.options import ChainOptions
from modelhub.middleware.limit.options import LimitOptions
from modelhub.middleware.retry.options import RetryBudgetOptions
from modelhub.options import LayerOptions, Options, ProviderOptions
from modelhub.telemetry.options import TelemetryOptions

__all__ = [
    "NAME",
    "VERSIONS",
    "HubConfig",
    "LimitField",
    "defaults_class",
    "entry_class",
    "free_fields",
    "keys_of",
    "layer_options",
]

VERSIONS = (1,)
"""The versions of the file that are understood."""

NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"
"""What a model, a chain or a limit may be called."""


def _limit_kind(value: Any) -> str:
    return "pool" if isinstance(value, Mapping | LimitOptions) else "name"


LimitField = Annotated[
    Annotated[str, Tag("name")] | Annotated[LimitOptions, Tag("pool")],
    Discriminator(_limit_kind),
]
"""The name of an entry of `limits:`, or what a pool of the model's own admits."""


class HubConfig(Options):
    """The file. A further section is one more field here."""

    version: Literal[1]
    """The version of this file's form."""
    defaults: dict[str, Any] = Field(default_factory=dict)
    """What holds for every model that does not say otherwise, key by key."""
    limits: dict[str, LimitOptions] = Field(default_factory=dict)
    """Named pools; all models that name the same one share it."""
    models: dict[str, Any] = Field(min_length=1)
    """Every model by its name."""
    chains: dict[str, ChainOptions] = Field(default_factory=dict)
    """Every chain by its name: an ordered list of models, of which the first that answers is taken."""
    retry_budget: RetryBudgetOptions = Field(default_factory=RetryBudgetOptions)
    """How many retries all calls together may make."""
    usage: UsageOptions = Field(default_factory=UsageOptions)
    """What is counted, priced and kept of every call."""
    budgets: dict[str, SpendingOptions] = Field(default_factory=dict)
    """What may be spent in a period, in money or in tokens: on a model, a chain or a tag, or on everything."""
    files: FileOptions = Field(default_factory=FileOptions)
    """Which local files a message may name."""
    telemetry: TelemetryOptions = Field(default_factory=TelemetryOptions)
    """What OpenTelemetry gets to see of calls."""


@cache
def layer_options(*, builtin_only: bool = False) -> dict[str, type[LayerOptions]]:
    """Every layer that can be set in the file, by its key, outermost first.

    Raises ConfigError if a third party's layer cannot be loaded.
    """
    specs = registry.LAYERS if builtin_only else registry.layers()
    found: dict[str, type[LayerOptions]] = {}
    for spec in specs:
        options = getattr(spec.load(), "Options", None)
        if options is not None:
            found[spec.key] = options
    return found


def _layer_fields(*, builtin_only: bool) -> dict[str, Any]:
    return {
        key: (_layer_type(key, options) | None, Field(default=None, description=_first_line(options)))
        for key, options in layer_options(builtin_only=builtin_only).items()
    }


def _layer_type(key: str, options: type[LayerOptions]) -> Any:
    return LimitField if key == "limit" else options


def _first_line(cls: type) -> str:
    return (cls.__doc__ or "").strip().split("\n")[0]


@cache
def defaults_class(*, builtin_only: bool = False) -> type[Options]:
    """The class of `defaults:`: every layer, and what is common to all providers and makes sense for many models."""
    made: type[Options] = create_model(
        "Defaults",
        __base__=Options,
        __doc__="What holds for every model that does not say otherwise, key by key.",
        **_layer_fields(builtin_only=builtin_only),
        stream=(bool, False),
    )
    return made


@cache
def entry_class(kind: str, *, builtin_only: bool = False) -> type[ProviderOptions]:
    """The class of an entry of `models:` whose `provider` is *kind*.

    Raises ConfigError for an unknown kind, and for a provider with an option that bears a layer's name.
    """
    options = registry.provider_options(kind)
    fields = _layer_fields(builtin_only=builtin_only)
    taken = sorted(set(fields) & set(keys_of(options)))
    if taken:
        raise ConfigError(f"provider `{kind}`: its option `{taken[0]}` bears the name of a layer")
    provider: Any = (Literal[kind], ...)
    return create_model(
        f"{options.__name__.removesuffix('Options')}Entry",
        __base__=options,
        __doc__=options.__doc__,
        provider=provider,
        **fields,
    )


def keys_of(cls: type[BaseModel]) -> Mapping[str, FieldInfo]:
    """Every key *cls* reads, other names of the same thing included."""
    return _known(cls)[0]


def free_fields(cls: type[BaseModel]) -> frozenset[str]:
    """The keys of *cls* below which anything may stand, such as `generate_kwargs`."""
    return _known(cls)[1]


def _known(cls: type[BaseModel]) -> tuple[Mapping[str, FieldInfo], frozenset[str]]:
    # A class that names another one which stands below it gets its fields when it is first used, or rebuilt.
    # Older releases of pydantic only say whether it has been used.
    complete = getattr(cls, "__pydantic_fields_complete__", cls.__pydantic_complete__)
    return _found_once(cls) if complete else _found(cls)


def _found(cls: type[BaseModel]) -> tuple[Mapping[str, FieldInfo], frozenset[str]]:
    keys = _keys(cls)
    return MappingProxyType(keys), frozenset(key for key, info in keys.items() if _is_free(info.annotation))


_found_once = cache(_found)


def _keys(cls: type[BaseModel]) -> dict[str, FieldInfo]:
    found: dict[str, FieldInfo] = {}
    for name, info in cls.model_fields.items():
        for key in _names_of(cls, name, info):
            found.setdefault(key, info)
    return found


def _names_of(cls: type[BaseModel], name: str, info: FieldInfo) -> list[str]:
    alias = info.validation_alias
    if alias is None:
        return [name]
    choices = alias.choices if isinstance(alias, AliasChoices) else [alias]
    by_name = cls.model_config.get("populate_by_name") or cls.model_config.get("validate_by_name")
    return [*([name] if by_name else []), *(choice for choice in choices if isinstance(choice, str))]


def _is_free(annotation: Any) -> bool:
    if annotation is Any:
        return True
    if get_origin(annotation) in {dict, Mapping}:
        return Any in get_args(annotation)
    return any(_is_free(part) for part in get_args(annotation) if get_origin(annotation) is not Literal)
