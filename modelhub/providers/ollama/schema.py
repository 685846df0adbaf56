"""JSON schemas as Ollama's server shows them to the model: without references."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["inline_references"]


def inline_references(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return *schema* with what its `$ref`s name in their place: the server drops the `$ref` of a property.

    A reference inside of what it names stays.
    """
    definitions = {f"#/$defs/{name}": definition for name, definition in (schema.get("$defs") or {}).items()}

    def resolve(value: Any, inside: tuple[str, ...]) -> Any:
        if isinstance(value, list):
            return [resolve(item, inside) for item in value]
        if not isinstance(value, Mapping):
            return value
        reference = value.get("$ref")
        if isinstance(reference, str) and isinstance(definitions.get(reference), Mapping) and reference not in inside:
            beside = {key: item for key, item in value.items() if key != "$ref"}
            return resolve({**definitions[reference], **beside}, (*inside, reference))
        return {key: resolve(item, inside) for key, item in value.items()}

    inlined: dict[str, Any] = resolve({key: value for key, value in schema.items() if key != "$defs"}, ())
    return inlined | {"$defs": schema["$defs"]} if "$defs" in schema and _has_references(inlined) else inlined


def _has_references(value: Any) -> bool:
    if isinstance(value, Mapping):
        return "$ref" in value or any(_has_references(item) for item in value.values())
    return isinstance(value, list) and any(_has_references(item) for item in value)
