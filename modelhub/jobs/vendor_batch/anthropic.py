"""Anthropic's message batches: the requests are in the one that begins the batch."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

from modelhub.jobs.vendor_batch.interface import BatchClient, BatchRow, BatchState, RowResponse

__all__ = ["AnthropicBatches"]

_LISTED = 100


class AnthropicBatches:
    """Batches of requests to *url*, the address of a single request."""

    def __init__(self, client: BatchClient, url: str) -> None:
        self._client = client
        self._batches = f"{url.partition('?')[0].rstrip('/')}/batches"

    async def submit(self, batch_id: str, rows: Sequence[BatchRow]) -> str:  # noqa: ARG002 - it is part of the rows' ids
        """Hand in the rows, whose ids are what tells the batch."""
        requests = [{"custom_id": row.row_id, "params": row.body} for row in rows]
        name: str = (await self._client.post(self._batches, {"requests": requests}))["id"]
        return name

    async def find(self, batch_id: str, row_ids: Sequence[str]) -> str | None:
        """Look for a batch of as many rows, and, as soon as that has ended, of these rows; the latest first.

        A batch that has not ended shows no ids: one of as many rows is taken for the one that is looked for. If it
        turns out to be another one, its results have none of the rows, which are asked otherwise then.
        """
        after = ""
        while True:
            page = await self._client.get(f"{self._batches}?limit={_LISTED}{after}")
            for batch in page["data"]:
                if sum(batch["request_counts"].values()) == len(row_ids) and await self._may_be(batch, batch_id):
                    name: str = batch["id"]
                    return name
            if not page.get("has_more"):
                return None
            after = f"&after_id={page['last_id']}"

    async def _may_be(self, batch: dict[str, Any], batch_id: str) -> bool:
        if batch["processing_status"] != "ended":
            return True
        async for response in self.results(batch["id"]):
            return response.row_id.startswith(batch_id)
        return False

    async def poll(self, name: str) -> BatchState:
        """Return how far the batch is."""
        status = (await self._client.get(f"{self._batches}/{name}"))["processing_status"]
        return BatchState(status == "ended", status)

    async def results(self, name: str) -> AsyncIterator[RowResponse]:
        """Yield the results of all rows."""
        async for line in self._client.get_lines(f"{self._batches}/{name}/results"):
            result = line["result"]
            if result["type"] == "succeeded":
                yield RowResponse(line["custom_id"], json.dumps(result["message"]).encode())
            else:
                error = (result.get("error") or {}).get("error") or {}
                yield RowResponse(line["custom_id"], None, error.get("type") or result["type"])

    async def cancel(self, name: str) -> None:
        """Have the batch cancelled."""
        await self._client.post(f"{self._batches}/{name}/cancel")
