"""Neutral parameters at OpenAI and at servers that speak like it: they are OpenAI's own, where a server knows them.

What a server calls otherwise, or lacks, stands in its `Quirks`; how it is told to think, and by which name it knows the
limit of tokens, is written with the rest of the request.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from modelhub.providers.openai.apis import CHAT_PARAMETERS, MIN_OUTPUT_TOKENS, RESPONSES_PARAMETERS, ApiName, choose_api
from modelhub.providers.openai.responses_request import SPELLINGS
from modelhub.providers.openai.servers import Quirks
from modelhub.providers.parameters import (
    NEUTRAL_PARAMETERS,
    Draft,
    Spelling,
    Vocabulary,
    ask_in_words,
    schema_of_format,
)
from modelhub.providers.vendor_parameters import VENDOR_PARAMETERS

__all__ = ["make_vocabulary"]

_OFFICIAL = frozenset({"openai", "azure"})
_SWITCHES = frozenset({"chat_template_kwargs", "thinking"})
"""The ways of saying an effort that can only switch thinking on and off."""


def make_vocabulary(server: str, quirks: Quirks, api: ApiName) -> Vocabulary:
    """Return the parameters of *server*, which departs from OpenAI's as *quirks* say; *api* is which of its APIs."""
    own = VENDOR_PARAMETERS["openai"] | VENDOR_PARAMETERS["responses"]
    vendor = "OpenAI" if server in _OFFICIAL else server
    spell_format = partial(_spell_format, has_json_mode=quirks.structured == "json_object")
    special = {
        "max_tokens": Spelling(quirks.max_tokens or "max_tokens", _spell_max_tokens),
        "seed": Spelling(quirks.seed),
        "reasoning_effort": Spelling(
            "reasoning_effort",
            _spell_effort if quirks.thinking in _SWITCHES else None,
            "`reasoning.effort`" if quirks.thinking == "reasoning" else "",
            ("reasoning.effort", "reasoning", "thinking", "enable_thinking", "thinking_budget", "chat_template_kwargs"),
        ),
        "response_format": Spelling("response_format", None if quirks.structured == "json_schema" else spell_format),
    }
    spellings = {name: special.get(name) or Spelling(name) for name in NEUTRAL_PARAMETERS}
    lacks = {*quirks.lacks, *(("top_k",) if server in _OFFICIAL else ())}
    if api == "responses":
        vendor, lacks = "OpenAI's Responses API", lacks | CHAT_PARAMETERS
        own -= CHAT_PARAMETERS.intersection(NEUTRAL_PARAMETERS)
        spellings |= {name: replace(spellings[name], shown=f"`{key}`") for name, key in SPELLINGS.items()}
    return Vocabulary(
        vendor=vendor,
        spellings={name: spelling for name, spelling in spellings.items() if name not in lacks},
        own=own if server in _OFFICIAL else own | VENDOR_PARAMETERS["compatible"],
        aliases={"max_output_tokens": "max_tokens"},
        levels=quirks.efforts,
        knows_other_efforts=True,
        varying=CHAT_PARAMETERS | RESPONSES_PARAMETERS,
        adapt=partial(_adapt_to_api, api=api, is_official=server in _OFFICIAL),
    )


def _adapt_to_api(draft: Draft, *, api: ApiName, is_official: bool) -> None:
    """Leave out what only the other one of the two APIs takes, and raise a limit that is too low for Responses."""
    chosen = choose_api(draft.model_name, draft.request, draft.values) if api == "auto" else api
    if chosen == "chat":
        for name in RESPONSES_PARAMETERS.intersection(draft.values):
            draft.drop(name, "OpenAI's chat completions have no such parameter")
        return
    for name in CHAT_PARAMETERS.intersection(draft.values):
        draft.drop(name, "OpenAI's Responses API has no such parameter")
    limit = draft.values.get("max_tokens")
    if is_official and isinstance(limit, int) and 0 < limit < MIN_OUTPUT_TOKENS:
        draft.values["max_tokens"] = MIN_OUTPUT_TOKENS
        draft.round("max_tokens", limit, MIN_OUTPUT_TOKENS)


def _spell_max_tokens(limit: Any, draft: Draft) -> Mapping[str, Any]:
    """Return the limit by the name it was given by; a server that knows one name only is written that one."""
    given = draft.aliases.get("max_tokens", "max_tokens")
    return {"max_completion_tokens" if given == "max_completion_tokens" else "max_tokens": limit}


def _spell_effort(effort: Any, draft: Draft) -> Mapping[str, Any]:
    if effort != "none":
        draft.round("reasoning_effort", effort, "on")
    return {"reasoning_effort": effort}


def _spell_format(response_format: Any, draft: Draft, *, has_json_mode: bool) -> Mapping[str, Any]:
    """Ask in words, for a server that knows no schemas, and in its JSON mode if it has one."""
    if not has_json_mode or schema_of_format(response_format) is not None:
        ask_in_words(response_format, draft)
    return {"response_format": {"type": "json_object"}} if has_json_mode else {}
