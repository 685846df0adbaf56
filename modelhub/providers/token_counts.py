"""Token counts as servers report them: as text or floats, as zeros beside an answer, in part, or absurd."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypedDict

from modelhub.core.response import ChatUsage

__all__ = ["MAX_COUNT", "Counts", "merge_counts", "read_count", "read_counts", "supersedes", "usage_from_counts"]

MAX_COUNT = 10**12
"""No call has as many tokens: what is larger is no count, and could not be added up in the ledger."""


class Counts(TypedDict, total=False):
    """What a server says of a call's tokens; 0 says nothing.

    `input` and `output` are totals. A server that leaves parts out of them reports `fresh_input` (without what was read
    from or written to a cache) or `visible_output` (without the reasoning) instead. `tool_input` is beside the input.
    """

    input: int
    fresh_input: int
    tool_input: int
    output: int
    visible_output: int
    total: int
    cache_read: int
    cache_write: int
    cache_write_1h: int
    reasoning: int


def read_count(raw: Any, *keys: str) -> int:
    """Return the first count above 0 under one of *keys* in *raw*, or 0. Negative and absurd ones, NaN are none."""
    if not raw or (type(raw) is not dict and not isinstance(raw, Mapping)):
        return 0
    for key in keys:
        if (value := raw.get(key)) is not None and (count := _as_count(value)):
            return count
    return 0


def _as_count(value: Any) -> int:
    if type(value) is int:
        return value if 0 < value <= MAX_COUNT else 0
    if isinstance(value, str) and len(value) <= 32:
        try:
            value = float(value)
        except ValueError:
            return 0
    if isinstance(value, float) and math.isfinite(value) and 0 < value <= MAX_COUNT:
        return int(value)
    return 0


def read_counts(raw: Any) -> Counts:
    """Return the counts in a `usage` object, by the names of OpenAI and of those who took theirs over."""
    if not isinstance(raw, dict):
        return {}
    inner = raw.get("prompt_tokens_details") or raw.get("input_tokens_details")
    outer = raw.get("completion_tokens_details") or raw.get("output_tokens_details")
    return {
        "input": read_count(raw, "prompt_tokens", "input_tokens"),
        "output": read_count(raw, "completion_tokens", "output_tokens"),
        "total": read_count(raw, "total_tokens"),
        "cache_read": read_count(inner, "cached_tokens")
        or read_count(raw, "prompt_cache_hit_tokens", "num_cached_tokens", "cached_tokens", "cache_read_input_tokens"),
        "cache_write": read_count(inner, "cache_write_tokens", "cache_creation_input_tokens", "created_cache_tokens")
        or read_count(raw, "cache_creation_input_tokens"),
        "reasoning": read_count(outer, "reasoning_tokens") or read_count(raw, "reasoning_tokens"),
    }


def merge_counts(before: Counts, later: Counts) -> Counts:
    """Return *before* with what *later* says; a later 0 erases nothing."""
    merged = before.copy()
    for name, count in later.items():
        if count:
            merged[name] = count  # type: ignore[literal-required]
    return merged


def supersedes(later: dict[str, Any], earlier: dict[str, Any]) -> bool:
    """Whether *later* gives a count wherever *earlier* does, and has its form: then *earlier* need not be read."""
    if later.keys() != earlier.keys():
        return False
    for key, before in earlier.items():
        after, kind = later[key], type(before)
        if after is before:
            continue
        if type(after) is not kind:
            return False
        if kind is int:
            if not (before > 0 and 0 < after <= MAX_COUNT):
                return False
        elif not supersedes(after, before) if kind is dict else after != before:
            return False
    return True


def usage_from_counts(counts: Counts) -> ChatUsage | None:
    """Return the usage that *counts* amount to, or None if they are all 0, which is no figure.

    Parts that are larger than their total were counted beside it. A call's total alone says nothing of its two halves:
    it counts as output, and the figures are estimated.
    """
    if not any(counts.values()):
        return None
    read, write = counts.get("cache_read", 0), counts.get("cache_write", 0)
    input_tokens = counts.get("input", 0)
    if not input_tokens or max(read, write) > input_tokens:
        input_tokens = (input_tokens or counts.get("fresh_input", 0)) + read + write
    input_tokens += counts.get("tool_input", 0)
    reasoning, output_tokens = counts.get("reasoning", 0), counts.get("output", 0)
    if not output_tokens or reasoning > output_tokens:
        output_tokens = (output_tokens or counts.get("visible_output", 0)) + reasoning
    total = counts.get("total", 0)
    if not input_tokens and total > output_tokens:
        input_tokens = total - output_tokens if output_tokens else 0
    return ChatUsage(
        input_tokens,
        # Some servers leave the reasoning out of the answer's tokens, but not of the total.
        max(output_tokens, total - input_tokens),
        cache_read_tokens=read,
        cache_write_tokens=write,
        cache_write_1h_tokens=min(counts.get("cache_write_1h", 0), write),
        reasoning_tokens=reasoning,
        estimated=not input_tokens and not output_tokens,
    )
