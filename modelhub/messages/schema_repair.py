"""JSON schemas in the form that validators of vendors take (draft 2020-12), from the forms in which people write them.

Older drafts, OpenAPI, generators in other languages and hand-written schemas say the same in other words, which one
vendor overlooks and another refuses. What has no meaning in any draft is left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["repair_schema"]

Schema = dict[str, Any]

_TYPES = {name: name for name in ("string", "integer", "number", "boolean", "array", "object", "null")}
_TYPES |= {"str": "string", "int": "integer", "float": "number", "double": "number", "bool": "boolean"}
_TYPES |= {"list": "array", "tuple": "array", "dict": "object", "none": "null"}
_BOUNDS = (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum"))


_SUSPECT = re.compile(
    r'"(?:definitions|nullable|id|\$schema|additionalItems)": |"(?:description|title)": [^"]|"items": (?:\[|null)'
    r'|"required": (?:[^\[]|\[\])|"(?:properties|patternProperties|\$defs)": [^{]|"enum": (?:\[\]|[^\[])'
    r'|"(?:anyOf|oneOf|allOf|prefixItems)": (?:\[\]|[^\[])|"exclusiveM(?:in|ax)imum": [tf]'
    r'|"(?:additionalProperties|not|if|then|else|contains|propertyNames)": [^{tf]'
    r'|"(?!additionalProperties"|default"|const"|uniqueItems"|deprecated"|readOnly"|writeOnly"|strict")[^"]*": [tf]'
    r'|"type": (?:[^"\[]|\[(?:\]|"[^"]*"\])|"(?!(?:string|integer|number|boolean|array|object|null)"))'
)
"""What schemas that need no repair never have in their JSON; a property may be called so, which costs time alone."""
_REFERENCE = re.compile(r'"\$ref": ("[^"]*"|[^"])')


def repair_schema(schema: Mapping[str, Any]) -> Schema:
    """Return *schema* in the form of draft 2020-12. The original is not changed; depth is the caller's to bound."""
    root = dict(schema)
    text = json.dumps(root)
    references = {match[1] for match in _REFERENCE.finditer(text)} if '"$ref"' in text else ()
    if not _SUSPECT.search(text) and all(_leads_somewhere(reference.strip('"'), root) for reference in references):
        return root  # as almost all do
    root.pop("$schema", None)
    if isinstance(definitions := root.pop("definitions", None), Mapping):
        root["$defs"] = {**definitions, **(root.get("$defs") or {})}
    return _repair_node(root, root)


def _repair(value: Any, root: Schema) -> Schema:
    """Return the schema *value* as an object, which true and false are too where servers know objects only."""
    if value is False:
        return {"not": {}}
    return _repair_node(value, root) if isinstance(value, Mapping) else {}


def _repair_node(schema: Mapping[str, Any], root: Schema) -> Schema:
    node: Schema = {}
    for key, value in schema.items():
        if key not in _KEYWORDS:
            node[key] = value
        elif (repaired := _KEYWORDS[key](value, root)) is not None:
            node[key] = repaired
    _move_tuple(node, schema, root)
    _move_required(node, schema)
    _move_bounds(node)
    _move_nullable(node)
    _check_reference(node, root)
    return node


def _type(value: Any, _: Schema) -> Any:
    if isinstance(value, list):
        names = [name for item in value if (name := _type(item, {})) is not None]
        return (names if len(names) > 1 else names[0]) if names else None
    return _TYPES.get(value.lower()) if isinstance(value, str) else None


def _named(value: Any, root: Schema) -> Any:
    return {name: _repair(part, root) for name, part in value.items()} if isinstance(value, Mapping) else None


def _each(value: Any, root: Schema) -> Any:
    return [_repair(part, root) for part in value] or None if isinstance(value, list) else None


def _one(value: Any, root: Schema) -> Any:
    return None if value is None or isinstance(value, list) else value if value is False else _repair(value, root)


def _additional(value: Any, root: Schema) -> Any:
    return value if isinstance(value, bool) else _one(value, root)


def _text(value: Any, _: Schema) -> Any:
    return "\n".join(map(str, value)) if isinstance(value, list) else None if value is None else str(value)


def _required(value: Any, _: Schema) -> Any:
    names = [value] if isinstance(value, str) else value if isinstance(value, list) else []
    return [name for name in names if isinstance(name, str)] if isinstance(value, (str, list)) else None


def _enum(value: Any, _: Schema) -> Any:
    return value if isinstance(value, list) and value else None


def _draft_4_id(value: Any, root: Schema) -> Any:  # noqa: ARG001 - one form for the table
    return None


_KEYWORDS: Mapping[str, Callable[[Any, Schema], Any]] = {
    "type": _type,
    "description": _text,
    "title": _text,
    "required": _required,
    "enum": _enum,
    "id": _draft_4_id,
    **dict.fromkeys(("properties", "patternProperties", "$defs", "definitions", "dependentSchemas"), _named),
    **dict.fromkeys(("anyOf", "oneOf", "allOf", "prefixItems"), _each),
    **dict.fromkeys(("items", "not", "if", "then", "else", "contains", "propertyNames"), _one),
    "additionalProperties": _additional,
}


def _move_tuple(node: Schema, schema: Mapping[str, Any], root: Schema) -> None:
    """Say the list of schemas that `items` was before draft 2020-12 as `prefixItems`."""
    if isinstance(items := schema.get("items"), list):
        node["prefixItems"] = [_repair(part, root) for part in items]
        if (more := node.pop("additionalItems", None)) is not None:
            node["items"] = _one(more, root)


def _move_required(node: Schema, schema: Mapping[str, Any]) -> None:
    """Say the `required: true` of a property, draft 3's form, in the object that has it."""
    properties = schema.get("properties")
    if isinstance(properties, Mapping):
        marked = [
            name for name, part in properties.items() if isinstance(part, Mapping) and part.get("required") is True
        ]
        if marked:
            node["required"] = [*dict.fromkeys([*node.get("required", ()), *marked])]


def _move_bounds(node: Schema) -> None:
    """Say draft 4's `exclusiveMinimum: true` beside a `minimum` in one number."""
    for exclusive, inclusive in _BOUNDS:
        if isinstance(node.get(exclusive), bool) and node.pop(exclusive) and inclusive in node:
            node[exclusive] = node.pop(inclusive)


def _move_nullable(node: Schema) -> None:
    """Say OpenAPI's `nullable: true` as a type."""
    if not isinstance(node.get("nullable"), bool):
        return
    if not node.pop("nullable"):
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
    """Rewrite a `$ref` to the place of its target; one that leads nowhere says what it names in words."""
    if "$ref" not in node:
        return
    reference = node.pop("$ref")
    if isinstance(reference, str):
        reference = reference.replace("#/definitions/", "#/$defs/")
        if _leads_somewhere(reference, root):
            node["$ref"] = reference
            return
    node["description"] = " ".join(filter(None, [node.get("description"), f"(see {reference})"]))


def _leads_somewhere(reference: str, root: Schema) -> bool:
    if not reference.startswith("#"):
        return False
    target: Any = root
    for part in reference.removeprefix("#").split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(target, list) and name.isdecimal() and int(name) < len(target):
            target = target[int(name)]
        elif isinstance(target, Mapping) and name in target:
            target = target[name]
        else:
            return False
    return "/" in reference or reference == "#" or _has_anchor(reference.removeprefix("#"), root)


def _has_anchor(anchor: str, value: Any) -> bool:
    if isinstance(value, Mapping):
        return value.get("$anchor") == anchor or any(_has_anchor(anchor, item) for item in value.values())
    return isinstance(value, list) and any(_has_anchor(anchor, item) for item in value)
