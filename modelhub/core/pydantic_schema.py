"""Replies and their parts as types of pydantic's: fields of models, return types of FastAPI's routes."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, get_origin, get_type_hints

from pydantic_core import core_schema

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler
    from pydantic_core import CoreSchema

__all__ = ["make_record_schema"]


def make_record_schema(
    cls: type[dict[str, Any]], stored_types: Mapping[str, Any], handler: GetCoreSchemaHandler
) -> CoreSchema:
    """Return the schema of the record *cls*: instances are taken as they are, mappings of its keys become new ones.

    *stored_types* are the types of keys that are stored in another form than their attribute has.

    What is written is a plain dict with every key, and so says the JSON schema of the output; the schema of the input
    asks only for what `__init__` asks for.
    """
    parameters = list(inspect.signature(cls.__init__).parameters.values())[1:]
    required = frozenset(parameter.name for parameter in parameters if parameter.default is parameter.empty)
    hints = {**get_type_hints(cls), **stored_types}
    fields = {key: handler.generate_schema(hint) for key, hint in hints.items() if get_origin(hint) is not ClassVar}

    def build(values: Mapping[str, Any]) -> dict[str, Any]:
        record = cls(**{key: values[key] for key in required})
        record.update(values)
        return record

    def typed_dict(required: frozenset[str]) -> CoreSchema:
        entries = {
            key: core_schema.typed_dict_field(schema, required=key in required) for key, schema in fields.items()
        }
        return core_schema.typed_dict_schema(entries, cls=cls, extra_behavior="allow")

    from_mapping = core_schema.no_info_after_validator_function(build, typed_dict(required))
    return core_schema.json_or_python_schema(
        json_schema=from_mapping,
        python_schema=core_schema.union_schema([core_schema.is_instance_schema(cls), from_mapping]),
        serialization=core_schema.plain_serializer_function_ser_schema(
            _as_plain, return_schema=typed_dict(frozenset(fields))
        ),
        ref=f"{cls.__module__}.{cls.__qualname__}:{id(cls)}",
    )


def _as_plain(value: Any) -> Any:
    """Return *value* with dicts and lists for what it holds of records, whose lazy values are built by this."""
    if isinstance(value, dict):
        return {key: _as_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_as_plain(item) for item in value]
    return value
