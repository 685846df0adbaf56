"""Convert JSON Schemas from the forms in which people write them to draft 2020-12, which vendors' validators accept.

Older drafts, OpenAPI, other generators and hand-written schemas use other forms, which vendors ignore or refuse.
Keywords that are invalid in every draft are left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["repair_schema", "resolve_reference"]

Schema = dict[str, Any]

_TYPES = {name: name for name in ("string", "integer", "number", "boolean", "array", "object", "null")}
_TYPES |= {"str": "string", "int": "integer", "float": "number", "double": "number", "bool": "boolean"}
_TYPES |= {"list": "array", "tuple": "array", "dict": "object", "none": "null"}
_BOUNDS = (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum"))


_NEEDS_REPAIR = re.compile(
    r'"(?:definitions|nullable|id|\$schema|additionalItems)": |"(?:description|title)": [^"]|"items": (?:\[|null)'
    r'|"required": (?!\["[^"]*"(?:, "[^"]*")*\])|"(?:properties|patternProperties|\$defs)": [^{]|"enum": (?:\[\]|[^\[])'
    r'|"(?:anyOf|oneOf|allOf|prefixItems)": (?:\[\]|[^\[])|"exclusiveM(?:in|ax)imum": [tf]'
    r'|"(?:additionalProperties|not|if|then|else|contains|propertyNames)": [^{tf]'
    r'|"(?!additionalProperties"|default"|const"|uniqueItems"|deprecated"|readOnly"|writeOnly"|strict")[^"]*": [tf]'
    r'|"type": (?:[^"\[]|\[(?:\]|"[^"]*"\])|"(?!(?:string|integer|number|boolean|array|object|null)"))'
)
"""A fast test: a schema without a match needs no repair. A false match only costs time."""
_REFERENCE = re.compile(r'"\$ref": ("[^"]*"|[^"])')


def repair_schema(schema: Mapping[str, Any]) -> Schema:
    """Return *schema* in the form of draft 2020-12. The original is not changed; the caller limits its depth."""
    root = dict(schema)
    text = json.dumps(root)
    references = {match[1] for match in _REFERENCE.finditer(text)} if '"$ref"' in text else ()
    if not _NEEDS_REPAIR.search(text) and all(
        resolve_reference(reference.strip('"'), root) is not None for reference in references
    ):
        return root  # as almost all do
    root.pop("$schema", None)
    if isinstance(definitions := root.pop("definitions", None), Mapping):
        root["$defs"] = {**definitions, **(root.get("$defs") or {})}
    return _repair_node(root, root)


def _repair(value: Any, root: Schema) -> Schema:
    """Return the schema *value* as an object, true and false included, since some servers only accept objects."""
    if value is False:
        return {"not": {}}
    return _repair_node(value, root) if isinstance(value, Mapping) else {}


def _repair_node(schema: Mapping[str, Any], root: Schema) -> Schema:
    node: Schema = {}
    for key, value in schema.items():
        if key not in _KEYWORD_REPAIRS:
            node[key] = value
        elif (repaired := _KEYWORD_REPAIRS[key](value, root)) is not None:
            node[key] = repaired
    if isinstance(items := schema.get("items"), list):  # before draft 2020-12
        node["prefixItems"] = [_repair(part, root) for part in items]
        if (more := node.pop("additionalItems", None)) is not None:
            node["items"] = _repair_optional(more, root)
    _move_required(node, schema)
    for exclusive, inclusive in _BOUNDS:  # draft 4: `exclusiveMinimum: true` beside a `minimum`
        if isinstance(node.get(exclusive), bool) and node.pop(exclusive) and inclusive in node:
            node[exclusive] = node.pop(inclusive)
    _move_nullable(node)
    _check_reference(node, root)
    return node


def _repair_type(value: Any, _: Schema) -> Any:
    if isinstance(value, list):
        names = [name for item in value if (name := _repair_type(item, {})) is not None]
        return (names if len(names) > 1 else names[0]) if names else None
    return _TYPES.get(value.lower()) if isinstance(value, str) else None


def _repair_mapping(value: Any, root: Schema) -> Any:
    return {name: _repair(part, root) for name, part in value.items()} if isinstance(value, Mapping) else None


def _repair_list(value: Any, root: Schema) -> Any:
    return [_repair(part, root) for part in value] or None if isinstance(value, list) else None


def _repair_optional(value: Any, root: Schema) -> Any:
    return None if value is None or isinstance(value, list) else value if value is False else _repair(value, root)


def _repair_additional(value: Any, root: Schema) -> Any:
    return value if isinstance(value, bool) else _repair_optional(value, root)


def _repair_text(value: Any, _: Schema) -> Any:
    return "\n".join(map(str, value)) if isinstance(value, list) else None if value is None else str(value)


def _repair_required(value: Any, _: Schema) -> Any:
    names = [value] if isinstance(value, str) else value
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else None


def _repair_enum(value: Any, _: Schema) -> Any:
    return value if isinstance(value, list) and value else None


_KEYWORD_REPAIRS: Mapping[str, Callable[[Any, Schema], Any]] = {
    "type": _repair_type,
    "description": _repair_text,
    "title": _repair_text,
    "required": _repair_required,
    "enum": _repair_enum,
    "id": lambda value, root: None,  # noqa: ARG005 - one form for the table
    **dict.fromkeys(("properties", "patternProperties", "$defs", "definitions", "dependentSchemas"), _repair_mapping),
    **dict.fromkeys(("anyOf", "oneOf", "allOf", "prefixItems"), _repair_list),
    **dict.fromkeys(("items", "not", "if", "then", "else", "contains", "propertyNames"), _repair_optional),
    "additionalProperties": _repair_additional,
}


def _move_required(node: Schema, schema: Mapping[str, Any]) -> None:
    """Move `required: true` of a property, as in draft 3, to the object that has the property."""
    properties = schema.get("properties")
    if isinstance(properties, Mapping):
        required = [
            name for name, part in properties.items() if isinstance(part, Mapping) and part.get("required") is True
        ]
        if required:
            node["required"] = [*dict.fromkeys([*node.get("required", ()), *required])]


def _move_nullable(node: Schema) -> None:
    """Rewrite OpenAPI's `nullable: true` as a type."""
    if not isinstance(node.get("nullable"), bool) or not node.pop("nullable"):
        return
    kind = node.get("type")
    if kind is not None:
        kinds = kind if isinstance(kind, list) else [kind]
        node["type"] = [*kinds, *(("null",) if "null" not in kinds else ())]
    if isinstance(node.get("enum"), list) and None not in node["enum"]:
        node["enum"] = [*node["enum"], None]
    if isinstance(node.get("anyOf"), list) and {"type": "null"} not in node["anyOf"]:
        node["anyOf"] = [*node["anyOf"], {"type": "null"}]


def _check_reference(node: Schema, root: Schema) -> None:
    """Rewrite a `$ref` to `$defs`; one that cannot be resolved becomes a part of the description."""
    if "$ref" not in node:
        return
    reference = node.pop("$ref")
    if isinstance(reference, str):
        reference = reference.replace("#/definitions/", "#/$defs/")
        if resolve_reference(reference, root) is not None:
            node["$ref"] = reference
            return
    node["description"] = " ".join(filter(None, [node.get("description"), f"(see {reference})"]))


def resolve_reference(reference: str, root: Mapping[str, Any]) -> Any:
    """Return the part of *root* that *reference* names, such as `#/$defs/a` or `#anchor`, or None if there is none."""
    if not reference.startswith("#"):
        return None
    if len(reference) > 1 and "/" not in reference:
        return _find_anchor(reference.removeprefix("#"), root)
    target: Any = root
    for part in reference.split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(target, list) and name.isdecimal() and int(name) < len(target):
            target = target[int(name)]
        elif isinstance(target, Mapping) and name in target:
            target = target[name]
        else:
            return None
    return target


def _find_anchor(anchor: str, value: Any) -> Any:
    if isinstance(value, Mapping) and value.get("$anchor") == anchor:
        return value
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return next((schema for item in inner if (schema := _find_anchor(anchor, item)) is not None), None)
