"""The keywords of a call that are no words of modelhub's own: which names and values are surely a mistake.

The parameters that every vendor is sent by the same name are those of `ask:` in the file, and their values are checked
here as they are there, before any vendor is asked. Only what some vendor takes in its own form is allowed beyond that.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from functools import lru_cache
from typing import Any, Final, NamedTuple

from modelhub.core.errors import InvalidRequest
from modelhub.messages.sanitize import check_options
from modelhub.options import EFFORTS, OWN_EFFORTS, AskOptions

__all__ = ["FOREIGN_KEYWORDS", "check_keywords"]

# -- values ------------------------------------------------------------------------------------------------------------


class _Rule(NamedTuple):
    """What a value must be, in words, and what tells whether it is."""

    expected: str
    allows: Callable[[Any], bool]


def _number(least: float, most: float = float("inf"), *, expected: str) -> _Rule:
    return _Rule(
        expected,
        lambda value: isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most,
    )


def _whole(least: float, *, expected: str) -> _Rule:
    return _Rule(
        expected,
        lambda value: (
            isinstance(value, int | float) and not isinstance(value, bool) and value >= least and value % 1 == 0
        ),
    )


def _is_stop(value: Any) -> bool:
    # DashScope knows tokens by their numbers too, one or several to a stop.
    return isinstance(value, str) or (
        isinstance(value, list | tuple) and all(isinstance(item, str | int | list) for item in value)
    )


def _is_probability_choice(value: Any) -> bool:
    return isinstance(value, int) and value >= 0  # a bool is an int; Gemini has a number of alternatives by this name


_LIMIT = _whole(1, expected="a whole number over 0")
_PENALTY = _number(-2, 2, expected="a number from -2 to 2")
_TEXT = _Rule("text", lambda value: isinstance(value, str))
_RULES: Final[Mapping[str, _Rule]] = {
    "max_tokens": _LIMIT,
    "max_completion_tokens": _LIMIT,
    "temperature": _number(0, expected="a number from 0 on"),  # vLLM, llama.cpp and Ollama have no upper bound
    "top_p": _number(0, 1, expected="a number from 0 to 1"),
    "top_k": _whole(-1, expected="a whole number"),  # -1 is vLLM's "all"
    "stop": _Rule("text or a list of texts", _is_stop),
    "seed": _whole(float("-inf"), expected="a whole number"),
    "presence_penalty": _PENALTY,
    "frequency_penalty": _PENALTY,
    "reasoning_effort": _Rule(
        f"{', '.join(f'`{effort}`' for effort in EFFORTS[:-1])} or `{EFFORTS[-1]}`",
        lambda value: isinstance(value, str) and value in OWN_EFFORTS,
    ),
    "parallel_tool_calls": _Rule("True or False", lambda value: isinstance(value, bool)),
    "response_format": _Rule(
        'a dict such as {"type": "json_object"} (a class goes into `structured_model=`)',
        lambda value: isinstance(value, Mapping),
    ),
    "user": _TEXT,
    "logprobs": _Rule("True or False", _is_probability_choice),
    "top_logprobs": _whole(-1, expected="a whole number"),  # -1 is vLLM's "all"
    "n": _whole(1, expected="a whole number over 0"),
    "service_tier": _TEXT,
}

_SHOWN = re.compile(r"[\w. -]{1,20}")
"""Texts that a message may show: short ones, which are no keys."""


def _describe_mistake(name: str, value: Any, rule: _Rule) -> str:
    """Return what is wrong with *value* of the parameter *name*, which *rule* does not allow."""
    if isinstance(value, bool | int | float):
        shown = f"{value}"
    elif isinstance(value, str) and _SHOWN.fullmatch(value):
        shown = f"`{value}`"
    else:
        shown = type(value).__name__
    close = get_close_matches(str(value).lower()[:20], EFFORTS, 1) if name == "reasoning_effort" else []
    hint = f": did you mean `{close[0]}`?" if close else ""
    return f"{name}: expected {rule.expected}, got {shown}{hint}"


# -- names -------------------------------------------------------------------------------------------------------------

_OWN: Final = ("deadline", "fallback", "stream", "structured_model", "tags", "tool_choice", "tools")
"""Our own keywords, which no vendor is sent."""
_NEUTRAL: Final = tuple(AskOptions.model_fields)
_VENDORS: Final = frozenset(
    {
        *("logprob", "min_tokens", "min_p", "stop_sequences", "stream_options", "tool_config", "tool_stream", "top_a"),
        *("top_n", "max_new_tokens", "seed_value", "users"),
    }
)
"""Vendors' names that are near to ours and mean something else, or the same at that vendor."""
_KNOWN: Final = frozenset({*_OWN, *_NEUTRAL, *_VENDORS})
_NEAR_OWN, _NEAR_NEUTRAL = 0.8, 0.9
"""How like a name must be to be taken for a misspelt one: no vendor knows ours, but many have names like the others."""

_MODEL = "ask another model of the file with `hub.get(name)`"
_TIME = "write `deadline=20` (seconds) in the call, or `timeout: {total: 20s}` on the model in the file"
_RETRY = "set `retry: {max_attempts: 3}` on the model in the file"
_CHAIN = "list the models under `chains:` in the file, and ask the chain"
_KEY = "set `api_key` on the model in the file, or bring a key with `.with_keys(openai=...)`"
_ADDRESS = "set `base_url` on the model in the file"
_CLIENT = "set it on the model in the file"
_DROP = (
    "what a model does not take is left out by itself; `takes:` on the model in the file corrects what is known of it"
)
_CACHE = "answers are not stored; for the vendor's cache of prompts set `prompt_cache` on the model in the file"
_SCHEMA = "write `structured_model=`"
_LIMITS = "set `limit: {requests_per_minute: 60}` on the model in the file"
FOREIGN_KEYWORDS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("model", "model_id", "model_name"), _MODEL),
    **dict.fromkeys(("timeout", "request_timeout", "timeout_s", "timeout_seconds"), _TIME),
    "stream_timeout": "set `timeout: {first_token: 10s, idle: 20s}` on the model in the file",
    **dict.fromkeys(("retry", "retries", "max_retries", "num_retries", "retry_policy"), _RETRY),
    **dict.fromkeys(("fallbacks", "fallback_models", "context_window_fallbacks"), _CHAIN),
    **dict.fromkeys(("api_key", "api_keys"), _KEY),
    **dict.fromkeys(("base_url", "api_base"), _ADDRESS),
    **dict.fromkeys(("api_version", "api_type", "custom_llm_provider", "organization"), _CLIENT),
    **dict.fromkeys(("drop_params", "additional_drop_params", "allowed_openai_params"), _DROP),
    **dict.fromkeys(("cache", "caching"), _CACHE),
    **dict.fromkeys(("output_type", "response_model", "text_format"), _SCHEMA),
    **dict.fromkeys(("rpm", "tpm"), _LIMITS),
    "streaming": "write `stream=True`",
    "system_prompt": 'begin the messages with {"role": "system", "content": ...}',
}
"""Keywords that other libraries obey and no vendor's API has, each with what to write instead."""


def check_keywords(keywords: Mapping[str, Any]) -> None:
    """Check the names of *keywords*, and the values of those that mean the same for every vendor.

    Raises InvalidRequest, with what is expected or was probably meant, for a value that no vendor takes, for a misspelt
    name of ours or of a neutral parameter, and for a keyword of another library. Further names may be a vendor's.
    """
    for name, value in keywords.items():
        if (rule := _RULES.get(name)) is not None:
            if value is not None and not rule.allows(value):
                check_options({name: value})  # says more of what is no JSON at all
                raise InvalidRequest(_describe_mistake(name, value, rule))
        elif name not in _KNOWN and (hint := _find_hint(name)) is not None:
            raise InvalidRequest(f"there is no keyword `{name}`: {hint}")


@lru_cache(maxsize=1024)
def _find_hint(name: str) -> str | None:
    """Return what to write instead of *name*; None for a name that may be a vendor's."""
    if (hint := FOREIGN_KEYWORDS.get(name)) is not None:
        return hint
    if not name.islower():
        return None  # Gemini's names may be written so
    close = get_close_matches(name, _OWN, 1, _NEAR_OWN) or get_close_matches(name, _NEUTRAL, 1, _NEAR_NEUTRAL)
    return f"did you mean `{close[0]}`?" if close else None
