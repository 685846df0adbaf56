"""What the SDKs of OpenAI and Anthropic have in common, which one generator, Stainless, writes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from modelhub.providers.http import Timeouts
from modelhub.providers.http.request_templates import RequestRecorder, RequestTemplate
from modelhub.providers.http_provider import VendorRequest
from modelhub.providers.sdk_client import read_timeouts

__all__ = ["SdkWriter", "make_vendor_request", "replace_environment_headers"]

_SDK_OPTIONS = {"extra_headers": "headers", "extra_query": "params", "timeout": "timeout"}
"""What a call may say beside the body, and the SDK's names for it."""
_NOT_IN_BODY = frozenset({*_SDK_OPTIONS, "extra_body"})
_NEEDED_HEADERS = frozenset({"accept", "anthropic-version", "content-type", "user-agent"})


class SdkWriter:
    """The client *sdk* of the SDK *library*, and the recorder that it writes into."""

    def __init__(self, library: ModuleType, sdk: Any, recorder: RequestRecorder) -> None:
        self.sdk = sdk
        self._library = library
        self._recorder = recorder

    async def write(self, path: str, request: VendorRequest, options: Mapping[str, Any]) -> RequestTemplate:
        """Return what the SDK writes for *request* to *path* with its *options*."""
        import httpx2

        # Not by `create`: error trackers and tracers replace it, and it warns of what it does not know.
        return await self._recorder.record(
            lambda: self.sdk.post(
                path,
                cast_to=httpx2.Response,
                body={"model": request.body.get("model")},  # Azure's address has it
                options=options,
                stream=request.stream,
                stream_cls=self._library.AsyncStream[Any],
            )
        )

    async def aclose(self) -> None:
        """Close what fetches credentials."""
        await self.sdk.close()


def make_vendor_request(
    parameters: Mapping[str, Any], stream: bool, timeouts: Timeouts, api: Any = None
) -> VendorRequest:
    """Return the request that *parameters* mean: those of the body, and what the SDK takes beside it.

    *timeouts* are those of the client; *api* is the one of the vendor's APIs that is asked, where it has several.
    """
    if _NOT_IN_BODY.isdisjoint(parameters):
        return VendorRequest(parameters, stream, (parameters["model"], stream, api), api=api)
    options = {option: parameters[name] for name, option in _SDK_OPTIONS.items() if parameters.get(name)}
    body = {name: value for name, value in parameters.items() if name not in _NOT_IN_BODY}
    body |= parameters.get("extra_body") or {}
    target = (body.get("model"), stream, api, json.dumps(options, default=repr, sort_keys=True))
    own_timeouts = read_timeouts(options["timeout"], timeouts) if "timeout" in options else None
    return VendorRequest(body, stream, target, options, own_timeouts, api)


def replace_environment_headers(lines: str | None, authorization: str | None, omit: Any) -> dict[str, Any]:
    """Return what undoes the headers in *lines*: each is left out, by the SDK's *omit*, or is our *authorization*.

    Those that the SDK sends itself, and the API needs, are not left out.
    """
    names = [line.partition(":")[0].strip().lower() for line in (lines or "").split("\n") if ":" in line]
    headers = dict.fromkeys(names, omit)
    if authorization is not None and "authorization" in headers:
        headers["authorization"] = authorization
    return {name: value for name, value in headers.items() if name not in _NEEDED_HEADERS}
