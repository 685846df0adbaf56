"""Between google-genai and the wire: the SDK sends, and the answers come to us unread.

The SDK makes the address, the headers and the signing-in, and checks the parameters; messages and tools travel in its
`extra_body`. It sends through a client of ours (`_tap_class`), which keeps each response for whoever asked and shows
the SDK an empty one. So every fault of the wire is seen, and a streamed piece costs a tenth of what it costs the SDK.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from modelhub.errors import CallError, ConfigError, InvalidRequest
from modelhub.providers._address import split_userinfo
from modelhub.providers._again import Again
from modelhub.providers._http import connecting, tls_context
from modelhub.providers._wire import dumps, loads

if TYPE_CHECKING:
    import httpx2
    from google import genai

__all__ = ["GeminiClient", "connect", "http_options", "merged", "snake"]

_LONGEST = 600_000
"""Milliseconds until the SDK gives up; the clocks of the layers are shorter."""
_MOST_RESTS = 64
_CAUGHT: ContextVar[list[Any]] = ContextVar("modelhub_gemini_caught")


@dataclass(frozen=True, slots=True)
class GeminiClient:
    """The SDK's client and the HTTP client below it, for one event loop; and what the SDK need not write again."""

    sdk: genai.Client
    http: httpx2.AsyncClient
    again: Again
    _rests: dict[Hashable, Mapping[str, Any] | None] = field(default_factory=dict)
    """By what a request's head depends on: the part of its body that the SDK writes; None if that cannot be told."""

    async def ask(self, model_name: str, payload: Mapping[str, Any], stream: bool) -> Any:
        """Send *payload*, once; gives the server's response, unread, for the caller to close."""
        key = _key(model_name, payload, stream)

        async def ask(body: Mapping[str, Any] | None) -> httpx2.Response:
            response = await self._caught(model_name, {**payload, "body": body or {}}, stream)
            if body is not None and key is not None and key not in self._rests:
                if len(self._rests) >= _MOST_RESTS:
                    self._rests.clear()
                self._rests[key] = _rest(response.request.content, body)
            return response

        if (rest := self._rests.get(key)) is None:
            return await self.again.learning(None if key in self._rests else key, payload["body"], ask)
        return await self.again.send(key, payload["body"], ask, lambda body: {**rest, **body})

    async def _caught(self, model_name: str, payload: Mapping[str, Any], stream: bool) -> httpx2.Response:
        """Let the SDK send *payload*, and catch the response."""
        caught: list[httpx2.Response | Exception] = []
        token = _CAUGHT.set(caught)
        try:
            await self._send(model_name, payload, stream)
        except BaseException as error:
            for response in caught:
                if not isinstance(response, Exception):
                    await response.aclose()
            if not caught and isinstance(error, (TypeError, ValueError)):
                raise _wrong_parameters(error) from error
            raise
        finally:
            _CAUGHT.reset(token)
        if isinstance(caught[0], Exception):
            raise caught[0]
        return caught[0]

    async def _send(self, model_name: str, payload: Mapping[str, Any], stream: bool) -> None:
        models = self.sdk.aio.models
        config: Any = {
            **payload["config"],
            "automatic_function_calling": {"disable": True},
            "automatic_continuation": False,
            "http_options": {**payload["options"], "extra_body": payload["body"]},
        }
        # The SDK insists on contents; `extra_body` puts ours in their place.
        if stream:
            async for _ in await models.generate_content_stream(model=model_name, contents="-", config=config):
                pass
        else:
            await models.generate_content(model=model_name, contents="-", config=config)

    async def close(self) -> None:
        """Close both; a client that the user gave stays open."""
        self.sdk.close()
        await self.http.aclose()


def connect(arguments: Mapping[str, Any], options: Mapping[str, Any], connect_timeout: float) -> GeminiClient:
    """The clients for the running loop: *arguments* are the SDK's, *options* its HttpOptions. Opens nothing."""
    import httpx2
    from google import genai
    from google.genai import types
    from google.genai.client import DebugConfig

    options = dict(options)
    given = dict(options.pop("async_client_args", None) or {})
    given.pop("ssl", None)  # means something to aiohttp only
    http_arguments, pool = connecting(httpx2, given)
    theirs = options.pop("httpx_async_client", None)
    if theirs is None and options.get("base_url"):
        # The HTTP library logs the address as it gets it.
        options["base_url"], userinfo = split_userinfo(str(options["base_url"]))
        if userinfo is not None:
            http_arguments.setdefault("auth", userinfo)
    http = _tap_class()(theirs=theirs, connect_timeout=connect_timeout, **http_arguments)
    # Signing in to Vertex AI gives keys that end after an hour: those requests are not written again.
    steady = theirs is None and not given and not arguments.get("vertexai")
    fixed: dict[str, Any] = {
        "retry_options": types.HttpRetryOptions(attempts=1),
        "httpx_async_client": http,
        # For clients that the SDK makes besides and nobody uses: loading certificates for them takes 100 ms.
        "async_client_args": {"verify": tls_context(), "ssl": tls_context()},
    }
    # DebugConfig would else take from the environment that recordings are to be played back.
    sdk = genai.Client(
        **{**arguments, "debug_config": DebugConfig(client_mode=None)},
        http_options=types.HttpOptions(**{"timeout": _LONGEST, **options, **fixed}),
    )
    return GeminiClient(sdk, http, Again(httpx2, pool if steady else None, refusals=True))


def _key(model_name: str, payload: Mapping[str, Any], stream: bool) -> Hashable:
    """What a request's head and the SDK's part of its body depend on; None if it cannot be compared."""
    try:
        settings = dumps([payload["config"], payload["options"]])
    except (TypeError, ValueError):
        return None
    return model_name, stream, settings, *payload["body"]


def _rest(content: bytes, ours: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What of the body *content* the SDK has written; None if it has put something into what is ours."""
    body = loads(content)
    if any(body.get(key) != value for key, value in loads(dumps(ours)).items()):
        return None
    return {key: value for key, value in body.items() if key not in ours}


@cache
def _tap_class() -> Callable[..., httpx2.AsyncClient]:
    import httpx2

    class Tap(httpx2.AsyncClient):
        """Keeps each response, unread, or failure for whoever asked.

        *theirs* is a client of the user's, to send through.
        """

        def __init__(self, *, theirs: Any, connect_timeout: float, **arguments: Any) -> None:
            super().__init__(**arguments)
            self._theirs = theirs
            self._connect_timeout = connect_timeout

        def build_request(self, *args: Any, **kwargs: Any) -> Any:
            if isinstance(longest := kwargs.get("timeout"), (int, float)):
                # The SDK has one number for all four: to connect, to read, to write, to wait for a free connection.
                kwargs["timeout"] = (min(self._connect_timeout, longest), longest, longest, longest)
            if self._theirs is not None:
                return self._theirs.build_request(*args, **kwargs)
            return super().build_request(*args, **kwargs)

        async def send(self, request: Any, **kwargs: Any) -> Any:
            _CAUGHT.get().append(await self._response_or_failure(request, kwargs))
            return httpx2.Response(200, content=b"")

        async def _response_or_failure(self, request: Any, kwargs: Mapping[str, Any]) -> Any:
            # A failure does not pass through the SDK either: error trackers wrap it, and report what is raised there as
            # an error of the application, even if another attempt mends it.
            try:
                if self._theirs is not None:
                    return await self._theirs.send(request, stream=True)
                return await super().send(request, **{**kwargs, "stream": True})
            except Exception as error:
                return error

    return Tap


def _wrong_parameters(error: Exception) -> CallError:
    """What the SDK objects to before it sends anything, without showing any value."""
    if not isinstance(error, ValidationError):
        return InvalidRequest(f"google-genai refuses the parameters: {error}")
    from google.genai import types

    known = list(types.GenerateContentConfig.model_fields)
    found = []
    for problem in error.errors(include_input=False, include_url=False, include_context=False):
        place, words = ".".join(str(step) for step in problem["loc"]), problem["msg"]
        if problem["type"] == "extra_forbidden":
            close = get_close_matches(place, known, 1)
            words = "is no parameter of GenerateContentConfig" + (f"; did you mean `{close[0]}`?" if close else "")
        found.append(f"{place}: {words}")
    return InvalidRequest(f"google-genai refuses the parameters: {'; '.join(found[:5])}")


# -- options in either spelling, as dicts or as the SDK's objects ------------------------------------------------------


def snake(name: str) -> str:
    """`maxOutputTokens` as `max_output_tokens`: the SDK takes both."""
    return re.sub(r"(?<=[a-z0-9])([A-Z])", lambda match: f"_{match[1].lower()}", name)


def http_options(given: Any) -> dict[str, Any]:
    """The set fields of an SDK's HttpOptions, or of a dict like it. Raises ConfigError for what cannot work here."""
    if isinstance(given, Mapping):
        found = {snake(str(key)): value for key, value in given.items()}
    else:
        found = {key: getattr(given, key) for key in getattr(given, "model_fields_set", ())}
    if found.get("aiohttp_client") is not None:
        raise ConfigError("http_options.aiohttp_client: only httpx clients can be used; give `httpx_async_client`")
    found.pop("retry_options", None)  # a request is sent once; retrying is a layer's work
    return {key: value for key, value in found.items() if value is not None}


def merged(body: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """*body* with *extra* in it: objects are joined, anything else is replaced."""
    found = dict(body)
    for key, value in extra.items():
        before = found.get(key)
        found[key] = merged(before, value) if isinstance(before, Mapping) and isinstance(value, Mapping) else value
    return found
