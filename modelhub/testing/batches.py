"""The batch APIs of OpenAI, Anthropic and Gemini, as the fault server simulates them.

A batch that was handed in ends after a while; each of its rows is answered, refused or expires, as its `BatchScript`
says. What the server has answered counts as billed, once for each row, whether or not anybody fetches it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Literal

from modelhub.testing.http import Head
from modelhub.testing.wires import CannedResponse, VendorFormat, wire_at

__all__ = ["BatchEndpoints", "BatchScript", "SubmittedBatch"]

Json = dict[str, Any]
RowOutcome = Literal["answer", "error", "expire"]
Vendor = Literal["openai", "anthropic", "gemini"]


@dataclass(slots=True)
class BatchScript:
    """How batches go: they end after *seconds*, and *outcome* says what becomes of each row, by its number.

    With *fails*, they are refused as a whole.
    """

    seconds: float = 600.0
    outcome: Callable[[int], RowOutcome] = lambda number: "answer"  # noqa: ARG005 - the usual outcome is the same for all
    fails: bool = False


@dataclass(slots=True)
class SubmittedBatch:
    """A batch at the server: `rows` are bodies of requests by their ids, `label` is what the client calls it."""

    name: str
    vendor: Vendor
    begun: float
    ends: float
    rows: dict[str, Json]
    wire: VendorFormat
    label: str = ""
    path: str = ""
    cancelled: bool = False
    failed: bool = False
    results: list[tuple[str, RowOutcome, Json]] = field(default_factory=list)
    """What became of each row, as soon as the batch has ended: its id, the outcome, and the body of the answer."""


class BatchEndpoints:
    """The batch endpoints of one route. *answer* is the answer to every row."""

    def __init__(self) -> None:
        self.script = BatchScript()
        self.batches: dict[str, SubmittedBatch] = {}
        self.billed: list[Json] = []
        """The bodies of the requests that were answered."""
        self._files: dict[str, bytes] = {}
        self._numbers = count(1)

    def respond(self, head: Head, body: bytes, answer: CannedResponse, now: float) -> tuple[int, bytes] | None:
        """Return the status and the body of the answer to a request, or None if it is none for these endpoints."""
        self._end_due_batches(answer, now)
        request = f"{head.method} {head.path}"
        content: Json | bytes | None
        batch: SubmittedBatch | None
        if match := re.search(rf"^GET .*/{_NAME}(?P<results>/results)?$", request):
            batch = self.batches.get(match["name"])
            content = _describe_batch(batch)
            if batch is not None and match["results"]:
                content = _write_anthropic_results(batch)
        elif match := re.search(rf"^POST .*/{_NAME}[:/]cancel$", request):
            batch = self.batches.get(match["name"])
            if batch is not None:
                batch.ends, batch.cancelled = min(batch.ends, now), True
            content = _describe_batch(batch)
        elif match := re.search(r"^GET .*/files/([\w-]+)/content$", request):
            content = self._files.get(match[1])
        elif re.search(r"^POST .*/files$", request):
            file_id = f"file-{next(self._numbers)}"
            file = body.partition(b'name="file"')[2].partition(b"\r\n\r\n")[2]
            self._files[file_id] = file.rpartition(b"\r\n--")[0]
            content = {"id": file_id, "object": "file", "purpose": "batch"}
        elif re.search(r"^GET .*/batches$", request):
            listed = [_describe_batch(submitted) for submitted in reversed(self.batches.values())]
            is_google = "x-goog-api-key" in head.headers
            content = {"operations": listed} if is_google else {"data": listed, "has_more": False}
        elif re.search(r"^POST .*(/batches|:batchGenerateContent)$", request):
            content = _describe_batch(self._submit(head.path, json.loads(body), now))
        else:
            return None
        if content is None:
            return 404, json.dumps({"error": {"message": "there is no such batch"}}).encode()
        return 200, content if isinstance(content, bytes) else json.dumps(content).encode()

    def _submit(self, path: str, wanted: Json, now: float) -> SubmittedBatch:
        """Start the batch that the body *wanted* of a request to *path* describes, and return it."""
        vendor: Vendor
        if path.endswith("/messages/batches"):
            vendor, endpoint, label = "anthropic", "/v1/messages", ""
            rows = {row["custom_id"]: row["params"] for row in wanted["requests"]}
        elif path.endswith(":batchGenerateContent"):
            inputs = wanted["batch"]["inputConfig"]["requests"]["requests"]
            vendor, label = "gemini", wanted["batch"]["displayName"]
            endpoint = path.replace(":batchGenerateContent", ":generateContent")
            rows = {row["metadata"]["key"]: row["request"] for row in inputs}
        else:
            lines = [json.loads(line) for line in self._files[wanted["input_file_id"]].splitlines()]
            vendor, endpoint = "openai", wanted["endpoint"]
            label = (wanted.get("metadata") or {}).get("modelhub_batch", "")
            rows = {line["custom_id"]: line["body"] for line in lines}
        name = f"{_PREFIXES[vendor]}{next(self._numbers)}"
        wire = wire_at(endpoint)
        assert wire is not None, endpoint  # noqa: S101 - the client has named an endpoint that is none
        ends = now + self.script.seconds
        batch = SubmittedBatch(name, vendor, now, ends, rows, wire, label, endpoint, failed=self.script.fails)
        self.batches[name] = batch
        return batch

    # -- what becomes of the rows ----------------------------------------------------------------------------------

    def _end_due_batches(self, answer: CannedResponse, now: float) -> None:
        for batch in self.batches.values():
            if batch.results or batch.failed or now < batch.ends:
                continue
            for number, (row_id, body) in enumerate(batch.rows.items()):
                outcome = self.script.outcome(number)
                if outcome == "answer":
                    self.billed.append(body)
                parsed = batch.wire.parse(row_id, batch.path, {}, body)
                batch.results.append((row_id, outcome, batch.wire.make_body(parsed.adapt(answer), parsed)))
            if batch.vendor == "openai":
                self._files[f"out-{batch.name}"] = _write_openai_lines(batch, "answer")
                self._files[f"err-{batch.name}"] = _write_openai_lines(batch, "error")


_PREFIXES: Mapping[Vendor, str] = {"openai": "batch_", "anthropic": "msgbatch_", "gemini": "batches/"}
_NAME = r"(?P<name>batch_\d+|msgbatch_\d+|batches/\d+)"


def _describe_batch(batch: SubmittedBatch | None) -> Json | None:
    if batch is None:
        return None
    has_ended = bool(batch.results)
    expired = any(outcome == "expire" for _, outcome, _ in batch.results)
    if batch.vendor == "openai":
        status = ("cancelled" if batch.cancelled else "expired" if expired else "completed") if has_ended else None
        files: Json = {"output_file_id": f"out-{batch.name}", "error_file_id": f"err-{batch.name}"} if has_ended else {}
        metadata = {"modelhub_batch": batch.label} if batch.label else None
        if batch.failed:
            status, files = "failed", {"errors": {"data": [{"message": "Enqueued token limit reached."}]}}
        return {"id": batch.name, "object": "batch", "status": status or "in_progress", "metadata": metadata, **files}
    if batch.vendor == "anthropic":
        counts = {"processing": 0 if has_ended else len(batch.rows), "succeeded": len(batch.results), "errored": 0}
        status = "ended" if has_ended else "in_progress"
        return {"id": batch.name, "type": "message_batch", "processing_status": status, "request_counts": counts}
    state = ("CANCELLED" if batch.cancelled else "SUCCEEDED") if has_ended else "FAILED" if batch.failed else "RUNNING"
    details: Json = {"displayName": batch.label, "state": f"BATCH_STATE_{state}"}
    if has_ended:
        error = {"code": 3, "message": "no", "status": "DEADLINE_EXCEEDED"}
        outcomes: dict[RowOutcome, Json] = {"error": {"error": error}, "expire": {"error": {**error, "code": 4}}}
        rows = [
            {"metadata": {"key": row_id}, **(outcomes.get(outcome) or {"response": body})}
            for row_id, outcome, body in batch.results
        ]
        details["output"] = {"inlinedResponses": {"inlinedResponses": rows}}
    return {"name": batch.name, "metadata": details, "done": has_ended}


def _write_openai_lines(batch: SubmittedBatch, wanted: RowOutcome) -> bytes:
    lines = []
    for row_id, outcome, body in batch.results:
        response: Json = {"status_code": 200, "request_id": f"req_{row_id}", "body": body}
        if outcome == "error":
            response["status_code"] = 400
            response["body"] = {"error": {"message": "Invalid value.", "type": "invalid_request"}}
        if outcome == wanted:
            lines.append(json.dumps({"custom_id": row_id, "response": response, "error": None}))
        elif outcome == "expire" and wanted == "error":
            error = {"code": "batch_expired", "message": "This request could not be executed before the end."}
            lines.append(json.dumps({"custom_id": row_id, "response": None, "error": error}))
    return "\n".join(lines).encode()


def _write_anthropic_results(batch: SubmittedBatch) -> bytes:
    error = {"type": "error", "error": {"type": "invalid_request_error", "message": "Invalid value."}}
    results: Mapping[RowOutcome, Json] = {"error": {"type": "errored", "error": error}, "expire": {"type": "expired"}}
    lines = (
        {"custom_id": row_id, "result": results.get(outcome) or {"type": "succeeded", "message": body}}
        for row_id, outcome, body in batch.results
    )
    return "\n".join(map(json.dumps, lines)).encode()
