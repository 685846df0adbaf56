"""Why an answer ended, in the words of all the servers that speak a vendor's dialect or pass on another's."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from modelhub.core.errors import CallError, Overloaded, ServerError
from modelhub.core.response import FinishReason
from modelhub.providers.json_text import make_misfit

__all__ = ["read_finish_reason"]

_COMMON: dict[str, FinishReason] = {
    **dict.fromkeys(("stop", "stop_sequence", "end_turn", "eos", "eos_token", "complete"), "stop"),
    **dict.fromkeys(("length", "max_tokens", "max_output_tokens", "model_length"), "length"),
    "model_context_window_exceeded": "length",
    "repetition": "length",  # vLLM: the same tokens again and again, cut off
    **dict.fromkeys(("tool_calls", "tool_call", "tool_use", "function_call"), "tool_calls"),
    **dict.fromkeys(("content_filter", "safety", "sensitive", "prohibited_content", "recitation"), "content_filter"),
    "blocklist": "content_filter",
    "refusal": "refusal",
}
_BROKEN_OFF: dict[str, type[CallError]] = {
    **dict.fromkeys(("error", "network_error", "abort", "aborted", "cancelled", "canceled", "timeout"), ServerError),
    "insufficient_system_resource": Overloaded,
}
"""The server gave up: what came in is not the answer, whatever it looks like."""
_UNUSABLE = re.compile(
    r"malformed_(function_call|tool_call|response)|unexpected_tool_call|too_many_tool_calls|missing_thought_signature"
)
"""The model's own slip, in Gemini's words, which gateways pass on with words of their own around them."""


def read_finish_reason(
    raw: Any,
    has_calls: bool,
    known: Mapping[str, FinishReason] | None = None,
    default: FinishReason = "stop",
) -> FinishReason | None:
    """Return what the server's *raw* reason means, or None where it gives none, which may be the text "null".

    *known* are a vendor's own reasons, *default* is what an unknown one means. An answer with calls that was not cut
    off ends for their sake, and one without does not, whatever its server says. Raises the failure that a broken-off
    answer is.
    """
    if isinstance(raw, dict):
        raw = raw.get("type") or raw.get("reason")
    if not raw or raw in ("null", "None"):
        return None
    reason = raw if isinstance(raw, str) else ""
    if _UNUSABLE.search(reason.lower()):
        raise make_misfit(f"the model's answer cannot be used: its finish reason is `{reason}`")
    finish = (known or {}).get(reason)
    if finish is None:
        if (cls := _BROKEN_OFF.get(reason.lower())) is not None:
            raise cls(f"the answer was broken off: its finish reason is `{reason}`", code=reason)
        finish = _COMMON.get(reason.lower(), default)
    if finish in ("stop", "tool_calls"):
        return "tool_calls" if has_calls else "stop"
    return finish
