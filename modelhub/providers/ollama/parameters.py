"""Neutral parameters as Ollama's `/api/chat` spells them; most are among its `options`, where `request` puts them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

from modelhub.providers.parameters import (
    Draft,
    Spelling,
    Vocabulary,
    make_list_writer,
    schema_of_format,
    spread_object,
)
from modelhub.providers.vendor_parameters import VENDOR_PARAMETERS

__all__ = ["VOCABULARY"]

_HAS_LEVELS = re.compile(r"gpt-oss")
"""Models that know levels of thinking; the others can switch it on and off."""
_PLAIN_OPTIONS = ("temperature", "top_p", "top_k", "seed", "presence_penalty", "frequency_penalty")


def _spell_effort(effort: Any, draft: Draft) -> Mapping[str, Any]:
    if _HAS_LEVELS.search(draft.model_name):
        return {"think": effort}
    if effort != "none":
        draft.round("reasoning_effort", effort, "on")
    return {"think": effort != "none"}


def _spell_format(response_format: Any, draft: Draft) -> Mapping[str, Any]:  # noqa: ARG001 - one form for all
    schema = schema_of_format(response_format)
    return {"format": "json" if schema is None else dict(schema)}


def _option(name: str) -> Spelling:
    return Spelling(name, shown=f"`options.{name}`", wire_names=(f"options.{name}",))


VOCABULARY = Vocabulary(
    vendor="Ollama",
    spellings={
        "max_tokens": _option("num_predict"),
        **{name: _option(name) for name in _PLAIN_OPTIONS},
        "stop": Spelling("stop", make_list_writer("stop"), shown="`options.stop`"),
        "reasoning_effort": Spelling(write=_spell_effort, shown="`think`", wire_names=("think", "thinking")),
        "response_format": Spelling(write=_spell_format, shown="`format`"),
        "logprobs": Spelling("logprobs"),
        "top_logprobs": Spelling("top_logprobs"),
    },
    own=VENDOR_PARAMETERS["ollama"],
    aliases={"num_predict": "max_tokens"},
    effort_fields={"think": (), "enable_thinking": ()},
    normalize=partial(spread_object, name="options"),
)
