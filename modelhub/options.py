"""The base classes and types of all options of providers and layers.

Options are pydantic models. The file's schema, the editor's completion and the constructors all come from them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    SecretStr,
    WithJsonSchema,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError
from pydantic_core.core_schema import no_info_before_validator_function

__all__ = [
    "EFFORTS",
    "OWN_EFFORTS",
    "AskOptions",
    "BatchOptions",
    "Duration",
    "Effort",
    "LayerOptions",
    "Options",
    "OwnEffort",
    "ParametersOptions",
    "ProviderOptions",
    "Secret",
    "TakesOptions",
    "write_duration",
]

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h)?\s*")


class Options(BaseModel):
    """The base class of all options: frozen, without unknown keys. The docstring below a field is its description."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        defer_build=True,  # most files use few of the classes
        protected_namespaces=(),
        hide_input_in_errors=True,
    )


def parse_duration(value: Any) -> Any:
    """Return *value*, a number or text such as "500ms", "5s", "2m" or "1h", in seconds. Raises PydanticCustomError."""
    if isinstance(value, str) and (match := _DURATION.fullmatch(value)) is not None:
        return float(match[1]) * _UNITS[match[2] or "s"]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise PydanticCustomError("duration", "expected a duration such as 500ms, 5s, 2m or a number of seconds")
    return float(value)


def write_duration(seconds: float) -> str:
    """Return *seconds* as a file has them: 500ms, 5s, 10m, 24h."""
    for unit, factor in (("h", 3600), ("m", 60)):
        if seconds > 60 and seconds % factor == 0:
            return f"{seconds // factor:g}{unit}"
    return f"{seconds * 1000:g}ms" if 0 < seconds < 1 else f"{seconds:g}s"


@dataclass(frozen=True, slots=True)
class Duration:
    """A time span in a file, between *least* and *most* seconds: `Annotated[float, Duration(0, 60)]`.

    It is written "500ms", "5s", "2m", "1h", or as a number of seconds, and read as a float of seconds.
    """

    least: float = 0.0
    most: float = 86_400.0

    def check(self, value: Any) -> float:
        """Return *value* in seconds. Raises PydanticCustomError if it is not a duration, or out of bounds."""
        number: float = parse_duration(value)
        if not self.least <= number <= self.most:
            bound, limit = ("over the limit", self.most) if number > self.most else ("under the minimum", self.least)
            bound, unit, hint = f"{bound} of {write_duration(limit)}", "", ""
            if not isinstance(value, str):  # perhaps it was meant in milliseconds
                unit = "; a plain number is in seconds"
                hint = f"{number / 1000:g}s" if self.least <= number / 1000 <= self.most and number >= 1000 else ""
            raise PydanticCustomError(
                "duration_range", "is {bound}{unit}", {"bound": bound, "unit": unit, "hint": hint}
            )
        return number

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return no_info_before_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        # As whole numbers where they are: `Duration(0)` and `Duration(0.0)` are equal, and `Annotated` keeps the first.
        least, most = (int(bound) if bound == int(bound) else bound for bound in (self.least, self.most))
        return {
            "anyOf": [
                {"type": "number", "minimum": least, "maximum": most},
                {"type": "string", "pattern": r"^\s*\d+(\.\d+)?\s*(ms|s|m|h)?\s*$"},
            ]
        }


Secret = Annotated[SecretStr, WithJsonSchema({"type": "string", "format": "password"})]
"""Text that is not shown in a repr, a log or an error."""


class LayerOptions(Options):
    """The base class of a layer's options."""


Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
"""How much a model is to think before it answers: one scale for every vendor."""
EFFORTS: tuple[Effort, ...] = get_args(Effort)
"""The scale, from nothing to everything."""
OwnEffort = Literal[Effort, "default"]
"""The scale, and what a server may call its own choice (Groq does)."""
OWN_EFFORTS: frozenset[str] = frozenset(get_args(OwnEffort))


class AskOptions(Options):
    """Parameters of every call, by names that are the same for every vendor; what a call itself says goes before."""

    max_tokens: Annotated[int, Field(gt=0)] | None = None
    """How many tokens the answer may have, thinking included; `max_completion_tokens` is another name for it."""
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    """How much chance there is in the choice of words."""
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    """Only the likeliest tokens that together have this probability."""
    top_k: Annotated[int, Field(ge=0)] | None = None
    """Only so many of the likeliest tokens."""
    stop: str | list[str] | None = None
    """Texts at which the answer ends."""
    seed: int | None = None
    """The same seed, the same answer, as far as the vendor can."""
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    """How far tokens that have occurred are avoided."""
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    """How far tokens are avoided, the more often they have occurred."""
    reasoning_effort: Effort | None = None
    """How much the model thinks before it answers."""
    parallel_tool_calls: bool | None = None
    """Whether the model may call several tools in one answer."""
    response_format: dict[str, Any] | None = None
    """`{type: json_object}`, or `{type: json_schema, json_schema: {name: ..., schema: ...}}`; never left out."""
    user: str | None = None
    """Who asks, for the vendor's protection against abuse."""
    logprobs: bool | None = None
    """Whether the vendor is to give the probabilities of tokens."""
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    """For how many alternatives of each token."""
    n: Annotated[int, Field(ge=1)] | None = None
    """How many answers; a reply holds the first."""
    service_tier: str | None = None
    """How the vendor is to process the request: `auto`, `default`, `flex` or `priority`."""

    def given(self) -> dict[str, Any]:
        """Return the parameters that are set, by their names."""
        return self.model_dump(exclude_unset=True, exclude_none=True)


class TakesOptions(Options):
    """Which parameters of `ask` a model takes, where what is known of it is wrong, and whether it sees images."""

    max_tokens: bool | None = None
    """Whether the model takes `max_tokens`."""
    temperature: bool | None = None
    """Whether the model takes `temperature`."""
    top_p: bool | None = None
    """Whether the model takes `top_p`."""
    top_k: bool | None = None
    """Whether the model takes `top_k`."""
    stop: bool | None = None
    """Whether the model takes `stop`."""
    seed: bool | None = None
    """Whether the model takes `seed`."""
    presence_penalty: bool | None = None
    """Whether the model takes `presence_penalty`."""
    frequency_penalty: bool | None = None
    """Whether the model takes `frequency_penalty`."""
    reasoning_effort: bool | list[Effort] | None = None
    """Whether the model takes `reasoning_effort`, or the levels it knows; others are rounded to the nearest of them."""
    parallel_tool_calls: bool | None = None
    """Whether the model takes `parallel_tool_calls`."""
    response_format: bool | None = None
    """Whether the model takes `response_format`."""
    user: bool | None = None
    """Whether the model takes `user`."""
    logprobs: bool | None = None
    """Whether the model takes `logprobs`."""
    top_logprobs: bool | None = None
    """Whether the model takes `top_logprobs`."""
    n: bool | None = None
    """Whether the model takes `n`."""
    service_tier: bool | None = None
    """Whether the model takes `service_tier`."""
    images: bool | None = None
    """`false` if the model sees no images: a call with one is not sent to it, and a chain passes over it."""


class ParametersOptions(Options):
    """What becomes of parameters of a call."""

    unsupported: Literal["drop", "refuse"] = "drop"
    """A parameter that a model does not take is left out for it (and the attempt says so), or the model is not asked.
    What changes the meaning of an answer, tools, `response_format` and media, is never left out."""


class BatchOptions(Options):
    """Jobs over many rows (`modelhub batch`) go through the vendor's batch API, at half the price."""

    window: Annotated[float, Duration(60, 604_800)] = 86_400.0
    """How long a batch may take, such as `24h`. After that it is cancelled, and rows without an answer are asked one by
    one."""


class ProviderOptions(Options):
    """The options that all providers share.

    The fields of subclasses have the names of the constructor's parameters, and are passed to it.
    """

    provider: str
    """The vendor's API that this model uses, such as `openai` or `anthropic`."""
    model_name: str = Field(min_length=1)
    """The vendor's name of the model, such as `gpt-5-mini`."""
    stream: bool = False
    """Whether a call returns a stream of snapshots instead of one reply. A call can override it with `stream=`."""
    generate_kwargs: dict[str, Any] = Field(default_factory=dict)
    """Parameters to send with every request, under the vendor's own names, such as `temperature`."""
    stream_inside: bool = False
    """Whether to stream plain answers internally, so that `timeout.first_token`, `idle` and `slow` apply to them too.
    The reply is the same as without it. A chain with `stream_inside: true` does so for all its models."""
    context_window: Annotated[int, Field(gt=0)] | None = None
    """The size of the model's context window in tokens. A chain skips the model for requests that are longer."""
    ask: AskOptions | None = None
    """Parameters of every call, by the names that are the same for every vendor, such as `max_tokens`."""
    takes: TakesOptions | None = None
    """Which of those parameters the model takes, where what is known of it is wrong: `{temperature: false}`; and
    whether it sees images."""

    key_variables: ClassVar[tuple[str, ...]] = ()
    """The environment variables that the key is read from if `api_key` is not set; empty if no key is needed."""
    address_fields: ClassVar[tuple[str, ...]] = ("base_url",)
    """The fields that hold the server's address, the preferred one first."""
    address_path: ClassVar[str] = ""
    """The path that follows the host and port in an address."""

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """Show only the model's name: other values may be secrets, such as a password in an address, or a header."""
        yield from ((name, getattr(self, name)) for name in ("provider", "model_name", "stream"))

    def connect(self) -> Any:
        """Construct the provider that these options describe. Opens no connection."""
        raise NotImplementedError

    def missing(self, environ: Mapping[str, str]) -> str | None:
        """Return what must be done before the model can be called, such as "set OPENAI_API_KEY", or None."""
        key = getattr(self, "api_key", None)
        value = key.get_secret_value() if isinstance(key, SecretStr) else key
        if value or not self.key_variables or any(environ.get(name) for name in self.key_variables):
            return None
        return f"set {' or '.join(self.key_variables)}"

    def describe(self) -> Iterator[str]:
        """Yield what else tells one model from another, in short texts, as `explain` shows it."""
        yield from ()

    def endpoint_identity(self) -> tuple[Any, ...]:
        """Return the values that identify a vendor's server, as the file has them; without the key."""
        return self.provider, *(getattr(self, name, None) for name in self.address_fields)

    def account_identity(self) -> tuple[Any, ...]:
        """Return the values that identify an account at a server, the secret key included; never print them."""
        key = getattr(self, "api_key", None)
        key = key.get_secret_value() if isinstance(key, SecretStr) else key
        return *self.endpoint_identity(), getattr(self, "organization", None), key

    def fields_at_another_address(self, fields: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ARG002
        """Return what to add to an entry's *fields* when its address is replaced, where a default depends on it."""
        return {}

    def arguments(self) -> dict[str, Any]:
        """Return the constructor's keyword arguments: every field that is set, except those read elsewhere."""
        elsewhere = {"provider", "context_window", "stream_inside", "ask", "takes", "batch"}
        arguments = {name: getattr(self, name) for name in self.model_fields_set - elsewhere}
        arguments["stream"] = self.stream
        return {
            name: value.get_secret_value() if isinstance(value, SecretStr) else value
            for name, value in arguments.items()
        }
