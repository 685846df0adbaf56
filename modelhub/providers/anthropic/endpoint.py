"""Which server is asked, and with what: the environment's key and headers are for its own address."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from modelhub.providers.endpoint import Endpoint, Site, resolve_endpoint

__all__ = ["CREDENTIALS", "find_endpoint", "has_credentials"]

CREDENTIALS = ("auth_token", "credentials", "config", "profile")
"""The client's arguments that authorize in the place of a key."""

_SITE = Site(
    "https://api.anthropic.com",
    ("anthropic.com",),
    ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"),
    ("ANTHROPIC_BASE_URL",),
)
_KEY_HEADERS = frozenset({"authorization", "x-api-key"})


def find_endpoint(
    base_url: str | None, api_key: str | None, client_args: Mapping[str, Any], environ: Mapping[str, str]
) -> Endpoint:
    """Return the endpoint that these settings and *environ* mean.

    Credentials of another kind are the caller's choice: then the environment adds no key and no address.
    """
    key = api_key or client_args.get("api_key")
    if not key and has_credentials(client_args):
        environ = {}
    address = str(base_url or client_args.get("base_url") or "")
    endpoint = resolve_endpoint(environ, _SITE, address=address, api_key=key)
    address = endpoint.address.rstrip("/")
    return replace(endpoint, address=address.removesuffix("/v1")) if "/" in address else endpoint  # the SDK appends it


def has_credentials(client_args: Mapping[str, Any]) -> bool:
    """Whether the client's arguments authorize by other means than a key: a token, what gives one, or a header."""
    if any(client_args.get(name) is not None for name in CREDENTIALS):
        return True
    return any(name.lower() in _KEY_HEADERS for name in client_args.get("default_headers") or ())
