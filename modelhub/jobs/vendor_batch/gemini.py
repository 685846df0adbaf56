"""Gemini's batches: the requests are in the one that begins the batch, and the answers in its state."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

from modelhub.jobs.vendor_batch.interface import BatchClient, BatchRow, BatchState, RowResponse

__all__ = ["GeminiBatches"]

_RUNNING = ("PENDING", "RUNNING", "UNSPECIFIED")
_LISTED = 100


class GeminiBatches:
    """Batches of requests to *url*, the address of a single request."""

    def __init__(self, client: BatchClient, url: str) -> None:
        self._client = client
        self._model_url = url.partition("?")[0].rpartition(":")[0]
        self._base = self._model_url.partition("/models/")[0]

    async def submit(self, batch_id: str, rows: Sequence[BatchRow]) -> str:
        """Hand in the rows as a batch that is called *batch_id*."""
        requests = [{"request": row.body, "metadata": {"key": row.row_id}} for row in rows]
        batch = {"displayName": batch_id, "inputConfig": {"requests": {"requests": requests}}}
        operation = await self._client.post(f"{self._model_url}:batchGenerateContent", {"batch": batch})
        name: str = operation["name"]
        return name

    async def find(self, batch_id: str, row_ids: Sequence[str]) -> str | None:  # noqa: ARG002 - its name is enough
        """Look through the batches of the account for the one that is called *batch_id*, the latest first."""
        token = ""
        while True:
            page = await self._client.get(f"{self._base}/batches?pageSize={_LISTED}{token}")
            for operation in page.get("operations") or ():
                if (operation.get("metadata") or {}).get("displayName") == batch_id:
                    name: str = operation["name"]
                    return name
            if not page.get("nextPageToken"):
                return None
            token = f"&pageToken={page['nextPageToken']}"

    async def poll(self, name: str) -> BatchState:
        """Return how far the batch is."""
        operation = await self._client.get(f"{self._base}/{name}")
        status = str((operation.get("metadata") or {}).get("state", "")).rpartition("STATE_")[2]
        reason = (operation.get("error") or {}).get("message") or "it says no reason"
        return BatchState(status not in _RUNNING, status.lower(), reason if status == "FAILED" else None)

    async def results(self, name: str) -> AsyncIterator[RowResponse]:
        """Yield the rows of the batch's output."""
        metadata = (await self._client.get(f"{self._base}/{name}")).get("metadata") or {}
        output: dict[str, Any] = metadata.get("output") or {}
        for row in (output.get("inlinedResponses") or {}).get("inlinedResponses") or ():
            row_id = row["metadata"]["key"]
            if row.get("response") is not None:
                yield RowResponse(row_id, json.dumps(row["response"]).encode())
            else:
                error = row.get("error") or {}
                yield RowResponse(row_id, None, str(error.get("status") or error.get("code") or "no response"))

    async def cancel(self, name: str) -> None:
        """Have the batch cancelled."""
        await self._client.post(f"{self._base}/{name}:cancel")
