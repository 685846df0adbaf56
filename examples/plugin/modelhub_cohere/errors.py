"""What Cohere's errors mean: docs.cohere.com/reference/errors."""

from collections.abc import Mapping
from typing import Any

from modelhub import AuthenticationFailed, CallError
from modelhub.providers import error_from_report, read_error_body


def error_from_response(status: int | None, headers: Mapping[str, str], body: Any) -> CallError:
    """Return what an error *body* means; *status* is None inside a 200 and in a stream."""
    report = read_error_body(body)
    text = f"cohere said {status or 'an error'}: {report.message or 'no reason given'}"
    cls = AuthenticationFailed if status == 498 else None  # a token that is invalid or blocked
    return error_from_report(status, headers, report, text, cls=cls)
