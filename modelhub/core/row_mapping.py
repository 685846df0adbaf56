"""`model.map(rows)`: one call for each of many rows.

Every model has it, so it stands below the model: a mixin that calls the model it is mixed into, and imports what does
the work when it is first used. Jobs with files and a journal are built on it, in `modelhub.jobs`.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable, Mapping, Sized
from typing import TYPE_CHECKING, Any

from modelhub.core.call_options import parse_call_options
from modelhub.core.errors import InvalidRequest

if TYPE_CHECKING:
    from pydantic import BaseModel
    from typing_extensions import TypeVar

    from modelhub.core.row_stream import RowStream

    ModelT = TypeVar("ModelT", bound=BaseModel, default=Any)

__all__ = ["RowMapping"]

_CALL_ARGUMENTS = ("tools", "tool_choice")  # of a call, which are no keywords to parse


class RowMapping:
    """Gives every model `map(rows)`, beside the call itself."""

    def map(
        self,
        rows: Iterable[Any] | AsyncIterable[Any],
        *,
        prompt: str | None = None,
        system: str | None = None,
        concurrency: int = 16,
        ordered: bool = False,
        structured_model: type[ModelT] | Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> RowStream[ModelT]:
        """Ask the model once for each of *rows*: `async for row in chain.map(rows, prompt="Summarise: {text}"): ...`.

        A row is a prompt (text), a list of messages, or a mapping with `messages` or `prompt`. With the template
        *prompt* it is any mapping, whose columns the template names, or text for a template with one column. *system*
        is the system message of every row. *rows* may be an async iterable, and need not end: at most *concurrency*
        calls are under way, and rows are read as they are needed.

        Results come as they are there, or in the order of the rows if *ordered*. Each is a `RowResult`: `index`, `row`,
        and `reply`, or `error` if the row failed, which does not stop the others. *structured_model* and further
        keywords (`tags`, `deadline`, `temperature`, ...) go with every call; a deadline counts from the start of each.

        Returns a `RowStream`, whose `progress` has counts, rate, ETA and cost; `chain.map(rows).sync()` is a plain
        iterator. Raises InvalidRequest for a wrong template or keyword, before a row is read.
        """
        from modelhub.core.row_prompts import RowPrompts
        from modelhub.core.row_result import MapProgress
        from modelhub.core.row_stream import RowStream

        _check_arguments(rows, concurrency, kwargs)
        make_messages = RowPrompts(prompt, system).make_messages
        model: Any = self

        def ask(row: Any) -> Any:
            return model(make_messages(row), structured_model=structured_model, stream=False, **kwargs)

        progress = MapProgress(model.services.clock, len(rows) if isinstance(rows, Sized) else None)
        return RowStream(ask, rows, progress, concurrency=concurrency, ordered=ordered)


def _check_arguments(rows: Any, concurrency: Any, kwargs: dict[str, Any]) -> None:
    """Raise InvalidRequest for what would be wrong in every row."""
    if isinstance(rows, str | bytes | Mapping) or not isinstance(rows, Iterable | AsyncIterable):
        raise InvalidRequest(f"rows: expected an iterable of rows, not {type(rows).__name__}")
    if not isinstance(concurrency, int) or concurrency < 1:
        raise InvalidRequest("concurrency: expected a whole number from 1 on")
    if "stream" in kwargs:
        raise InvalidRequest("stream: `map` gives whole replies; `stream_inside: true` in the file streams beneath")
    parse_call_options({name: value for name, value in kwargs.items() if name not in _CALL_ARGUMENTS})
