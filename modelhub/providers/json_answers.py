"""`response_format` for vendors that have no parameter for it, or not for all of it: the same request in words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from modelhub.providers.parameters import Draft

__all__ = ["ask_in_words", "schema_of_format"]


def schema_of_format(response_format: Any) -> Mapping[str, Any] | None:
    """Return the JSON Schema in *response_format*; None if it asks for any JSON object."""
    form = response_format.get("json_schema") if isinstance(response_format, Mapping) else None
    schema = form.get("schema") if isinstance(form, Mapping) else None
    return schema if isinstance(schema, Mapping) else None


def ask_in_words(response_format: Any, draft: Draft) -> None:
    """Have *draft* ask for JSON in words, and say so."""
    words = "Answer with one JSON object and nothing else: no explanation, no code fence."
    if (schema := schema_of_format(response_format)) is not None:
        words += " It must fit this JSON Schema:\n" + json.dumps(schema, ensure_ascii=False)
    draft.instruction = words
    draft.round("response_format", response_format["type"], "in words")
