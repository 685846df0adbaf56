"""What one model is sent of the parameters of a call: the file's and the call's, in its vendor's names.

What the model refuses is left out from then on: a refusal says which by a field, or in the words of its message.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple

from modelhub.core.errors import CallError, RequestRefused, UnsupportedFeature
from modelhub.core.request import ChatRequest
from modelhub.messages.blocks import Message, TextBlock
from modelhub.options import EFFORTS, Effort
from modelhub.providers.known_models import ModelFacts, find_facts
from modelhub.providers.parameters import (
    NEUTRAL_PARAMETERS,
    NEVER_DROPPED,
    Draft,
    Vocabulary,
    camel_case,
    merge_objects,
    round_effort,
    snake_case,
)
from modelhub.providers.vendor_parameters import owner_of

__all__ = [
    "ParameterResolver",
    "RequestTrial",
    "ResolvedParameters",
    "add_parameters",
    "with_resolved",
]

Layers = tuple[Mapping[str, Any], ...]


class ResolvedParameters(NamedTuple):
    """What is sent: `values` by the vendor's names. `names` are the parameters of the call in it, by neutral names."""

    values: Mapping[str, Any]
    names: tuple[str, ...]
    effort: Any
    dropped: dict[str, str]
    rounded: dict[str, str]
    instruction: str | None


class RequestTrial(NamedTuple):
    """A request as it would be sent: its parameters, the vocabulary they are from, and the body, as far as it is known.

    `sent` and `vocabulary` are None for a provider that reads the parameters of a call as they are.
    """

    sent: ResolvedParameters | None
    vocabulary: Vocabulary | None
    body: Mapping[str, Any]


def with_resolved(request: ChatRequest, sent: ResolvedParameters) -> ChatRequest:
    """Return *request* with the parameters that are *sent*: as its options, or in words after the system's messages."""
    if sent.instruction is not None:
        messages = request.messages
        first = next((index for index, message in enumerate(messages) if message.role != "system"), len(messages))
        instruction = Message("system", (TextBlock(sent.instruction),))
        request = request.replace(messages=(*messages[:first], instruction, *messages[first:]))
    return request.replace(options=sent.values) if sent.values or request.options else request


def add_parameters(request: ChatRequest, ask: Mapping[str, Any], generate_kwargs: Mapping[str, Any]) -> ChatRequest:
    """Return *request* with those of *ask* in its options that neither it nor *generate_kwargs* has."""
    added = {name: value for name, value in ask.items() if name not in generate_kwargs}
    return request.replace(options={**added, **request.options})


class ParameterResolver:
    """Resolves the parameters of every call to one model.

    *layers* are the parameters of every request, the lowest first: the constructor's, the file's `ask`, and
    `generate_kwargs`. *takes* is what the file says of the model; *unsupported* what becomes of what it does not take.
    """

    def __init__(
        self,
        model_name: str,
        vocabulary: Vocabulary,
        layers: Layers,
        takes: Mapping[str, Any],
        unsupported: Literal["drop", "refuse"],
    ) -> None:
        self._model_name = model_name
        self._vocabulary = vocabulary
        self._layers = tuple(layer for layer in layers if layer)
        self._takes = takes
        self._unsupported = unsupported
        self._facts: ModelFacts = find_facts(model_name)
        # Most parameters only have another name, or not even that.
        self._keys = {name: spelling.key for name, spelling in vocabulary.spellings.items() if spelling.is_plain}
        self._learned: dict[str, bool] = {}
        """What the model was found not to take, and whether that is so beside tools only."""
        self._learned_names: dict[str, str] = {}
        self._learned_levels: tuple[Effort, ...] | None = None
        self._is_varied = any(not vocabulary.varying.isdisjoint(layer) for layer in layers)
        self._common: dict[tuple[bool, bool], ResolvedParameters] = {}
        self._reported: set[tuple[str, bool]] = set()

    def resolve(self, request: ChatRequest) -> ResolvedParameters:
        """Return what is sent for *request*.

        Raises UnsupportedFeature for what the model lacks and must not be left out.
        """
        if request.options or self._is_varied:
            return self._resolve(request)
        # Only the file says something, which is the same for all calls of a kind.
        kind = bool(request.tools), request.structured_model is not None
        if (common := self._common.get(kind)) is None:
            common = self._common[kind] = self._resolve(request)
        return common

    def _resolve(self, request: ChatRequest) -> ResolvedParameters:
        vocabulary = self._vocabulary
        levels = self._takes.get("reasoning_effort")
        listed = tuple(levels) if isinstance(levels, list) else ()
        efforts = listed or self._learned_levels or self._facts.efforts or vocabulary.levels
        draft = Draft(self._model_name, request, efforts)
        for layer in (*self._layers, request.options):
            draft.add_layer(layer, vocabulary)
        draft.aliases |= self._learned_names
        self._leave_out(draft)
        self._round_effort(draft)
        if vocabulary.adapt is not None:
            vocabulary.adapt(draft)
        if self._unsupported == "refuse" and (draft.dropped or draft.rounded):
            names: dict[str, list[str]] = {}
            for name, reason in (*draft.dropped.items(), *draft.rounded.items()):
                names.setdefault(reason, []).append(f"`{name}`")
            changes = "; ".join(f"{', '.join(listed)} ({reason})" for reason, listed in names.items())
            raise UnsupportedFeature(f"{self._model_name} does not take {changes}")
        return ResolvedParameters(
            self._spell(draft),
            tuple(draft.values),
            draft.values.get("reasoning_effort"),
            draft.dropped,
            draft.rounded,
            draft.instruction,
        )

    def _spell(self, draft: Draft) -> Mapping[str, Any]:
        """Return the parameters of *draft* by the vendor's names; its own go before what neutral ones become."""
        neutral: dict[str, Any] = {}
        own: dict[str, Any] = {}
        for name, value in draft.values.items():
            if (key := self._keys.get(name)) is not None:
                neutral[key] = value
            elif (spelling := self._vocabulary.spellings.get(name)) is None:
                own[name] = value
            else:
                neutral = merge_objects(neutral, spelling.spell(value, draft))
        return merge_objects(neutral, own) if own else neutral

    # -- what the model takes ------------------------------------------------------------------------------------------

    def _leave_out(self, draft: Draft) -> None:
        request = draft.request
        for name in tuple(draft.values):
            value = draft.values[name]
            if value is None or (name == "parallel_tool_calls" and not request.tools):
                del draft.values[name]  # it asks for nothing here
            elif name == "response_format" and request.structured_model is not None:
                del draft.values[name]  # the class or the schema says more
            elif name == "response_format" and name not in self._keys and _is_text_format(value):
                del draft.values[name]  # text comes without asking; only OpenAI's own form can say it
            elif (reason := self._reason_against(name, draft)) is not None:
                draft.drop(name, reason)

    def _reason_against(self, name: str, draft: Draft | None = None) -> str | None:
        """Return why the parameter *name* is not for this model; None if it is.

        Without a *draft*, a reason that does not hold for every request is one too.
        """
        vocabulary, takes = self._vocabulary, self._takes.get(name)
        if takes is not None:
            return "`takes` says so" if takes is False or takes == [] else None
        if name in self._learned and (draft is None or draft.request.tools or not self._learned[name]):
            return "the model refused it"
        if (exceptions := self._facts.refuses.get(name)) is not None:
            if not exceptions:
                return f"{self._model_name} does not take it"
            if draft is None:
                return "only without reasoning"
            effort = draft.values.get("reasoning_effort")
            if effort in _LEVELS:
                effort = round_effort(effort, draft.efforts)
            return None if effort in exceptions else f"{self._model_name} takes it only without reasoning"
        if name in vocabulary.spellings or name in vocabulary.own:
            return None
        if name in NEUTRAL_PARAMETERS:
            return f"{vocabulary.vendor} has no such parameter"
        owner = owner_of(name)
        return None if owner is None else f"a parameter of {owner}"

    def _round_effort(self, draft: Draft) -> None:
        effort = draft.values.get("reasoning_effort")
        if effort not in _LEVELS:
            if not self._vocabulary.knows_other_efforts:
                draft.drop("reasoning_effort", f"{self._vocabulary.vendor} has no such level")
            return
        sent = draft.values["reasoning_effort"] = round_effort(effort, draft.efforts)
        draft.round("reasoning_effort", effort, sent)

    def unsupported(self) -> Iterator[tuple[str, str]]:
        """Yield every neutral parameter that is left out for this model, and why."""
        for name in NEUTRAL_PARAMETERS:
            if (reason := self._reason_against(name)) is not None:
                yield name, reason

    def new_changes(self, sent: ResolvedParameters) -> Iterator[tuple[str, str, bool]]:
        """Yield each parameter of *sent* that is changed for the first time, why or how, and whether it is dropped."""
        for changes, is_dropped in ((sent.dropped, True), (sent.rounded, False)):
            for name, reason in changes.items():
                if (name, is_dropped) not in self._reported:
                    self._reported.add((name, is_dropped))
                    yield name, reason, is_dropped

    # -- what is learned -----------------------------------------------------------------------------------------------

    def learn(self, failure: CallError, sent: ResolvedParameters, *, has_tools: bool) -> str | None:
        """Return the parameter of *sent* that the vendor refuses in *failure*, if it refuses one; remember it.

        Where the request *has_tools* and the refusal speaks of them, it holds for such requests only.

        A level of effort that the refusal names others for is rounded to them from now on.
        """
        is_refusal = type(failure) in (RequestRefused, UnsupportedFeature)
        if self._unsupported == "refuse" or not is_refusal or failure.status not in _REFUSING_STATUSES:
            return None
        candidates = {
            name: self._vocabulary.wire_names(name)
            for name in sent.names
            if name not in NEVER_DROPPED and self._takes.get(name) is not True
        }
        message = str(failure)
        name = _find_refused(message, failure.parameter, candidates)
        if name is None:
            return None
        levels = _find_levels(message) if name == "reasoning_effort" else ()
        if levels and sent.effort not in levels and levels != ("none",):
            self._learned_levels = levels
        elif name == "max_tokens" and name not in self._learned_names and "Use 'max_completion_tokens'" in message:
            self._learned_names[name] = "max_completion_tokens"
        else:
            self._learned[name] = has_tools and "tool" in message.lower() and self._learned.get(name, True)
        self._common.clear()
        return name


def _is_text_format(response_format: Any) -> bool:
    return isinstance(response_format, Mapping) and response_format.get("type") == "text"


_LEVELS = frozenset(EFFORTS)
_REFUSING_STATUSES = frozenset({None, 400, 404, 405, 415, 422, 500, 501})
"""The statuses at which a parameter may be refused; None is inside an answer, or before anything is sent."""


# -- what a refusal names ----------------------------------------------------------------------------------------------

# Only refusals of a parameter as such count: one of a value (a temperature of 5) must not take the parameter away from
# every later call.

_NOT_TAKEN: Final = re.compile(
    r"unsupported (parameter|value|param|field|argument)"
    r"|\b(is|are|was|were) ?(not|n[o']t) (currently |yet )?(supported|allowed|permitted|enabled|available|accepted)"
    r"|\bnot supported\b|\bunsupported\b"
    r"|\b(does|do|did) ?(not|n['\u2019]t) (support|accept|allow|take)"
    r"|(extra|additional) (inputs|fields|properties|parameters) (is|are) not (permitted|allowed|supported)"
    r"|unrecognized|unknown (parameter|field|name|argument|key)|unexpected (parameter|field|keyword|argument|propert)"
    r"|no such (parameter|field)|is no parameter|\bdeprecated\b|cannot (both )?be (specified|used|set|combined)"
    r"|only the default|only \S{1,20} is (allowed|supported|accepted)|only (supports?|available|allowed|works)\b"
    r"|invalid think value|may only be set|must be (unset|omitted|removed)|incompatible|\bonly one\b"
    r"|must be 1(?![\w.])(?! (or|to|and)\b)|(restricted|must be set) to (true|false)"
)
"""How servers say that a parameter is not taken, in lower case."""
_PLAIN_WORDS: Final = frozenset({"n", "stop", "user", "seed", "format", "options", "think", "store", "effort"})
"""Names that are words of any sentence, so that they count only where they are marked as names."""
_LEVELS_LIST: Final = re.compile(
    r"(?:(?:supported|allowed|valid|accepted|possible) (?:values|levels|options)[^:.]{0,60}:?"
    r"|(?:must be one of|should be|expected one of):?) (.{1,200})"
)
_ABOUT_SCHEMA: Final = re.compile(r"\bschema\b|in context=\(|\btools?(\[\d|\.\d)")
"""Refusals of a schema or a tool, which may have properties of any name."""
_BEFORE_NAME: Final = (
    r"(?:parameters?|arguments?|arguments? supplied|fields?|names?|keys?|inputs?|unrecognized|unsupported)"
)


def _find_refused(message: str, field: str | None, candidates: Mapping[str, Sequence[str]]) -> str | None:
    """Return the one of *candidates* that a refusal with *message* names as not taken, or None.

    *candidates* are the parameters that were sent, each with the names it has on the wire; *field* is what the
    refusal gives as the parameter at fault.
    """
    text = message.lower()
    if _NOT_TAKEN.search(text) is None and not _find_levels(message):
        return None
    path = snake_case(field or "")
    for suffix in (path, path.rpartition(".")[2]) if path else ():
        for name, wire_names in candidates.items():
            if any(suffix == wire or suffix.startswith(f"{wire}.") for wire in wire_names):
                return name
    if _ABOUT_SCHEMA.search(text) is not None:
        return None
    places = ((place, name) for name, wire in candidates.items() for place in _find_places(text, wire))
    return min(places, default=(0, None))[1]


def _find_places(text: str, wire_names: Sequence[str]) -> Iterator[int]:
    for wire in wire_names:
        for spelled in {wire.lower(), camel_case(wire).lower(), wire.rpartition(".")[2].lower()}:
            name = re.escape(spelled)
            if spelled in _PLAIN_WORDS:
                pattern = (
                    rf"[`'\"]{name}[`'\"]|(?:^|: ){name}: |\b{_BEFORE_NAME}:? {name}\b|: {name}\.?$"
                    rf"|\b{name} (?:parameter|argument|field|option|value)\b|\bgeneration_?config\.{name}\b"
                )
            else:
                pattern = rf"(?:(?<![\w.])|\bgeneration_?config\.){name}(?!\w)"
            if (match := re.search(pattern, text)) is not None:
                yield match.start()


def _find_levels(message: str) -> tuple[Effort, ...]:
    """Return the levels of effort that a refusal lists as those it knows, in their order."""
    match = _LEVELS_LIST.search(message.lower())
    words = set(re.findall(r"[a-z]+", match[1])) if match is not None else set[str]()
    return tuple(level for level in EFFORTS if level in words)
