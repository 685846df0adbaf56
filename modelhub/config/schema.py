"""The structure of the file: its sections, and the keys of an entry.

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
from modelhub.config.commands import COMMAND_TIMEOUT
from modelhub.core.errors import ConfigError
from modelhub.messages.files import FileOptions
from modelhub.middleware.chain.options import ChainOptions, Weight
from modelhub.middleware.limit.options import LimitOptions
from modelhub.middleware.retry.options import RetryBudgetOptions
from modelhub.options import AskOptions, Duration, LayerOptions, Options, ParametersOptions, ProviderOptions, Secret
from modelhub.shared.options import SharedOptions
from modelhub.telemetry.options import TelemetryOptions

__all__ = [
    "NAME_PATTERN",
    "VERSIONS",
    "HubConfig",
    "ApiKeyOptions",
    "KeyOptions",
    "LimitField",
    "SecretsOptions",
    "ServeOptions",
    "make_defaults_class",
    "make_entry_class",
    "find_model_class",
    "get_free_keys",
    "get_keys",
    "load_layer_options",
]

VERSIONS = (1,)
"""The supported versions of the file format."""

NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]*"
"""The pattern of the names of models, chains and limits."""


def _get_limit_tag(value: Any) -> str:
    return "pool" if isinstance(value, Mapping | LimitOptions) else "name"


LimitField = Annotated[
    Annotated[str, Tag("name")] | Annotated[LimitOptions, Tag("pool")],
    Discriminator(_get_limit_tag),
]
"""The name of an entry of `limits:`, or the options of a pool that belongs to this model alone."""


class ApiKeyOptions(Options):
    """One of several keys of a model."""

    api_key: Secret
    """The key. One whose variable is not set is passed over."""
    weight: Weight = 1.0
    """Its share of the calls, in relation to the weights of the other keys."""
    limit: LimitField | None = None
    """The limit of this key: the name of an entry of `limits:`, or a limit of its own. The default is the model's; a
    limit that is described there belongs to each key by itself."""
    name: Annotated[str, Field(pattern=f"^{NAME_PATTERN}$")] | None = Field(default=None, examples=["org-a"])
    """What records call it, after the model's name: `gpt#org-a`. The default is its position: `gpt#1`."""


class SecretsOptions(Options):
    """How values that come from files and commands (`${file:...}`, `${cmd:...}`) are renewed."""

    refresh: Annotated[float, Duration(1, 86_400)] | None = None
    """How often they are read again, such as `10m`. Without it, only when a vendor refuses a key."""
    timeout: Annotated[float, Duration(0.1, 300)] = COMMAND_TIMEOUT
    """How long a command may take."""


class KeyOptions(Options):
    """A bearer key of clients. Their calls have its tags, and the tag `key` with its name."""

    key: Secret
    """The key that clients send, such as `${TEAM_A_KEY}`. An empty key lets nobody in."""
    tags: dict[str, str] = Field(default_factory=dict)
    """Tags of every call with this key, such as `{team: search}`; a budget with `tag: team=search` counts them, and one
    with `tag: key=NAME` counts the calls of this key alone."""
    models: list[str] | None = None
    """The models and chains that clients with this key may call; all that are served if not given."""


class ServeOptions(Options):
    """How `modelhub serve` and `modelhub.integrations.asgi` serve the hub as an OpenAI-compatible endpoint."""

    keys: dict[str, KeyOptions] = Field(default_factory=dict)
    """Bearer keys by name. Without any, every client that can reach the endpoint may call it."""
    models: list[str] | None = None
    """The models and chains that are served; all of them if not given."""
    parameters: list[str] = Field(default_factory=list)
    """Further parameters of a request, by name, that are passed on to the vendors, beside OpenAI's own."""
    max_request_bytes: Annotated[int, Field(ge=1024, le=1_000_000_000)] = 33_554_432
    """How many bytes a request may have, images included."""


class HubConfig(Options):
    """The file. Each section is a field of this class."""

    version: Literal[1]
    """The version of the file format; always 1."""
    include: list[str] = Field(default_factory=list)
    """Files with the same structure, relative to this one. This file is put on top of them, and each on top of those
    before it: mappings are merged key by key, anything else is replaced, and `null` removes a key."""
    profiles: dict[str, Any] = Field(default_factory=dict)
    """Sections of the file by a profile's name. The profile that `MODELHUB_PROFILE` (or `--profile`) names is put on
    top of the file in the same way."""
    secrets: SecretsOptions = Field(default_factory=SecretsOptions)
    """How keys that come from files and commands are renewed."""
    defaults: dict[str, Any] = Field(default_factory=dict)
    """Options for every model that does not set them itself, key by key."""
    limits: dict[str, LimitOptions] = Field(default_factory=dict)
    """Rate limits and concurrency limits by name. Models that name the same limit share it."""
    models: dict[str, Any] = Field(min_length=1)
    """Models by name."""
    chains: dict[str, ChainOptions] = Field(default_factory=dict)
    """Fallback chains by name: an ordered list of models, which are tried until one answers."""
    retry_budget: RetryBudgetOptions = Field(default_factory=RetryBudgetOptions)
    """A limit on the retries of all calls together, so that an outage is not made worse by retrying."""
    usage: UsageOptions = Field(default_factory=UsageOptions)
    """Which usage is recorded, priced and stored."""
    budgets: dict[str, SpendingOptions] = Field(default_factory=dict)
    """Spending limits by name, in US dollars or tokens per period: for one model, one chain, one tag, or in total."""
    shared: SharedOptions | None = None
    """A Redis or Valkey server that keeps limits, cooldowns and budgets, so that they hold over several processes and
    machines. Without it, each process keeps its own."""
    parameters: ParametersOptions = Field(default_factory=ParametersOptions)
    """What becomes of parameters of a call that a model does not take."""
    files: FileOptions = Field(default_factory=FileOptions)
    """Which local files messages may refer to."""
    telemetry: TelemetryOptions = Field(default_factory=TelemetryOptions)
    """Traces and metrics for OpenTelemetry."""
    serve: ServeOptions = Field(default_factory=ServeOptions)
    """The OpenAI-compatible endpoint of `modelhub serve`: bearer keys, and what is served."""


@cache
def load_layer_options(*, builtin_only: bool = False) -> dict[str, type[LayerOptions]]:
    """Return the options class of every layer that the file can configure, by its key, outermost first.

    Raises ConfigError if a third party's layer cannot be loaded.
    """
    specs = registry.LAYERS if builtin_only else registry.list_layers()
    options_by_key: dict[str, type[LayerOptions]] = {}
    for spec in specs:
        options = getattr(spec.load(), "Options", None)
        if options is not None:
            options_by_key[spec.key] = options
    return options_by_key


def _make_layer_fields(*, builtin_only: bool) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for key, options in load_layer_options(builtin_only=builtin_only).items():
        annotation: Any = LimitField if key == "limit" else options
        fields[key] = (annotation | None, Field(default=None, description=_get_first_line(options)))
    return fields


def _get_first_line(cls: type) -> str:
    return (cls.__doc__ or "").strip().split("\n")[0]


@cache
def make_defaults_class(*, builtin_only: bool = False) -> type[Options]:
    """Make the class of `defaults:`: the options of every layer, and `stream`."""
    defaults: type[Options] = create_model(
        "Defaults",
        __base__=Options,
        __doc__="Options for every model that does not set them itself, key by key.",
        **_make_layer_fields(builtin_only=builtin_only),
        stream=(bool, False),
        ask=(AskOptions | None, Field(default=None, description=_get_first_line(AskOptions))),
    )
    return defaults


@cache
def make_entry_class(kind: str, *, builtin_only: bool = False) -> type[ProviderOptions]:
    """Make the class of an entry of `models:` whose `provider` is *kind*.

    Raises ConfigError for an unknown provider, and for one that has an option with the name of a layer.
    """
    options = registry.load_provider_options(kind)
    fields = _make_layer_fields(builtin_only=builtin_only)
    clashing = sorted(set(fields) & set(get_keys(options)))
    if clashing:
        raise ConfigError(f"provider `{kind}`: its option `{clashing[0]}` has the name of a layer")
    provider: Any = (Literal[kind], ...)
    if "api_key" in options.model_fields:
        description = "Several keys of the model, in place of `api_key`."
        fields["keys"] = (
            Annotated[list[ApiKeyOptions], Field(min_length=1)] | None,
            Field(None, description=description),
        )
    return create_model(
        f"{options.__name__.removesuffix('Options')}Entry",
        __base__=options,
        __doc__=options.__doc__,
        provider=provider,
        **fields,
    )


def find_model_class(annotation: Any) -> type[BaseModel] | None:
    """Return the options class in *annotation*, such as the one in `RetryOptions | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((model for part in get_args(annotation) if (model := find_model_class(part)) is not None), None)


def get_keys(cls: type[BaseModel]) -> Mapping[str, FieldInfo]:
    """Return every key that *cls* accepts, aliases included, with its field."""
    return _get_key_tables(cls)[0]


def get_free_keys(cls: type[BaseModel]) -> frozenset[str]:
    """Return the keys of *cls* whose values are free-form, such as `generate_kwargs`."""
    return _get_key_tables(cls)[1]


def _get_key_tables(cls: type[BaseModel]) -> tuple[Mapping[str, FieldInfo], frozenset[str]]:
    # A class with a forward reference gets its fields when it is first used or rebuilt; before that, the result
    # must not be cached. Older releases of pydantic only have the second attribute.
    complete = getattr(cls, "__pydantic_fields_complete__", cls.__pydantic_complete__)
    return _make_key_tables_once(cls) if complete else _make_key_tables(cls)


def _make_key_tables(cls: type[BaseModel]) -> tuple[Mapping[str, FieldInfo], frozenset[str]]:
    """Return every key of *cls* with its field, and the keys whose values are free-form."""
    by_name = cls.model_config.get("populate_by_name") or cls.model_config.get("validate_by_name")
    keys: dict[str, FieldInfo] = {}
    for name, info in cls.model_fields.items():
        alias = info.validation_alias
        choices = alias.choices if isinstance(alias, AliasChoices) else [alias]
        names = [name] if alias is None or by_name else []
        for key in [*names, *(choice for choice in choices if isinstance(choice, str))]:
            keys.setdefault(key, info)
    free = frozenset(key for key, info in keys.items() if _accepts_anything(info.annotation))
    return MappingProxyType(keys), free


_make_key_tables_once = cache(_make_key_tables)


def _accepts_anything(annotation: Any) -> bool:
    if annotation is Any:
        return True
    if get_origin(annotation) in {dict, Mapping}:
        return Any in get_args(annotation)
    return any(_accepts_anything(part) for part in get_args(annotation) if get_origin(annotation) is not Literal)
