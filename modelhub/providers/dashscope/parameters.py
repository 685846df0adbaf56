"""Neutral parameters as DashScope's native API spells them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

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

__all__ = ["VOCABULARY"]

_ALWAYS_THINKS = re.compile(r"^qwq|^qvq|-thinking")


def _spell_effort(effort: Any, draft: Draft) -> Mapping[str, Any]:  # noqa: ARG001 - one form for all
    if effort == "none":
        return {"enable_thinking": False}
    budget = {} if effort == "max" else {"thinking_budget": EFFORT_BUDGETS[effort]}
    return {"enable_thinking": True, **budget}


def _spell_format(response_format: Any, draft: Draft) -> Mapping[str, Any]:
    """Return the JSON mode, which knows no schema and does not go with thinking: words say the rest."""
    switch, effort = draft.values.get("enable_thinking"), draft.values.get("reasoning_effort")
    is_thinking = effort not in (None, "none") if switch is None else switch is True
    if is_thinking or schema_of_format(response_format) is not None:
        ask_in_words(response_format, draft)
    return {} if is_thinking else {"response_format": {"type": "json_object"}}


def _adapt(draft: Draft) -> None:
    effort, choice = draft.values.get("reasoning_effort"), draft.request.tool_choice
    if effort == "none" and _ALWAYS_THINKS.search(draft.model_name):
        draft.values["reasoning_effort"] = "minimal"
        draft.round("reasoning_effort", effort, "minimal")
    elif effort not in (None, "none") and choice is not None and choice.mode == "tool":
        draft.drop("reasoning_effort", "no tool can be forced while it thinks")


VOCABULARY = Vocabulary(
    vendor="DashScope",
    spellings={
        **{
            name: Spelling(name)
            for name in (
                *("max_tokens", "top_p", "top_k", "stop", "seed", "presence_penalty", "parallel_tool_calls"),
                *("logprobs", "top_logprobs", "n"),
            )
        },
        "temperature": Spelling("temperature", make_limited_writer("temperature", 1.99)),  # the API wants less than 2
        "reasoning_effort": Spelling(
            write=_spell_effort,
            shown="`enable_thinking`, `thinking_budget`",
            wire_names=("enable_thinking", "thinking_budget", "thinking"),
        ),
        "response_format": Spelling("response_format", _spell_format),
    },
    own=VENDOR_PARAMETERS["dashscope"],
    effort_fields={"enable_thinking": (), "thinking_budget": ()},
    adapt=_adapt,
)
