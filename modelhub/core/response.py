"""What a model gives back: `ChatResponse`, `ChatUsage`, and the `Attempt`s it took.

All three are dicts whose declared keys are attributes too (`reply.content`, `reply["content"]`), so they copy, pickle,
compare and turn into JSON as dicts do. A value that costs something to build (the content of a snapshot, the parsed
arguments of a tool call) may be stored as `Lazy` and is built when it is first looked at.
"""

from __future__ import annotations

import copy as copying
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, ClassVar, Generic, Literal, Self
from uuid import uuid4

from typing_extensions import TypeVar

from modelhub.core.record import Lazy, LazyRecord, Record

__all__ = [
    "COUNTS",
    "Attempt",
    "Block",
    "ChatResponse",
    "ChatUsage",
    "FinishReason",
    "Lazy",
    "LazyRecord",
    "OutputT",
    "Record",
]

Block = dict[str, Any]
"""One piece of content, as the seed's API writes it: `{"type": "text", "text": ...}`, `thinking`, `tool_use`, ..."""

OutputT = TypeVar("OutputT", default=Any)
"""The class of a structured answer."""

FinishReason = Literal["stop", "length", "tool_calls", "content_filter", "refusal", "error"]


COUNTS = (
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "cache_write_1h_tokens",
    "reasoning_tokens",
)
"""What is counted of a call; the first two are totals, the others parts of them."""


class ChatUsage(LazyRecord):
    """What a call used.

    `input_tokens` and `output_tokens` are totals, the same for every vendor, and add up to the call's total;
    `cache_read_tokens` and `cache_write_tokens` are parts of the input, `reasoning_tokens` a part of the output;
    `cache_write_1h_tokens`, what was written for an hour instead of minutes, is a part of `cache_write_tokens`.

    `time` is in seconds from just before the request. `cost` is in US dollars, a Decimal (its JSON form, under the key
    "cost", is text), or None where no price is known. `estimated` marks figures the vendor did not give.
    `metadata` is what an application passes; only then the key is there.
    """

    stored_types: ClassVar[Mapping[str, Any]] = {"cost": str | None}

    input_tokens: int
    output_tokens: int
    time: float
    type: Literal["chat"]
    cache_read_tokens: int
    cache_write_tokens: int
    cache_write_1h_tokens: int
    reasoning_tokens: int
    estimated: bool

    def __init__(
        self,
        input_tokens: int = 0,
        output_tokens: int = 0,
        time: float = 0.0,
        *,
        cache_read_tokens: int = 0,
        cache_write_tokens: int = 0,
        cache_write_1h_tokens: int = 0,
        reasoning_tokens: int = 0,
        cost: Decimal | str | None = None,
        estimated: bool = False,
        type: Literal["chat"] = "chat",  # noqa: A002 - the seed's name
        metadata: Any = None,
    ) -> None:
        super().__init__(
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            time=time,
            type=type,
            cache_read_tokens=cache_read_tokens,
            cache_write_tokens=cache_write_tokens,
            cache_write_1h_tokens=cache_write_1h_tokens,
            reasoning_tokens=reasoning_tokens,
            cost=None if cost is None else str(cost),
            estimated=estimated,
        )
        if metadata is not None:
            self["metadata"] = metadata

    @property
    def metadata(self) -> Any:
        """What the application keeps with the figures, if anything; the key is only there if so."""
        return self.get("metadata")

    @property
    def total_tokens(self) -> int:
        """The number of input and output tokens together."""
        return int(self["input_tokens"]) + int(self["output_tokens"])

    def add(self, other: ChatUsage) -> None:
        """Count *other* in; a cost that is unknown on either side leaves the sum unknown."""
        for key in COUNTS:
            self[key] += other[key]
        self["time"] += other["time"]
        mine, theirs = self.cost, other.cost
        self["cost"] = None if mine is None or theirs is None else str(mine + theirs)
        self["estimated"] = self["estimated"] or other["estimated"]

    @property
    def cost(self) -> Decimal | None:
        """What it cost in US dollars, or None where that is not known."""
        cost = self["cost"]
        return None if cost is None else Decimal(cost)


class Attempt(Record):
    """One request that reached, or tried to reach, a provider.

    `model` is the entry's name, `arm` the deployment or key among those that share its place in the chain (None if it
    has the place to itself), `model_name` the vendor's name of the model, `response_model` the name that the vendor
    itself gave in its answer (often a dated one), or None. `complete` tells whether the answer came to its end, even if
    it was then rejected, so that the figures in `usage` are the vendor's last. `outcome` is "ok", the name of an error
    class, "closed", "cancelled", "abandoned", or None while it lasts. A model that was passed over without a request
    (not configured, its breaker open, too small) has a record too, with `skipped`.

    `rate_limits` is what the vendor's headers say is left of its limits, if they do: by `requests`, `tokens`,
    `input_tokens` and `output_tokens`, how much, and for how many seconds that holds.

    `dropped` has the parameters of the call that were left out because the model does not take them, each with the
    reason; `rounded` those that were changed, such as a level of `reasoning_effort` that the model does not know.

    Times are in seconds: `started` since the call began, `wait` spent waiting before this attempt, `first_token` and
    `duration` since the attempt began. `first_token` is None for an answer that came in one piece: it is known of
    streams, and of plain answers that were streamed internally (`stream_inside`).
    """

    model: str
    provider: str
    model_name: str
    skipped: bool
    outcome: str | None
    message: str | None
    status: int | None
    code: str | None
    request_id: str | None
    retry_after: float | None
    wait: float
    started: float
    first_token: float | None
    duration: float | None
    usage: ChatUsage | None
    complete: bool
    response_model: str | None
    rate_limits: Mapping[str, tuple[int, float]] | None
    dropped: dict[str, str]
    rounded: dict[str, str]
    arm: str | None

    def __init__(self, model: str, provider: str, model_name: str, *, started: float = 0.0, wait: float = 0.0) -> None:
        super().__init__(
            _UNKNOWN_FACTS,
            model=model,
            provider=provider,
            model_name=model_name,
            started=started,
            wait=wait,
            dropped={},
            rounded={},
        )


_UNKNOWN_FACTS = dict.fromkeys(Attempt.__annotations__) | {"skipped": False, "complete": False}
"""What is known of an attempt before it has begun."""


class ChatResponse(LazyRecord, Generic[OutputT]):
    """A complete reply, or one snapshot of a stream: the whole answer so far.

    *content* is a sequence of blocks (`text`, `thinking`, `tool_use`); *metadata* is the structured output, if one was
    asked for: JSON data as the model wrote them, which the class validates again. `model` is the entry that answered
    and `model_name` the vendor's name for it; `response_model` is the name that the vendor gave in its answer (often a
    dated one), None if it gave none. `requested` is the entry or chain that was called, `attempts` the story of the
    call (one list, which grows while a stream goes on).

    In a stream `delta` is the text that is new since the snapshot before, `is_last` marks the complete answer, and
    `restarts` counts how often another model began the answer anew: when it goes up, the text before it is void.
    """

    content: Sequence[Block]
    id: str
    created_at: str
    type: Literal["chat"]
    usage: ChatUsage | None
    metadata: Any
    finish_reason: FinishReason | None
    model: str | None
    model_name: str | None
    response_model: str | None
    requested: str | None
    attempts: list[Attempt]
    restarts: int
    is_last: bool
    delta: str

    _output: ClassVar[Any] = None

    def __init__(
        self,
        content: Sequence[Block] | Lazy,
        id: str | None = None,  # noqa: A002 - the seed's name
        created_at: str | Lazy | None = None,
        type: Literal["chat"] = "chat",  # noqa: A002 - the seed's name
        usage: ChatUsage | None = None,
        metadata: Any = None,
        *,
        finish_reason: FinishReason | None = None,
        model: str | None = None,
        model_name: str | None = None,
        response_model: str | None = None,
        requested: str | None = None,
        attempts: list[Attempt] | None = None,
        restarts: int = 0,
        is_last: bool = True,
        delta: str | None = None,
    ) -> None:
        super().__init__(
            content=content,
            id=id or uuid4().hex,
            created_at=created_at or datetime.now(UTC).isoformat(timespec="milliseconds"),
            type=type,
            usage=usage,
            metadata=metadata,
            finish_reason=finish_reason,
            model=model,
            model_name=model_name,
            response_model=response_model,
            requested=requested,
            attempts=[] if attempts is None else attempts,
            restarts=restarts,
            is_last=is_last,
            delta=Lazy(lambda: _text_of(content)) if delta is None else delta,
        )

    @classmethod
    def of(cls, fields: dict[str, Any]) -> Self:
        """A reply of all its *fields*, in the order of `__init__`: the short way, for one made for each word."""
        new = cls.__new__(cls)
        dict.update(new, fields)
        return new

    @property
    def output(self) -> OutputT:
        """The validated structured output: an instance of the class, or the data if a JSON Schema was asked for.

        None without a structure, and in snapshots before the last. It is no key of the dict, which stays JSON.
        """
        output: OutputT = self._output
        return output

    @output.setter
    def output(self, value: OutputT) -> None:
        object.__setattr__(self, "_output", value)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "output":
            object.__setattr__(self, name, value)
        else:
            self[name] = value

    def copy(self) -> Self:
        """A shallow copy of the same class."""
        new = super().copy()
        new.output = self._output
        return new

    __copy__ = copy

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        new = super().__deepcopy__(memo)
        new.output = copying.deepcopy(self._output, memo)
        return new

    @property
    def text(self) -> str:
        """The text of all text blocks, joined without a separator."""
        return _text_of(self["content"])

    @property
    def thinking(self) -> str:
        """The text of all thinking blocks, joined without a separator."""
        return "".join(block["thinking"] for block in self["content"] if block["type"] == "thinking")

    def count_characters(self) -> int:
        """Return how much was written: characters of text, thinking and the arguments of tools."""
        keys = {"text": "text", "thinking": "thinking", "tool_use": "raw_input"}
        return sum(len(block.get(keys[block["type"]]) or "") for block in self["content"] if block["type"] in keys)

    @property
    def tool_calls(self) -> list[Block]:
        """The `tool_use` blocks, in order: `id`, `name`, `input` (a dict), `raw_input` (the text as it came).

        A call that was cut off (by the limit of tokens, say) has an `error`: look at it before running a tool.
        """
        return [block for block in self["content"] if block["type"] == "tool_use"]


def _text_of(content: Sequence[Block] | Lazy) -> str:
    blocks = content.build() if isinstance(content, Lazy) else content
    texts = [block["text"] for block in blocks if block["type"] == "text"]
    return texts[0] if len(texts) == 1 else "".join(texts)
