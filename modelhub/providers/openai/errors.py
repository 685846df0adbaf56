"""Errors in OpenAI's dialect, as statuses with a body, inside a 200 or inside a stream: which failure each means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelhub.core.errors import CallError
from modelhub.providers.error_mapping import error_from_report, read_error_body

__all__ = ["error_from_response", "error_in_answer"]

Json = Mapping[str, Any]


def error_from_response(host: str, status: int, headers: Mapping[str, str], body: object) -> CallError:
    """The failure that an answer of *host* with an error *status* means."""
    report = read_error_body(body)
    text = f"{host} said {status}: {report.message or 'nothing that could be read'}"
    failure = error_from_report(status, headers, report, text)
    failure.request_id = headers.get("x-request-id") or headers.get("apim-request-id") or report.request_id
    return failure


def error_in_answer(body: Json) -> CallError:
    """The failure that an error inside an answer means: its code or type, else that the server failed."""
    report = read_error_body(body)
    return error_from_report(None, {}, report, f"the server broke off: {report.message or 'it does not say why'}")
