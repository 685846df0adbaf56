"""The file's JSON Schema, for editors, generated from the classes that validate the file."""

from __future__ import annotations

import ast
import inspect
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cache, lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from modelhub import registry
from modelhub.config.schema import (
    NAME_PATTERN,
    VERSIONS,
    HubConfig,
    find_model_class,
    get_keys,
    make_defaults_class,
    make_entry_class,
)
from modelhub.core.errors import ConfigError
from modelhub.options import ProviderOptions

__all__ = ["build_file_schema", "write_schema"]

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_REFERENCE = {"$ref": "#/$defs/reference"}
_REFERENCE_DEFINITION = {
    "description": "A reference to an environment variable, a file or what a command prints: ${VAR}, ${VAR:-default}, "
    "${file:/path} or ${cmd:a command}.",
    "type": "string",
    "pattern": r"\$\{[^{}]+\}",
}
_GROUPED_NUMBER = {"$ref": "#/$defs/grouped"}
_GROUPED_NUMBER_DEFINITION = {
    "description": "An integer with underscores, such as 200_000. Many editors read it as a string.",
    "type": "string",
    "pattern": "^[0-9]+(_[0-9]+)+$",
}
_PLAIN_TYPES = {"integer", "number", "boolean"}
_NAME_SCHEMA = {"pattern": f"^{NAME_PATTERN}$"}


def build_file_schema(*, builtin_only: bool = False) -> dict[str, Any]:
    """Return the schema of the file (draft 2020-12).

    With *builtin_only*, installed providers and layers of third parties are left out. Raises ConfigError if two
    plug-ins define different options classes with the same name.
    """
    kinds = sorted(registry.PROVIDERS) if builtin_only else registry.list_providers()
    definitions: dict[str, Any] = {"reference": _REFERENCE_DEFINITION, "grouped": _GROUPED_NUMBER_DEFINITION}
    for kind in kinds:
        _add_definition(definitions, f"{kind}-model", make_entry_class(kind, builtin_only=builtin_only))
    definitions["model"] = _build_model_schema(kinds)
    sections = dict(_build_sections(definitions, builtin_only=builtin_only))
    definitions["profile"] = _build_profile_schema(sections)
    required = [name for name, info in HubConfig.model_fields.items() if info.is_required()]
    entries = {name: sections[name].pop("additionalProperties") for name in ("models", "chains", "budgets")}
    return {
        "$schema": _DIALECT,
        "title": "modelhub",
        "description": "Named chat models and fallback chains.",
        "type": "object",
        "properties": sections,
        "additionalProperties": False,
        # A file that includes others may have a part of an entry, or nothing of what else is required.
        "if": {"required": ["include"]},
        "else": {
            "required": required,
            "properties": {name: {"additionalProperties": entry} for name, entry in entries.items()},
        },
        "$defs": dict(sorted(definitions.items())),
    }


def write_schema(path: str | os.PathLike[str]) -> None:
    """Write the schema of the built-in providers and layers to *path*."""
    text = json.dumps(build_file_schema(builtin_only=True), indent=2, ensure_ascii=False)
    Path(path).write_text(f"{text}\n", encoding="utf-8", newline="\n")


def _build_sections(definitions: dict[str, Any], *, builtin_only: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, info in HubConfig.model_fields.items():
        described = {"description": _read_field_docs(HubConfig)[name]}
        cls = (
            make_defaults_class(builtin_only=builtin_only) if name == "defaults" else find_model_class(info.annotation)
        )
        if name == "include":
            path = {"type": "string", "minLength": 1}
            yield name, {**described, "anyOf": [path, {"type": "array", "items": path}]}
        elif name == "profiles":
            yield name, {**described, **_make_named_mapping({"$ref": "#/$defs/profile"})}
        elif name == "version":
            yield name, {**described, "enum": list(VERSIONS)}
        elif name == "models":
            yield name, {**described, **_make_named_mapping({"$ref": "#/$defs/model"}), "minProperties": 1}
        elif cls is not None:
            target = _add_definition(definitions, cls.__name__, cls)
            several = info.annotation is not cls and name != "defaults"
            yield name, {**described, **(_make_named_mapping(target) if several else target)}


def _make_named_mapping(entry: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "propertyNames": _NAME_SCHEMA, "additionalProperties": entry}


def _build_profile_schema(sections: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a profile: parts of *sections*, those of the file, with parts of their entries."""
    without_parts = {"version", "include", "profiles"}
    parts = {name: section for name, section in sections.items() if name not in without_parts}
    for name in ("models", "chains", "budgets"):
        described = {"description": sections[name]["description"]}
        parts[name] = {**described, **_make_named_mapping({"type": ["object", "null"]})}
    return {"type": "object", "properties": parts, "additionalProperties": False}


def _build_model_schema(kinds: list[str]) -> dict[str, Any]:
    """Return the schema of an entry of `models:`, whose `provider` selects the definition that applies."""
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


def _add_definition(definitions: dict[str, Any], name: str, cls: type[BaseModel]) -> dict[str, Any]:
    """Add the schema of *cls*, and of the classes it refers to, to *definitions*. Returns a reference to it."""
    schema = cls.model_json_schema(ref_template="#/$defs/{model}", schema_generator=_Generator)
    for inner, definition in (*schema.pop("$defs", {}).items(), (name, schema)):
        definition["properties"] = {
            key: _allow_reference(value) for key, value in definition.get("properties", {}).items()
        }
        if definitions.setdefault(inner, definition) != definition:
            raise ConfigError(f"two different options classes are both called `{inner}`")
    return {"$ref": f"#/$defs/{name}"}


class _Generator(GenerateJsonSchema):
    """Generates pydantic's schema without titles, and with every alias of a key."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 - pydantic's signature
        """Return False: a generated title only repeats the key."""
        return False

    def model_schema(self, schema: Any) -> dict[str, Any]:
        """Return the schema of one class."""
        json_schema = super().model_schema(schema)
        json_schema.pop("title", None)
        cls: type[BaseModel] = schema["cls"]
        properties = json_schema.setdefault("properties", {})
        # A key of a provider has the same meaning in `defaults`.
        texts = {**_read_field_docs(ProviderOptions), **_read_field_docs(cls)}
        names = {id(info): name for name, info in cls.model_fields.items()}
        for key, info in get_keys(cls).items():
            # The property of the same field, under whichever alias pydantic has chosen for it.
            aliases = (alias for alias, field in get_keys(cls).items() if field is info and alias in properties)
            alias = next(aliases, None)
            if key in properties and (text := texts.get(key) or texts.get(names[id(info)])) is not None:
                properties[key].setdefault("description", text)
            if key not in properties and alias is not None:
                properties[key] = {**properties[alias], "deprecated": True}
        return json_schema


def _allow_reference(schema: dict[str, Any]) -> dict[str, Any]:
    """Return *schema* extended to accept a reference in place of a number, a boolean or an enum value."""
    if "anyOf" in schema:
        branches = [_allow_reference_inside(branch) for branch in schema["anyOf"]]
        return {**schema, "anyOf": [*branches, *_list_alternatives(branches)]}
    if not _is_restricted(schema):
        return _allow_reference_inside(schema)
    annotations: dict[str, Any] = {
        key: schema[key] for key in ("description", "default", "deprecated", "examples") if key in schema
    }
    value = {key: part for key, part in schema.items() if key not in annotations}
    return {**annotations, "anyOf": [value, *_list_alternatives([value])]}


def _list_alternatives(branches: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the schemas that are accepted instead of one of *branches*."""
    if any(branch.get("type") == "integer" for branch in branches):
        yield _GROUPED_NUMBER
    if any(_is_restricted(branch) for branch in branches):
        yield _REFERENCE


def _is_restricted(schema: dict[str, Any]) -> bool:
    choice = "enum" in schema
    return choice or schema.get("type") in _PLAIN_TYPES or (schema.get("type") == "string" and "pattern" in schema)


def _allow_reference_inside(schema: dict[str, Any]) -> dict[str, Any]:
    if schema.get("type") == "array" and isinstance(schema.get("items"), dict):
        return {**schema, "items": _allow_reference(schema["items"])}
    extra = schema.get("additionalProperties")
    return {**schema, "additionalProperties": _allow_reference(extra)} if isinstance(extra, dict) else schema


# -- docstrings --------------------------------------------------------------------------------------------------------
# pydantic can read those of fields when a class is made, but then every import parses the source of every class of
# options. And `inspect.getsource` parses a module again for each of its classes; here it is parsed once for all.

_CACHED_MODULES = 8  # the classes of one module come one after the other


@cache
def _read_field_docs(cls: type) -> Mapping[str, str]:
    """Return the docstring below each field of *cls* and its bases, by field name; *cls* itself takes precedence."""
    docs: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if not inspect.get_annotations(base):
            continue  # it has no field of its own
        try:
            source = inspect.getsource(sys.modules[base.__module__])
        except (KeyError, OSError, TypeError):
            continue  # the class was created at run time, or its source is not installed
        docs |= _parse_module_docs(source).get(base.__qualname__, {})
    return docs


@lru_cache(_CACHED_MODULES)
def _parse_module_docs(source: str) -> Mapping[str, Mapping[str, str]]:
    """Return the field docstrings of every class in *source*, by the class's qualified name."""
    docs: dict[str, dict[str, str]] = {}
    for qualname, body in _walk_classes(ast.parse(source).body, ""):
        docs[qualname] = {}
        for field, text in pairwise(body):
            match field, text:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(words))):
                    docs[qualname][name] = inspect.cleandoc(words)
    return docs


def _walk_classes(body: Iterable[ast.stmt], prefix: str) -> Iterator[tuple[str, list[ast.stmt]]]:
    """Yield the qualified name and the body of every class in *body*, at any depth."""
    for node in body:
        match node:
            case ast.ClassDef(name=name, body=inner):
                yield prefix + name, inner
                yield from _walk_classes(inner, f"{prefix}{name}.")
            case ast.FunctionDef(name=name, body=inner) | ast.AsyncFunctionDef(name=name, body=inner):
                yield from _walk_classes(inner, f"{prefix}{name}.<locals>.")
            case _:
                nested = (child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt))
                yield from _walk_classes(nested, prefix)
