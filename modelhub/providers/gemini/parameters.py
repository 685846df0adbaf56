"""Parameters under the SDK's names, in either spelling, as dicts or as the SDK's objects."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from difflib import get_close_matches
from functools import lru_cache
from typing import Any

from pydantic import ValidationError

from modelhub.core.errors import CallError, ConfigError, InvalidRequest

__all__ = ["copy_parameters", "explain_parameters", "merge_json", "read_http_options"]

# Fixed for every request, so that a call is one request.
_FIXED = ("automatic_function_calling", "automatic_continuation", "should_return_http_response")


def copy_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of *parameters* with the SDK's names, without what is fixed; the SDK changes some in place."""
    return {
        name: copy.deepcopy(value) if isinstance(value, (dict, list)) else value
        for key, value in parameters.items()
        if (name := _snake_case(key)) not in _FIXED
    }


def read_http_options(options: Any) -> dict[str, Any]:
    """Return the fields that are set of the SDK's HttpOptions, or of a dict like it.

    Raises ConfigError for what cannot work here.
    """
    if isinstance(options, Mapping):
        fields = {_snake_case(str(key)): value for key, value in options.items()}
    else:
        fields = {key: getattr(options, key) for key in getattr(options, "model_fields_set", ())}
    if fields.get("aiohttp_client") is not None:
        raise ConfigError("http_options.aiohttp_client: only httpx clients can be used; give `httpx_async_client`")
    fields.pop("retry_options", None)  # a request is sent once; retrying is a layer's work
    return {key: value for key, value in fields.items() if value is not None}


def merge_json(body: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """Return *body* with *extra* in it: objects are joined, anything else is replaced.

    A name that is in *body* in the other spelling, as in `max_tokens` and `maxTokens`, is written as it is there.
    """
    merged = dict(body)
    for name, value in extra.items():
        key = name if name in merged else _find_spelling(name, merged)
        before = merged.get(key)
        merged[key] = merge_json(before, value) if isinstance(before, Mapping) and isinstance(value, Mapping) else value
    return merged


def _find_spelling(name: str, names: Mapping[str, Any]) -> str:
    return next((other for other in _spell(name) if other in names), name)


@lru_cache(maxsize=256)
def _spell(name: str) -> tuple[str, str]:
    """Return *name* in both spellings."""
    camel_case = re.sub(r"(?<=[a-z0-9])_([a-z])", lambda match: match[1].upper(), name)
    return camel_case, _snake_case(name)


def _snake_case(name: str) -> str:
    """`maxOutputTokens` as `max_output_tokens`: the SDK takes both."""
    return name if name.islower() else re.sub(r"(?<=[a-z0-9])([A-Z])", lambda match: f"_{match[1].lower()}", name)


def explain_parameters(error: Exception) -> CallError:
    """Return what the SDK objects to before it writes anything, without showing any value."""
    if not isinstance(error, ValidationError):
        return InvalidRequest(f"google-genai refuses the parameters: {error}")
    from google.genai import types

    known = list(types.GenerateContentConfig.model_fields)
    problems = []
    for problem in error.errors(include_input=False, include_url=False, include_context=False):
        path, words = ".".join(str(step) for step in problem["loc"]), problem["msg"]
        if problem["type"] == "extra_forbidden":
            close = get_close_matches(path, known, 1)
            words = "is no parameter of GenerateContentConfig" + (f"; did you mean `{close[0]}`?" if close else "")
        problems.append(f"{path}: {words}")
    return InvalidRequest(f"google-genai refuses the parameters: {'; '.join(problems[:5])}")
