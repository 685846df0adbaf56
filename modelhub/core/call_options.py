"""The keywords of a call: those that modelhub itself obeys, and those that are parameters for the model.

The parameters that every vendor is sent by the same name are those of `ask:` in the file, and their values are checked
here as they are there, before any vendor is asked. Only what some vendor takes in its own form is allowed beyond that.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from pydantic import SecretStr
from pydantic_core import PydanticCustomError

from modelhub.core.errors import InvalidRequest
from modelhub.messages.conversation import STORED_CONVERSATIONS
from modelhub.messages.sanitize import check_options
from modelhub.options import EFFORTS, OWN_EFFORTS, AskOptions, parse_duration

__all__ = [
    "FOREIGN_KEYWORDS",
    "NO_KEYS",
    "NO_TAGS",
    "CallOptions",
    "Tags",
    "as_seconds",
    "as_tags",
    "check_keywords",
    "parse_call_options",
]

Tags = Mapping[str, str]
NO_TAGS: Tags = MappingProxyType({})
NO_KEYS: Mapping[str, SecretStr] = MappingProxyType({})


class CallOptions(NamedTuple):
    """What the keywords of one call say. Parsed once, when the call is made; nothing reads the keywords after that.

    `stream` is None where the call leaves it to the model. `time_limit` is the call's `deadline`, in seconds from its
    start: None where the call leaves it to the chain, infinite where it wants none. `fallback` is False if only the
    first model may be asked. `parameters` are all other keywords: what the model is asked with.
    `keys` are the vendors' keys that come with the call, by their names in the configuration (`with_keys`).
    """

    stream: bool | None = None
    tags: Tags = NO_TAGS
    time_limit: float | None = None
    fallback: bool = True
    parameters: Mapping[str, Any] = MappingProxyType({})
    keys: Mapping[str, SecretStr] = NO_KEYS

    @property
    def continues_conversation(self) -> bool:
        """Whether the messages continue a conversation that the vendor stores."""
        return bool(self.parameters) and not self.parameters.keys().isdisjoint(STORED_CONVERSATIONS)


_DEFAULTS = CallOptions()
_NO_STREAM = CallOptions(stream=False)


def parse_call_options(keywords: dict[str, Any]) -> CallOptions:
    """Return what *keywords* say; the dict becomes the options' `parameters`.

    Raises InvalidRequest for a deadline that is no duration, tags that are no mapping, keywords that are misspelt or
    another library's, and parameters that no vendor takes or that cannot be sent.
    """
    if not keywords:
        return _DEFAULTS
    stream = keywords.pop("stream", None)
    if not keywords:  # as with most calls that have a keyword: no options of their own
        return _NO_STREAM if stream is False else CallOptions(stream)
    tags = as_tags(keywords.pop("tags", None))
    time_limit = None
    if "deadline" in keywords:
        deadline = keywords.pop("deadline")
        time_limit = math.inf if deadline is None else as_seconds(deadline)
    fallback = bool(keywords.pop("fallback", True))
    if keywords:
        check_keywords(keywords)
        check_options(keywords)
    return CallOptions(stream, tags, time_limit, fallback, keywords)


def as_tags(tags: Any) -> Tags:
    """Return *tags* as texts by name; what is None is left out. Raises InvalidRequest if it is no mapping."""
    if not tags:
        return {}
    if not isinstance(tags, Mapping):
        raise InvalidRequest(f"tags must be a mapping of names to texts, not {type(tags).__name__}")
    return {str(key): str(value) for key, value in tags.items() if value is not None}


def as_seconds(deadline: Any) -> float:
    """Return *deadline*, a number or text such as "5s", in seconds. Raises InvalidRequest for anything else."""
    try:
        duration: float = parse_duration(deadline)
    except PydanticCustomError as error:
        raise InvalidRequest(f"deadline: {error.message()}") from None
    return duration


# -- the values of parameters ------------------------------------------------------------------------------------------


class _Rule(NamedTuple):
    """What a value must be, in words, and what tells whether it is."""

    expected: str
    allows: Callable[[Any], bool]


def _number(least: float, most: float = math.inf, *, whole: bool = False, expected: str) -> _Rule:
    def allows(value: Any) -> bool:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return is_number and least <= value <= most and (not whole or value % 1 == 0)

    return _Rule(expected, allows)


def _is_stop(value: Any) -> bool:
    # DashScope knows tokens by their numbers too, one or several to a stop.
    return isinstance(value, str) or (
        isinstance(value, list | tuple) and all(isinstance(item, str | int | list) for item in value)
    )


_LIMIT = _number(1, whole=True, expected="a whole number over 0")
_PENALTY = _number(-2, 2, expected="a number from -2 to 2")
_TEXT = _Rule("text", lambda value: isinstance(value, str))
_RULES: Final[Mapping[str, _Rule]] = {
    "max_tokens": _LIMIT,
    "max_completion_tokens": _LIMIT,
    "temperature": _number(0, expected="a number from 0 on"),  # vLLM, llama.cpp and Ollama have no upper bound
    "top_p": _number(0, 1, expected="a number from 0 to 1"),
    "top_k": _number(-1, whole=True, expected="a whole number"),  # -1 is vLLM's "all"
    "stop": _Rule("text or a list of texts", _is_stop),
    "seed": _number(-math.inf, whole=True, expected="a whole number"),
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
    # A bool is an int, and Gemini has a number of alternatives by this name.
    "logprobs": _Rule("True or False", lambda value: isinstance(value, int) and value >= 0),
    "top_logprobs": _number(-1, whole=True, expected="a whole number"),  # -1 is vLLM's "all"
    "n": _number(1, whole=True, expected="a whole number over 0"),
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


# -- the names of keywords ---------------------------------------------------------------------------------------------

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
