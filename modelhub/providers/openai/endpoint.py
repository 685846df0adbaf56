"""Which server is asked, and what of the environment is meant for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelhub.core.errors import ConfigError
from modelhub.providers.endpoint import Endpoint, resolve_endpoint
from modelhub.providers.openai.servers import SERVERS, find_server

__all__ = ["find_endpoint"]


def find_endpoint(
    address: Any, api_key: str | None, compat: str | None, is_azure: bool, environ: Mapping[str, str]
) -> tuple[Endpoint, str]:
    """Return the endpoint that these settings and *environ* mean, and its server's name in the table.

    The address is "" where Azure's own variables say it, and where *compat* has no usual one: nothing is sent then.
    Raises ConfigError for an unknown *compat*.
    """
    if compat is not None and compat not in SERVERS:
        raise ConfigError(f"compat: unknown server {compat!r} (known: {', '.join(sorted(SERVERS))})")
    address = str(address) if address else SERVERS[compat].site.address if compat else ""
    if not address and not is_azure:
        endpoint = resolve_endpoint(environ, SERVERS[compat or "openai"].site, address=None, api_key=api_key)
        return endpoint, compat or find_server(endpoint.address)
    server = compat or ("azure" if is_azure else find_server(address))
    site = SERVERS[server].site
    if not site.key_variables:  # its key can only be given
        site = SERVERS["openai"].site
        return resolve_endpoint(environ, site, address=address, api_key=api_key), server
    return resolve_endpoint(environ, site, address=address, api_key=api_key, is_of_site=is_azure), server
