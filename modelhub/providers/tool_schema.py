"""Schemas of tools with nothing but an object at their root, which is all that most vendors take there."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from modelhub.messages.blocks import Tool

__all__ = ["plain_root"]

Schema = dict[str, Any]

_REFUSED = frozenset({"anyOf", "oneOf", "allOf", "not", "enum", "const", "if", "then", "else", "$ref"})
"""Keywords that OpenAI or Anthropic refuse at the root of a tool's schema."""
_WORDS = {
    "anyOf": "The arguments must fit at least one of",
    "oneOf": "The arguments must fit exactly one of",
    "allOf": "The arguments must also fit all of",
    "not": "The arguments must not fit",
    "enum": "The arguments must be one of",
    "const": "The arguments must be",
    "if": "If the arguments fit",
    "then": "they must fit",
    "else": "otherwise they must fit",
}


def plain_root(tool: Tool) -> tuple[Schema, str]:
    """Return the schema of *tool* as an object without alternatives at its root, and the description of the tool.

    The latter says in words what such a schema cannot say.

    What the parts of `allOf` and the alternatives of `anyOf` and `oneOf` say of properties is merged into the root; a
    property that several of them describe may fit any of them. `$ref`s are followed where they stand at the root, each
    once: one that leads back to where it stands says nothing new.
    """
    schema = tool.parameters
    if _REFUSED.isdisjoint(schema):
        return _complete({**schema}), tool.description
    root, followed = _follow(schema, schema)
    plain = _complete({key: value for key, value in root.items() if key not in _REFUSED})
    for part in root.get("allOf") or ():
        _merge(plain, part, schema, followed)
    for keyword in ("anyOf", "oneOf"):
        _merge_alternatives(plain, root.get(keyword) or (), schema, followed)
    words = []
    for keyword, phrase in _WORDS.items():
        if _needs_words(keyword, root):
            value = root[keyword]
            if keyword in ("anyOf", "oneOf", "allOf") and isinstance(value, list):
                value = [_follow(part, schema)[0] for part in value]
            words.append(f"{phrase}: {json.dumps(value, ensure_ascii=False)}")
    return plain, " ".join(filter(None, [tool.description, ". ".join(words)]))


def _complete(schema: Schema) -> Schema:
    """*schema* with the type and the properties that vendors want, every required property among them."""
    schema["type"] = "object"
    properties = schema.setdefault("properties", {})
    if unknown := [name for name in schema.get("required") or () if name not in properties]:
        schema["properties"] = {**properties, **{name: {} for name in unknown}}
    return schema


def _follow(
    part: Any, root: Mapping[str, Any], followed: frozenset[str] = frozenset()
) -> tuple[Schema, frozenset[str]]:
    """Return *part* with what its `$ref` names in the reference's place, and the references *followed* to there.

    A reference that leads nowhere, or was followed before, is left out.
    """
    schema = dict(part) if isinstance(part, Mapping) else {}
    while isinstance(reference := schema.pop("$ref", None), str) and reference not in followed:
        followed = followed | {reference}
        target: Any = root
        for name in reference.removeprefix("#").split("/")[1:]:
            target = target.get(name) if isinstance(target, Mapping) else None
        if isinstance(target, Mapping) and reference.startswith("#"):
            schema = {**target, **schema}
    return schema, followed


def _merge(plain: Schema, part: Any, root: Mapping[str, Any], followed: frozenset[str]) -> None:
    """Add to *plain* the properties of *part*, all of which it must fit too."""
    part, followed = _follow(part, root, followed)
    for inner in part.get("allOf") or ():
        _merge(plain, inner, root, followed)
    _merge_alternatives(plain, part.get("anyOf") or part.get("oneOf") or (), root, followed)
    for name, schema in (part.get("properties") or {}).items():
        known = plain["properties"].get(name)
        both = schema if known in (None, {}, schema) else {"allOf": [known, schema]}
        plain["properties"] = {**plain["properties"], name: both}
    if required := part.get("required"):
        plain["required"] = [*dict.fromkeys([*plain.get("required", ()), *required])]
    if "additionalProperties" in part:
        plain.setdefault("additionalProperties", part["additionalProperties"])
    _complete(plain)


def _merge_alternatives(plain: Schema, parts: Sequence[Any], root: Mapping[str, Any], followed: frozenset[str]) -> None:
    """Add to *plain* the properties of *parts*, one of which it must fit; required is what all of them require."""
    if not parts:
        return
    flat: list[Schema] = [{"type": "object", "properties": {}} for _ in parts]
    for alternative, part in zip(flat, parts, strict=True):
        _merge(alternative, part, root, followed)
    options: dict[str, list[Any]] = {}
    for part in flat:
        for name, schema in part["properties"].items():
            if schema not in options.setdefault(name, []):
                options[name].append(schema)
    for name, schemas in options.items():
        if plain["properties"].get(name) in (None, {}):
            described = [schema for schema in schemas if schema != {}]
            merged = {"anyOf": described} if len(described) > 1 else (described or [{}])[0]
            plain["properties"] = {**plain["properties"], name: merged}
    shared = set.intersection(*(set(part.get("required", ())) for part in flat))
    if required := [name for name in flat[0].get("required", ()) if name in shared]:
        plain["required"] = [*dict.fromkeys([*plain.get("required", ()), *required])]


def _needs_words(keyword: str, root: Mapping[str, Any]) -> bool:
    """Whether *keyword* must be put in words: what `allOf` says of properties alone is in the root by now."""
    if keyword != "allOf":
        return keyword in root and root[keyword] not in ([], None)
    known = {"type", "properties", "required", "additionalProperties", "title", "description", "$ref"}
    return any(not (isinstance(part, Mapping) and part.keys() <= known) for part in root.get("allOf") or ())
