"""The shapes of calls that the ledger has seen."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from modelhub.accounting.ledger_location import LedgerLocation
from modelhub.accounting.report import RecordedShape, query_shapes
from modelhub.cli.fit.shape import MEDIA, SAMPLE_TOOL, CallShape, make_shape
from modelhub.cli.output import format_count

__all__ = ["read_recorded_shapes"]

_SHOWN_PARAMETERS = ("reasoning_effort", "service_tier", "max_tokens", "max_completion_tokens", "temperature")
"""The parameters that are shown with their values."""


def read_recorded_shapes(ledger: LedgerLocation, requested: str, since: datetime | None) -> Iterator[CallShape]:
    """Yield the shapes of the calls to *requested* in *ledger* from *since* on, the most frequent first.

    Calls that differ only in numbers are taken together, with the largest number of each parameter. Raises
    LedgerError if *ledger* is not a ledger.
    """
    for group in _merge_shapes(query_shapes(ledger, requested, since)):
        shape = group.shape
        if shape.get("tool_choice") == "tool":  # one tool, whose name is not recorded
            name = SAMPLE_TOOL["function"]["name"] if shape.get("tools") else shape["native_tools"][0]  # type: ignore[index]
            shape = {**shape, "tool_choice": name}
        yield make_shape(shape, group.describe())


@dataclass(slots=True)
class _Group:
    """Calls whose shapes differ only in numbers; *shape* has the largest of each."""

    shape: dict[str, Any]
    calls: int
    last_at: datetime

    def add(self, recorded: RecordedShape) -> None:
        """Count the calls of *recorded* in."""
        self.calls += recorded.calls
        self.last_at = max(self.last_at, recorded.last_at)
        parameters = self.shape.get("ask", {})
        for name, value in recorded.shape.get("ask", {}).items():
            if _is_number(value):
                parameters[name] = max(parameters[name], value)

    def describe(self) -> str:
        """Return the group in words: how many calls, what they ask for, and when the last one was made."""
        asked = [name for name in ("tools", *MEDIA, "schema", "stream") if self.shape.get(name)]
        asked += self.shape.get("native_tools", [])
        for name, value in self.shape.get("ask", {}).items():
            asked.append(f"{name} {value}" if name in _SHOWN_PARAMETERS else name)
        content = f"with {', '.join(asked)}" if asked else "of text alone"
        return f"{format_count(self.calls, 'call')} {content}, the last on {self.last_at:%Y-%m-%d %H:%M} UTC"


def _merge_shapes(recorded_shapes: Iterable[RecordedShape]) -> list[_Group]:
    groups: dict[str, _Group] = {}
    for recorded in recorded_shapes:
        parameters: Mapping[str, Any] = recorded.shape.get("ask", {})
        types = {name: "number" if _is_number(value) else value for name, value in parameters.items()}
        key = json.dumps({**recorded.shape, "ask": types}, sort_keys=True)
        if key in groups:
            groups[key].add(recorded)
        else:
            groups[key] = _Group(recorded.shape, recorded.calls, recorded.last_at)
    return sorted(groups.values(), key=lambda group: (-group.calls, group.describe()))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
