"""The file's JSON Schema, for editors: made from the same classes that check the file."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from modelhub import registry
from modelhub.config.docstrings import field_texts
from modelhub.config.hints import model_in
from modelhub.config.schema import NAME, VERSIONS, HubConfig, defaults_class, entry_class, keys_of
from modelhub.core.errors import ConfigError
from modelhub.options import ProviderOptions

__all__ = ["file_schema", "write"]

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_REFERENCE = {"$ref": "#/$defs/reference"}
_REFERENCE_DEFINITION = {
    "description": "A value from outside: ${VAR}, ${VAR:-default} or ${file:/path}.",
    "type": "string",
    "pattern": r"\$\{[^{}]+\}",
}
_GROUPED = {"$ref": "#/$defs/grouped"}
_GROUPED_DEFINITION = {
    "description": "A whole number in groups, such as 200_000; many editors take it for text.",
    "type": "string",
    "pattern": "^[0-9]+(_[0-9]+)+$",
}
_PLAIN_TYPES = {"integer", "number", "boolean"}
_NAMES = {"pattern": f"^{NAME}$"}


def file_schema(*, builtin_only: bool = False) -> dict[str, Any]:
    """The schema of the whole file (draft 2020-12).

    With *builtin_only*, providers and layers of third parties that happen to be installed are left out. Raises
    ConfigError if two of them bring different classes of one name.
    """
    kinds = sorted(registry.PROVIDERS) if builtin_only else registry.provider_kinds()
    definitions: dict[str, Any] = {"reference": _REFERENCE_DEFINITION, "grouped": _GROUPED_DEFINITION}
    for kind in kinds:
        _define(definitions, f"{kind}-model", entry_class(kind, builtin_only=builtin_only))
    definitions["model"] = _any_model(kinds)
    return {
        "$schema": _DIALECT,
        "title": "modelhub",
        "description": "Named chat models and fallback chains.",
        "type": "object",
        "properties": dict(_sections(definitions, builtin_only=builtin_only)),
        "required": [name for name, info in HubConfig.model_fields.items() if info.is_required()],
        "additionalProperties": False,
        "$defs": dict(sorted(definitions.items())),
    }


def write(path: str | os.PathLike[str]) -> None:
    """Write the schema of what is built in to *path*."""
    text = json.dumps(file_schema(builtin_only=True), indent=2, ensure_ascii=False)
    Path(path).write_text(f"{text}\n", encoding="utf-8", newline="\n")


def _sections(definitions: dict[str, Any], *, builtin_only: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, info in HubConfig.model_fields.items():
        described = {"description": field_texts(HubConfig)[name]}
        cls = defaults_class(builtin_only=builtin_only) if name == "defaults" else model_in(info.annotation)
        if name == "version":
            yield name, {**described, "enum": list(VERSIONS)}
        elif name == "models":
            yield name, {**described, **_named({"$ref": "#/$defs/model"}), "minProperties": 1}
        elif cls is not None:
            target = _define(definitions, cls.__name__, cls)
            several = info.annotation is not cls and name != "defaults"
            yield name, {**described, **(_named(target) if several else target)}


def _named(entry: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "propertyNames": _NAMES, "additionalProperties": entry}


def _any_model(kinds: list[str]) -> dict[str, Any]:
    """An entry of `models:`: its `provider` says which definition holds."""
    return {
        "type": "object",
        "required": ["provider"],
        "properties": {"provider": {"anyOf": [{"enum": kinds}, _REFERENCE]}},
        "allOf": [
            {
                "if": {"properties": {"provider": {"const": kind}}, "required": ["provider"]},
                "then": {"$ref": f"#/$defs/{kind}-model"},
            }
            for kind in kinds
        ],
    }


def _define(definitions: dict[str, Any], name: str, cls: type[BaseModel]) -> dict[str, Any]:
    """Put the schema of *cls*, and of what is in it, into *definitions*; gives the reference to it."""
    schema = cls.model_json_schema(ref_template="#/$defs/{model}", schema_generator=_Generator)
    for inner, found in (*schema.pop("$defs", {}).items(), (name, schema)):
        found["properties"] = {key: _open(value) for key, value in found.get("properties", {}).items()}
        if definitions.setdefault(inner, found) != found:
            raise ConfigError(f"two classes of different options are called `{inner}`")
    return {"$ref": f"#/$defs/{name}"}


class _Generator(GenerateJsonSchema):
    """pydantic's schema without its made-up titles, and with every name a key may have."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 - pydantic's signature
        """Never: a title that repeats the key helps nobody."""
        return False

    def model_schema(self, schema: Any) -> dict[str, Any]:
        """The schema of one class."""
        made = super().model_schema(schema)
        made.pop("title", None)
        cls: type[BaseModel] = schema["cls"]
        properties = made.setdefault("properties", {})
        # What a key means for a provider, it means among the defaults too.
        texts = {**field_texts(ProviderOptions), **field_texts(cls)}
        for key, info in keys_of(cls).items():
            other = _shared_property(properties, cls, info)
            if key in properties and (text := texts.get(key)) is not None:
                properties[key].setdefault("description", text)
            if key not in properties and other is not None:
                properties[key] = {**other, "deprecated": True}
        return made


def _shared_property(properties: dict[str, Any], cls: type[BaseModel], info: Any) -> dict[str, Any] | None:
    """The property of *info* under whichever of its names pydantic has chosen."""
    found = (properties[key] for key, other in keys_of(cls).items() if other is info and key in properties)
    return next(found, None)


def _open(schema: dict[str, Any]) -> dict[str, Any]:
    """*schema*, which also accepts a reference wherever a number, a boolean or a choice stands."""
    if "anyOf" in schema:
        branches = [_items_open(branch) for branch in schema["anyOf"]]
        return {**schema, "anyOf": [*branches, *_further(branches)]}
    if not _is_closed(schema):
        return _items_open(schema)
    about: dict[str, Any] = {
        key: schema[key] for key in ("description", "default", "deprecated", "examples") if key in schema
    }
    value = {key: part for key, part in schema.items() if key not in about}
    return {**about, "anyOf": [value, *_further([value])]}


def _further(branches: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """What may stand for one of *branches*."""
    if any(branch.get("type") == "integer" for branch in branches):
        yield _GROUPED
    if any(_is_closed(branch) for branch in branches):
        yield _REFERENCE


def _is_closed(schema: dict[str, Any]) -> bool:
    choice = "enum" in schema
    return choice or schema.get("type") in _PLAIN_TYPES or (schema.get("type") == "string" and "pattern" in schema)


def _items_open(schema: dict[str, Any]) -> dict[str, Any]:
    if schema.get("type") == "array" and isinstance(schema.get("items"), dict):
        return {**schema, "items": _open(schema["items"])}
    extra = schema.get("additionalProperties")
    return {**schema, "additionalProperties": _open(extra)} if isinstance(extra, dict) else schema
