"""OpenAI's batches: a file of requests is uploaded, and the answers are in a file of their own."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from urllib.parse import urlsplit

from modelhub.jobs.vendor_batch.interface import BatchClient, BatchRow, BatchState, RowResponse

__all__ = ["OpenAIBatches"]

_ENDED = ("completed", "failed", "expired", "cancelled")
_LISTED = 100
_METADATA_KEY = "modelhub_batch"
_ENDPOINTS = ("/chat/completions", "/responses")


class OpenAIBatches:
    """Batches of requests to *url*, the address of a single request."""

    def __init__(self, client: BatchClient, url: str) -> None:
        address = url.partition("?")[0]
        endpoint = next(endpoint for endpoint in _ENDPOINTS if address.endswith(endpoint))
        self._client = client
        self._base = address.removesuffix(endpoint)
        # What the vendor wants is a path of its own API, whatever a proxy before it is called.
        self._endpoint = f"/v1{endpoint}" if not urlsplit(self._base).path.endswith("/openai/v1") else endpoint

    async def submit(self, batch_id: str, rows: Sequence[BatchRow]) -> str:
        """Upload the rows, and begin a batch of them that has *batch_id* in its metadata."""
        lines = (
            json.dumps({"custom_id": row.row_id, "method": "POST", "url": self._endpoint, "body": row.body})
            for row in rows
        )
        body, content_type = _write_form(f"{batch_id}.jsonl", "\n".join(lines).encode())
        uploaded = await self._client.post_bytes(f"{self._base}/files", body, content_type)
        batch = {
            "input_file_id": uploaded["id"],
            "endpoint": self._endpoint,
            "completion_window": "24h",
            "metadata": {_METADATA_KEY: batch_id},
        }
        name: str = (await self._client.post(f"{self._base}/batches", batch))["id"]
        return name

    async def find(self, batch_id: str, row_ids: Sequence[str]) -> str | None:  # noqa: ARG002 - the metadata is enough
        """Look through the batches of the account for *batch_id*, the latest first."""
        after = ""
        while True:
            page = await self._client.get(f"{self._base}/batches?limit={_LISTED}{after}")
            for batch in page["data"]:
                if (batch.get("metadata") or {}).get(_METADATA_KEY) == batch_id:
                    name: str = batch["id"]
                    return name
            if not page.get("has_more") or not page["data"]:
                return None
            after = f"&after={page['data'][-1]['id']}"

    async def poll(self, name: str) -> BatchState:
        """Return how far the batch is."""
        batch = await self._client.get(f"{self._base}/batches/{name}")
        status = batch["status"]
        errors = (batch.get("errors") or {}).get("data") or [{}]
        failure = errors[0].get("message") or "it says no reason" if status == "failed" else None
        return BatchState(status in _ENDED, status, failure)

    async def results(self, name: str) -> AsyncIterator[RowResponse]:
        """Yield the rows of the file of answers, and of that of errors."""
        batch = await self._client.get(f"{self._base}/batches/{name}")
        for file_id in filter(None, (batch.get("output_file_id"), batch.get("error_file_id"))):
            async for line in self._client.get_lines(f"{self._base}/files/{file_id}/content"):
                response = line.get("response") or {}
                if response.get("status_code") == 200:
                    yield RowResponse(line["custom_id"], json.dumps(response["body"]).encode())
                else:
                    reason = (line.get("error") or {}).get("code") or str(response.get("status_code"))
                    yield RowResponse(line["custom_id"], None, reason)

    async def cancel(self, name: str) -> None:
        """Have the batch cancelled."""
        await self._client.post(f"{self._base}/batches/{name}/cancel")


def _write_form(file_name: str, content: bytes) -> tuple[bytes, str]:
    """Return a multipart form with the file and its purpose, and the content type that names the boundary."""
    boundary = f"----{file_name}"
    before = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{file_name}"\r\n'
        "Content-Type: application/jsonl\r\n\r\n"
    )
    return before.encode() + content + f"\r\n--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"
