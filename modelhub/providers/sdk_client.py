"""The client of an SDK: its arguments, as the caller gives them, and what keeps it from being made.

The latter is found before the first call by `modelhub check`, and named by a call.
"""

from __future__ import annotations

import contextlib
import inspect
import math
import os
import re
import urllib.request
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pkgutil import resolve_name
from typing import Any, TypeVar

from modelhub.core.errors import CallError, ConfigError, NotConfigured
from modelhub.providers.addresses import explain_address
from modelhub.providers.http import Timeouts

__all__ = [
    "ClientProblem",
    "ClientSettings",
    "check_proxies",
    "guard_client",
    "merge_client_args",
    "read_timeouts",
    "secret_headers",
]

T = TypeVar("T")

_SECRET_WORDS = ("auth", "key", "token", "secret", "cookie")
_PROXY_SCHEMES = ("http", "https", "socks5", "socks5h")
_API_VERSION = re.compile(r"v\d+(?:(?:alpha|beta)\d*)?|\d{4}-\d{2}-\d{2}(?:-preview)?|preview|latest")


def merge_client_args(*arguments: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the *arguments* of an SDK's client as one, without its own retries, which stay off."""
    merged = {name: value for each in arguments for name, value in (each or {}).items()}
    if merged.pop("max_retries", 0):
        warnings.warn("client_args: max_retries is ignored, retries are made by modelhub alone", stacklevel=4)
    return merged


def secret_headers(headers: Any) -> Iterator[str]:
    """Yield the values of *headers* that authorize, as they are and without `Bearer`."""
    for name, value in (headers or {}).items():
        if isinstance(value, str) and any(word in name.lower() for word in _SECRET_WORDS):
            yield value
            yield value.removeprefix("Bearer ")


def read_timeouts(value: Any, default: Timeouts) -> Timeouts:
    """Return what *value* says: seconds, an object like httpx's Timeout, or its tuple; None is *default*."""
    if value is None:
        return default
    if isinstance(value, int | float):
        return Timeouts(min(value, default.connect or value), value, value)
    if isinstance(value, tuple | list):  # connect, read, write, pool, as httpx has it
        connect, read, _, pool = (*value, *(None,) * 4)[:4]
        return Timeouts(connect, read, pool)
    return Timeouts(*(getattr(value, name, getattr(default, name)) for name in Timeouts._fields))


# -- what keeps it from being made -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ClientProblem:
    """Why a client cannot be made. `path` are the keys that lead to the wrong value in the model's entry, empty for a
    value that is not of the file; `hint` says what was probably meant."""

    path: tuple[str, ...]
    message: str
    hint: str = ""

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """What an SDK's client is made from.

    `addresses` are the addresses that were given, by their keys; `arguments` the client's keywords; `client_class` is
    what takes them, as `module:name`.
    """

    addresses: Mapping[str, Any] = field(default_factory=dict)
    arguments: Mapping[str, Any] = field(default_factory=dict)
    client_class: str | None = None

    def problems(self) -> Iterator[ClientProblem]:
        """Yield what is wrong with the values. Imports nothing."""
        for key, address in self.addresses.items():
            yield from check_address((key,), address)
        yield from check_arguments("client_args", self.arguments)

    def misnamed(self) -> Iterator[ClientProblem]:
        """Yield the arguments that the client does not take. Imports the SDK; without it, nothing can be said."""
        if self.arguments and self.client_class is not None:
            with contextlib.suppress(ImportError):
                yield from check_names("client_args", self.arguments, resolve_name(self.client_class))


def guard_client(
    make: Callable[[], T], find_problems: Callable[[], list[ClientProblem]], vendor: str
) -> Callable[[], T]:
    """Return *make*, which raises NotConfigured whatever keeps it from making a client of *vendor*.

    *find_problems* finds the reasons that are known without an attempt.
    """

    def make_or_explain() -> T:
        if problems := find_problems():
            raise NotConfigured("; ".join(map(str, problems)))
        try:
            return make()
        except (CallError, ConfigError):
            raise
        except Exception as error:
            raise NotConfigured(f"the {vendor} client cannot be made: {error}") from error

    return make_or_explain


def check_address(path: tuple[str, ...], address: Any) -> Iterator[ClientProblem]:
    """Yield what is wrong with the *address* of a server, if it is given."""
    if address and (problem := explain_address(str(address))) is not None:
        yield ClientProblem(path, f"`{path[-1]}`: {problem[0]}", problem[1])


def check_proxies() -> Iterator[ClientProblem]:
    """Yield the proxies of the environment that cannot be used."""
    for scheme, proxy in urllib.request.getproxies().items():
        if scheme not in {"http", "https", "all"} or not proxy:
            continue
        address = proxy if "://" in proxy else f"http://{proxy}"  # as the HTTP libraries read it
        if (problem := explain_address(address, _PROXY_SCHEMES)) is not None:
            name = f"{scheme.upper()}_PROXY"
            variable = name if os.environ.get(name) else name.lower()
            yield ClientProblem((), f"{variable} cannot be used: {problem[0]}", problem[1])


def check_arguments(key: str, arguments: Mapping[str, Any]) -> Iterator[ClientProblem]:
    """Yield the *arguments* of a client, which stand under *key*, that have values no client takes."""
    version = arguments.get("api_version")
    if version is not None and not (isinstance(version, str) and _API_VERSION.fullmatch(version)):
        yield ClientProblem((key, "api_version"), "`api_version` is no version", "such as 2024-10-21, or v1")
    timeout = arguments.get("timeout")
    if isinstance(timeout, bool | str) or (isinstance(timeout, int | float) and not 0 < timeout < math.inf):
        yield ClientProblem((key, "timeout"), "`timeout` must be a number of seconds", "such as 60")
    for name in ("headers", "default_headers", "default_query"):
        values = arguments.get(name)
        if values is not None and not isinstance(values, Mapping) and isinstance(values, str | int | float):
            yield ClientProblem((key, name), f"`{name}` must be a mapping", "`name: value`")


def check_names(key: str, arguments: Mapping[str, Any], client_class: Callable[..., Any]) -> Iterator[ClientProblem]:
    """Yield the *arguments*, which stand under *key*, that *client_class* does not take."""
    parameters = inspect.signature(client_class).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    for name in arguments:
        if name not in parameters and name != "max_retries":
            close = get_close_matches(name, parameters, 1)
            hint = f"did you mean `{close[0]}`?" if close else f"it takes {', '.join(parameters)}"
            yield ClientProblem((key, name), f"the client takes no argument `{name}`", hint)
