"""Suggestions for unknown keys, missing keys and values of the wrong type."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

from pydantic import BaseModel

from modelhub.config.problems import format_choice, suggest_name
from modelhub.config.schema import VERSIONS, HubConfig, find_model_class, get_keys
from modelhub.core.call_options import FOREIGN_KEYWORDS
from modelhub.options import AskOptions

__all__ = ["find_misspelt_key", "suggest_missing_key", "suggest_key", "suggest_value"]

_SYNONYMS: dict[str, tuple[str, ...]] = {
    "model_name": ("model", "name", "model_id", "deployment"),
    "api_key": ("key", "apikey", "token", "secret", "auth", "secret_key"),
    "base_url": ("url", "api_base", "endpoint", "host", "base_http_api_url"),
    "provider": ("type", "kind", "vendor", "backend"),
    "client_args": ("client_kwargs", "client_options", "http_client"),
    "generate_kwargs": ("options", "params", "parameters", "generation_config", "model_kwargs"),
    "timeout": ("timeout_s", "request_timeout", "timeout_seconds"),
    "retry": ("max_retries", "num_retries", "retry_policy"),
    "limit": ("rate_limit", "rate_limits", "ratelimit"),
    "max_attempts": ("attempts", "max_retries", "retries", "max_tries"),
    "initial_wait": ("min_wait", "backoff", "base_delay", "initial_delay", "min_delay"),
    "max_wait": ("max_delay", "max_backoff"),
    "first_token": ("first", "read", "ttft"),
    "requests_per_minute": ("rpm",),
    "requests": ("rps", "rate", "rates"),
    "tokens_per_minute": ("tpm",),
    "input_tokens_per_minute": ("itpm",),
    "output_tokens_per_minute": ("otpm",),
    "concurrency": ("max_concurrency", "parallel", "max_parallel", "max_connections"),
    "models": ("model", "members", "order", "fallbacks", "providers"),
    "deadline": ("timeout", "total"),
    "limits": ("rate_limits", "pools"),
    "chains": ("fallback", "fallbacks", "routes"),
}
"""Names that other libraries use for each key."""

_MAX_UNKNOWN_KEYS = 100
"""How many unknown keys are searched for a misspelt one."""

_VENDOR_PARAMETERS = re.compile(
    "stop_sequences|max_(completion_|output_)?tokens|logit_bias|num_(predict|ctx)|thinking(_config|_budget)?"
)
"""Request parameters of vendors, which belong under `generate_kwargs`."""

_EXAMPLES = {
    "version": f"version: {VERSIONS[-1]}",
    "models": "models: {gpt: {provider: openai, model_name: gpt-5-mini}}",
    "provider": "provider: openai",
    "model_name": "model_name: gpt-5-mini",
    "arms": "arms: {gpt-a: 3, gpt-b: 1}",
}
_CHAIN_MODELS = "models: [gpt, claude]"


def suggest_key(name: str, cls: type[BaseModel]) -> str:
    """Return a hint for *name*, which is not a key of *cls*."""
    known = get_keys(cls)
    synonyms = [key for key, others in _SYNONYMS.items() if name in others and key in known]
    if synonyms:
        return f"did you mean {format_choice(synonyms[:1])}?"
    for other_number in (f"{name}s", name.removesuffix("s")):
        if other_number in known:
            return f"did you mean `{other_number}`?"
    owners = [
        key for key, info in known.items() if (inner := find_model_class(info.annotation)) and name in get_keys(inner)
    ]
    if name in AskOptions.model_fields and "ask" in known:
        owners = ["ask"]
    elif _VENDOR_PARAMETERS.fullmatch(name) and "generate_kwargs" in known:
        owners = ["generate_kwargs"]
    if owners:
        return f"it belongs under {format_choice(owners)}"
    if name in FOREIGN_KEYWORDS and "generate_kwargs" in known:
        return FOREIGN_KEYWORDS[name]
    hint = suggest_name(name, list(known))
    if "generate_kwargs" in known and "did you mean" not in hint:
        return f"{hint}; the vendor's own parameters go under `generate_kwargs`"
    return hint


def find_misspelt_key(name: str, keys: Iterable[str], cls: type[BaseModel]) -> str | None:
    """Return the one of *keys* that is probably a misspelling of *name*, or None."""
    known = get_keys(cls)
    unknown = islice((key for key in keys if key not in known), _MAX_UNKNOWN_KEYS)
    return next((key for key in unknown if suggest_key(key, cls) == f"did you mean `{name}`?"), None)


def suggest_missing_key(name: str, cls: type[BaseModel]) -> str:
    """Return a hint with an example line for the missing key *name* of *cls*."""
    if name == "models" and cls is not HubConfig:
        return f"add `{_CHAIN_MODELS}`"
    info = get_keys(cls).get(name)
    if name in _EXAMPLES:
        return f"add `{_EXAMPLES[name]}`"
    if info is not None and info.examples:
        return f"add `{name}: {info.examples[0]}`"
    numeric = info is not None and any(kind in f"{info.annotation}" for kind in ("int", "float", "Decimal"))
    return f"add `{name}: {'1' if numeric else '...'}`"


_MAPPING_EXAMPLES = {
    "ask": "{max_tokens: 2048, temperature: 0.2}",
    "breaker": "{failures: 5}",
    "client_args": "{max_connections: 100}",
    "generate_kwargs": "{temperature: 0.2}",
    "pricing": "{input: 1.25, output: 10}",
    "retry": "{max_attempts: 3}",
    "timeout": "{total: 30s}",
    "usage": "{ledger: usage.db}",
}
"""Example values of keys that hold a mapping."""


def suggest_value(key: str, kind: str, value: Any, context: Mapping[str, Any]) -> str:
    """Return a hint for *value* under *key*, by the error type *kind* and *context* of pydantic, or ""."""
    if kind in {"dict_type", "mapping_type", "model_type", "model_attributes_type"} and key in _MAPPING_EXAMPLES:
        return f"for example `{key}: {_MAPPING_EXAMPLES[key]}`"
    if kind == "string_type" and isinstance(value, bool | int | float):
        return "put it in quotes"
    if kind in {"literal_error", "enum"} and isinstance(value, str):
        hint = suggest_name(value, re.findall(r"'([^']*)'", f"{context.get('expected', '')}"))
        return hint if hint.startswith("did you mean") else ""
    if kind == "list_type" and isinstance(value, str):
        return f"did you mean `[{value}]`?" if re.fullmatch(r"[\w.-]{1,40}", value) else ""
    return ""
