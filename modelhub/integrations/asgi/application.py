"""The ASGI application: its routes, and how an answer is sent."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from modelhub.config.load import Loaded
from modelhub.config.schema import KeyOptions, ServeOptions
from modelhub.core.response import ChatResponse
from modelhub.core.stream import ChatStream, Reply
from modelhub.hub import Hub
from modelhub.integrations.asgi.access import Access, Client
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
        self._serving = self._read_options()
        own_names = (options.models if options is not None else None, *(key.models for key in self._keys.values()))
        for names in own_names:  # those of the file are checked with the file
            for name in names or ():
                hub.loaded.check_name(name)

    def _read_options(self) -> _Serving:
        loaded = self.hub.loaded
        options = self._own_options or loaded.config.serve
        names = [name for name in options.models or self.hub if name in loaded]
        keys = {**options.keys, **self._keys}
        # A file that loses its keys while it is served must not let everybody in.
        self._needs_key = self._needs_key or bool(keys)
        return _Serving(loaded, options, Access(keys, names, is_open=not self._needs_key))

    def _get_serving(self) -> _Serving:
        """Return what is served to whom, as the hub's file says it now: it may have been reloaded."""
        if self._serving.loaded is not self.hub.loaded:
            self._serving = self._read_options()
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
        elif scope["type"] == "http":
            await self._answer(scope, receive, send)
        else:
            raise ValueError(f"this application speaks HTTP, not {scope['type']}")

    async def _run_lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            kind = (await receive())["type"]
            if kind == "lifespan.shutdown":
                await self.hub.aclose()
            await send({"type": f"{kind}.complete"})
            if kind == "lifespan.shutdown":
                return

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._route(scope, receive, send)
        except ClientGone:
            return
        except Exception as error:
            refusal = as_http_error(error)
            await send_json(send, refusal.as_json(), refusal.status, refusal.headers)

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers, method = read_headers(scope), scope["method"]
        self._check_host(headers.get("host", ""))
        path = scope["path"].removeprefix(scope.get("root_path", "")).rstrip("/")
        if path == "/healthz":
            _check_method(method, "GET", "HEAD")
            await self._send_health(send)
            return
        path = path.removeprefix("/v1")
        _, options, access = self._get_serving()
        client = access.authenticate(headers.get("authorization", ""))
        if path == "/models" or path.startswith("/models/"):
            _check_method(method, "GET", "HEAD")
            await send_json(send, self._list_models(client, path.removeprefix("/models").removeprefix("/")))
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

    async def _send_health(self, send: Send) -> None:
        closed = self.hub.closed
        await send_json(send, {"status": "closed" if closed else "ok"}, 503 if closed else 200)

    def _list_models(self, client: Client, name: str) -> dict[str, Any]:
        """Return the model *name*, or the list of all that *client* may call if it is empty. Raises HttpError."""
        if name:
            client.check_model(name)
            return self._describe_model(name)
        return {"object": "list", "data": [self._describe_model(name) for name in client.models]}

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
        send_snapshots = self._send_at_end if request.restarts == "buffer" else self._send_as_it_comes
        async with stream:
            try:
                await send_snapshots(stream, request, events)
            except Exception as error:
                if not events.is_open:
                    raise
                # The status has been sent: the error is the stream's last event.
                await events.send(as_http_error(error).as_json())
                await events.close()

    async def _send_as_it_comes(self, stream: ChatStream, request: CompletionRequest, events: EventStream) -> None:
        writer: ChunkWriter | None = None
        async for snapshot in stream:
            if writer is None:
                writer = ChunkWriter(snapshot, request)
                await events.open(_make_headers(snapshot))
                await events.send(writer.begin())
            for chunk in writer.add(snapshot):
                await events.send(chunk)
            if snapshot.is_last:
                for chunk in writer.finish(snapshot):
                    await events.send(chunk)
        await events.finish()

    async def _send_at_end(self, stream: ChatStream, request: CompletionRequest, events: EventStream) -> None:
        now = self.hub.services.clock.now
        sent_at = now()
        async for _ in stream:
            if now() - sent_at >= COMMENT_SECONDS:
                if not events.is_open:  # as late as possible: until then a failure has a status of its own
                    await events.open({})
                await events.send_comment()
                sent_at = now()
        reply = await stream.final()
        if not events.is_open:
            await events.open(_make_headers(reply))
        writer = ChunkWriter(reply, request)
        for chunk in (writer.begin(), *writer.add_whole(reply), *writer.finish(reply)):
            await events.send(chunk)
        await events.finish()


def _check_method(method: str, *allowed: str) -> None:
    if method not in allowed:
        raise HttpError(405, f"use {allowed[0]}", code="method_not_allowed", headers={"allow": ", ".join(allowed)})


def _make_headers(reply: ChatResponse) -> dict[str, str]:
    return {"x-modelhub-model": reply.model or "", "x-modelhub-attempts": str(len(reply.attempts))}
