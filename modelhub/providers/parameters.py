"""Parameters that mean the same for every model, and how a vendor's are made of them.

A call, a chain's and an entry's `ask:` and `generate_kwargs` may use OpenAI's names for any model. Each vendor has a
`Vocabulary`: how it spells every neutral name, which it lacks, and what goes together with what. A name that is the
vendor's own passes unchanged; one that is another vendor's, or that this model does not take, is left out, and the
attempt says so. Here is the one place where all of that is applied, before a provider writes its request.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final

from modelhub.core.errors import UnsupportedFeature
from modelhub.core.request import ChatRequest
from modelhub.options import EFFORTS, AskOptions, Effort
from modelhub.providers.structured_output import write_json_prompt

__all__ = [
    "ALIASES",
    "EFFORT_BUDGETS",
    "NEUTRAL_PARAMETERS",
    "NEVER_DROPPED",
    "Draft",
    "Spelling",
    "Vocabulary",
    "ask_in_words",
    "camel_case",
    "make_limited_writer",
    "make_list_writer",
    "merge_objects",
    "round_effort",
    "schema_of_format",
    "snake_case",
    "spread_object",
]

Json = dict[str, Any]

NEUTRAL_PARAMETERS: Final = tuple(AskOptions.model_fields)
"""The names that mean the same for every model."""
ALIASES: Final = MappingProxyType({"max_completion_tokens": "max_tokens"})
"""Other names of neutral parameters."""
NEVER_DROPPED: Final = frozenset(
    {
        *("response_format", "tools", "tool_choice", "functions", "function_call"),
        *("previous_response_id", "conversation", "prompt", "instructions", "system", "system_instruction"),
        *("cached_content",),
    }
)
"""What changes the meaning of the answer, or is part of the prompt: a model that does not take it is not asked."""
_NEUTRAL_VALUES: Final[Mapping[str, tuple[Any, ...]]] = {
    "n": (1,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "stop": ([], ()),
    "parallel_tool_calls": (True,),
    "response_format": ({"type": "text"},),
    "service_tier": ("auto",),
    "user": ("",),
    "reasoning_effort": ("default",),
}
"""Values that ask for nothing but what every model does without them: leaving them out is no loss."""
EFFORT_BUDGETS: Final[Mapping[Effort, int]] = {
    "minimal": 1024,
    "low": 2048,
    "medium": 8192,
    "high": 16_384,
    "xhigh": 32_768,
    "max": 65_536,
}
"""Tokens to think with, for vendors that want a number."""


def round_effort(effort: Effort, levels: Sequence[Effort]) -> Effort:
    """Return the one of *levels* nearest to *effort*; of two that are as near, the higher one.

    `none` and levels that think are never rounded to each other, as long as *levels* has any of the same kind.
    """
    if effort in levels:
        return effort
    same_kind = [level for level in levels if (level == "none") == (effort == "none")] or list(levels)
    position = EFFORTS.index(effort)
    return min(same_kind, key=lambda level: (abs(EFFORTS.index(level) - position), -EFFORTS.index(level)))


# -- how a vendor spells -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Spelling:
    """How a vendor spells one neutral parameter: under *key* (dots lead into objects), or as *write* says.

    *write* gets the value and the draft and returns the vendor's parameters; *shown* is what tables write of it.
    *wire_names* are further names by which a refusal may call it.
    """

    key: str = ""
    write: Callable[[Any, Draft], Mapping[str, Any]] | None = None
    shown: str = ""
    wire_names: tuple[str, ...] = ()

    @property
    def is_plain(self) -> bool:
        """Whether only the name is another, if anything."""
        return self.write is None and "." not in self.key

    def spell(self, value: Any, draft: Draft) -> Mapping[str, Any]:
        """Return the vendor's parameters for *value*."""
        if self.write is not None:
            return self.write(value, draft)
        *parents, name = self.key.split(".")
        written: Json = {name: value}
        for parent in reversed(parents):
            written = {parent: written}
        return written

    def describe(self) -> str:
        """Return how a table shows it."""
        return self.shown or f"`{self.key}`"


def make_limited_writer(name: str, most: float) -> Callable[[Any, Draft], Json]:
    """Return what writes the number *name*, which is at most *most*."""

    def write(value: Any, draft: Draft) -> Json:
        sent = min(value, most) if isinstance(value, int | float) else value
        draft.round(name, value, sent)
        return {name: sent}

    return write


def make_list_writer(name: str) -> Callable[[Any, Draft], Json]:
    """Return what writes the texts *name*, of which a single one may have been given as it is."""
    return lambda value, draft: {name: [value] if isinstance(value, str) else list(value)}  # noqa: ARG005


@dataclass(frozen=True)
class Vocabulary:
    """The parameters of one vendor's API.

    *spellings* are the neutral ones it takes, *aliases* its own names of the same things, *own* all its own names.
    *effort_fields* are the own parameters that say how much to think, each with the keys in it that do so (none if all
    of it does): the later of them and `reasoning_effort` counts. *levels* are the efforts that can be said.
    *normalize* writes a layer of parameters in one way, where the vendor knows several.
    *knows_other_efforts* tells whether servers may have words of their own for `reasoning_effort`.
    *adapt* looks at what goes together once everything is known; what becomes of the *varying* ones depends on more of
    a request than on whether it has tools and a structure.
    """

    vendor: str
    spellings: Mapping[str, Spelling]
    own: frozenset[str]
    aliases: Mapping[str, str] = field(default_factory=dict)
    effort_fields: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    levels: tuple[Effort, ...] = EFFORTS
    knows_other_efforts: bool = False
    normalize: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None
    adapt: Callable[[Draft], None] | None = None
    varying: frozenset[str] = frozenset({"reasoning_effort"})

    def canonical_name(self, name: str) -> str:
        """Return the neutral name of *name*, if it is another name of such a parameter."""
        return ALIASES.get(name) or self.aliases.get(name) or name

    def wire_names(self, name: str) -> tuple[str, ...]:
        """Return the names by which the vendor may call the parameter *name*."""
        spelling = self.spellings.get(name)
        if spelling is None:
            return (name,)
        aliases = (alias for alias, neutral in {**ALIASES, **self.aliases}.items() if neutral == name)
        return tuple(dict.fromkeys((spelling.key or name, name, *aliases, *spelling.wire_names)))


@dataclass(slots=True, eq=False)
class Draft:
    """The parameters of one request in the making, for a model that knows the levels *efforts*.

    `values` are by neutral names where there are such, else by the vendor's; `aliases` tells by which other name a
    neutral one was given. `dropped` and `rounded` are what the attempt will say; `instruction` is what must be said in
    words, because no parameter says it.
    """

    model_name: str
    request: ChatRequest
    efforts: Sequence[Effort]
    values: Json = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)
    rounded: dict[str, str] = field(default_factory=dict)
    instruction: str | None = None

    def drop(self, name: str, reason: str) -> None:
        """Leave the parameter *name* out; nothing is said of a value that asks for nothing.

        Raises UnsupportedFeature for one that is never left out.
        """
        value = self.values.pop(name, None)
        neutral_values = _NEUTRAL_VALUES.get(name, ())
        if value is None or any(type(value) is type(neutral) and value == neutral for neutral in neutral_values):
            return
        if name in NEVER_DROPPED:
            raise UnsupportedFeature(f"{self.model_name} does not take `{name}`: {reason}")
        self.dropped[name] = reason

    def round(self, name: str, asked: Any, sent: Any) -> None:
        """Note that *name* was given as *asked* and is sent as *sent*, if that is another."""
        if asked != sent:
            self.rounded[name] = f"{asked} -> {sent}"

    def add_layer(self, layer: Mapping[str, Any], vocabulary: Vocabulary) -> None:
        """Put *layer* over what is there: of one thing, whatever its names, the later word counts."""
        if vocabulary.normalize is not None:
            layer = vocabulary.normalize(layer)
        says_effort = layer.get("reasoning_effort") is not None
        for field_name, keys in vocabulary.effort_fields.items():
            if says_effort:
                before = self.values.pop(field_name, None)
                if keys and isinstance(before, Mapping) and not before.keys() <= set(keys):
                    self.values[field_name] = {key: item for key, item in before.items() if key not in keys}
            elif (value := layer.get(field_name)) is not None and (
                not keys or (isinstance(value, Mapping) and not value.keys().isdisjoint(keys))
            ):
                self.values.pop("reasoning_effort", None)
        for written, value in layer.items():
            name = vocabulary.canonical_name(written)
            self.values[name] = value
            if written != name:
                self.aliases[name] = written
            else:
                self.aliases.pop(name, None)


def schema_of_format(response_format: Any) -> Mapping[str, Any] | None:
    """Return the JSON Schema in *response_format*; None if it asks for any JSON object."""
    form = response_format.get("json_schema") if isinstance(response_format, Mapping) else None
    schema = form.get("schema") if isinstance(form, Mapping) else None
    return schema if isinstance(schema, Mapping) else None


def ask_in_words(response_format: Any, draft: Draft) -> None:
    """Have *draft* ask for the JSON of *response_format* in words, and say so."""
    draft.instruction = write_json_prompt(schema_of_format(response_format))
    draft.round("response_format", response_format["type"], "in words")


# -- names -------------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=256)
def snake_case(name: str) -> str:
    """Return *name*, such as `maxOutputTokens`, as `max_output_tokens`."""
    return name if name.islower() else re.sub(r"(?<=[a-z0-9])([A-Z])", lambda match: f"_{match[1].lower()}", name)


@lru_cache(maxsize=256)
def camel_case(name: str) -> str:
    """Return *name*, such as `max_output_tokens`, as `maxOutputTokens`."""
    return re.sub(r"(?<=[a-z0-9])_([a-z])", lambda match: match[1].upper(), name)


# -- objects -----------------------------------------------------------------------------------------------------------


def spread_object(layer: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return *layer* with what is in its object *name* in the place of it; what stands beside it goes before."""
    inner = layer.get(name)
    if not isinstance(inner, Mapping):
        return layer
    return {**inner, **{key: value for key, value in layer.items() if key != name}}


def merge_objects(lower: Mapping[str, Any], upper: Mapping[str, Any]) -> Json:
    """Return *upper* over *lower*; objects under one name are joined, key by key."""
    merged = dict(lower)
    for name, value in upper.items():
        before = merged.get(name)
        joined = isinstance(before, Mapping) and isinstance(value, Mapping)
        merged[name] = merge_objects(before, value) if joined else value  # type: ignore[arg-type]
    return merged
