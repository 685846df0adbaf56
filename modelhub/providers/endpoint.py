"""Where a model is, and which key may be sent there: the rule is said once, for all vendors.

A key that was given is sent where it was told to be sent. A key of the environment is sent to the vendor's own hosts
only, and the address that the environment names goes with the environment's key.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from pydantic import SecretStr

__all__ = ["Endpoint", "Site", "is_private", "matches_host", "resolve_endpoint"]


@dataclass(frozen=True, slots=True)
class Site:
    """A vendor's own servers: their `hosts`, each with its subdomains, and the usual `address` of the API.

    `key_variables` are the environment's variables that hold a key, `address_variables` those that hold an address;
    the first that is set is taken.
    """

    address: str
    hosts: tuple[str, ...]
    key_variables: tuple[str, ...] = ()
    address_variables: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The address of an API, and the key that is sent there, or None.

    `from_environment` tells whether the address is what the environment says, or the usual one;
    `takes_environment_key` whether a key of the environment may be sent there.
    """

    address: str
    key: SecretStr | None
    site: Site
    from_environment: bool = False
    takes_environment_key: bool = False

    @property
    def host(self) -> str:
        """The host of the address, without port, name and password."""
        return urlsplit(self.address).hostname or ""

    @property
    def key_text(self) -> str | None:
        """The key as it is sent; None without one."""
        return None if self.key is None else self.key.get_secret_value()

    @property
    def is_official(self) -> bool:
        """Whether the address is one of the vendor's own."""
        return matches_host(self.host, self.site.hosts)

    def missing_key(self) -> str | None:
        """Return what to do about a key that is missing; None if there is one, or none is needed."""
        if self.key is not None or (self.host and is_private(self.host)) or not self.site.key_variables:
            return None
        if self.takes_environment_key:
            return f"no API key: set {' or '.join(self.site.key_variables)}, or give `api_key`"
        where = f"{self.site.key_variables[0]} is sent to {self.site.hosts[0]} only"
        return f"no API key for {self.host}: give `api_key` ({where})"


def resolve_endpoint(
    environ: Mapping[str, str], site: Site, *, address: str | None, api_key: str | None, is_of_site: bool = False
) -> Endpoint:
    """Return the endpoint that *address* and *api_key*, as the user gave them, and *environ* mean.

    *is_of_site* tells that the user has said that the server at *address* is the vendor's.
    """
    environment_key = _first(environ, site.key_variables)
    # The environment's address goes with the environment's key: a key that was given is not sent elsewhere.
    from_environment = not address and (not api_key or api_key == environment_key)
    environment_address = _first(environ, site.address_variables) if from_environment else None
    chosen = address or environment_address or site.address
    takes_key = from_environment or is_of_site or matches_host(urlsplit(chosen).hostname or "", site.hosts)
    key = (api_key or "").strip() or (environment_key if takes_key else None)
    return Endpoint(chosen, SecretStr(key) if key else None, site, from_environment, takes_key)


def matches_host(host: str, names: tuple[str, ...]) -> bool:
    """Whether *host* is one of *names*, or below one."""
    return any(host == name or host.endswith(f".{name}") for name in names)


def is_private(host: str) -> bool:
    """Whether *host* is this machine or in a private network, where servers need no key."""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return host == "localhost" or host.endswith((".local", ".localhost", ".internal")) or "." not in host


def _first(environ: Mapping[str, str], names: tuple[str, ...]) -> str | None:
    return next((value for name in names if (value := environ.get(name, "").strip())), None)
