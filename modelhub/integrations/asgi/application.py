"""The ASGI application: its routes, who may call what, and how an answer is sent."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from modelhub.config.load import Loaded
from modelhub.config.schema import KeyOptions, ServeOptions
from modelhub.core.response import ChatResponse
from modelhub.core.stream import ChatStream, Reply
from modelhub.hub import Hub
from modelhub.integrations.asgi.completions import ChunkWriter, make_completion
from modelhub.integrations.asgi.errors import HttpError, as_http_error
from modelhub.integrations.asgi.exchange import (
    ClientGone,
    EventStream,
    Receive,
    Scope,
    Send,
    read_headers,
    read_json,
    run_while_connected,
    send_json,
)
from modelhub.integrations.asgi.requests import CompletionRequest, read_request

__all__ = ["OpenAIApp"]

COMMENT_SECONDS = 5.0
"""How long a buffered stream is silent, at most, while its answer comes in."""
KEY_TAG = "key"
"""The tag that has the name of the key of a call."""


@dataclass(frozen=True, slots=True)
class Client:
    """Whoever sent a request: the *tags* of its calls, and the *models* it may call, in order."""

    models: tuple[str, ...]
    tags: Mapping[str, str] = field(default_factory=dict)

    def check_model(self, name: str) -> None:
        """Raise HttpError, as for a model that does not exist, if the client may not call *name*."""
        if name not in self.models:
            message = f"no model or chain is called `{name}` (there are: {', '.join(self.models)})"
            raise HttpError(404, message, code="model_not_found", param="model", headers={"x-should-retry": "false"})


class Access:
    """The keys of an endpoint that serves *models*; if it *is_open*, requests need none. Only hashes are kept."""

    def __init__(self, keys: Mapping[str, KeyOptions], models: Iterable[str], *, is_open: bool) -> None:
        self.models = tuple(models)
        self.is_open = is_open
        self._clients: dict[bytes, Client] = {}
        for name, options in keys.items():
            if not (secret := options.key.get_secret_value()):
                continue
            allowed = [model for model in self.models if options.models is None or model in options.models]
            self._clients[_hash(secret)] = Client(tuple(allowed), {**options.tags, KEY_TAG: name})

    def authenticate(self, authorization: str) -> Client:
        """Return who sends the header *authorization*, "" if there is none. Raises HttpError if no key is valid."""
        if self.is_open:
            return Client(self.models)
        scheme, _, secret = authorization.partition(" ")
        # The key is compared by its hash, so that the time it takes says nothing about it.
        client = self._clients.get(_hash(secret.strip())) if scheme.lower() == "bearer" else None
        if client is None:
            message = "the API key is not valid" if authorization else "an API key is needed: Authorization: Bearer ..."
            headers = {"www-authenticate": "Bearer", "x-should-retry": "false"}
            raise HttpError(401, message, code="invalid_api_key", headers=headers)
        return client


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()


class _Serving(NamedTuple):
    """What one reading of the file says of serving."""

    loaded: Loaded
    options: ServeOptions
    access: Access


class OpenAIApp:
    """An ASGI application that serves the chains and models of *hub* as an OpenAI-compatible endpoint.

    *keys* are bearer keys by name: texts, or `KeyOptions` with tags and models; they are added to those of the file.
    *options* replaces the section `serve:` of the file. With *hosts*, requests are only answered if their header `Host`
    names one of them: on a loopback address without keys that keeps out pages of other sites. When the server that
    runs the application stops, the hub is closed.

    Raises UnknownModel if a key or the options name a model that the hub does not have.
    """

    def __init__(
        self,
        hub: Hub,
        *,
        keys: Mapping[str, KeyOptions | str] | None = None,
        options: ServeOptions | None = None,
        hosts: Collection[str] | None = None,
    ) -> None:
        self.hub = hub
        self._keys = {
            name: key if isinstance(key, KeyOptions) else KeyOptions(key=key) for name, key in (keys or {}).items()
        }
        self._own_options = options
        self._hosts = None if hosts is None else frozenset(host.lower() for host in hosts)
        self._needs_key = False
        self._serving: _Serving | None = None
        self._get_serving()
        own_names = (options.models if options is not None else None, *(key.models for key in self._keys.values()))
        for names in own_names:  # those of the file are checked with the file
            for name in names or ():
                hub.loaded.check_name(name)

    def _get_serving(self) -> _Serving:
        """Return what is served to whom, as the hub's file says it now: it may have been reloaded."""
        loaded = self.hub.loaded
        if self._serving is None or self._serving.loaded is not loaded:
            options = self._own_options or loaded.config.serve
            names = [name for name in options.models or self.hub if name in loaded]
            keys = {**options.keys, **self._keys}
            # A file that loses its keys while it is served must not let everybody in.
            self._needs_key = self._needs_key or bool(keys)
            self._serving = _Serving(loaded, options, Access(keys, names, is_open=not self._needs_key))
        return self._serving

    @property
    def is_open(self) -> bool:
        """Whether requests need no key."""
        return self._get_serving().access.is_open

    @property
    def models(self) -> tuple[str, ...]:
        """The names of the models and chains that are served."""
        return self._get_serving().access.models

    def __repr__(self) -> str:
        return f"<OpenAIApp of {self.hub!r}>"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one connection, as the ASGI protocol says. Raises ValueError for anything but HTTP."""
        if scope["type"] == "lifespan":
            await self._run_lifespan(receive, send)
            return
        if scope["type"] != "http":
            raise ValueError(f"this application speaks HTTP, not {scope['type']}")
        try:
            await self._route(scope, receive, send)
        except ClientGone:
            return
        except Exception as error:
            refusal = as_http_error(error)
            await send_json(send, refusal.as_json(), refusal.status, refusal.headers)

    async def _run_lifespan(self, receive: Receive, send: Send) -> None:
        while (kind := (await receive())["type"]) != "lifespan.shutdown":
            await send({"type": f"{kind}.complete"})
        await self.hub.aclose()
        await send({"type": "lifespan.shutdown.complete"})

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers, method = read_headers(scope), scope["method"]
        self._check_host(headers.get("host", ""))
        path = scope["path"].removeprefix(scope.get("root_path", "")).rstrip("/")
        if path == "/healthz":
            _check_method(method, "GET", "HEAD")
            status, code = ("closed", 503) if self.hub.closed else ("ok", 200)
            await send_json(send, {"status": status}, code)
            return
        path = path.removeprefix("/v1")
        _, options, access = self._get_serving()
        client = access.authenticate(headers.get("authorization", ""))
        if path == "/models":
            _check_method(method, "GET", "HEAD")
            await send_json(send, {"object": "list", "data": [self._describe_model(name) for name in client.models]})
        elif path.startswith("/models/"):
            _check_method(method, "GET", "HEAD")
            name = path.removeprefix("/models/")
            client.check_model(name)
            await send_json(send, self._describe_model(name))
        elif path == "/chat/completions":
            _check_method(method, "POST")
            body = await read_json(receive, headers, options.max_request_bytes)
            await self._complete(read_request(body, options.parameters), client, receive, send)
        else:
            raise HttpError(404, f"there is no {scope['path']} here", code="unknown_url")

    def _check_host(self, host: str) -> None:
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
        if self._hosts is not None and name.strip("[]").lower() not in self._hosts:
            raise HttpError(403, "the header `Host` of the request names another server", code="unknown_host")

    def _describe_model(self, name: str) -> dict[str, Any]:
        entry = self.hub.loaded.models.get(name)
        return {"id": name, "object": "model", "created": 0, "owned_by": entry.provider if entry else "modelhub"}

    async def _complete(self, request: CompletionRequest, client: Client, receive: Receive, send: Send) -> None:
        client.check_model(request.model)
        chain = self.hub.get(request.model)
        tags = {**request.tags, **client.tags}

        async def call() -> None:
            reply: Reply = await chain(**request.arguments, tags=tags, stream=request.streams)
            if isinstance(reply, ChatStream):
                await self._send_stream(reply, request, EventStream(send))
            else:
                await send_json(send, make_completion(reply, request), headers=_make_headers(reply))

        await run_while_connected(receive, call())

    async def _send_stream(self, stream: ChatStream, request: CompletionRequest, events: EventStream) -> None:
        async with stream:
            try:
                await self._send_chunks(stream, request, events)
            except Exception as error:
                if not events.is_open:
                    raise
                # The status has been sent: the error is the stream's last event.
                await events.send(as_http_error(error).as_json())
                await events.close()

    async def _send_chunks(self, stream: ChatStream, request: CompletionRequest, events: EventStream) -> None:
        now = self.hub.services.clock.now
        writer, sent_at = ChunkWriter(request), now()
        async for snapshot in stream:
            for chunk in writer.write(snapshot):
                if not events.is_open:
                    await events.open(_make_headers(snapshot))
                await events.send(chunk)
            if request.restarts == "buffer" and not snapshot.is_last and now() - sent_at >= COMMENT_SECONDS:
                if not events.is_open:  # as late as possible: until then a failure has a status of its own
                    await events.open({})
                await events.send_comment()
                sent_at = now()
        await events.finish()


def _check_method(method: str, *allowed: str) -> None:
    if method not in allowed:
        raise HttpError(405, f"use {allowed[0]}", code="method_not_allowed", headers={"allow": ", ".join(allowed)})


def _make_headers(reply: ChatResponse) -> dict[str, str]:
    return {"x-modelhub-model": reply.model or "", "x-modelhub-attempts": str(len(reply.attempts))}
