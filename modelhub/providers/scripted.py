"""Scripted: answers offline from the file, so that apps, examples and tests run without keys.

It says a fixed text, or plays steps, one a call: say, think, call a tool, fail with any class of
`modelhub.core.errors`, stream slowly, break off.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from modelhub.core import errors
from modelhub.core.errors import CallError, ConnectionLost
from modelhub.core.request import ChatRequest
from modelhub.core.response import ChatUsage, FinishReason
from modelhub.messages.blocks import TextBlock
from modelhub.options import Duration, Options, ProviderOptions
from modelhub.providers.base import Payload, Provider
from modelhub.providers.response_builder import ResponseBuilder
from modelhub.providers.structured_output import Structured

__all__ = ["ScriptedChatModel", "ScriptedOptions", "Step", "ToolCall"]

_FAILURES = {cls.__name__: cls for cls in errors.failure_classes() if cls is not errors.AllModelsFailed}
_Pause = Annotated[float, Duration()]


class ToolCall(Options):
    """A tool the scripted model asks for."""

    name: str
    """The tool's name."""
    arguments: dict[str, Any] = Field(default_factory=dict)
    """What it is called with."""
    id: str | None = None
    """The call's id; one is made if not given."""


class Step(Options):
    """What one call gives: content, or a failure, or content that breaks off."""

    say: str | None = None
    """The answer's text."""
    think: str | None = None
    """What comes before it as thinking."""
    call: ToolCall | list[ToolCall] | None = None
    """The tools to ask for."""
    data: dict[str, Any] | None = None
    """The answer as JSON, for calls that ask for structured output."""
    fail: str | None = None
    """Fail with this class of error, such as `RateLimited` or `Overloaded`, instead of answering."""
    message: str = "a scripted failure"
    """The failure's message."""
    status: Annotated[int, Field(ge=100, le=599)] | None = None
    """The failure's HTTP status."""
    retry_after: _Pause | None = None
    """How long the failure asks to wait."""
    wait: _Pause = 0.0
    """Silence before the first content."""
    pause: _Pause = 0.0
    """Silence before each further word of a stream."""
    break_after: Annotated[int, Field(ge=0)] | None = None
    """The connection is lost after this many words of a stream; a plain reply is lost whole."""
    finish_reason: FinishReason | None = None
    """How the answer ends, if not with `stop` or `tool_calls`."""

    @field_validator("fail")
    @classmethod
    def _known(cls, name: str | None) -> str | None:
        if name is not None and name not in _FAILURES:
            raise PydanticCustomError(
                "failure", "unknown failure `{name}` (one of {names})", {"name": name, "names": ", ".join(_FAILURES)}
            )
        return name

    @property
    def calls(self) -> list[ToolCall]:
        """The tools, as a list."""
        if self.call is None:
            return []
        return self.call if isinstance(self.call, list) else [self.call]

    @property
    def text(self) -> str:
        """What is said: the text, or the data as JSON."""
        return json.dumps(self.data, ensure_ascii=False) if self.data is not None else self.say or ""

    def failure(self) -> CallError | None:
        """The error this step raises, if it does."""
        if self.fail is None:
            return None
        return _FAILURES[self.fail](self.message, status=self.status, retry_after=self.retry_after)


class ScriptedOptions(ProviderOptions):
    """A model that answers offline, from the file."""

    provider: Literal["scripted"] = "scripted"
    """Which vendor's API this model speaks."""
    model_name: str = "scripted"
    """The name it goes by in replies."""
    reply: str | None = None
    """The text of every answer."""
    steps: Annotated[list[Step], Field(min_length=1)] | None = None
    """What the first call gives, the second, and so on; the last step is repeated."""

    def connect(self) -> ScriptedChatModel:
        """The model."""
        return ScriptedChatModel(**self.arguments())


class ScriptedChatModel(Provider):
    """Says *reply* to everything, or plays *steps* (dicts as in the file, or `Step`s), one a call."""

    kind = "scripted"
    price_provider = ""
    max_tokens_parameters = (
        *("max_tokens", "max_completion_tokens", "max_output_tokens", "maxOutputTokens"),
        *("num_predict", "options.num_predict"),
    )
    takes_native_tools = True
    end_mark = "the end of the script's step"

    def __init__(
        self,
        model_name: str = "scripted",
        stream: bool = False,
        reply: str | None = None,
        steps: Sequence[Step | Mapping[str, Any]] | None = None,
        generate_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(model_name, stream)
        self.generate_kwargs = dict(generate_kwargs or {})  # accepted, so that any entry can be scripted
        self.steps = [step if isinstance(step, Step) else Step(**step) for step in steps or ()]
        if reply is not None or not self.steps:
            self.steps.append(Step(say=reply if reply is not None else "This is a scripted answer."))
        self.calls = 0

    def encode(self, request: ChatRequest, structured: Structured | None, stream: bool) -> Payload:  # noqa: ARG002
        """The next step, and how long the messages are."""
        step = self.steps[min(self.calls, len(self.steps) - 1)]
        self.calls += 1
        texts = (block.text for message in request.messages for block in message.blocks if isinstance(block, TextBlock))
        return {"step": step, "words": sum(len(text.split()) for text in texts)}

    async def _begin_step(self, payload: Payload) -> Step:
        step: Step = payload["step"]
        await self.services.clock.sleep(step.wait)
        if (failure := step.failure()) is not None:
            raise failure
        return step

    async def call(self, payload: Payload) -> Any:
        """The step, after its silence."""
        step = await self._begin_step(payload)
        if step.break_after is not None:
            raise ConnectionLost("the script broke the connection")
        return payload

    async def events(self, payload: Payload) -> AsyncGenerator[Any, None]:
        """The step's content, word by word."""
        step = await self._begin_step(payload)
        sent = 0
        for index, (kind, piece) in enumerate(_pieces(step)):
            if index:
                await self.services.clock.sleep(step.pause)
            if step.break_after is not None and kind == "text":
                if sent == step.break_after:
                    raise ConnectionLost("the script broke the connection")
                sent += 1
            yield kind, piece
        if step.break_after is not None:
            raise ConnectionLost("the script broke the connection")
        yield "end", payload

    def decode(self, body: Any, answer: ResponseBuilder) -> None:
        """All of the step at once."""
        for event in (*_pieces(body["step"]), ("end", body)):
            self.decode_event(event, answer)

    def decode_event(self, event: Any, answer: ResponseBuilder) -> None:
        """One piece of the step."""
        kind, piece = event
        if kind == "end":
            step: Step = piece["step"]
            answer.complete = True
            answer.finish_reason = step.finish_reason or ("tool_calls" if step.calls else "stop")
            # There is no tokenizer: a word counts as a token, and the figures say that they are estimates.
            thought = len((step.think or "").split())
            written = thought + len(step.text.split())
            answer.usage = ChatUsage(piece["words"], written, reasoning_tokens=thought, estimated=True)
        elif kind == "call":
            index, call = piece
            answer.tool(index, id=call.id or f"call_{self.calls}_{index}", name=call.name)
            answer.arguments(index, json.dumps(call.arguments, ensure_ascii=False))
        else:
            (answer.thinking if kind == "thinking" else answer.text)(piece)


def _pieces(step: Step) -> list[tuple[str, Any]]:
    return [
        *(("thinking", word) for word in _words(step.think or "")),
        *(("text", word) for word in _words(step.text)),
        *(("call", (index, call)) for index, call in enumerate(step.calls)),
    ]


def _words(text: str) -> list[str]:
    """The words of *text*, each with the space before it."""
    words = text.split(" ")
    return [word if index == 0 else f" {word}" for index, word in enumerate(words)] if text else []
