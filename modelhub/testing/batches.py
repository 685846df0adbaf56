"""The batch APIs of OpenAI, Anthropic and Gemini, as the fault server simulates them.

A batch that was handed in ends after a while; each of its rows is answered, refused or expires, as its `BatchScript`
says. What the server has answered counts as billed, once for each row, whether or not anybody fetches it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
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
        for batch in self.batches.values():
            self._end_if_due(batch, answer, now)
        for method, pattern, handle in self._handlers(head, body, now):
            match = re.search(pattern, head.path)
            if method == head.method and match is not None:
                value = handle(match)
                if value is None:
                    return 404, json.dumps({"error": {"message": "there is no such batch"}}).encode()
                return 200, value if isinstance(value, bytes) else json.dumps(value).encode()
        return None

    def _handlers(
        self, head: Head, body: bytes, now: float
    ) -> Iterator[tuple[str, str, Callable[[re.Match[str]], Any]]]:
        yield "POST", r"/messages/batches$", lambda _: self._submit_anthropic(body, now)
        yield "POST", r":batchGenerateContent$", lambda _: self._submit_gemini(head.path, body, now)
        yield "POST", rf"/{_NAME}[:/]cancel$", lambda match: self._cancel(match["name"], now)
        yield "GET", rf"/batches/{_NAME}/results$", lambda match: _write_anthropic_results(self.batches[match["name"]])
        yield "POST", r"/files$", lambda _: self._upload(body)
        yield "GET", r"/files/(?P<name>[\w-]+)/content$", lambda match: self._files.get(match["name"])
        yield "POST", r"/batches$", lambda _: self._submit_openai(body, now)
        yield "GET", r"/batches$", lambda _: self._list(head)
        yield "GET", rf"/{_NAME}$", lambda match: _describe_batch(self.batches.get(match["name"]))

    # -- handing in ------------------------------------------------------------------------------------------------

    def _upload(self, body: bytes) -> Json:
        name = f"file-{next(self._numbers)}"
        content = body.partition(b'name="file"')[2].partition(b"\r\n\r\n")[2]
        self._files[name] = content.rpartition(b"\r\n--")[0]
        return {"id": name, "object": "file", "purpose": "batch"}

    def _submit_openai(self, body: bytes, now: float) -> Json | None:
        wanted = json.loads(body)
        lines = [json.loads(line) for line in self._files[wanted["input_file_id"]].splitlines()]
        rows = {line["custom_id"]: line["body"] for line in lines}
        label = (wanted.get("metadata") or {}).get("modelhub_batch", "")
        return self._add("openai", rows, wanted["endpoint"], label, now)

    def _submit_anthropic(self, body: bytes, now: float) -> Json | None:
        rows = {row["custom_id"]: row["params"] for row in json.loads(body)["requests"]}
        return self._add("anthropic", rows, "/v1/messages", "", now)

    def _submit_gemini(self, path: str, body: bytes, now: float) -> Json | None:
        batch = json.loads(body)["batch"]
        rows = {row["metadata"]["key"]: row["request"] for row in batch["inputConfig"]["requests"]["requests"]}
        answering_path = path.replace(":batchGenerateContent", ":generateContent")
        return self._add("gemini", rows, answering_path, batch["displayName"], now)

    def _add(self, vendor: Vendor, rows: dict[str, Json], path: str, label: str, now: float) -> Json | None:
        name = f"{_PREFIXES[vendor]}{next(self._numbers)}"
        wire = wire_at(path)
        assert wire is not None, path  # noqa: S101 - the client has named an endpoint that is none
        ends = now + self.script.seconds
        batch = SubmittedBatch(name, vendor, now, ends, rows, wire, label, path, failed=self.script.fails)
        self.batches[name] = batch
        return _describe_batch(batch)

    # -- what becomes of the rows ----------------------------------------------------------------------------------

    def _end_if_due(self, batch: SubmittedBatch, answer: CannedResponse, now: float) -> None:
        if batch.results or batch.failed or now < batch.ends:
            return
        for number, (row_id, body) in enumerate(batch.rows.items()):
            outcome = self.script.outcome(number)
            if outcome == "answer":
                self.billed.append(body)
            parsed = batch.wire.parse(row_id, batch.path, {}, body)
            batch.results.append((row_id, outcome, batch.wire.make_body(parsed.adapt(answer), parsed)))
        if batch.vendor == "openai":
            self._files[f"out-{batch.name}"] = _write_openai_lines(batch, "answer")
            self._files[f"err-{batch.name}"] = _write_openai_lines(batch, "error")

    def _cancel(self, name: str, now: float) -> Json | None:
        batch = self.batches.get(name)
        if batch is not None:
            batch.ends, batch.cancelled = min(batch.ends, now), True
        return _describe_batch(batch)

    def _list(self, head: Head) -> Json:
        listed = [_describe_batch(batch) for batch in reversed(self.batches.values())]
        return {"operations": listed} if "x-goog-api-key" in head.headers else {"data": listed, "has_more": False}


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
