"""The shapes of calls that the ledger has seen."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from modelhub.accounting.location import LedgerLocation
from modelhub.accounting.report import RecordedShape, query_shapes
from modelhub.cli.fit.shape import MEDIA, SAMPLE_TOOL, CallShape, make_shape
from modelhub.cli.output import format_count

__all__ = ["read_recorded_shapes"]


def read_recorded_shapes(ledger: LedgerLocation, requested: str, since: datetime | None) -> Iterator[CallShape]:
    """Yield the shapes of the calls to *requested* in *ledger* from *since* on, the most frequent first.

    Calls that differ only in numbers are taken together, with the largest number of each parameter. Raises
    LedgerError if *ledger* is not a ledger.
    """
    for group in _merge_shapes(query_shapes(ledger, requested, since)):
        yield make_shape(_with_sample_tool(group.shape), group.describe())


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
        asked += [_describe_parameter(name, value) for name, value in self.shape.get("ask", {}).items()]
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


def _describe_parameter(name: str, value: Any) -> str:
    is_known = name in ("reasoning_effort", "service_tier", "max_tokens", "max_completion_tokens", "temperature")
    return f"{name} {value}" if is_known else name


def _with_sample_tool(shape: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return *shape* with a choice of one tool as the choice of the sample, or of the first tool of the vendor's."""
    if shape.get("tool_choice") != "tool":
        return shape
    name = SAMPLE_TOOL["function"]["name"] if shape.get("tools") else shape["native_tools"][0]  # type: ignore[index]
    return {**shape, "tool_choice": name}
