"""Errors of Ollama, as statuses with a body, inside an answer or inside a stream: which failure each means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelhub.core.errors import CallError, ServerError, UnknownFailure
from modelhub.providers.error_mapping import classify, error_from_report, read_error_body

__all__ = ["error_from_response", "error_in_answer"]


def error_from_response(status: int, headers: Mapping[str, str], body: object) -> CallError:
    """Return the failure that an answer with an error *status* means."""
    report = read_error_body(body)
    return error_from_report(status, headers, report, f"ollama said {status}: {report.message or 'nothing'}")


def error_in_answer(line: Mapping[str, Any]) -> CallError:
    """Return the failure that an error in a *line* of an answer means."""
    status = line.get("status_code", line.get("status"))
    if isinstance(status, int) and status >= 400:
        return error_from_response(status, {}, line)
    # There is no status of HTTP left. What the words do not explain is the server that breaks amid a stream.
    report = read_error_body(line)
    cls = classify(None, report)
    message = f"ollama said: {report.message or 'nothing'}"
    return error_from_report(None, {}, report, message, cls=ServerError if cls is UnknownFailure else cls)
