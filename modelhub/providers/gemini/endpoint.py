"""Where Gemini is, which key is sent there, and whether it is Vertex AI that is asked."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from modelhub.providers.endpoint import Endpoint, Site, matches_host, resolve_endpoint
from modelhub.providers.sdk_import import is_installed

__all__ = [
    "KEY_VARIABLES",
    "check_credentials_file",
    "environment_keys",
    "find_credentials_file",
    "find_endpoint",
    "has_credentials",
    "is_vertex",
    "takes_key",
]

KEY_VARIABLES = ("GOOGLE_API_KEY", "GEMINI_API_KEY")
"""Where a key may be, in the SDK's order."""

_HOSTS = ("googleapis.com",)
_GEMINI = Site("https://generativelanguage.googleapis.com/", _HOSTS, KEY_VARIABLES, ("GOOGLE_GEMINI_BASE_URL",))
_VERTEX = Site("", _HOSTS)
"""Its address depends on the location, and it signs in without a key: the SDK knows how."""
_CREDENTIAL_HEADERS = frozenset({"x-goog-api-key", "authorization"})


def is_vertex(client_args: Mapping[str, Any]) -> bool:
    """Whether *client_args* ask for Vertex AI in place of the Gemini API."""
    # `enterprise` is the SDK's new word for `vertexai`, and goes before it.
    enterprise = client_args.get("enterprise")
    return bool(client_args.get("vertexai") if enterprise is None else enterprise)


def has_credentials(client_args: Mapping[str, Any], options: Mapping[str, Any]) -> bool:
    """Whether there are credentials of another kind than a key: Vertex AI's, or a header of the HttpOptions."""
    headers = options.get("headers") or ()
    return is_vertex(client_args) or any(str(name).lower() in _CREDENTIAL_HEADERS for name in headers)


def find_endpoint(base_url: Any, api_key: str | None, vertex: bool, environ: Mapping[str, str]) -> Endpoint:
    """Return the endpoint that these settings and *environ* mean. Vertex AI's address is "" if none is given."""
    address = str(base_url) if base_url else None
    return resolve_endpoint(environ, _VERTEX if vertex else _GEMINI, address=address, api_key=api_key)


def takes_key(endpoint: Endpoint, host: str) -> bool:
    """Whether a key of the environment may be sent to *host*, which need not be the one of *endpoint*."""
    return matches_host(host, _HOSTS) or (host == endpoint.host and endpoint.takes_environment_key)


def find_credentials_file(environ: Mapping[str, str]) -> str | None:
    """Return the file of credentials that Google's libraries read: the one that *environ* names, or gcloud's.

    None without one: they ask the machine for its account, which only a call can tell.
    """
    if path := environ.get("GOOGLE_APPLICATION_CREDENTIALS"):
        return path
    usual = Path(environ.get("APPDATA", "")) if os.name == "nt" else Path("~/.config").expanduser()
    file = Path(environ.get("CLOUDSDK_CONFIG") or usual / "gcloud") / "application_default_credentials.json"
    return str(file) if file.is_file() else None


def check_credentials_file(environ: Mapping[str, str]) -> str | None:
    """Return what is wrong with the file of credentials that Google's libraries find by *environ*, or None."""
    path = find_credentials_file(environ)
    if path is None or not is_installed("google.auth"):
        return None
    google_auth, errors = import_module("google.auth"), import_module("google.auth.exceptions")
    try:
        with warnings.catch_warnings(action="ignore"):  # that the file must be one's own
            google_auth.load_credentials_from_file(path)
    except OSError as error:
        reason = str(error)
    except AttributeError:
        reason = f"File {path} is no JSON object"
    except errors.GoogleAuthError as error:
        reason = ": ".join(str(part) for part in error.args)  # a message, and perhaps its cause
    else:
        return None
    source = "GOOGLE_APPLICATION_CREDENTIALS" if environ.get("GOOGLE_APPLICATION_CREDENTIALS") else "gcloud's file"
    return f"{source} cannot be used: {reason}"


def environment_keys(environ: Mapping[str, str]) -> Iterator[str]:
    """Yield the keys of the environment."""
    return (key for name in KEY_VARIABLES if (key := environ.get(name, "").strip()))
