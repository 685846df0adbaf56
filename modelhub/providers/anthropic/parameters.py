"""Neutral parameters as the Messages API spells them, and what it does not take together."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from modelhub.core.request import ChatRequest
from modelhub.providers.anthropic.schema import native_schema
from modelhub.providers.parameters import (
    EFFORT_BUDGETS,
    Draft,
    Spelling,
    Vocabulary,
    ask_in_words,
    make_limited_writer,
    schema_of_format,
)
from modelhub.providers.vendor_parameters import VENDOR_PARAMETERS

__all__ = ["VOCABULARY", "find_native_schema", "model_version"]

_VERSION = re.compile(r"claude-(?:[a-z]+-)?(\d{1,2})(?:[-.](\d{1,2}))?(?!\d)")
_MIN_BUDGET = 1024


def model_version(model_name: str) -> tuple[int, int]:
    """Return the generation in a Claude's name, such as (4, 5); (0, 0) for other names and for those without one."""
    match = _VERSION.search(model_name)
    return (int(match[1]), int(match[2] or 0)) if match else (0, 0)


def find_native_schema(model_name: str, schema: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return *schema* as the model takes it: Claudes from 4.5 on, as far as the name tells; None if it cannot."""
    return native_schema(schema) if model_version(model_name) >= (4, 5) else None


# -- thinking ----------------------------------------------------------------------------------------------------------


def _thinks_adaptively(model_name: str) -> bool:
    """Whether the model decides itself how much it thinks, by a level: from 4.6 on, and where it always thinks."""
    return model_version(model_name) >= (4, 6)


def _may_think(request: ChatRequest) -> bool:
    """Whether thinking goes with *request*: not with a tool that must be called, nor with a begun answer."""
    is_forced = request.tool_choice is not None and request.tool_choice.mode in ("required", "tool")
    return not is_forced and request.messages[-1].role != "assistant"


def _spell_effort(effort: Any, draft: Draft) -> Mapping[str, Any]:
    if effort == "none":
        # 4.7 and 4.8 do not think unless they are told to, and 4.7 refuses to be told not to.
        return {} if (4, 7) <= model_version(draft.model_name) < (5, 0) else {"thinking": {"type": "disabled"}}
    if _thinks_adaptively(draft.model_name):
        if _may_think(draft.request):
            return {"thinking": {"type": "adaptive"}, "output_config": {"effort": effort}}
        level = "high" if effort in ("xhigh", "max") else effort  # higher ones are refused without thinking
        draft.round("reasoning_effort", effort, level)
        return {"output_config": {"effort": level}}
    wanted = EFFORT_BUDGETS.get(effort, _MIN_BUDGET)
    budget = min(wanted, max(_MIN_BUDGET, draft.values["max_tokens"] // 2))
    if budget < wanted:
        draft.round("reasoning_effort", effort, f"{budget} tokens, of max_tokens")
    return {"thinking": {"type": "enabled", "budget_tokens": budget}}


def _adapt(draft: Draft) -> None:
    """Leave out what the API does not take beside other parameters."""
    values = draft.values
    effort, thinking = values.get("reasoning_effort"), values.get("thinking")
    if effort not in (None, "none") and not _thinks_adaptively(draft.model_name):
        if not _may_think(draft.request):
            draft.drop("reasoning_effort", "it cannot think while a tool is forced, or an answer is begun")
        elif values.get("max_tokens", 0) <= _MIN_BUDGET:
            draft.drop(
                "reasoning_effort", f"`max_tokens` leaves no room for the {_MIN_BUDGET} tokens it needs to think"
            )
    if isinstance(thinking, Mapping):
        is_thinking = thinking.get("type") in ("enabled", "adaptive")
    else:
        is_thinking = values.get("reasoning_effort") not in (None, "none") and _may_think(draft.request)
    if is_thinking:
        for name in ("temperature", "top_p", "top_k"):
            draft.drop(name, "not while it thinks")
    elif "temperature" in values and model_version(draft.model_name) >= (4, 1):
        draft.drop("top_p", "not beside `temperature`")


# -- the others --------------------------------------------------------------------------------------------------------


def _spell_stop(stop: Any, draft: Draft) -> Mapping[str, Any]:
    """Return `stop_sequences`; the API refuses those of white space alone."""
    texts = [stop] if isinstance(stop, str) else list(stop)
    taken = [text for text in texts if not isinstance(text, str) or text.strip()]
    if len(taken) < len(texts):
        draft.round("stop", "white space alone", "not sent")
    return {"stop_sequences": taken} if taken else {}


def _spell_parallel(parallel: Any, draft: Draft) -> Mapping[str, Any]:
    if parallel or not draft.request.tools:
        return {}
    return {"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}}


def _spell_format(response_format: Any, draft: Draft) -> Mapping[str, Any]:
    """Return the schema natively, where model and schema allow it; else it is asked for in words."""
    schema = schema_of_format(response_format)
    if schema is not None and (native := find_native_schema(draft.model_name, schema)) is not None:
        return {"output_config": {"format": {"type": "json_schema", "schema": native}}}
    ask_in_words(response_format, draft)
    return {}


_TIERS = {"auto": "auto", "default": "standard_only", "priority": "auto", "standard_only": "standard_only"}


def _spell_tier(tier: Any, draft: Draft) -> Mapping[str, Any]:
    sent = _TIERS.get(tier, "auto")
    draft.round("service_tier", tier, sent)
    return {"service_tier": sent}


VOCABULARY = Vocabulary(
    vendor="Anthropic",
    spellings={
        "max_tokens": Spelling("max_tokens"),
        "temperature": Spelling("temperature", make_limited_writer("temperature", 1.0)),
        "top_p": Spelling("top_p"),
        "top_k": Spelling("top_k"),
        "stop": Spelling("stop_sequences", _spell_stop),
        "reasoning_effort": Spelling(
            write=_spell_effort,
            shown="`thinking`, `output_config.effort`",
            wire_names=("thinking", "output_config.effort", "budget_tokens", "output_config"),
        ),
        "parallel_tool_calls": Spelling(
            write=_spell_parallel,
            shown="`tool_choice.disable_parallel_tool_use`",
            wire_names=("disable_parallel_tool_use",),
        ),
        "response_format": Spelling(write=_spell_format, shown="`output_config.format`, or in words"),
        "user": Spelling("metadata.user_id", wire_names=("metadata",)),
        "service_tier": Spelling("service_tier", _spell_tier),
    },
    own=VENDOR_PARAMETERS["anthropic"],
    aliases={"stop_sequences": "stop"},
    effort_fields={"thinking": ("type", "budget_tokens"), "output_config": ("effort",)},
    adapt=_adapt,
)
