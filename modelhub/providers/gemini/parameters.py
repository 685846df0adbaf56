"""Parameters under the SDK's names, in either spelling, as dicts or as the SDK's objects; neutral ones in these."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError

from modelhub.core.errors import CallError, ConfigError, InvalidRequest, UnsupportedFeature
from modelhub.options import Effort
from modelhub.providers.gemini.schema import gemini_schema
from modelhub.providers.parameters import (
    Draft,
    Spelling,
    Vocabulary,
    ask_in_words,
    camel_case,
    make_list_writer,
    schema_of_format,
    snake_case,
    spread_object,
)
from modelhub.providers.vendor_parameters import VENDOR_PARAMETERS

__all__ = ["VOCABULARY", "copy_parameters", "explain_parameters", "merge_json", "read_http_options"]

# Fixed for every request, so that a call is one request.
_FIXED = ("automatic_function_calling", "automatic_continuation", "should_return_http_response")


def copy_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of *parameters* with the SDK's names, without what is fixed; the SDK changes some in place."""
    return {
        name: copy.deepcopy(value) if isinstance(value, (dict, list)) else value
        for key, value in parameters.items()
        if (name := snake_case(key)) not in _FIXED
    }


def read_http_options(options: Any) -> dict[str, Any]:
    """Return the fields that are set of the SDK's HttpOptions, or of a dict like it.

    Raises ConfigError for what cannot work here.
    """
    if isinstance(options, Mapping):
        fields = {snake_case(str(key)): value for key, value in options.items()}
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
        key = name
        if name not in merged:
            key = next((spelling for spelling in (camel_case(name), snake_case(name)) if spelling in merged), name)
        before = merged.get(key)
        merged[key] = merge_json(before, value) if isinstance(before, Mapping) and isinstance(value, Mapping) else value
    return merged


def explain_parameters(error: Exception) -> CallError:
    """Return what the SDK objects to before it writes anything, without showing any value."""
    if not isinstance(error, ValidationError):
        return InvalidRequest(f"google-genai refuses the parameters: {error}")
    from google.genai import types

    known = list(types.GenerateContentConfig.model_fields)
    problems, unknown = [], []
    is_misspelt = False
    for problem in error.errors(include_input=False, include_url=False, include_context=False):
        path, words = ".".join(str(step) for step in problem["loc"]), problem["msg"]
        if problem["type"] == "extra_forbidden":
            close = get_close_matches(path, known, 1)
            words = "is no parameter of GenerateContentConfig" + (f"; did you mean `{close[0]}`?" if close else "")
            unknown.append(path)
            is_misspelt = is_misspelt or bool(close)
        problems.append(f"{path}: {words}")
    message = f"google-genai refuses the parameters: {'; '.join(problems[:5])}"
    if is_misspelt or len(unknown) < len(problems):
        return InvalidRequest(message)
    failure = UnsupportedFeature(message)  # names that nobody knows may be another vendor's
    failure.parameter = unknown[0]
    return failure


# -- neutral parameters ------------------------------------------------------------------------------------------------

_BUDGETS: Mapping[Effort, int] = {
    "none": 0,
    "minimal": 512,
    "low": 1024,
    "medium": 8192,
    "high": 24_576,
    "xhigh": 24_576,
    "max": 32_768,
}
"""Google's own mapping of efforts to budgets (ai.google.dev/gemini-api/docs/openai), and what lies around it."""
_BUDGET_MODELS = re.compile(r"gemini-2\.5")
_PRO = re.compile(r"gemini-2\.5-pro")
_JSON_WITH_TOOLS = re.compile(r"gemini-(?:[3-9]|\d\d)|gemini-[a-z-]*latest")
"""Generations that give JSON beside tools."""


def _spell_effort(effort: Any, draft: Draft) -> Mapping[str, Any]:
    if not _BUDGET_MODELS.search(draft.model_name):
        return {"thinking_config": {"thinking_level": str(effort).upper()}}
    least, most = (128, 32_768) if _PRO.search(draft.model_name) else (0, 24_576)
    wanted = _BUDGETS.get(effort, -1)
    budget = wanted if wanted < 0 else min(max(wanted, least), most)
    if budget != wanted:
        draft.round("reasoning_effort", effort, f"{budget} tokens")
    return {"thinking_config": {"thinking_budget": budget}}


def _spell_format(response_format: Any, draft: Draft) -> Mapping[str, Any]:
    # Gemma has no JSON mode, and before 3 there is none beside tools.
    if "gemma" in draft.model_name or (draft.request.tools and not _JSON_WITH_TOOLS.search(draft.model_name)):
        ask_in_words(response_format, draft)
        return {}
    schema = schema_of_format(response_format)
    form = {} if schema is None else {"response_json_schema": gemini_schema(dict(schema))}
    return {"response_mime_type": "application/json", **form}


_TIERS = {"default": "standard", "flex": "flex", "priority": "priority", "standard": "standard"}


def _spell_tier(tier: Any, draft: Draft) -> Mapping[str, Any]:
    if tier == "auto":
        return {}
    sent = _TIERS.get(tier, "standard")
    if tier not in _TIERS:
        draft.round("service_tier", tier, sent)
    return {"service_tier": sent}


def _normalize(layer: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return *layer* in snake case, with what is in `generation_config` beside the rest."""
    layer = {snake_case(name): value for name, value in layer.items()}
    for name, value in spread_object(layer, "generation_config").items():
        layer[snake_case(name)] = value
    layer.pop("generation_config", None)
    if type(layer.get("logprobs")) is int:  # the number of alternatives, which others call otherwise
        layer["top_logprobs"] = layer.pop("logprobs")
    return layer


VOCABULARY = Vocabulary(
    vendor="Gemini",
    spellings={
        "max_tokens": Spelling("max_output_tokens"),
        **{name: Spelling(name) for name in ("temperature", "top_p", "top_k", "seed")},
        "presence_penalty": Spelling("presence_penalty", wire_names=("penalty",)),
        "frequency_penalty": Spelling("frequency_penalty", wire_names=("penalty",)),
        "stop": Spelling("stop_sequences", make_list_writer("stop_sequences")),
        "reasoning_effort": Spelling(
            write=_spell_effort,
            shown="`thinking_config`",
            wire_names=("thinking_config", "thinking_level", "thinking_budget", "thinking"),
        ),
        "response_format": Spelling(write=_spell_format, shown="`response_mime_type`, `response_json_schema`"),
        "logprobs": Spelling("response_logprobs"),
        "top_logprobs": Spelling("logprobs"),
        "n": Spelling("candidate_count", wire_names=("candidates", "candidate")),
        "service_tier": Spelling("service_tier", _spell_tier),
    },
    own=VENDOR_PARAMETERS["gemini"],
    aliases={
        "max_output_tokens": "max_tokens",
        "stop_sequences": "stop",
        "candidate_count": "n",
        "response_logprobs": "logprobs",
    },
    effort_fields={"thinking_config": ("thinking_budget", "thinking_level", "thinkingBudget", "thinkingLevel")},
    levels=("minimal", "low", "medium", "high"),
    normalize=_normalize,
)
