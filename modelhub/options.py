"""Furniture for options: what every provider's and every layer's options are made of.

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
    """The base: frozen, and a key it does not know is an error. The text below a field is its description."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        defer_build=True,  # most files use few of the classes
        protected_namespaces=(),
        hide_input_in_errors=True,
    )


def seconds(value: Any) -> Any:
    """*value* in seconds: a number, or text such as "500ms", "5s", "2m", "1h"."""
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
        """Return *value* in seconds. Raises PydanticCustomError for what is no duration, or out of bounds."""
        number: float = seconds(value)
        if not self.least <= number <= self.most:
            bound = (
                f"over the limit of {self.most:g} s" if number > self.most else f"under the least of {self.least:g} s"
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
        return {
            "anyOf": [
                {"type": "number", "minimum": self.least, "maximum": self.most},
                {"type": "string", "pattern": r"^\s*\d+(\.\d+)?\s*(ms|s|m|h)?\s*$"},
            ]
        }


Secret = Annotated[SecretStr, WithJsonSchema({"type": "string", "format": "password"})]
"""Text that no repr, log or error shows."""


class LayerOptions(Options):
    """What configures one layer."""


class ProviderOptions(Options):
    """What configures one provider: the part all of them share.

    The other fields bear the names of the constructor's parameters (the seed's names), and are passed to it.
    """

    provider: str
    """Which vendor's API this model speaks."""
    model_name: str = Field(min_length=1)
    """The vendor's name of the model."""
    stream: bool = False
    """Whether a call gives a stream of snapshots instead of one reply; a call may say otherwise."""
    generate_kwargs: dict[str, Any] = Field(default_factory=dict)
    """Parameters sent with every request, by the vendor's own names, such as `temperature`."""
    context_window: Annotated[int, Field(gt=0)] | None = None
    """How many tokens the model can hold; a chain then skips it for longer requests."""

    key_variables: ClassVar[tuple[str, ...]] = ()
    """The environment variables the provider takes its key from if none is given; empty if it needs none."""
    address_fields: ClassVar[tuple[str, ...]] = ("base_url",)
    """The fields that say where the server is, the preferred one first."""
    address_path: ClassVar[str] = ""
    """What follows a server's host and port in them."""

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """Show which model it is: the other values may be secrets, such as a password in an address, or a header."""
        yield from ((name, getattr(self, name)) for name in ("provider", "model_name", "stream"))

    def connect(self) -> Any:
        """The provider these options describe: a `modelhub.providers` class, constructed. Opens nothing."""
        raise NotImplementedError

    def missing(self, environ: Mapping[str, str]) -> str | None:
        """What is to be done before the model can be called, such as "set OPENAI_API_KEY"; None if nothing."""
        key = getattr(self, "api_key", None)
        given = key.get_secret_value() if isinstance(key, SecretStr) else key
        if given or not self.key_variables or any(environ.get(name) for name in self.key_variables):
            return None
        return f"set {' or '.join(self.key_variables)}"

    def endpoint_identity(self) -> tuple[Any, ...]:
        """Return what tells one server of a vendor from another, as the file says it; without the key."""
        return self.provider, *(getattr(self, name, None) for name in self.address_fields)

    def account_identity(self) -> tuple[Any, ...]:
        """Return what tells one account at a server from another; with the key, which nobody may print."""
        key = getattr(self, "api_key", None)
        key = key.get_secret_value() if isinstance(key, SecretStr) else key
        return *self.endpoint_identity(), getattr(self, "organization", None), key

    def fields_at_another_address(self, fields: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ARG002
        """Return what must be added to the entry's *fields* if the address, which tells it now, is changed."""
        return {}

    def arguments(self) -> dict[str, Any]:
        """The constructor's keywords: every field that was set, but the kind and what only chains read."""
        found = {name: getattr(self, name) for name in self.model_fields_set - {"provider", "context_window"}}
        found["stream"] = self.stream
        return {
            name: value.get_secret_value() if isinstance(value, SecretStr) else value for name, value in found.items()
        }
