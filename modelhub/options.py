"""The base classes and types of all options of providers and layers.

Options are pydantic models. The file's schema, the editor's completion and the constructors all come from them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

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

__all__ = ["Duration", "LayerOptions", "Options", "ProviderOptions", "Secret"]

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
    if isinstance(value, str):
        match = _DURATION.fullmatch(value)
        if match is None:
            raise PydanticCustomError("duration", "expected a duration such as 500ms, 5s, 2m or a number of seconds")
        return float(match[1]) * _UNITS[match[2] or "s"]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise PydanticCustomError("duration", "expected a duration such as 500ms, 5s, 2m or a number of seconds")
    return float(value)


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
            bound = (
                f"over the limit of {self.most:g} s" if number > self.most else f"under the minimum of {self.least:g} s"
            )
            unit = "; a plain number is in seconds" if not isinstance(value, str) else ""
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
    The reply is the same as without it."""
    context_window: Annotated[int, Field(gt=0)] | None = None
    """The size of the model's context window in tokens. A chain skips the model for requests that are longer."""

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
        elsewhere = {"provider", "context_window", "stream_inside"}
        arguments = {name: getattr(self, name) for name in self.model_fields_set - elsewhere}
        arguments["stream"] = self.stream
        return {
            name: value.get_secret_value() if isinstance(value, SecretStr) else value
            for name, value in arguments.items()
        }
