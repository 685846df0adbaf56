"""Which proxy the environment prescribes for an address, as curl and httpx read HTTP_PROXY, ALL_PROXY and NO_PROXY."""

from __future__ import annotations

import ipaddress
import os
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from urllib.parse import urlsplit

from modelhub.core.errors import NotConfigured
from modelhub.providers.addresses import explain_address

__all__ = ["ProxySettings", "read_proxy_addresses"]

_IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
_DEFAULT_PORTS = {"http": 80, "https": 443}
_SUFFIX = b"_proxy"


def read_proxy_addresses() -> list[str]:
    """Return the address of every proxy that the environment or the system names, for whatever scheme.

    Of the environment nothing but these variables is decoded, which makes this cheap enough for every failed call.
    """
    if not os.supports_bytes_environ:  # Windows
        return list(urllib.request.getproxies().values())
    names: list[bytes] = []
    # All names at once, for most environments have no such variable; and those of the dict within, if it is there:
    # the environment's own iterator is Python code, and hands out each name anew.
    if _SUFFIX in b"\0".join(getattr(os.environb, "_data", os.environb)).lower():
        names = [name for name in os.environb if name.lower().endswith(_SUFFIX)]
    if not names and urllib.request.getproxies is not urllib.request.getproxies_environment:  # macOS
        return list(urllib.request.getproxies().values())
    return [os.fsdecode(os.environb.get(name, b"")) for name in names]


class ProxySettings:
    """The proxies of an environment, read once.

    *proxies* are their addresses by `http`, `https` and `all`, and under `no` what is reached without one, separated
    by commas: `*`, host names (which stand for their subdomains too), IP addresses, networks (`10.0.0.0/8`), each of
    the former with a port if wanted (`host:8080`, `[::1]:8080`).
    """

    def __init__(self, proxies: Mapping[str, str]) -> None:
        self._proxies = {scheme: address for scheme, address in proxies.items() if scheme != "no" and address}
        self._exceptions = [entry.strip() for entry in proxies.get("no", "").split(",") if entry.strip()]

    @classmethod
    def from_environment(cls) -> ProxySettings:
        """The settings of this process's environment (on macOS and Windows the system's, where no variable is set)."""
        return cls(urllib.request.getproxies())

    def __bool__(self) -> bool:
        return bool(self._proxies)

    def find_proxy(self, url: str) -> str | None:
        """Return the address of the proxy for *url*, or None. Raises NotConfigured for one that cannot be used."""
        parts = urlsplit(url)
        proxy = self._proxies.get(parts.scheme) or self._proxies.get("all")
        host, port = parts.hostname or "", parts.port or _DEFAULT_PORTS.get(parts.scheme)
        if proxy is None or any(_matches(entry, host, port) for entry in self._exceptions):
            return None
        if "://" not in proxy:
            proxy = f"http://{proxy}"
        if (problem := explain_address(proxy)) is not None:
            raise NotConfigured(f"the proxy of the environment cannot be used: {problem[0]} ({problem[1]})")
        return proxy


def _matches(entry: str, host: str, port: int | None) -> bool:
    """Whether *entry* of NO_PROXY covers *host* and *port*."""
    if entry == "*":
        return True
    address = _parse_address(host)
    if "/" in entry:
        with suppress(ValueError):  # or else it is an address
            network = ipaddress.ip_network(entry, strict=False)
            return address is not None and address in network
    name, entry_port = _split_port(entry)
    if entry_port is not None and entry_port != port:
        return False
    if (entry_address := _parse_address(name)) is not None:
        return entry_address == address
    name = name.lower().lstrip("*").strip(".")
    host = host.lower().rstrip(".")
    return bool(name) and (host == name or host.endswith(f".{name}"))


def _split_port(entry: str) -> tuple[str, int | None]:
    """Split `host:port`, where an IPv6 address stands in brackets; an entry may have a scheme before it."""
    entry = entry.partition("://")[2] or entry
    if entry.startswith("["):
        name, _, port = entry[1:].partition("]")
        port = port.removeprefix(":")
    elif entry.count(":") == 1:
        name, _, port = entry.partition(":")
    else:
        name, port = entry, ""
    return name, int(port) if port.isascii() and port.isdigit() else None


def _parse_address(text: str) -> _IPAddress | None:
    try:
        address = ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
