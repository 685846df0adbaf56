"""The client of an SDK: its arguments, as the caller gives them, and what keeps it from being made.

The latter is found before the first call by `modelhub check`, and named by a call.
"""

from __future__ import annotations

import inspect
import math
import os
import re
import urllib.request
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from modelhub.providers.addresses import explain_address
from modelhub.providers.http import Timeouts

__all__ = ["ClientProblem", "check_proxies", "merge_client_args", "read_timeouts", "secret_headers"]

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


def check_arguments(arguments: Mapping[str, Any]) -> Iterator[ClientProblem]:
    """Yield the *arguments* of a client that have values no client takes."""
    version = arguments.get("api_version")
    if version is not None and not (isinstance(version, str) and _API_VERSION.fullmatch(version)):
        yield ClientProblem(("client_args", "api_version"), "`api_version` is no version", "such as 2024-10-21, or v1")
    timeout = arguments.get("timeout")
    if isinstance(timeout, bool | str) or (isinstance(timeout, int | float) and not 0 < timeout < math.inf):
        yield ClientProblem(("client_args", "timeout"), "`timeout` must be a number of seconds", "such as 60")
    for name in ("headers", "default_headers", "default_query"):
        values = arguments.get(name)
        if values is not None and not isinstance(values, Mapping) and isinstance(values, str | int | float):
            yield ClientProblem(("client_args", name), f"`{name}` must be a mapping", "`name: value`")


def check_names(arguments: Mapping[str, Any], client_class: Callable[..., Any]) -> Iterator[ClientProblem]:
    """Yield the *arguments* that *client_class* does not take."""
    parameters = inspect.signature(client_class).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    for name in arguments:
        if name not in parameters and name != "max_retries":
            close = get_close_matches(name, parameters, 1)
            hint = f"did you mean `{close[0]}`?" if close else f"it takes {', '.join(parameters)}"
            yield ClientProblem(("client_args", name), f"the client takes no argument `{name}`", hint)
