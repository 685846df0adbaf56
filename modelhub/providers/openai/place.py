"""Which server is spoken to, and what of the environment is meant for it: nobody is sent another one's key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from pydantic import SecretStr

from modelhub.errors import ConfigError
from modelhub.providers.openai.servers import SERVERS, find_server, is_local

__all__ = ["Place", "ambient_headers", "ambient_organization", "find_place"]

Environ = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Place:
    """A server and the key to it.

    `base_url` is where it is ("" leaves that to Azure's own variables), `server` its name in the table of quirks.
    `ambient` tells whether the OPENAI_ variables are meant for it, `variables` are those its key may stand in.
    """

    base_url: str
    server: str
    ambient: bool
    variables: tuple[str, ...]
    key: SecretStr | None

    def missing_key(self) -> str | None:
        """What to do about a key that is not there; None if there is one, or none is needed."""
        if self.key is not None or (self.base_url and is_local(self.base_url)):
            return None
        if self.variables:
            return f"no API key: set {' or '.join(self.variables)}, or give `api_key`"
        host = urlsplit(self.base_url).hostname
        return f"no API key for {host}: give `api_key` (OPENAI_API_KEY is sent to api.openai.com only)"


def find_place(base_url: Any, api_key: str | None, compat: str | None, azure: bool, environ: Environ) -> Place:
    """The server that these settings and *environ* mean. Raises ConfigError for an unknown *compat*."""
    if compat is not None and compat not in SERVERS:
        raise ConfigError(f"compat: unknown server {compat!r} (known: {', '.join(sorted(SERVERS))})")
    given = str(base_url) if base_url else SERVERS[compat].base_url if compat else ""
    ambient = not given and not azure
    # The environment's address goes with the environment's key: a key given for OpenAI is not sent elsewhere.
    if ambient and (not api_key or api_key == environ.get("OPENAI_API_KEY")):
        given = environ.get("OPENAI_BASE_URL") or ""
    address = given or ("" if azure else SERVERS["openai"].base_url)
    server = compat or ("azure" if azure else find_server(address))
    ambient = ambient or server == "openai"
    variables = SERVERS["openai" if ambient else server].key_variables
    found = api_key or next((value for name in variables if (value := environ.get(name))), None)
    return Place(address, server, ambient, variables, SecretStr(found) if found else None)


def ambient_organization(environ: Environ) -> str | None:
    """The organization that the environment names, under the seed's name or the SDK's."""
    return environ.get("OPENAI_ORGANIZATION") or environ.get("OPENAI_ORG_ID") or None


def ambient_headers(environ: Environ) -> list[str]:
    """The names of the headers that the SDK would take from the environment."""
    lines = environ.get("OPENAI_CUSTOM_HEADERS", "").split("\n")
    return [line.partition(":")[0].strip() for line in lines if ":" in line]
