"""A model whose requests are written, and whose responses are read, without asking it.

Rows of a batch are written and read by the model's own provider, over a transport that records or plays back: so
messages, parameters, structured output, usage, prices and records are what they are for single calls.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from modelhub.build import connect_model
from modelhub.config.load import Loaded, ModelEntry
from modelhub.core.context import Services
from modelhub.core.errors import CallError, NotConfigured
from modelhub.core.response import ChatResponse
from modelhub.hub import Hub
from modelhub.jobs.errors import JobError
from modelhub.jobs.estimate import list_priced_models
from modelhub.jobs.vendor_batch.anthropic import AnthropicBatches
from modelhub.jobs.vendor_batch.gemini import GeminiBatches
from modelhub.jobs.vendor_batch.interface import PRICE_FACTOR, BatchClient, VendorBatches
from modelhub.jobs.vendor_batch.openai import OpenAIBatches
from modelhub.middleware.chain.layer import Chain
from modelhub.middleware.usage.layer import Usage
from modelhub.middleware.usage.options import Pricing
from modelhub.options import BatchOptions
from modelhub.providers.http import HttpRequest, HttpResponse
from modelhub.providers.http_provider import HttpProvider
from modelhub.providers.redaction import redact

__all__ = ["BatchModel", "find_batch_entry"]

_VENDORS: Mapping[str, Any] = {"openai": OpenAIBatches, "anthropic": AnthropicBatches, "gemini": GeminiBatches}


class BatchModel:
    """The model *name* of *hub*, for rows that are answered in batches; *requested* is the name that a job asks.

    *parameters* and *structured_model* go with every row.
    """

    def __init__(
        self, hub: Hub, name: str, requested: str, parameters: Mapping[str, Any], structured_model: Any = None
    ) -> None:
        self.name = name
        self.clock = hub.services.clock
        self._arguments = {**parameters, "structured_model": structured_model, "stream": False}
        self._recorder, self._player = _RecordingTransport(), _PlayingTransport()
        self._writer = _connect(
            hub, name, dataclasses.replace(hub.services, observers=(), instrumentations=(), calls=None)
        )
        self._writer.transport = self._recorder
        reader = _connect(hub, name, hub.services)
        reader.transport = self._player
        pricing = next((priced.usage.pricing for priced in list_priced_models(hub.get(name))), None)
        self._reader = Chain(requested, [Usage(reader, None if pricing is None else _BatchPricing(pricing))])
        self._transport = self._writer.make_transport()

    async def write(self, messages: Any) -> HttpRequest:
        """Return the request for a row with *messages*. Raises CallError if the model cannot be asked so."""
        self._recorder.requests.clear()
        try:
            await self._writer(messages, **self._arguments)
        except NotConfigured:
            if not self._recorder.requests:
                raise
        return self._recorder.requests[0]

    async def read(self, messages: Any, body: bytes) -> ChatResponse[Any]:
        """Return the reply that *body*, the vendor's answer to a row with *messages*, stands for. Raises CallError."""
        self._player.body = body
        reply: ChatResponse[Any] = await self._reader(messages, **self._arguments)
        return reply

    def open_batches(self, sample: HttpRequest) -> VendorBatches:
        """Return the vendor's batch API; *sample* is a request of this model. Raises JobError if it has none."""
        make_batches = _VENDORS.get(self._writer.kind)
        if make_batches is None:
            raise JobError(f"`{self._writer.name}`: {self._writer.kind} has no batch API that is known here")
        batches: VendorBatches = make_batches(BatchClient(self._transport, sample, self._make_error), sample.url)
        return batches

    def _make_error(self, status: int, headers: Mapping[str, str], body: bytes) -> CallError:
        error = self._writer.error_from_response(status, headers, body)
        error.args = (redact(str(error), self._writer.secrets()),)
        error.model = self._writer.name
        return error

    async def aclose(self) -> None:
        """Close the connections."""
        await self._transport.aclose()
        await self._writer.aclose()
        for model in self._reader.models:
            await model.aclose()


class _RecordingTransport:
    """Keeps requests in place of sending them."""

    def __init__(self) -> None:
        self.requests: list[HttpRequest] = []

    async def send(self, request: HttpRequest) -> HttpResponse:
        """Keep *request*. Raises NotConfigured, which nobody retries."""
        self.requests.append(request)
        raise NotConfigured("the request is part of a batch")

    async def aclose(self) -> None:
        """Do nothing: nothing is open."""


class _PlayingTransport:
    """Answers every request with `body`."""

    body = b""

    async def send(self, request: HttpRequest) -> HttpResponse:  # noqa: ARG002 - it was answered in a batch
        """Return the answer that is played back."""
        return HttpResponse(200, {"content-type": "application/json"}, _PlayedBody(self.body))

    async def aclose(self) -> None:
        """Do nothing: nothing is open."""


class _PlayedBody:
    """A body that is there already."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def read_available(self) -> bytes:
        """Return the body."""
        return self._body

    async def read_chunk(self) -> bytes:
        """Return the body, once."""
        body, self._body = self._body, b""
        return body

    async def close(self, *, is_complete: bool) -> None:
        """Do nothing: there is no connection."""


class _BatchPricing:
    """Prices at the rate of batches."""

    def __init__(self, pricing: Pricing) -> None:
        self._pricing = pricing

    def cost(self, usage: Mapping[str, Any], at: datetime | None = None) -> Decimal | None:
        """Return what *usage* costs in a batch, in US dollars, or None if that is not known."""
        cost = self._pricing.cost(usage, at)
        return None if cost is None else cost * PRICE_FACTOR


def _connect(hub: Hub, name: str, services: Services) -> HttpProvider:
    variants = [entry for _, entry in hub.loaded.models[name].list_variants() if entry.missing is None]
    model = connect_model(hub.loaded, variants[0], services)  # of several keys the first: a batch is of one account
    if not isinstance(model, HttpProvider):
        raise JobError(f"`{name}`: {model.kind} has no batch API")
    model.check_configuration()
    return model


def find_batch_entry(loaded: Loaded, name: str) -> tuple[ModelEntry, BatchOptions] | None:
    """Return the first model of *name*, a chain or a model, that has `batch:` and a key of its own, with these options.

    None if there is none.
    """
    entry = loaded.models.get(name)
    if entry is None:
        members = (find_batch_entry(loaded, member) for member in loaded.chains[name].member_names())
        return next((member for member in members if member is not None), None)
    options: BatchOptions | None = getattr(entry.options, "batch", None)
    if options is None or entry.missing is not None or entry.call_key is not None:
        return None
    return entry, options
