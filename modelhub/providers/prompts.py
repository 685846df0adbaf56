"""Requests in words, for what a vendor's API has no parameter for, or not for all of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from modelhub.providers.parameters import Draft

__all__ = ["CALL_PROMPT", "ask_in_words", "schema_of_format", "write_json_prompt"]

CALL_PROMPT = "Answer by calling one of the tools, not in words of your own."
"""What a model is told whose API cannot demand a call."""


def write_json_prompt(schema: Mapping[str, Any] | None) -> str:
    """Return the request for an answer in JSON that fits *schema*, or for any JSON object."""
    prompt = "Answer with one JSON object and nothing else: no explanation, no code fence."
    if schema is not None:
        prompt += " It must fit this JSON Schema:\n" + json.dumps(schema, ensure_ascii=False)
    return prompt


def schema_of_format(response_format: Any) -> Mapping[str, Any] | None:
    """Return the JSON Schema in *response_format*; None if it asks for any JSON object."""
    form = response_format.get("json_schema") if isinstance(response_format, Mapping) else None
    schema = form.get("schema") if isinstance(form, Mapping) else None
    return schema if isinstance(schema, Mapping) else None


def ask_in_words(response_format: Any, draft: Draft) -> None:
    """Have *draft* ask for the JSON of *response_format* in words, and say so."""
    draft.instruction = write_json_prompt(schema_of_format(response_format))
    draft.round("response_format", response_format["type"], "in words")
