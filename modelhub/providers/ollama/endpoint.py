"""Where Ollama is: on this machine, on another one, or in its cloud, which alone needs a key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from modelhub.providers.endpoint import Endpoint, Site, matches_host, resolve_endpoint

__all__ = ["find_endpoint", "has_authorization", "has_credentials"]

_OWN_SERVER = Site("http://127.0.0.1:11434", ())
_CLOUD = Site("https://ollama.com", ("ollama.com",), ("OLLAMA_API_KEY",))


def find_endpoint(host: str | None, api_key: str | None, environ: Mapping[str, str]) -> Endpoint:
    """Return the endpoint that *host* and *api_key* mean; OLLAMA_HOST, or this machine, if no host is given."""
    address = host or environ.get("OLLAMA_HOST") or _OWN_SERVER.address
    if "://" not in address:  # then it is http, and the port is Ollama's unless there is one
        server, slash, path = address.partition("/")
        has_port = ":" in server.rpartition("@")[2].rpartition("]")[2]
        address = f"http://{server}{'' if has_port else ':11434'}{slash}{path}"
    parts = urlsplit(address)
    is_cloud = parts.scheme == "https" and matches_host(parts.hostname or "", _CLOUD.hosts)
    return resolve_endpoint(environ, _CLOUD if is_cloud else _OWN_SERVER, address=address, api_key=api_key)


def has_credentials(client_args: Mapping[str, Any]) -> bool:
    """Whether the client's arguments authorize by other means than a key: with a header, or a method of httpx's."""
    return client_args.get("auth") is not None or has_authorization(client_args)


def has_authorization(client_args: Mapping[str, Any]) -> bool:
    """Whether the client's arguments have a header that authorizes."""
    return any(name.lower() == "authorization" for name in client_args.get("headers") or ())
