"""What known models refuse: a small table by their names, each row with where it is said.

It saves the first refusal; what it does not know is learned from one. `takes:` of an entry goes before it.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, NamedTuple

from modelhub.options import EFFORTS, Effort

__all__ = ["KNOWN_MODELS", "KnownModel", "ModelFacts", "find_facts"]


class KnownModel(NamedTuple):
    """Models whose names hold *pattern* (a regular expression): what they refuse, and the levels of effort they know.

    With *takes_without_effort* they take what is listed while they do not think: where `reasoning_effort` is among
    those levels (None stands for a call that does not say it).
    """

    pattern: str
    source: str
    refuses: tuple[str, ...] = ()
    efforts: tuple[Effort, ...] | None = None
    takes_without_effort: tuple[Effort | None, ...] = ()


_NAME_START: Final = r"(?:^|[/:.@])"
_SAMPLING: Final = ("temperature", "top_p")
_ALL_SAMPLING: Final = (*_SAMPLING, "presence_penalty", "frequency_penalty", "logprobs", "top_logprobs")
_OPENAI_GUIDE: Final = "developers.openai.com/api/docs/guides/reasoning"
_OPENAI_MODELS: Final = "developers.openai.com/api/docs/models, one page a model"
_CLAUDE_GUIDE: Final = "platform.claude.com/docs/en/about-claude/models/migration-guide"
_CLAUDE_EFFORT: Final = "platform.claude.com/docs/en/build-with-claude/effort"
_GEMINI_GUIDE: Final = "ai.google.dev/gemini-api/docs/thinking"

KNOWN_MODELS: Final = (
    # OpenAI. Reasoning models have fixed sampling; from 5.1 on it is free while they do not reason.
    KnownModel(
        rf"{_NAME_START}o[134](?:-mini|-pro)?(?![a-z0-9]|-preview|-deep)",
        f"{_OPENAI_GUIDE}; `stop`: chat completions' reference; the API: 'parallel_tool_calls' is not supported",
        (*_ALL_SAMPLING, "stop", "parallel_tool_calls"),
        ("low", "medium", "high"),
    ),
    KnownModel(rf"{_NAME_START}gpt-5-pro", _OPENAI_MODELS, (), ("high",)),
    KnownModel(
        rf"{_NAME_START}gpt-5(?:-mini|-nano|-pro|-codex)?(?![.a-z]|-chat|-search)",
        f"{_OPENAI_GUIDE}; the API: 'stop' is not supported with this model",
        (*_ALL_SAMPLING, "stop"),
        ("minimal", "low", "medium", "high"),
    ),
    KnownModel(rf"{_NAME_START}gpt-5\.\d-pro", _OPENAI_MODELS, _SAMPLING, ("medium", "high", "xhigh")),
    KnownModel(rf"{_NAME_START}gpt-5\.1-codex-max", _OPENAI_MODELS, (), ("low", "medium", "high", "xhigh")),
    KnownModel(rf"{_NAME_START}gpt-5\.1-codex", _OPENAI_MODELS, (), ("low", "medium", "high")),
    KnownModel(rf"{_NAME_START}gpt-5\.[2-9]-codex", _OPENAI_MODELS, (), ("low", "medium", "high", "xhigh")),
    KnownModel(rf"{_NAME_START}gpt-5\.1(?!\d)", _OPENAI_MODELS, (), ("none", "low", "medium", "high")),
    KnownModel(rf"{_NAME_START}gpt-5\.[2-5](?!\d)", _OPENAI_MODELS, (), ("none", "low", "medium", "high", "xhigh")),
    KnownModel(
        rf"{_NAME_START}gpt-5\.[6-9](?!\d)", _OPENAI_MODELS, (), ("none", "low", "medium", "high", "xhigh", "max")
    ),
    KnownModel(
        rf"{_NAME_START}gpt-5\.[1-4](?!\d)(?!-chat)",
        "developers.openai.com/api/docs/guides/latest-model, parameter compatibility",
        (*_SAMPLING, "logprobs", "top_logprobs"),
        takes_without_effort=("none", None),
    ),
    KnownModel(
        rf"{_NAME_START}gpt-5\.[5-9](?!\d)(?!-chat)",
        "developers.openai.com/api/docs/guides/latest-model, parameter compatibility",
        (*_SAMPLING, "logprobs", "top_logprobs"),
        takes_without_effort=("none",),
    ),
    KnownModel(
        rf"{_NAME_START}(?:gpt-[34]|chatgpt-|gpt-5(?:\.\d+)?-chat)",
        f"{_OPENAI_GUIDE}: these do not reason",
        ("reasoning_effort",),
    ),
    # Anthropic: sampling is gone from 4.7 on, also behind gateways that speak another dialect.
    KnownModel(
        r"claude-(?:[a-z]+-)?(?:4[-.](?:[7-9]|1\d)|[5-9]|[1-9]\d)(?!\d)",
        f"{_CLAUDE_GUIDE}; the API: `temperature` is deprecated for this model",
        (*_SAMPLING, "top_k"),
    ),
    KnownModel(
        r"claude-(?:2|instant|3-(?:5-)?(?:opus|sonnet|haiku))",
        "platform.claude.com/docs/en/build-with-claude/extended-thinking: these do not think",
        ("reasoning_effort",),
    ),
    KnownModel(r"claude-(?:fable|mythos)", _CLAUDE_EFFORT, (), ("low", "medium", "high", "xhigh", "max")),
    KnownModel(r"claude-(?:[a-z]+-)?4[-.]6", _CLAUDE_EFFORT, (), ("none", "low", "medium", "high", "max")),
    KnownModel(
        r"claude-(?:[a-z]+-)?(?:4[-.](?:[7-9]|1\d)|[5-9]|[1-9]\d)(?!\d)",
        _CLAUDE_EFFORT,
        (),
        ("none", "low", "medium", "high", "xhigh", "max"),
    ),
    # Google: levels from generation 3 on, budgets in 2.5, nothing before.
    KnownModel(r"gemini-2\.5", _GEMINI_GUIDE, (), EFFORTS),
    KnownModel(r"gemini-3-pro", _GEMINI_GUIDE, (), ("low", "high")),
    KnownModel(r"gemini-3\.\d+-pro|gemini-3\.7-flash(?!-lite)", _GEMINI_GUIDE, (), ("low", "medium", "high")),
    KnownModel(r"gemini-(?:[3-9]|\d\d)", _GEMINI_GUIDE, (), ("minimal", "low", "medium", "high")),
    KnownModel(
        r"gemini-(?:1|2\.0)|gemma-?[123]|learnlm", f"{_GEMINI_GUIDE}: these do not think", ("reasoning_effort",)
    ),
    # xAI
    KnownModel(
        r"grok-4(?![.\d])",
        "docs.x.ai, models: grok-4 takes neither penalties nor `stop` nor an effort",
        ("presence_penalty", "frequency_penalty", "stop", "reasoning_effort"),
    ),
    # OpenAI's open weights, wherever they run
    KnownModel(r"gpt-oss", "huggingface.co/openai/gpt-oss-120b: reasoning levels", (), ("low", "medium", "high")),
)
"""The table; of several rows that fit, each refuses its own, and the first with levels says the levels."""


class ModelFacts(NamedTuple):
    """What is known of one model: what it refuses and when not, its levels of effort if they are known."""

    refuses: dict[str, tuple[Effort | None, ...]]
    efforts: tuple[Effort, ...] | None


@lru_cache(maxsize=256)
def find_facts(model_name: str) -> ModelFacts:
    """Return what the table knows of the model *model_name*."""
    name = model_name.lower()
    rows = [row for row in KNOWN_MODELS if re.search(row.pattern, name)]
    refuses = {parameter: row.takes_without_effort for row in rows for parameter in row.refuses}
    return ModelFacts(refuses, next((row.efforts for row in rows if row.efforts is not None), None))
